"""Links, symbolic and hard ones."""

import errno
import stat

from fs.ops.volume import Volume, name_of
from fs.tree.model import SYMLINK, Attr

TARGET_MAX = 4095  # bytes, as Linux has it


def symlink(volume: Volume, parent: int, name: bytes, target: bytes, uid: int, gid: int) -> Attr:
    """target: any UTF-8 text, kept as it is; EILSEQ for other bytes. A set-group-ID folder gives its group."""
    if len(target) > TARGET_MAX:
        raise OSError(errno.ENAMETOOLONG, "a link's target is at most 4095 bytes long")
    above, group = volume.tree.mode_and_group(parent)
    gid = group if above & stat.S_ISGID else gid
    return volume.tree.create(parent, name_of(name), SYMLINK, 0o777, uid, gid, target.decode())


def readlink(volume: Volume, ino: int) -> bytes:
    target = volume.tree.readlink(ino).encode()
    if volume.tree.was_read(ino):
        volume.recent.forget()
    return target


def hard_link(volume: Volume, ino: int, parent: int, name: bytes) -> Attr:
    """Another name for a file. Stale (ESTALE) if the inode shows another version than the kernel was told."""
    return volume.tree.link(ino, parent, name_of(name))
