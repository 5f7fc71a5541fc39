"""Attributes of an inode."""

import trio

from fs.ops.volume import Volume
from fs.tree.model import Attr


def getattr_of(volume: Volume, ino: int) -> Attr:
    return volume.recent.attr(ino) or volume.tree.attr(ino)


async def setattr_of(
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
    attr = volume.tree.setattr(ino, mode=mode, uid=uid, gid=gid, size=size, atime_ns=atime_ns, mtime_ns=mtime_ns)
    if size is None or (cut := volume.tree.take_cut()) is None:
        return attr
    # Until this is answered the kernel lets nobody write to the file.
    try:
        with volume.invalidations.request(ino):
            await trio.to_thread.run_sync(cut, limiter=volume.disk_threads)
    finally:
        volume.tree.cut_done(cut)
    return volume.tree.attr(ino)
