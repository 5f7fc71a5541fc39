"""Writing: into the work file. Nothing is waited for but, beside readers, the kernel; the base is never needed."""

from collections.abc import Coroutine
from typing import Any

from fs.ops import direct
from fs.ops.volume import OpenHandle, Volume


def write(volume: Volume, handle: int, offset: int, data: bytes) -> int | Coroutine[Any, Any, int]:
    """Bytes written; fewer if the disk gave out in between, as write(2) has it: the next call says why (OSError)."""
    open_handle = volume.handles[handle]
    if volume.shielded and open_handle.ino in volume.shielded:
        return direct.write_back(volume, open_handle, offset, data)
    if not open_handle.is_direct:
        return open_handle.file.write(offset, data)
    written = direct.write(volume, open_handle, offset, data)
    return _behind_readers(volume, open_handle, offset, written) if direct.must_drop(volume, open_handle) else written


async def _behind_readers(volume: Volume, handle: OpenHandle, offset: int, written: int) -> int:
    await direct.drop(volume, handle, offset, offset + written)
    return written
