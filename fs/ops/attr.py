"""Attributes of an inode."""

from fs.ops.volume import Volume
from fs.tree.model import Attr


def getattr_of(volume: Volume, ino: int) -> Attr:
    return volume.tree.attr(ino)


def setattr_of(
    volume: Volume,
    ino: int,
    *,
    mode: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
    size: int | None = None,
    atime_ns: int | None = None,
    mtime_ns: int | None = None,
) -> Attr:
    """Change what is not None, return all. mode: permission bits. Stale (ESTALE) if the inode's version has moved."""
    return volume.tree.setattr(ino, mode=mode, uid=uid, gid=gid, size=size, atime_ns=atime_ns, mtime_ns=mtime_ns)
