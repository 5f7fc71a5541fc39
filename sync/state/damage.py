"""A database of the state folder that cannot be read: which one it is, and what to do about it."""

import sqlite3
from pathlib import Path
from typing import Final

from sync.core.errors import Integrity, NotFound
from sync.env import Env
from sync.state.home import FleetPaths

CHECK_S: Final = 60.0  # that looking for damage may take: of a large database only a part is read then
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_STEPS: Final = 100_000  # of SQLite's machine between two looks at the clock


def is_broken(error: BaseException) -> bool:
    """True if SQLite says that a database is damaged; it does not say which."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.Error) and isinstance(code, int) and code & 0xFF in _BROKEN


def rebuild_hint(fleet_db: Path | str = "fleet.db") -> str:
    """What to do about a fleet.db that is damaged."""
    return (
        f"end tcfsd if it runs, move {fleet_db}* away, 'tcfs up': it is built anew from the journals in the store;"
        " what is changed in the mount stays and goes out, what was pushed and not sent yet is to be pushed again"
    )


def find_damage(env: Env, paths: FleetPaths, seconds: float = CHECK_S) -> Integrity | None:
    """What is wrong with the databases of a fleet, with its `path` and a hint; None if nothing was found."""
    for path in (paths.fleet_db, paths.tree_db):
        if reason := damage_of(env, path, seconds):
            hint = rebuild_hint(path)
            if path == paths.tree_db:
                hint = (
                    f"copy {paths.state_dir} aside first: it alone has what the mount has not published;"
                    f" then end tcfsd if it runs, move {path}* away, 'tcfs up'"
                )
            return Integrity(f"{path} is damaged: {reason}", path=str(path), hint=hint)
    return None


def damage_of(env: Env, path: Path, seconds: float = CHECK_S) -> str:
    """What SQLite finds wrong with a database within this time; '' if nothing, or if there is none."""
    try:
        connection = env.connect(path, readonly=True)
    except NotFound:
        return ""
    except sqlite3.DatabaseError as error:
        return _reason(error)
    try:
        until = env.monotonic() + seconds
        connection.set_progress_handler(lambda: int(env.monotonic() > until), _STEPS)
        found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        return "" if found == "ok" else " ".join(found.split())
    except sqlite3.DatabaseError as error:
        return _reason(error)
    finally:
        connection.close()


def _reason(error: sqlite3.DatabaseError) -> str:
    """'' for one that is only busy, or was interrupted."""
    return str(error) if is_broken(error) else ""
