"""Attributes of an inode."""

from collections.abc import Mapping

import trio

from fs.ops.volume import Volume
from fs.tree.model import Attr


def getattr_of(volume: Volume, ino: int) -> Attr:
    return volume.recent.attr(ino) or volume.tree.attr(ino)


async def setattr_of(volume: Volume, ino: int, changes: Mapping[str, int]) -> Attr:
    """Change some of mode (permission bits), uid, gid, size, atime_ns and mtime_ns; return all attributes. Stale
    (ESTALE) if the inode's version has moved.
    """
    attr = volume.tree.setattr(ino, **changes)
    if "size" not in changes or (cut := volume.tree.take_cut()) is None:
        return attr
    # Until this is answered the kernel lets nobody write to the file.
    try:
        with volume.invalidations.request(ino):
            await trio.to_thread.run_sync(cut, limiter=volume.disk_threads)
    finally:
        volume.tree.cut_done(cut)
    return volume.tree.attr(ino)
