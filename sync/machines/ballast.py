"""16 MiB kept in the state folder, given up when the disk is full, so that status, dehydrate and SQLite go on."""

import errno
import logging
import os
from pathlib import Path

SIZE = 16 << 20  # bytes

_log = logging.getLogger("tcfs.ballast")


def keep(path: Path) -> bool:
    """Make the ballast if it is not there; False if the disk is too full for it."""
    if path.exists() and path.stat().st_size == SIZE:
        return True
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _allocate(fd)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        path.unlink(missing_ok=True)
        _log.warning("the disk of %s is nearly full: %s", path.parent, error.strerror)
        return False
    finally:
        os.close(fd)
    return True


def give_up(path: Path) -> bool:
    """Free the ballast's space; False if it was gone already."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _allocate(fd: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, SIZE)
        return
    block = bytes(1 << 20)  # a sparse file would hold no space
    for _ in range(SIZE // len(block)):
        os.write(fd, block)
