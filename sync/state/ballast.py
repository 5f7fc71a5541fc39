"""16 MiB kept in the state folder and given up when its disk is full, so that both databases can still be written.

Without it a full disk could not even be emptied: a removal is a row, too. Whoever fails to write for want of space
gives it up and tries again; engine and mount make it anew when there is room. While it is missing, what would only fill
the disk further is refused, so that what is left serves removals, seals and answers.
"""

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from sync.core.errors import NoSpace

T = TypeVar("T")

SIZE: Final = 16 << 20  # bytes
SPARE: Final = SIZE  # bytes left free when it is made: else the next write would need it at once
LITTLE: Final = 1 << 20  # bytes: as good as full
HINT: Final = "free some space on that disk"

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(error: BaseException) -> bool:
    """True if this error of the system, or of SQLite, says that a disk has no more room (or no more inodes)."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        # SHMSIZE: the index of the log could not grow; SQLite does not tell why, but there is hardly another reason.
        return code is not None and (code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE)
    return False


def is_kept(path: Path | str) -> bool:
    try:
        return os.stat(path).st_size == SIZE  # noqa: PTH116  asked behind every close in the mount
    except FileNotFoundError:
        return False


def has_room(path: Path) -> bool:
    """True if it can be made."""
    return _free(path) >= SIZE + SPARE


def shortage(path: Path) -> str:
    """What to say while it is missing and cannot be made; '' else."""
    if is_kept(path) or has_room(path):
        return ""
    return f"the disk of {path.parent} is full: nothing new is written before {(SIZE + SPARE) >> 20} MiB are free"


def keep(path: Path) -> bool:
    """Make the ballast if it is not there; False if the disk is too full for it and SPARE."""
    if is_kept(path):
        return True
    if not has_room(path):
        return False
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _allocate(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if not is_full(error):
            raise
        path.unlink(missing_ok=True)
        return False
    return True


def give_up(path: Path) -> bool:
    """Free the ballast's space; False if it was gone already."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def make_room(path: Path) -> None:
    """Give it up beforehand if hardly anything is left: for work that does not try again by itself."""
    if _free(path) < LITTLE:
        give_up(path)


def with_ballast(path: Path, work: Callable[[], T]) -> T:
    """work(), and once more without the ballast if the disk was full; NoSpace if that does not help.

    work has changed nothing when it fails, and is only about the disk that holds `path`.
    """
    try:
        return work()
    except (OSError, sqlite3.Error) as error:
        if not is_full(error):
            raise
        if not give_up(path):
            raise no_space(path) from error
    try:
        return work()
    except (OSError, sqlite3.Error) as error:
        if not is_full(error):
            raise
        raise no_space(path) from error


def no_space(path: Path) -> NoSpace:
    """What to say about the disk that holds the ballast."""
    return NoSpace(f"the disk of {path.parent} is full", hint=HINT)


def _free(path: Path) -> int:
    disk = os.statvfs(path.parent)
    return disk.f_bavail * disk.f_frsize


def _allocate(fd: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, SIZE)
        return
    block = bytes(1 << 20)  # a sparse file would hold no space
    for _ in range(SIZE // len(block)):
        os.write(fd, block)
