"""Opening, creating, and what happens when a handle is flushed, synced and released."""

import os
import stat
from functools import partial

import trio

from fs.hydrate.eager import SMALL_MAX
from fs.ops import consent, direct, privileges
from fs.ops.privileges import Caller
from fs.ops.volume import OpenHandle, Volume, name_of
from fs.tree.files import OpenFile
from fs.tree.model import Attr, Invalidation
from sync.core.errors import AlreadyExists, Stale

PAGES_AT_ONCE = 16 << 20  # bytes: the kernel drops so many pages in 2 ms

_WRITES = os.O_WRONLY | os.O_RDWR


def open_file(volume: Volume, ino: int, flags: int, pid: int = 0, caller: Caller | None = None) -> int:
    """A handle. Stale (ESTALE) if the inode shows another version than the kernel was told: it looks again."""
    file = volume.tree.open(ino, write=bool(flags & _WRITES), truncate=bool(flags & os.O_TRUNC))
    handle = opened(volume, ino, file, flags, pid, caller)
    direct.begin(volume, volume.handles[handle])
    return handle


def opened(
    volume: Volume, ino: int, file: OpenFile, flags: int, pid: int = 0, caller: Caller | None = None
) -> int:  # fmt: skip
    """A handle for a file that the tree has opened, for a process. A file can also be emptied by who only reads."""
    if flags & os.O_TRUNC:
        privileges.lose(volume, ino, file.node, caller)
    if file.writes or flags & os.O_TRUNC:
        volume.changed()
    handle = volume.new_handle()
    volume.handles[handle] = OpenHandle(ino, file, flags, pid)
    if volume.policies.words:
        consent.opened(volume, volume.handles[handle])
    if not file.writes:
        _give_pages(volume, ino, file, flags, pid)
    return handle


def _give_pages(volume: Volume, ino: int, file: OpenFile, flags: int, pid: int) -> None:
    """A program that reads every small file it opens is spared the request for it, if the file is local.

    It counts as read, for its atime: we shall not hear of it.
    """
    node = file.node
    if not 0 < node.size <= SMALL_MAX or node.handles != 1 or node.base is None or node.files:
        return  # with another handle a read may be under way, and the kernel would wait for it
    if volume.eager.wants(pid, ino) and (data := volume.reader.small(node.base, node.size)) is not None:
        volume.invalidations.give(ino, data)
        if not flags & os.O_NOATIME:
            file.was_read()


def create(volume: Volume, parent: int, name: bytes, mode: int, flags: int, uid: int, gid: int) -> tuple[int, Attr]:
    """A new file, open. mode: permission bits with the caller's umask applied.

    The name may be taken by what the kernel has not heard of yet. Then it must look again (Stale), unless O_EXCL: it
    checks no permissions of what it believes to be new.
    """
    text = name_of(name)
    above, group = volume.tree.mode_and_group(parent)
    if above & stat.S_ISGID:
        gid = group
    try:
        attr, file = volume.tree.create_open(parent, text, mode, uid, gid, write=bool(flags & _WRITES))
    except AlreadyExists as error:
        if flags & os.O_EXCL:
            raise
        raise Stale("the name is taken by now") from error
    handle = volume.new_handle()
    volume.handles[handle] = OpenHandle(attr.ino, file, flags)
    direct.begin(volume, volume.handles[handle])
    return handle, attr


def flush(volume: Volume, handle: int) -> None:
    """A descriptor of the handle is closed: what was written through it is committed."""
    file = volume.handles[handle].file
    file.flush()
    if file.writes:
        volume.changed()


async def release(volume: Volume, handle: int) -> None:
    """The last descriptor is gone."""
    open_handle = volume.handles.pop(handle)
    file = open_handle.file
    file.release()
    if file.writes:
        volume.changed()
    node = file.node
    if node.unlinked and not node.handles and node.size > PAGES_AT_ONCE:
        # With the answer the kernel forgets the inode. It would drop all of its pages while we write that answer.
        drop = partial(volume.invalidations.deliver, [Invalidation(0, "", open_handle.ino, "data")])
        await trio.to_thread.run_sync(drop, limiter=volume.page_threads)


async def fsync(volume: Volume, handle: int) -> None:
    """Returns when bytes and rows are on disk."""
    open_handle = volume.handles[handle]
    sync = open_handle.file.sync_begin()
    if sync is None:
        return
    # The tree may change while the disk works: sync_end promises what sync_begin has taken, and no more.
    with volume.invalidations.request(open_handle.ino):
        await trio.to_thread.run_sync(sync.data, limiter=volume.disk_threads)
        open_handle.file.sync_end(sync)
        await trio.to_thread.run_sync(sync.rows, limiter=volume.disk_threads)


async def fsyncdir(volume: Volume, handle: int) -> None:
    """Names are rows: on disk when it returns. Nobody but the caller, who holds the folder, waits for the disk."""
    overlay = volume.tree.overlay
    overlay.commit()
    with volume.invalidations.request(volume.folders[handle].ino):
        await trio.to_thread.run_sync(overlay.wal.sync, limiter=volume.disk_threads)
