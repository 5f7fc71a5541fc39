"""Which requests of the helper process are waited for."""

import errno
from collections.abc import Iterable

from fs.replay.plan import Poke
from fs.tree.change import Change
from fs.tree.model import Attr, Key

NOBODY = -1
UNNAMED_LENGTH = 300  # bytes: more than any name may have


class Replay:
    """Belongs to the thread of the request loop. pid: of the helper; NOBODY while there is none."""

    def __init__(self) -> None:
        self.pid = NOBODY
        self.removes = False  # whether it is to take something away
        self._created: dict[Key, Change] = {}
        self._removed: dict[Key, Change] = {}
        self._moved: dict[Key, Change] = {}  # by where it stood
        self._old: dict[int, Attr] = {}
        self._old_at: dict[Key, Attr] = {}
        self._touches = False
        self._touched: set[int] = set()
        self.is_at_work = False  # whether it is to do something that others have done
        self._ends: set[int] = set()

    def begin(self, pokes: Iterable[Poke]) -> None:
        """From now on these are waited for, and no others."""
        self.end()
        self.is_at_work = True
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
        self.removes = bool(self._removed or self._moved)

    def end(self) -> None:
        """Nothing is waited for any more."""
        for waiting in (
            self._created, self._removed, self._moved, self._old, self._old_at, self._ends, self._touched
        ):  # fmt: skip
            waiting.clear()
        self._touches = self.removes = self.is_at_work = False

    def begin_ends(self, inodes: Iterable[int]) -> None:
        """From now on the helper is to take the last look at these, each once, and nothing else is waited for."""
        self.end()
        self._ends |= set(inodes)

    def take_end(self, ino: int) -> bool:
        """True if the last look at this is waited for; it is not any more."""
        if ino not in self._ends:
            return False
        self._ends.remove(ino)
        return True

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
        self._touched.add(ino)
        return self._old.get(ino)

    def is_waited_for(self, poke: Poke) -> bool:
        """False if the helper has done this since `begin`, whether it has lived to say so or not."""
        change = poke.change
        match poke.what:
            case "create":
                return change.key in self._created
            case "remove":
                return change.key in self._removed
            case "move" if change.origin is not None:
                return change.origin.key in self._moved
        return change.ino not in self._touched


def unnamed(ino: int) -> str:
    """The name, in the root, by which the helper finds what stands for nothing any more."""
    return str(ino).rjust(UNNAMED_LENGTH, "-")


def number_of_unnamed(name: bytes) -> int:
    """The number that `unnamed` was made of; 0 if it was none."""
    digits = name.lstrip(b"-")
    return int(digits) if len(name) == UNNAMED_LENGTH and digits.isdigit() else 0


def refused() -> PermissionError:
    """The answer to anything else."""
    return PermissionError(errno.EPERM, "a replay of something else")
