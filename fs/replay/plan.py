"""Which of the changes made elsewhere somebody here watches for, and what a process has to do so that they are heard.

inotify speaks only of what processes of this machine do. So a helper process does what another machine has done,
through the mount, and the mount answers it with the result that it has already. What a call makes watchers hear is the
kernel's business (inotify(7), fsnotify); the table was measured:

    touch     utimensat with the mtime alone          MODIFY
    rewrite   open to write, futimens, close          OPEN, MODIFY, CLOSE_WRITE
    chmod     chmod                                   ATTRIB
    create    mknod, mkdir, symlink                   CREATE
    remove    unlink, rmdir                           DELETE, and DELETE_SELF of what was removed
    move      rename                                  MOVED_FROM, MOVED_TO, MOVE_SELF
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from fs.tree.change import Change
from fs.tree.model import DIR, FILE, SYMLINK, Invalidation
from sync.core.paths import split_path
from sync.state.changes import What

IN_MODIFY: Final = 0x2
IN_ATTRIB: Final = 0x4
IN_CLOSE_WRITE: Final = 0x8
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_MOVE_SELF: Final = 0x800

Watches = Mapping[int, int]  # inode number -> what is watched for


class Poke(NamedTuple):
    """One thing to do for a change. name, to_name: names in folders, which are rel_paths; `to_` of a move only."""

    change: Change
    what: str
    folder: str
    name: str
    to_folder: str = ""
    to_name: str = ""


def pokes(change: Change, watches: Watches) -> list[Poke]:
    """What makes those hear of a change who watch its folder, or the thing itself; empty if nobody does."""
    above = watches.get(change.parent, 0)
    itself = watches.get(change.ino, 0) if change.ino else 0
    if change.what is What.MOVED and change.origin is not None:
        before = change.origin
        wanted = watches.get(before.parent, 0) & IN_MOVED_FROM | above & IN_MOVED_TO | itself & IN_MOVE_SELF
        return [Poke(change, "move", before.folder, before.name, change.folder, change.name)] if wanted else []
    return [Poke(change, what, change.folder, change.name) for what in _calls(change, above, itself)]


def _calls(change: Change, above: int, itself: int) -> list[str]:
    match change.what:
        case What.CREATED:
            found = ["create"] if above & (IN_CREATE | IN_CLOSE_WRITE) else []
            return [*found, "rewrite"] if change.kind == FILE and change.size and above & IN_CLOSE_WRITE else found
        case What.REMOVED:
            return ["remove"] if above & IN_DELETE else []
        case What.MODIFIED:
            if (above | itself) & IN_CLOSE_WRITE and change.kind == FILE:
                return ["rewrite"]
            return ["touch"] if (above | itself) & IN_MODIFY else []
        case What.ATTRIBUTES if change.kind != SYMLINK:
            return ["chmod"] if (above | itself) & IN_ATTRIB else []
    return []


def inside_first(found: Sequence[Poke]) -> list[Poke]:
    """In the same order, but a folder is removed behind the last thing that happens in it: then the kernel lets nobody
    in any more.
    """
    last: dict[str, int] = {}
    for n, poke in enumerate(found):
        above = poke.change.folder
        while above and last.get(above) != n:
            last[above] = n
            above = split_path(above)[0]
    places = []
    for n, poke in enumerate(found):
        path = poke.change.path
        at = max(n, last.get(path, n)) if poke.what == "remove" else n
        places.append((at, at != n, -len(path), n))
    return [found[n] for *_, n in sorted(places)]


def ends_of_watches(changes: list[Change], watches: Watches) -> list[Invalidation]:
    """Another content, and what was moved, has another inode number. Who watches the old one itself hears that it is
    gone, as after any editor that saves by a rename, and watches anew.
    """
    return [
        Invalidation(change.parent, change.name, change.ino, "gone")
        for change in changes
        if watches.get(change.ino, 0) and _is_left_old(change)
    ]


def left_old(changes: list[Change]) -> list[Invalidation]:
    """Names at which the kernel has the old thing now, by the replay, whatever it had there before."""
    return [Invalidation(change.parent, change.name, 0, "entry") for change in changes if _is_left_old(change)]


def _is_left_old(change: Change) -> bool:
    return change.is_another or (change.what is What.MODIFIED and change.old is not None)


def made_again(changes: list[Change], watches: Watches) -> list[Poke]:
    """Behind the ends of watches: who watches a folder, and the one around it, watches all that comes to be in there.
    By a move alone such a program does not learn that what it watches has gone; by the making of a folder it does.
    """
    return [
        Poke(change, "create", change.folder, change.name)
        for change in changes
        if change.is_another
        and change.kind == DIR
        and watches.get(change.ino, 0)
        and watches.get(change.parent, 0) & IN_CREATE
    ]
