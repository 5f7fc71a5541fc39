"""What the engine and the CLI read of tree.db: seals to publish, the bytes of layers, and what is not yet safe."""

import enum
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sync.core.errors import NotFound, NotYet, TcfsError, Unsupported
from sync.core.manifest import PathVersion, VersionId
from sync.core.ranges import RangeSet
from sync.env import Env
from sync.state.many import batches, marks
from sync.state.migrate import applied_version
from sync.state.rows import SPECIAL
from sync.state.tree.database import layer_path, tree_schema
from sync.state.tree.now import DIRTY, LOCAL_ONLY, EntryNow, Folders, RowsNow
from sync.state.tree.redo import NOTHING_LOGGED, STAMP_KEY, Logged, Sealed, log_path, read_logged, read_whole

__all__ = ["Dirty", "DirtyState", "OverlayRow", "Seal", "TreeReader", "layer_path"]

_identities = msgspec.json.Decoder(list[VersionId])
_numbers = msgspec.json.Decoder(tuple[int, ...])
_pair = msgspec.json.Decoder(tuple[str, str])
_xattrs = msgspec.json.Decoder(dict[str, str])

_SEAL_COLUMNS = (
    "ord, seal_id, round, op, path, from_path, node, dir_ids, kind, mode, uid, gid, size, mtime_ns, ctime_ns, target,"
    " xattrs, base, layer, limit_below, seen, last, resolved, moved_from, moved_to, link_id, grp,"
    " owner, owner_group"
)
_SPANS = 'SELECT work, start, "end" FROM span WHERE work IN'


class Seal(msgspec.Struct, frozen=True):
    """A state of an entry, frozen for publishing: one row of `seal` (see schema/004_seal.sql), its JSON decoded.

    op: put, remove or movedir. kind: 1 file, 2 dir, 3 symlink. Sizes in bytes, times in ns.
    """

    ord: int
    seal_id: bytes
    round: int
    op: str
    path: str
    from_path: str | None
    node: int | None
    dir_ids: tuple[int, ...]
    kind: int | None
    mode: int | None
    uid: int | None
    gid: int | None
    size: int | None
    mtime_ns: int | None
    ctime_ns: int | None
    target: str | None
    xattrs: dict[str, str]
    base: str | None
    layer: int | None
    limit_below: int | None
    seen: list[VersionId]
    last: str | None
    resolved: bool
    moved_from: PathVersion | None
    moved_to: str | None
    link_id: str = ""
    grp: bytes | None = None
    owner: str = ""
    owner_group: str = ""

    @property
    def held_by(self) -> bytes:
        """The seal_id that the node holds: that of the first of its names."""
        return self.seal_id if self.grp is None else self.grp


class DirtyState(enum.StrEnum):
    """Why a path is not yet safe, as far as tree.db knows."""

    # Written since its last flush or fsync: open for writing, or interrupted if the mount has died. Of a removal: what
    # moved away from there is so.
    WRITING = "writing"
    UNSEALED = "unsealed"  # changed, waits for quiet or for the answer to an earlier seal
    SEALED = "sealed"  # frozen, waits for the engine or for its answer to be noted


class Dirty(NamedTuple):
    """One path that differs from what is published. removed: the change is a removal. seal_id: of an un-noted seal."""

    path: str
    state: DirtyState
    removed: bool
    seal_id: bytes | None


class OverlayRow(NamedTuple):
    """A name of the mount's own. node None: it is absent here. kind 1 file, 2 dir, 3 symlink; base: an identity."""

    parent: int
    name: str
    node: int | None
    kind: int
    base: str | None
    local_only: bool
    resolved: bool


class TreeReader:
    """Reads of tree.db; empty while the mount has not made it. Calls of several threads exclude each other."""

    def __init__(self, env: Env, path: Path | str, *, connection: sqlite3.Connection | None = None) -> None:
        """`connection`: read through this one instead of opening `path` (somebody else closes it)."""
        self._env = env
        self._path = path
        self._lock = threading.RLock()
        self._connection = connection
        self._owned = connection is None
        self._passes_over_log = False

    def close(self) -> None:
        """For good, after whoever reads in another thread; what is asked later finds nothing."""
        with self._lock:
            if self._owned and self._connection is not None:
                self._connection.close()
            self._connection, self._owned = None, False

    def pass_over_log(self) -> str:
        """Why the redo log cannot be read, or not all of it; '' if it can. From then on one that cannot be read at all
        is passed over: what only that knows to be changed is missing from every answer.
        """
        stamp = self._meta(STAMP_KEY)
        try:
            self._read_log()
            damage = self._damage(stamp or b"")
            if damage and damage != self._damage(stamp or b""):
                damage = ""  # a mount was writing it in that moment
        except TcfsError as error:
            self._passes_over_log = True
            return str(error)
        # A commit in between begins the log anew; a power cut may have taken what nobody had synced.
        is_meant = self._meta(STAMP_KEY) == stamp and self._meta("boot_id") == self._env.boot_id()
        return damage if is_meant else ""

    def seals(self, known: Collection[bytes] = ()) -> list[Seal]:
        """Seals in the order they are to be published, without those whose seal_id is in `known` (answered already)."""
        rows = self._all(f"SELECT {_SEAL_COLUMNS} FROM seal ORDER BY ord")
        return [_seal(row) for row in rows if row[1] not in known]

    def has_seals_beside(self, known: Collection[bytes]) -> bool:
        """True if there is a seal whose seal_id is not in `known`."""
        return any(row[0] not in known for row in self._all("SELECT seal_id FROM seal"))

    def is_overtaken(self, seal_id: bytes) -> bool:
        """True if what a seal froze is not what stands there any more: its entry or its node has been changed since."""
        held = "SELECT gen = sealed_gen FROM {} WHERE seal_id = ?"
        rows = [*self._all(held.format("entry"), seal_id), *self._all(held.format("node"), seal_id)]
        return not all(row[0] for row in rows)

    def is_removed(self, seal_id: bytes) -> bool:
        """True if the file of a seal that has no answer is gone: nothing of it is to be published any more."""
        return not self._all("SELECT 1 FROM node WHERE seal_id = ?", seal_id)

    def has_seals(self) -> bool:
        return bool(self._all("SELECT 1 FROM seal LIMIT 1"))

    def spans(self, work_id: int) -> RangeSet:
        """The byte ranges of a layer that hold data; everything else shows what lies below, or zeros."""
        return self.spans_of([work_id])[work_id]

    def spans_of(self, work_ids: Collection[int]) -> dict[int, RangeSet]:
        """The same of many layers, in few statements."""
        found = {work_id: RangeSet() for work_id in work_ids}
        for batch in batches(found):
            for work_id, start, end in self._all(f"{_SPANS} {marks(len(batch))} ORDER BY work, start", *batch):
                found[work_id].add(start, end)
        return found

    def taken_upto(self) -> int:
        """The number of the last answer the mount has noted; 0 if none."""
        return int(self._meta("taken_upto") or 0)

    def feed_cursor(self) -> int:
        """The number of the last item of fleet.db's feed that the mount has followed; 0 if none."""
        return int(self._meta("feed_cursor") or 0)

    def fleet_epoch(self) -> str | None:
        """The epoch of the fleet.db this tree.db was written against."""
        value = self._meta("fleet_epoch")
        return None if value is None else str(value)

    def dirty(self, shown_path: Callable[[int], str]) -> list[Dirty]:
        """Every path that is not yet published, by path. `shown_path`: ShownView.path_of.

        Of a folder that shown has no more, the path it was last attached at; of one without, nothing but removals is
        left out: a file is listed by its bare name.
        """
        found: list[Dirty] = []
        with self._now() as (rows, logged):
            folders = Folders(self._all, logged, shown_path)
            for row in rows.entries(DIRTY, lambda entry: entry.dirty and not entry.local_only):
                path = folders.below(row.parent, row.name)
                if path is not None or row.node is not None:
                    is_removed = row.node is None or row.kind in SPECIAL
                    found.append(Dirty(path or row.name, _state(row.sealed, row.unflushed), is_removed, row.seal_id))
            for lost in rows.lost():
                found.append(Dirty(lost.path, _state(lost.sealed, lost.unflushed), False, lost.sealed[1]))
        return sorted(found, key=lambda item: (item.path, item.state))

    def overlay(self) -> list[OverlayRow]:
        """Every name where the mount differs from what fleet.db shows, whiteouts too."""
        with self._now() as (rows, _):
            return [
                OverlayRow(row.parent, row.name, row.node, *behind, bool(row.local_only), bool(row.resolved))
                for row in rows.entries()
                for behind in [(row.kind, row.base) if row.node is not None else (0, None)]
            ]

    def local_only(self, shown_path: Callable[[int], str]) -> list[str]:
        """Paths that stay on this machine because they are ignored. `shown_path` as in dirty."""
        return self._paths(LOCAL_ONLY, lambda row: bool(row.local_only) and row.kind not in SPECIAL, shown_path)

    def special(self, shown_path: Callable[[int], str]) -> list[str]:
        """Fifos, sockets and device nodes: they stay on this machine. `shown_path` as in dirty."""
        return self._paths(f"WHERE n.kind >= {min(SPECIAL)}", lambda row: row.kind in SPECIAL, shown_path)

    def bases(self) -> set[str]:
        """Identities of the versions whose bytes changed or sealed files still show: their content must stay here."""
        with self._now() as (rows, _):
            return rows.bases()

    def is_sealed_or_dirty(self) -> bool:
        """True while anything in tree.db is not noted as published."""
        dirty = "SELECT 1 FROM entry WHERE dirty = 1 AND local_only = 0"
        lost = "SELECT 1 FROM node WHERE lost_path IS NOT NULL"
        logged = self._read_log()
        with self._snapshot():
            if self._all(f"{dirty} UNION ALL {lost} UNION ALL SELECT 1 FROM seal LIMIT 1"):
                return True
            is_logged = any(row.dirty and not row.local_only for row in logged.entries.values())
            is_logged = is_logged or any(node.lost_path is not None for node in logged.nodes.values())
            return is_logged and self._meta(STAMP_KEY) == logged.stamp

    # ---- inside

    def _paths(
        self, where: str, is_meant: Callable[[EntryNow], bool], shown_path: Callable[[int], str]
    ) -> list[str]:  # fmt: skip
        """Of what `where` chooses of tree.db, and of what is logged, those that are meant."""
        with self._now() as (rows, logged):
            folders = Folders(self._all, logged, shown_path)
            paths = (folders.below(row.parent, row.name) for row in rows.entries(where) if row.node and is_meant(row))
            return sorted(path for path in paths if path is not None)

    @contextmanager
    def _now(self) -> Iterator[tuple[RowsNow, Logged]]:
        """The rows of one moment, and what of them is only logged."""
        logged = self._read_log()
        with self._snapshot():
            if self._meta(STAMP_KEY) != logged.stamp:
                logged = NOTHING_LOGGED
            yield RowsNow(self._all, logged), logged

    def _damage(self, stamp: bytes) -> str:
        return read_whole(log_path(self._path), stamp).damage

    def _read_log(self) -> Logged:
        return NOTHING_LOGGED if self._passes_over_log else read_logged(log_path(self._path))

    def _meta(self, key: str) -> Any:
        rows = self._all("SELECT value FROM meta WHERE key = ?", key)
        return rows[0][0] if rows else None

    def _all(self, sql: str, *arguments: object) -> list[Any]:
        with self._lock:
            connection = self._open()
            return [] if connection is None else connection.execute(sql, arguments).fetchall()

    def _open(self) -> sqlite3.Connection | None:
        """None while there is no tree.db. NotYet while it is being migrated, Unsupported if it is newer."""
        if self._connection is not None or not self._owned:
            return self._connection
        try:
            connection = self._env.connect(self._path, readonly=True)
        except NotFound:
            return None
        try:
            found, known = applied_version(connection), tree_schema()
            if found > known:
                raise Unsupported(f"{self._path} has schema {found}, this program knows {known}", hint="restart tcfsd")
            if 0 < found < known:
                raise NotYet(f"{self._path} has schema {found}, this program needs {known}", hint="restart the mount")
        except BaseException:
            connection.close()
            raise
        if found == 0:
            connection.close()
            return None
        self._connection = connection
        return connection

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Several reads of one moment."""
        with self._lock:
            connection = self._open()
            if connection is None or connection.in_transaction:
                yield
                return
            connection.execute("BEGIN")
            try:
                yield
            finally:
                connection.execute("COMMIT")


def _state(sealed: Sealed, unflushed: int) -> DirtyState:
    if unflushed:
        return DirtyState.WRITING
    gen, seal_id, sealed_gen = sealed
    return DirtyState.SEALED if seal_id is not None and gen == sealed_gen else DirtyState.UNSEALED


def _seal(row: Any) -> Seal:
    """Of a row of _SEAL_COLUMNS, which are the fields of a Seal in their order."""
    values = list(row)
    values[7] = _numbers.decode(row[7])
    values[16] = _xattrs.decode(row[16]) if row[16] else {}
    values[20] = _identities.decode(row[20]) if row[20] != "[]" else []
    values[22] = bool(row[22])
    values[23] = PathVersion(*_pair.decode(row[23])) if row[23] else None
    return Seal(*values)
