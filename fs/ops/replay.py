"""What the helper process gets that replays changes made elsewhere: the result that is here already.

Its requests change nothing, whatever they ask: what is not waited for is refused. That holds as long as the process
lives, also when nobody waits for it any more.
"""

import os

from fs.ops.volume import OpenHandle, Volume, name_of
from fs.replay.waiting import number_of_unnamed, refused
from fs.tree import left, names
from fs.tree.change import Change
from fs.tree.files import OpenFile
from fs.tree.model import FILE, Attr, Node
from sync.core.errors import NotFound
from sync.core.paths import PART_MAX

FOLDER_LINKS = 2  # of a folder that is gone: the kernel must not take it for one without a name yet


class _Silent(OpenFile):
    """A handle through which nothing is done."""

    __slots__ = ()

    def __init__(self) -> None:
        self.node = Node(0, FILE, 0, 0, 0, 0, 0, 0, 0)
        self.writes = False

    def flush(self) -> None: ...

    def release(self) -> None: ...


def lookup(volume: Volume, parent: int, name: bytes) -> Attr:
    """As lookup, but what is to come is not there yet, and what has gone or changed still is as it was: who watches the
    inode itself hears of it only if that is what the kernel finds. NotFound: do not remember that.
    """
    if len(name) > PART_MAX:
        return _unnamed(volume, number_of_unnamed(name))
    key = (parent, name_of(name))
    gone = volume.replay.is_gone(key)
    if gone is not None:
        gone = gone.origin or gone
        return _known_again(volume, gone.old) or _some_attr(volume, gone)
    if volume.replay.is_to_come(key):
        raise NotFound(f"not yet: {key[1]!r}")
    return _known_again(volume, volume.replay.old_at(key)) or volume.tree.lookup(*key)


def _unnamed(volume: Volume, ino: int) -> Attr:
    """What is left of something that is gone, found by its number. With the last look at it, when the kernel is told
    that it has no name any more, those who watch it hear that; before that what was in a folder can be removed there.
    """
    attr = None
    if left.is_left(volume.tree.state, ino):
        if volume.replay.take_end(ino):
            attr = left.attr_of(volume.tree.state, ino, 0)
        elif volume.replay.is_at_work:
            attr = left.attr_of(volume.tree.state, ino, FOLDER_LINKS)
    attr = _known_again(volume, attr)
    if attr is None:
        raise NotFound("nothing that is left")
    return attr


def _known_again(volume: Volume, old: Attr | None) -> Attr | None:
    """What the kernel was told of an inode, if it has not forgotten that."""
    return old if old is not None and volume.tree.state.inodes.count_again(old.ino) else None


def is_to_go(volume: Volume, parent: int, name: bytes) -> bool:
    """True if the helper is to take away what stood there: did the kernel remember that it is gone, it could not."""
    return volume.replay.is_gone((parent, name_of(name))) is not None


def attr_of_gone(volume: Volume, ino: int) -> Attr | None:
    """Of a folder that is to be moved and that has another number by now: the kernel asks whether that may be, and were
    it told that the folder is gone it would move one that it has just been told of instead. And of one that is gone, as
    what was in it is to go first. None of any other.
    """
    change = volume.replay.moving(ino)
    if change is None:
        is_way = volume.replay.is_at_work and left.is_left(volume.tree.state, ino)
        return left.attr_of(volume.tree.state, ino, FOLDER_LINKS) if is_way else None
    old = change.origin.old if change.origin is not None else None
    return old or _some_attr(volume, change)._replace(ino=ino)


def create(volume: Volume, kind: int, parent: int, name: bytes) -> Attr:
    """What stands there; it counts as one lookup. NotFound if that has gone, or is another thing by now."""
    key = (parent, name_of(name))
    volume.replay.create(key, kind)
    if names.kind_at(volume.tree.state, *key) != kind:
        raise NotFound(f"not there any more: {key[1]!r}")
    return volume.tree.lookup(*key)


def remove(volume: Volume, parent: int, name: bytes) -> None:
    volume.replay.remove((parent, name_of(name)))


def rename(volume: Volume, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
    volume.replay.move((parent, name_of(name)), (new_parent, name_of(new_name)))


def setattr_of(volume: Volume, ino: int) -> Attr:
    return volume.replay.touch(ino) or volume.tree.attr(ino)


def open_file(volume: Volume, ino: int, flags: int) -> int:
    if flags & os.O_TRUNC:
        raise refused()
    volume.replay.touch(ino)
    handle = volume.new_handle()
    volume.handles[handle] = OpenHandle(ino, _Silent())
    return handle


def _some_attr(volume: Volume, gone: Change) -> Attr:
    """Of what is not there any more: of the right kind, under a number that nothing has."""
    st = volume.tree.state
    return Attr(st.overlay.new_ino(), gone.kind, gone.mode, 1, st.uid, st.gid, 0, 0, 0, 0, 0, 0)
