"""Which requests of the helper process are waited for."""

import errno
from collections.abc import Iterable

from fs.replay.plan import Poke
from fs.tree.changes import Change
from fs.tree.model import Attr, Key

NOBODY = -1


class Replay:
    """Belongs to the thread of the request loop. pid: of the helper; NOBODY while there is none."""

    def __init__(self) -> None:
        self.pid = NOBODY
        self._created: dict[Key, Change] = {}
        self._removed: dict[Key, Change] = {}
        self._moved: dict[Key, Change] = {}  # by where it stood
        self._old: dict[int, Attr] = {}
        self._old_at: dict[Key, Attr] = {}
        self._touches = False

    def begin(self, pokes: Iterable[Poke]) -> None:
        """From now on these are waited for, and no others."""
        self.end()
        for poke in pokes:
            change = poke.change
            match poke.what:
                case "create":
                    self._created[change.key] = change
                case "remove":
                    self._removed[change.key] = change
                case "move" if change.origin is not None:
                    self._moved[change.origin.key] = change
                case _:
                    self._touches = True
                    if change.old is not None:
                        self._old[change.ino] = self._old_at[change.key] = change.old

    def end(self) -> None:
        """Nothing is waited for any more."""
        for waiting in (self._created, self._removed, self._moved, self._old, self._old_at):
            waiting.clear()
        self._touches = False

    def is_gone(self, key: Key) -> Change | None:
        """What stood at a name, as long as the helper is to take it away."""
        return self._removed.get(key) or self._moved.get(key)

    def moving(self, ino: int) -> Change | None:
        """What the helper is to move, by the number that the kernel has there."""
        return next((change for change in self._moved.values() if change.ino == ino), None)

    def old_at(self, key: Key) -> Attr | None:
        """What the kernel was told of what has another content by now; the helper is to touch that."""
        return self._old_at.get(key)

    def is_to_come(self, key: Key) -> bool:
        return key in self._created or any(change.key == key for change in self._moved.values())

    def create(self, key: Key, kind: int) -> None:
        """PermissionError if that is not waited for, as the others."""
        change = self._created.pop(key, None)
        if change is None or change.kind != kind:
            raise refused()

    def remove(self, key: Key) -> None:
        if self._removed.pop(key, None) is None:
            raise refused()

    def move(self, key: Key, to_key: Key) -> None:
        change = self._moved.pop(key, None)
        if change is None or change.key != to_key:
            raise refused()

    def touch(self, ino: int) -> Attr | None:
        """What the kernel goes on believing of an inode; None: what is true."""
        if not self._touches:
            raise refused()
        return self._old.get(ino)


def refused() -> PermissionError:
    """The answer to anything else."""
    return PermissionError(errno.EPERM, "a replay of something else")
