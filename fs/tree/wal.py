"""The log of tree.db (SQLite's WAL): when it has to be emptied, and how."""

from pathlib import Path
from typing import Final

from fs.work.durable import sync_path
from sync.env import Env

COMMITS: Final = 1000  # after so many the log is emptied; by SQLite itself, in a commit, only in need
PAGES_MAX: Final = 20_000  # 4 KiB each: from here on SQLite does it in a commit
WAIT_MS: Final = 20  # for readers; while it waits nothing can be committed


class Wal:
    """path: the file of the log, '' of a database in memory, which needs no emptying."""

    def __init__(self, env: Env, database: Path | str) -> None:
        self.path = "" if str(database) == ":memory:" else f"{database}-wal"
        self._env = env
        self._database = database
        self._commits = 0

    def grown(self) -> None:
        """One more commit is in it."""
        self._commits += 1

    @property
    def wants_checkpoint(self) -> bool:
        return self._commits >= COMMITS and bool(self.path)

    def sync(self) -> None:
        """What has been committed is on the disk. For another thread."""
        if self.path:
            sync_path(self.path, data_only=True)

    def checkpoint(self) -> None:
        """Move what the log holds into the database, so that it begins anew. For another thread, beside all else, and
        never twice at once: it waits for the disk.

        Nothing is lost if it fails or is cut off.
        """
        self._commits = 0
        db = self._env.connect(self._database)
        try:
            db.execute(f"PRAGMA busy_timeout = {WAIT_MS}").fetchone()
            # The first pass leaves little for the second, which holds commits up.
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        finally:
            db.close()
