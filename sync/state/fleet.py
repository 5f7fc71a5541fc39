"""FleetDb: the engine's database. All writing goes through `with db.transaction() as txn`; reading is here.

But for two topics of their own: the tree (view.py), and where chunks lie (packs.py).
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from sync.core.errors import AlreadyExists, NoSpace, NotYet
from sync.core.heads import Heads
from sync.core.journal import JournalHead
from sync.core.manifest import RefilledRecord, Version, VersionId, decode_record
from sync.core.show import Mode
from sync.env import Env
from sync.state.ballast import HINT, give_up, is_full
from sync.state.books import OWNERS_TO_DERIVE, HeldBack, Hole, Machine, OutboxRow, Plain
from sync.state.heads import VersionTable
from sync.state.migrate import applied_version, migrate
from sync.state.packs import Packs
from sync.state.reads import Reads, beside
from sync.state.rows import DIR, IMPLIED_DIR_MODE, ROOT_ID
from sync.state.view import FLEET_PACKAGE, ShownView
from sync.state.writer import Transaction

FIRST_INO: Final = 2  # even numbers are the engine's
EPOCH_BYTES: Final = 16

_SEGMENTS: Final = """
SELECT first, last, hash FROM segment WHERE machine = (SELECT num FROM machine WHERE machine_id = ?1) AND first >= (
  SELECT coalesce(max(first), 0) FROM segment
  WHERE machine = (SELECT num FROM machine WHERE machine_id = ?1) AND first <= ?2)
ORDER BY first"""


class FleetDb:
    """fleet.db, opened by the one engine of a fleet. For several threads; transactions exclude each other.

    Reads inside a transaction see what it has inserted; `view` shows the tree before it. A transaction may take many
    seconds (a renamed folder goes out as a whole), so whoever reads in another thread does not wait for it, but sees
    what was committed last. So does who asks `packs` where chunks lie.
    """

    def __init__(
        self,
        env: Env,
        connection: sqlite3.Connection,
        reserve: Path | None = None,
        reader: sqlite3.Connection | None = None,
    ) -> None:
        """Over an open, migrated connection, which this object owns from now on; see open and create.

        reserve: the ballast that is given up when the disk is full, so that the next transaction has room. reader: a
        second connection, for reads beside transactions; None: they wait.
        """
        self._env = env
        self._reserve = reserve
        self._connection = connection
        self._lock = threading.RLock()
        self._writing = Reads(connection, self._lock)
        self._beside = self._writing if reader is None else Reads(reader, threading.RLock())
        self._machines = self._writing.machines
        self.packs = Packs(self.query)
        self._txn: Transaction | None = None
        self._txn_thread = 0

    @classmethod
    def create(
        cls,
        env: Env,
        path: Path | str,
        fleet_id: str,
        machine_id: str,
        machine_name: str,
        *,
        mode: Mode = Mode.INTERACTIVE,
        reserve: Path | None = None,
    ) -> "FleetDb":
        """A new database for this member of a fleet, under a new random epoch. AlreadyExists if there is one."""

        def fill(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO machine (machine_id, name, own) VALUES (?, ?, 1)", (machine_id, machine_name)
            )
            meta = {
                "epoch": env.random_bytes(EPOCH_BYTES).hex(),
                "fleet_id": fleet_id,
                "machine_id": machine_id,
                "machine_name": machine_name,
                "mode": mode.value,
                "next_seq": 1,
                "next_ino": FIRST_INO,
            }
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            now_ns = env.now_ns()
            connection.execute(
                "INSERT INTO shown (id, parent, name, kind, mode, mtime_ns, ctime_ns) VALUES (?, 0, '', ?, ?, ?, ?)",
                (ROOT_ID, DIR, IMPLIED_DIR_MODE, now_ns, now_ns),
            )

        connection = env.connect(path)
        try:
            if applied_version(connection):
                raise AlreadyExists(f"{path} is a database already", path=str(path))
            migrate(connection, FLEET_PACKAGE, fill)
            return cls(env, connection, reserve, beside(env, path))
        except BaseException:
            connection.close()
            raise

    @classmethod
    def open(cls, env: Env, path: Path | str, *, reserve: Path | None = None) -> "FleetDb":
        """Open for writing, migrated. NotYet if create did not finish, Unsupported if a newer program wrote it."""
        connection = env.connect(path)
        try:
            if applied_version(connection) == 0:
                raise NotYet(f"{path} is empty", path=str(path), hint="run 'tcfs init' again")
            migrate(connection, FLEET_PACKAGE)
            database = cls(env, connection, reserve, beside(env, path))
        except BaseException:
            connection.close()
            raise
        try:
            if database.meta(OWNERS_TO_DERIVE):
                with database.transaction() as txn:
                    txn.derive_owners()
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Waits for whoever reads or writes in another thread: SQLite's statements must not go while they run."""
        self._beside.close()
        self._writing.close()

    @property
    def view(self) -> ShownView:
        """The tree, as of the last commit, or of the last `derive` within a transaction."""
        return self._reads.view

    @contextlib.contextmanager
    def transaction(self, full: bool = False) -> Iterator[Transaction]:
        """One transaction: left normally it derives shown, appends the feed, commits; by an exception it never was.

        full: on the disk when it returns; else after the next full one, or when SQLite writes its log back. NoSpace if
        the disk is full. Transactions do not nest.
        """
        with self._lock:
            if self._txn is not None:
                raise RuntimeError("a transaction of fleet.db inside another one")
            if full:
                self._connection.execute("PRAGMA synchronous = FULL")
            try:
                with self._rolled_back_on_error():
                    self._connection.execute("BEGIN IMMEDIATE")
                    self._txn = Transaction(self._env, self._connection, self._machines)
                    self._txn_thread = threading.get_ident()
                    yield self._txn
                    self._txn.finish()
                    self._env.fault("fleet.before_commit")
                    self._connection.execute("COMMIT")
            finally:
                self._txn = None
                self._txn_thread = 0
                if full:
                    self._connection.execute("PRAGMA synchronous = NORMAL")
        self._env.fault("fleet.after_commit")

    @contextlib.contextmanager
    def _rolled_back_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._machines.reload()
            if isinstance(error, sqlite3.Error) and is_full(error):
                if self._reserve is not None:
                    give_up(self._reserve)
                raise NoSpace("the disk is full: fleet.db cannot be written", hint=HINT) from error
            raise

    # ---- who we are

    @property
    def epoch(self) -> str:
        return self.view.epoch

    @property
    def fleet_id(self) -> str:
        return self.view.fleet_id

    @property
    def machine_id(self) -> str:
        return self.view.machine_id

    @property
    def machine_name(self) -> str:
        return self.view.machine_name

    @property
    def mode(self) -> Mode:
        return Mode(str(self.meta("mode") or Mode.INTERACTIVE.value))

    @property
    def own_ids(self) -> frozenset[str]:
        """Every machine_id this machine has or had."""
        return frozenset(str(row[0]) for row in self.query("SELECT machine_id FROM machine WHERE own = 1"))

    @property
    def next_seq(self) -> int:
        """The seq of the next record of our journal."""
        return int(self.meta("next_seq"))

    @property
    def confirmed(self) -> JournalHead | None:
        """Our newest journal head that the store is known to hold; None before the first."""
        value = self.meta("confirmed")
        return None if value is None else msgspec.json.decode(value, type=JournalHead)

    def meta(self, key: str) -> Any:
        """A singleton, None if it is not set."""
        rows = self.query("SELECT value FROM meta WHERE key = ?", key)
        return rows[0][0] if rows else None

    # ---- versions

    def heads(self, path: str) -> Heads:
        """The heads of a path, sorted by identity; () if it was never heard of."""
        with self._versions() as versions:
            return versions.heads(path)

    def heads_of(self, paths: Sequence[str]) -> dict[str, Heads]:
        """The heads of many paths in few statements."""
        with self._versions() as versions:
            versions.load(paths)
            return {path: versions.heads(path) for path in paths}

    def version(self, identity: str) -> Version | None:
        """A version by its identity, read through renames; None if it is not known here."""
        with self._versions() as versions:
            return versions.find(self.resolve(identity))

    def resolve(self, identity: str) -> VersionId:
        """What a version is called now; unknown ones stay as they are."""
        return self.view.resolve(identity)

    def history(self, path: str) -> list[Version]:
        """Every version known of a path, the newest first."""
        with self._versions() as versions:
            return versions.history(path)

    def own_numbers(self, path: str) -> dict[str, int]:
        """For each of our actors its newest number at this path, published or queued."""
        with self._versions() as versions:
            return versions.own_newest(path, self.own_ids)

    def all_paths(self) -> list[str]:
        """Every path ever heard of, sorted."""
        return [str(row[0]) for row in self.query("SELECT DISTINCT path FROM version ORDER BY path")]

    def live_paths(self, prefix: str = "") -> list[str]:
        """Every path at or below `prefix` ('' = all) that has a live head, sorted."""
        sql = "SELECT DISTINCT path FROM head WHERE dead = 0"
        if not prefix:
            return [str(row[0]) for row in self.query(f"{sql} ORDER BY path")]
        below = f"{sql} AND (path = ? OR path >= ? AND path < ?) ORDER BY path"
        return [str(row[0]) for row in self.query(below, prefix, f"{prefix}/", f"{prefix}0")]  # '0' follows '/'

    def contested_paths(self) -> list[str]:
        """Every path with more than one head, at least one of them live, sorted."""
        sql = "SELECT path FROM head GROUP BY path HAVING count(*) > 1 AND min(dead) = 0 ORDER BY path"
        return [str(row[0]) for row in self.query(sql)]

    # ---- journals

    def machines(self) -> list[Machine]:
        """Every machine whose journal we have seen, ours first, then by name."""
        sql = "SELECT machine_id, name, verify_key, own, head_first, head_last, head_hash FROM machine"
        rows = self.query(f"{sql} ORDER BY own DESC, name, machine_id")
        return [
            Machine(machine_id, name, key, bool(own), JournalHead(first, last, digest) if digest is not None else None)
            for machine_id, name, key, own, first, last, digest in rows
        ]

    def machine(self, machine_id: str) -> Machine | None:
        return next((machine for machine in self.machines() if machine.machine_id == machine_id), None)

    def segments(self, machine_id: str, since: int = 0) -> list[JournalHead]:
        """The segments applied of a machine's journal, by their first seq: from the one that holds, or precedes, the
        seq `since`. After years a journal has very many.
        """
        return [JournalHead(*row) for row in self.query(_SEGMENTS, machine_id, since)]

    def holes(self) -> list[Hole]:
        sql = "SELECT m.machine_id, h.first, h.since, h.reason FROM hole AS h JOIN machine AS m ON m.num = h.machine"
        return [Hole(*row) for row in self.query(f"{sql} ORDER BY m.machine_id, h.first")]

    def held_back(self, machine_id: str | None = None) -> list[HeldBack]:
        """Records that wait for their batch, of one machine or of all."""
        rows = self.query(
            "SELECT m.machine_id, b.seq, b.first, b.last, b.since, b.record"
            " FROM held_back AS b JOIN machine AS m ON m.num = b.machine ORDER BY m.machine_id, b.seq"
        )
        return [HeldBack(*row) for row in rows if machine_id in (None, row[0])]

    def outbox(self) -> list[OutboxRow]:
        """What is queued for the store, in order."""
        sql = "SELECT o.first, o.last, m.machine_id, o.segment, o.head FROM outbox AS o JOIN machine AS m"
        return [OutboxRow(*row) for row in self.query(f"{sql} ON m.num = o.machine ORDER BY o.first")]

    def queued_seqs(self) -> list[tuple[int, int]]:
        """(first, last) of each row of the outbox, in order, without the bytes."""
        return [(int(first), int(last)) for first, last in self.query("SELECT first, last FROM outbox ORDER BY first")]

    def refilled(self, machine_id: str) -> set[int]:
        """The segments (first) of a machine that have other bytes than they had, with the same records."""
        sql = "SELECT o.record FROM other_record AS o JOIN machine AS m ON m.num = o.machine WHERE m.machine_id = ?"
        records = (decode_record(line) for (line,) in self.query(sql, machine_id))
        return {record.first for record in records if isinstance(record, RefilledRecord)}

    # ---- plain folders

    def plain(self, local: str, remote: str) -> Plain | None:
        rows = self.query("SELECT * FROM plain WHERE local = ? AND remote = ?", local, remote)
        return Plain(*rows[0]) if rows else None

    # ---- inside

    def query(self, sql: str, *arguments: object) -> list[Any]:
        """The rows of any SELECT (for fsck, and for what no other method answers)."""
        return self._reads.query(sql, arguments)

    @contextlib.contextmanager
    def _versions(self) -> Iterator[VersionTable]:
        """The open transaction's table, which knows what was just inserted, else a new one."""
        reads = self._reads
        with reads.lock:
            is_inside = self._txn is not None and reads is self._writing
            yield self._txn.versions if self._txn is not None and is_inside else reads.versions()

    @property
    def _reads(self) -> Reads:
        """Within a transaction its own connection, else one that waits for none."""
        return self._writing if self._txn_thread == threading.get_ident() else self._beside
