"""Writing: into the work file, without waiting for anything. The base is never needed."""

from fs.ops.volume import Volume


def write(volume: Volume, handle: int, offset: int, data: bytes) -> int:
    """Bytes written: all of them, or OSError (ENOSPC, EFBIG...); what came before the error stays written."""
    file = volume.handles[handle].file
    done = file.write(offset, data)
    while done < len(data):  # the disk gave out in between: ask again for the reason
        done += file.write(offset + done, memoryview(data)[done:])
    return done
