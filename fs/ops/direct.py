"""Direct writing: what fills an empty file goes past the kernel's pages.

A handle that can only write cannot be mapped. So the kernel may take its bytes from the program's own memory: that
spares a copy, a page of memory each (the work file has them as well), and a request for capabilities before every
write. 1 GiB and its fsync took 1.7 times as long as on ext4 with them, and take 1.1 times as long without.

Before it asks the kernel (since 6.6) drops its pages of the range. Those that it has nevertheless were read meanwhile.
They must not stay: they would show the old bytes for good. So all pages of an inode are dropped behind a write, before
it is answered, if any was read, or written through, since the last time. A mapped page that a program stored into is
written back then, with the old bytes around the new ones: what it has of the range is left out. It is known by coming
through a handle that can be mapped: the kernel holds the inode, so nobody else writes to it until this is answered.
(With io_submit and io_uring it lets go of it earlier, of writes that are not ordered then.)

The thread that drops pages waits in the kernel for reads and writes that this process answers. So nothing of it begins
once the mount ends, and the mount ends when nothing of it goes on; of a mount that is killed meanwhile the connection
is aborted by its keeper.
"""

import os
from functools import partial

import trio

from fs.ops import privileges
from fs.ops.volume import OpenHandle, Volume
from fs.tree import local_xattrs
from fs.tree.model import Invalidation

CAPABILITIES = "security.capability"

_SYNCS = os.O_SYNC | os.O_DSYNC  # the kernel would not ask for the sync


def begin(volume: Volume, handle: OpenHandle) -> None:
    """The handle has just been opened: from now on it writes directly, if that is worth it and safe, and the kernel is
    to be told so. Whoever has the file open already reads it, most likely.
    """
    flags, node = handle.flags, handle.file.node
    if (
        flags & os.O_ACCMODE != os.O_WRONLY
        or flags & _SYNCS
        or node.size
        or node.handles > 1
        or node.mode & privileges.BITS
    ):
        return
    handle.is_direct = True
    if flags & os.O_TRUNC:
        volume.tree.state.inodes.lost_pages(handle.ino)  # with the answer the kernel drops them all


def write(volume: Volume, handle: OpenHandle, offset: int, data: bytes) -> int:
    """Through a direct handle. If `must_drop` is true then, the pages are to be dropped before this is answered."""
    _lose_privileges(volume, handle)
    return handle.file.write(offset, data)


def must_drop(volume: Volume, handle: OpenHandle) -> bool:
    """True if the kernel may have pages that were read before the last write."""
    return volume.tree.state.inodes.has_pages(handle.ino) and not volume.dropping.is_ending


async def drop(volume: Volume, handle: OpenHandle, start: int, end: int) -> None:
    """[start, end) was written: returns when the kernel has no page from before that, and nothing of one came back."""
    volume.tree.state.inodes.lost_pages(handle.ino)
    item = Invalidation(0, "", handle.ino, "data")
    if volume.invalidations.is_busy(handle.ino):  # this would wait for what that waits for, which may be the network
        volume.invalidations.add([item])
        return
    with volume.dropping.pages_of(handle.ino, start, end):
        await trio.to_thread.run_sync(partial(volume.invalidations.deliver, [item]), limiter=volume.page_threads)


def write_back(volume: Volume, handle: OpenHandle, offset: int, data: bytes) -> int:
    """Write what lies outside of the range that is being written directly. All counts as written, or an OSError."""
    view = memoryview(data)
    start, end = volume.dropping.ranges[handle.ino]
    for first, last in ((offset, min(start, offset + len(data))), (max(end, offset), offset + len(data))):
        while first < last:
            first += handle.file.write(first, view[first - offset : last - offset])
    return len(data)


def _lose_privileges(volume: Volume, handle: OpenHandle) -> None:
    """What a write takes from a program that was given more rights than its user's since it was opened. The kernel
    leaves that to us here, and pyfuse3 does not say whether the writer may leave them: nobody may.
    """
    node = handle.file.node
    privileges.lose(volume, handle.ino, node)
    if CAPABILITIES in local_xattrs.of(volume.tree.state, handle.ino):
        local_xattrs.put(volume.tree.state, node, CAPABILITIES, None)
