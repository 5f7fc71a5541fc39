"""Writing: into the work file, without waiting for anything. The base is never needed."""

from fs.ops.volume import Volume


def write(volume: Volume, handle: int, offset: int, data: bytes) -> int:
    """Bytes written; fewer if the disk gave out in between, as write(2) has it: the next call says why (OSError)."""
    return volume.handles[handle].file.write(offset, data)
