"""How marks get to tree.db: in transactions, or, before that, into its redo log."""

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from fs.tree.marks import PUT_META, Marks, WrittenFile
from sync.env import Env
from sync.state.tree import aside, redo

log = logging.getLogger(__name__)


class Writer:
    """The connection is this one's from now on: `close` closes it."""

    def __init__(self, env: Env, connection: sqlite3.Connection, marks: Marks) -> None:
        self._env = env
        self._connection = connection
        self._marks = marks
        self._stamp = b""  # of the last transaction
        self._redo: redo.RedoLog | None = None
        self._path = Path()  # of the redo log

    def open_log(self, path: Path) -> list[list[redo.Batch]]:
        """Use a redo log; what it holds that was not committed yet, for `replay`. To be called before `transact`.

        Of one that is damaged that is what can be read, and the log is set aside. BadConfig if it cannot be read at
        all, Unsupported if another program wrote it. Without room for the file nothing is ever logged.
        """
        meta = dict(self._connection.execute("SELECT key, value FROM meta"))
        stamp = meta.get(redo.STAMP_KEY, b"")
        records, damage = redo.read_whole(path, stamp)
        # A power cut may take what nobody has synced, and from the middle of the file, too.
        if damage and meta.get("boot_id") == self._env.boot_id():
            kept = aside.put_log(path, stamp)
            log.error("%s: what was closed last before the mount ended may be missing; it is kept in %s", damage, kept)
        self._path = path
        try:
            self._redo = redo.RedoLog(path)
        except OSError as error:
            log.warning("%s cannot be made, every change is committed at once: %s", path, error)
        return records

    def replay(self, records: list[list[redo.Batch]]) -> None:
        """Commit what `open_log` gave. Unsupported if that are no rows of ours."""
        with self._transaction() as db:
            for batches in records:
                try:
                    self._marks.replay(db, batches)
                except (KeyError, TypeError, OverflowError, sqlite3.IntegrityError, sqlite3.ProgrammingError) as error:
                    raise redo.not_ours(self._path, error) from error
            db.execute(PUT_META, (redo.STAMP_KEY, self._env.random_bytes(redo.STAMP_SIZE)))

    def log(self) -> bool:
        """Put into the redo log what is marked and not yet there; False if it has to be committed."""
        batches = self._marks.to_log() if self._redo is not None else None
        return batches is not None and self._redo is not None and self._redo.append(batches)

    def transact(self, full: bool) -> list[WrittenFile]:
        """Commit all that is marked. full: it is on the disk when this returns."""
        self._stamp = self._env.random_bytes(redo.STAMP_SIZE)
        if full:
            self._connection.execute("PRAGMA synchronous = FULL")
        try:
            with self._transaction() as db:
                written = self._marks.write(db)
                db.execute(PUT_META, (redo.STAMP_KEY, self._stamp))
                self._env.fault("tree.before_commit")
        except sqlite3.Error as error:
            if self._redo is not None and _is_unknown(error):
                self._redo.restart(b"")  # it takes nothing before it is known again what it continues
            raise
        finally:
            if full:
                self._connection.execute("PRAGMA synchronous = NORMAL")
        return written

    def committed(self) -> None:
        """`transact` went well: what the redo log holds is void."""
        if self._redo is not None:
            self._redo.restart(self._stamp)

    def close(self) -> None:
        self._connection.close()
        if self._redo is not None:
            self._redo.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._connection
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled it back already
                db.execute("ROLLBACK")
            raise


def _is_unknown(error: sqlite3.Error) -> bool:
    """True if a transaction that failed may be found after a kill all the same: its log was written and not synced."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_IOERR
