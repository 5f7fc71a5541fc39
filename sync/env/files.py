"""Files that are whole, and on the medium, whenever the machine stops."""

import fcntl
import os
import sys
import tempfile
from pathlib import Path


def atomic_write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the file at `path` as a whole, durably: after a crash it holds the old bytes or the new ones."""
    fd, temp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".tmp")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(fd, mode)
            sync_file(fd)
        Path(temp).replace(path)
    except BaseException:
        Path(temp).unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def sync_file(fd: int) -> None:
    """The bytes and the size of this file are on the medium when it returns."""
    if sys.platform == "darwin":  # fsync leaves them in the drive's cache there
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def fsync_dir(path: Path) -> None:
    """The entries of this folder are on the medium when it returns."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
