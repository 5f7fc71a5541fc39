"""The temp files of pulls: who is at work on one holds a lock on it, so that what a killed pull left can be told apart.

A name is `.` and 16 hex digits and TEMP_SUFFIX. Symlinks, and file systems that have no such locks, leave only the age.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
from typing import Final

TEMP_SUFFIX: Final = ".tcfs-pull"
AGE_MAX_S: Final = 86400.0  # since the last change: nobody is at work on it any more, lock or no lock
_NAME: Final = re.compile(r"\.[0-9a-f]{16}\.tcfs-pull")
_MAKE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF})


def temp_name(random_bytes: bytes) -> str:
    """A name nobody else has, from 8 random bytes."""
    return f".{random_bytes.hex()}{TEMP_SUFFIX}"


def is_temp(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def make_temp(folder: int, name: str) -> int:
    """A new file in an open folder, mode 0600, locked until the descriptor is closed; FileExistsError."""
    while True:
        descriptor = os.open(name, _MAKE, 0o600, dir_fd=folder)
        try:
            _lock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another pull has removed it before it was locked


def remove_left(folder: int, now: float) -> int:
    """Remove the temp files in an open folder whose pull was killed; how many. now: wall clock, s.

    What cannot be listed or removed stays.
    """
    removed = 0
    with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            if is_temp(entry.name):
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    removed += _remove_if_left(folder, entry.name, now)
    return removed


def _remove_if_left(folder: int, name: str, now: float) -> bool:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISREG(found.st_mode):
        with contextlib.suppress(PermissionError):  # it has the mode of what it was to become: its age decides
            descriptor = os.open(name, _LOOK, dir_fd=folder)
            try:
                if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    os.unlink(name, dir_fd=folder)
                    return True
            except BlockingIOError:
                return False
            finally:
                os.close(descriptor)
    elif not stat.S_ISLNK(found.st_mode):
        return False
    if now - found.st_ctime < AGE_MAX_S:
        return False
    os.unlink(name, dir_fd=folder)
    return True


def _lock(descriptor: int, how: int) -> bool:
    """False where the file system has no locks; BlockingIOError if somebody else holds it."""
    try:
        fcntl.flock(descriptor, how)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True
