"""The one table from what went wrong to what the program on the other side of the kernel sees.

Every class of sync.core.errors stands here by itself (a test walks the tree), so a new one forces a decision.
"""

import errno
import logging
import sqlite3
from typing import NamedTuple

from sync.core import errors


class Outcome(NamedTuple):
    """errno: what the system call returns. level: of the one log line. traceback: nobody expected this."""

    errno: int
    level: int
    traceback: bool = False


_QUIET = logging.DEBUG  # the program's own doing
_WARN = logging.WARNING  # the world's
_ERROR = logging.ERROR  # data or a bug

TABLE: dict[type[errors.TcfsError], Outcome] = {
    errors.TcfsError: Outcome(errno.EIO, _ERROR),
    errors.BadInput: Outcome(errno.EINVAL, _QUIET),
    errors.BadPath: Outcome(errno.EINVAL, _QUIET),
    errors.BadConfig: Outcome(errno.EIO, _ERROR),
    errors.BadFormat: Outcome(errno.EIO, _ERROR),
    errors.Unsupported: Outcome(errno.EOPNOTSUPP, _WARN),
    errors.NotFound: Outcome(errno.ENOENT, _QUIET),
    errors.AlreadyExists: Outcome(errno.EEXIST, _QUIET),
    errors.NotEmpty: Outcome(errno.ENOTEMPTY, _QUIET),
    errors.Stale: Outcome(errno.ESTALE, _QUIET),
    errors.NotAuthorised: Outcome(errno.EACCES, _WARN),
    errors.Unavailable: Outcome(errno.ENETUNREACH, _WARN),
    errors.StoreAway: Outcome(errno.ENETUNREACH, _WARN),
    errors.RequestFailed: Outcome(errno.ENETUNREACH, _WARN),
    errors.NoDaemon: Outcome(errno.ENETUNREACH, _WARN),
    errors.TimedOut: Outcome(errno.ETIMEDOUT, _WARN),
    errors.NotYet: Outcome(errno.EBUSY, _QUIET),
    errors.Refused: Outcome(errno.EAGAIN, _QUIET),
    # Not EAGAIN, which is for indexers: other programs may try again for ever, or take it for an empty file.
    errors.NeverFetched: Outcome(errno.ENODATA, _QUIET),
    errors.Conflict: Outcome(errno.EBUSY, _QUIET),
    errors.Integrity: Outcome(errno.EIO, _ERROR),
    errors.ObjectMissing: Outcome(errno.EIO, _ERROR),
    errors.TooLarge: Outcome(errno.EFBIG, _QUIET),
    errors.NoSpace: Outcome(errno.ENOSPC, _QUIET),  # fs/tree/room.py says it once: the log lies on that disk, too
    errors.ReadOnly: Outcome(errno.EROFS, _QUIET),
    errors.Fork: Outcome(errno.EIO, _ERROR),
}

# Errnos of our own disk that would mean something else to the caller: there they are just a broken disk.
_LOUD_OS_ERRORS = frozenset({errno.EIO, errno.EBADF, errno.EMFILE, errno.ENFILE, errno.EFAULT})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNKNOWN = Outcome(errno.EIO, _ERROR, traceback=True)


def outcome_of(error: BaseException) -> Outcome:
    """What to answer and how loudly to say it. Never raises; whatever is not known is EIO with a traceback."""
    if isinstance(error, errors.TcfsError):
        for kind in type(error).__mro__:
            if kind in TABLE:
                return TABLE[kind]
    if isinstance(error, UnicodeError):
        return Outcome(errno.EILSEQ, _QUIET)
    if isinstance(error, OSError) and error.errno is not None:
        return _of_os_error(error.errno)
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error)
    if isinstance(error, MemoryError):
        return Outcome(errno.ENOMEM, _ERROR)
    return _UNKNOWN


def _of_os_error(number: int) -> Outcome:
    if number in _FULL:
        return Outcome(number, _WARN)
    if number in _LOUD_OS_ERRORS:
        return _UNKNOWN
    return Outcome(number, _QUIET)


def _of_sqlite(error: sqlite3.Error) -> Outcome:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
        return Outcome(errno.ENOSPC, _WARN)
    if code is not None and code & 0xFF == sqlite3.SQLITE_BUSY:
        return Outcome(errno.EBUSY, _WARN)
    return _UNKNOWN
