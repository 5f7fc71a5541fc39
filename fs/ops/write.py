"""Writing: into the work file. Nothing is waited for but, beside readers, the kernel; the base is never needed."""

from collections.abc import Coroutine
from typing import Any

from fs.ops import direct
from fs.ops.volume import OpenHandle, Volume


def write(volume: Volume, handle: int, offset: int, data: bytes) -> int | Coroutine[Any, Any, int]:
    """Bytes written; fewer if the disk gave out in between, as write(2) has it: the next call says why (OSError)."""
    open_handle = volume.handles[handle]
    if volume.dropping.ranges and open_handle.ino in volume.dropping.ranges:
        if open_handle.is_direct:
            return _behind_another(volume, handle, offset, data)
        return direct.write_back(volume, open_handle, offset, data)
    if not open_handle.is_direct:
        volume.tree.state.inodes.gave_pages(open_handle.ino)  # kernels before 6.6 keep what went through their pages
        return open_handle.file.write(offset, data)
    written = direct.write(volume, open_handle, offset, data)
    return _behind_readers(volume, open_handle, offset, written) if direct.must_drop(volume, open_handle) else written


async def _behind_readers(volume: Volume, handle: OpenHandle, offset: int, written: int) -> int:
    await direct.drop(volume, handle, offset, offset + written)
    return written


async def _behind_another(volume: Volume, handle: int, offset: int, data: bytes) -> int:
    """What programs write asynchronously comes while another such write goes on."""
    await volume.dropping.over(volume.handles[handle].ino)
    written = write(volume, handle, offset, data)
    return written if isinstance(written, int) else await written
