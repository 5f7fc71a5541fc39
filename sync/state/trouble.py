"""Errors of the operating system and of SQLite that are no bugs, as errors that a person can do something about."""

import errno
import sqlite3

from sync.core.errors import Integrity, NoSpace, NotAuthorised, NotYet, TcfsError
from sync.env import Env
from sync.state.ballast import HINT, is_full
from sync.state.damage import find_damage, is_broken
from sync.state.home import FleetPaths

_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_DISK = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENOTCONN})


def explained(env: Env, paths: FleetPaths, error: BaseException) -> TcfsError | None:
    """As expected; of a database that is damaged it tells which. That reads both of them: it may take a minute."""
    if is_broken(error) and (damage := find_damage(env, paths)) is not None:
        return damage
    return expected(error)


def expected(error: BaseException) -> TcfsError | None:
    """What a full, closed or failing disk means; None for an error that is a bug."""
    if isinstance(error, TcfsError):
        return error
    if isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, sqlite3.Error):
        return _of_sqlite(error)
    return None


def _of_system(error: OSError) -> TcfsError | None:
    path = str(error.filename) if isinstance(error.filename, str) else ""
    text = error.strerror or str(error)
    if is_full(error):
        return NoSpace(text, path=path, hint=HINT)
    if error.errno in _REFUSED:
        return NotAuthorised(text, path=path)
    if error.errno in _DISK:
        return TcfsError(text, path=path, hint="see 'tcfs doctor'")
    return None


def _of_sqlite(error: sqlite3.Error) -> TcfsError | None:
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None  # the rest tells where, not what
    if is_full(error):
        return NoSpace(f"a database cannot be written: {error}", hint=HINT)
    if is_broken(error):
        return Integrity(f"a database is damaged: {error}", hint="'tcfs doctor' tells which, and what to do")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return NotAuthorised(f"a database cannot be opened: {error}")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return NotYet(f"a database is busy: {error}", hint="try again in a moment")
    if primary == sqlite3.SQLITE_IOERR:
        return TcfsError(f"a database cannot be read or written: {error}", hint="see 'tcfs doctor'")
    return None
