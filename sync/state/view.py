"""ShownView: what the mount and the CLI read of fleet.db. Never writes; every call is one short read.

A view over the engine's own connection (FleetDb.view) shows, inside a transaction, the tree before that transaction.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from cachetools import LRUCache

from sync.core.errors import NotFound, NotYet, Unsupported
from sync.core.manifest import ChunkId, Kind, Manifest, Moves, VersionId, decode_moves, split_version_id
from sync.env import Env
from sync.state.many import batches, marks
from sync.state.migrate import applied_version, schema_version
from sync.state.rows import (
    ROOT_ID,
    ROW_COLUMNS,
    Content,
    FeedItem,
    MachineNumbers,
    ShownRow,
    Taken,
    decode_content,
    decode_version,
    identity_of,
)

FLEET_PACKAGE: Final = "sync.state"
RENAMES_MAX: Final = 1000  # longer chains of renamed versions than this are a loop
MANIFESTS_KEPT: Final = 16 << 20  # bytes in memory, about

_LOOKUP = f"SELECT {ROW_COLUMNS} FROM shown WHERE parent = ? AND name = ?"
_BY_ID = f"SELECT {ROW_COLUMNS} FROM shown WHERE id = ?"
_CHILDREN = f"SELECT {ROW_COLUMNS} FROM shown WHERE parent = ? AND name > ? ORDER BY name LIMIT ?"
_LINKED = f"SELECT {ROW_COLUMNS} FROM shown WHERE link_id = ? AND sibling = 0 ORDER BY id"
_PATH_OF = """
WITH RECURSIVE up(id, parent, name, depth) AS (
    SELECT id, parent, name, 0 FROM shown WHERE id = ?
    UNION ALL SELECT s.id, s.parent, s.name, depth + 1 FROM up JOIN shown AS s ON s.id = up.parent
) SELECT id, name FROM up ORDER BY depth DESC"""
_RECORD = """
SELECT v.num, v.record FROM version AS v JOIN machine AS m ON m.num = v.machine
WHERE m.machine_id = ? AND v.seq = ? AND v.hash = ?"""
_IDENTITY = "SELECT machine, seq, hash FROM version WHERE num = ?"
_DEAD = (
    "SELECT v.machine, v.seq, v.hash FROM head AS h JOIN version AS v ON v.num = h.version WHERE h.path = ? AND h.dead"
)
_HEADS = (
    "SELECT v.machine, v.seq, v.hash, h.dead FROM head AS h JOIN version AS v ON v.num = h.version WHERE h.path = ?"
)
_IS_QUEUED = (
    "SELECT 1 FROM version AS v JOIN outbox AS o ON o.machine = v.machine AND v.seq BETWEEN o.first AND o.last"
    " WHERE v.num = ?"
)
_DEAD_BELOW = (
    "SELECT h.path, v.machine, v.seq, v.hash FROM head AS h JOIN version AS v ON v.num = h.version"
    " WHERE h.path > ? AND h.path < ? AND h.dead"
)
_LONGEST_BELOW = "SELECT max(length(CAST(path AS BLOB))) FROM head WHERE path > ? AND path < ? AND NOT dead"
_FEED = "SELECT n, path, parent, name, id, was FROM feed WHERE n > ? ORDER BY n LIMIT ?"
_TAKEN = "SELECT n, seal_id, answer, version, reason FROM taken"


_identities = msgspec.json.Decoder(list[VersionId])
_xattrs = msgspec.json.Decoder(dict[str, str])
_page = msgspec.json.Decoder(list[tuple[str, int]])


class ShownView:
    """Reads of fleet.db. May be used from several threads; calls exclude each other."""

    def __init__(self, env: Env, path: Path | str) -> None:
        """Open read-only.

        NotFound if there is no such file, NotYet while the engine has not made its tables, Unsupported if it is newer.
        """
        connection = env.connect(path, readonly=True)
        try:
            _check_schema(connection, path)
        except BaseException:
            connection.close()
            raise
        self._attach(connection, threading.RLock())

    @classmethod
    def over(cls, connection: sqlite3.Connection, lock: threading.RLock) -> "ShownView":
        """A view over a connection that somebody else owns and closes."""
        view = cls.__new__(cls)
        view._attach(connection, lock)
        return view

    def _attach(self, connection: sqlite3.Connection, lock: threading.RLock) -> None:
        self._connection = connection
        self._lock = lock
        self._machines = MachineNumbers(connection)
        self._manifests: LRUCache[str, Manifest] = LRUCache(MANIFESTS_KEPT, _memory_of)

    def close(self) -> None:
        self._connection.close()

    # ---- the tree

    def lookup(self, parent: int, name: str) -> ShownRow | None:
        with self._lock:
            row = self._connection.execute(_LOOKUP, (parent, name)).fetchone()
        return None if row is None else ShownRow._make(row)

    def row(self, row_id: int) -> ShownRow | None:
        with self._lock:
            row = self._connection.execute(_BY_ID, (row_id,)).fetchone()
        return None if row is None else ShownRow._make(row)

    def linked(self, link_id: str) -> list[ShownRow]:
        """Every row with that link_id, by number; those of one `link` are one file."""
        with self._lock:
            rows = self._connection.execute(_LINKED, (link_id,)).fetchall()
        return [ShownRow._make(row) for row in rows]

    def children(self, parent: int, after: str = "", limit: int = 400) -> list[ShownRow]:
        """A page of a directory in the order of the names' bytes, beginning behind the name `after`."""
        with self._lock:
            rows = self._connection.execute(_CHILDREN, (parent, after, limit)).fetchall()
        return [ShownRow._make(row) for row in rows]

    def count_folders(self, parent: int) -> int:
        """How many directories a directory holds."""
        return int(self._one("SELECT count(*) FROM shown WHERE parent = ? AND kind = 2", parent)[0])

    def folder_names(self, parent: int) -> list[str]:
        with self._lock:
            rows = self._connection.execute(
                "SELECT name FROM shown WHERE parent = ? AND kind = 2", (parent,)
            ).fetchall()
        return [row[0] for row in rows]

    def has_children(self, parent: int) -> bool:
        return self._one("SELECT 1 FROM shown WHERE parent = ? LIMIT 1", parent) is not None

    def count(self) -> int:
        """Rows of the whole tree without the root."""
        return int(self._one("SELECT count(*) FROM shown WHERE id <> ?", ROOT_ID)[0])

    def path_of(self, row_id: int) -> str:
        """Path of a row, '' for the root; a sibling's ends in its own name, not its path's. NotFound if it is gone."""
        with self._lock:
            rows = self._connection.execute(_PATH_OF, (row_id,)).fetchall()
        if not rows or rows[0][0] != ROOT_ID:
            raise NotFound(f"no row has the id {row_id}")
        return "/".join(name for _, name in rows[1:])

    def resolve_path(self, path: str) -> ShownRow | None:
        """The row at a path, siblings included; '' is the root."""
        with self.snapshot():
            row = self.row(ROOT_ID)
            for name in path.split("/") if path else ():
                row = self.lookup(row.id, name) if row is not None else None
        return row

    # ---- versions

    def identity(self, number: int) -> VersionId:
        """The identity of a row's `version`."""
        row = self._one(_IDENTITY, number)
        if row is None:
            raise NotFound(f"no version has the number {number}")
        return identity_of(self._machines.id(row[0]), row[1], row[2])

    def number(self, identity: str) -> int | None:
        """The number of an identity as rows carry it; None if it is not known. Read through renamed versions."""
        row = self._record(self.resolve(identity))
        return None if row is None else int(row[0])

    def resolve(self, identity: str) -> VersionId:
        """What a version is called now: own versions get new names after a fork. Unknown ones stay as they are."""
        current = identity
        for _ in range(RENAMES_MAX):
            row = self._one("SELECT new FROM renamed_version WHERE old = ?", current)
            if row is None:
                break
            current = row[0]
        return VersionId(current)

    def manifest(self, identity: str) -> Manifest:
        """NotFound if no such version is known. Read through renamed versions."""
        with self._lock:
            cached = self._manifests.get(identity)
            if cached is not None:
                return cached
            resolved, row = VersionId(identity), self._record(identity)
            if row is None:
                resolved = self.resolve(identity)
                row = self._record(resolved)
            if row is None:
                raise NotFound(f"version {identity} is not known here")
            manifest = decode_version(resolved, row[1]).manifest
            self._manifests[identity] = manifest
        return manifest

    def content(self, identity: str) -> Content:
        """As manifest, several times as quick."""
        return decode_content(self._record_of(identity))

    def moves(self, identity: str) -> Moves:
        """As manifest, but nothing else of it is decoded, or kept in memory."""
        return decode_moves(self._record_of(identity))

    def content_of(self, number: int) -> Content:
        """The same by the number that rows carry."""
        row = self._one("SELECT record FROM version WHERE num = ?", number)
        if row is None:
            raise NotFound(f"no version has the number {number}")
        return decode_content(row[0])

    def seen_of(self, row: ShownRow) -> list[VersionId]:
        """All that somebody who sees this row has seen: its version and those it covers.

        Where a directory is only implied, NAME is absent as far as versions go: its dead heads.
        """
        if row.version is None:
            return self.dead_heads(self.path_of(row.id))
        return [self.identity(row.version), *(_identities.decode(row.also) if row.also else [])]

    def sibling_path(self, row: ShownRow) -> str:
        """The path whose head a sibling row shows."""
        found = self._one("SELECT path FROM version WHERE num = ?", row.version)
        if found is None:
            raise NotFound(f"row {row.id} shows no version")
        return str(found[0])

    def xattrs(self, row: ShownRow) -> dict[str, str]:
        """Names to base64 values."""
        return _xattrs.decode(row.xattrs) if row.xattrs else {}

    def dead_heads(self, path: str) -> list[VersionId]:
        """The tombstones among the heads of a path: what an absent name shows."""
        with self._lock:
            rows = self._connection.execute(_DEAD, (path,)).fetchall()
            return sorted(identity_of(self._machines.id(machine), seq, digest) for machine, seq, digest in rows)

    def dead_heads_below(self, path: str) -> dict[str, list[VersionId]]:
        """Every path below a folder that has tombstones among its heads, with those."""
        found: dict[str, list[VersionId]] = {}
        with self._lock:
            for below, machine, seq, digest in self._connection.execute(_DEAD_BELOW, (f"{path}/", f"{path}0")):
                found.setdefault(below, []).append(identity_of(self._machines.id(machine), seq, digest))
        return found

    def longest_below(self, path: str) -> int:
        """Bytes of the longest path below a folder that is not only tombstones; 0 if there is none."""
        return int(self._one(_LONGEST_BELOW, f"{path}/", f"{path}0")[0] or 0)

    def is_queued(self, number: int) -> bool:
        """True while a version is in the outbox: not in the store, or nobody knows that it is."""
        return self._one(_IS_QUEUED, number) is not None

    def is_contested(self, path: str) -> bool:
        """True if a path has heads of unequal value, at least one of them live."""
        with self._lock:
            heads = self._connection.execute(_HEADS, (path,)).fetchall()
            if len(heads) < 2 or all(dead for *_, dead in heads):
                return False
            identities = [identity_of(self._machines.id(machine), seq, digest) for machine, seq, digest, _ in heads]
            return len({self.manifest(identity).value for identity in identities}) > 1

    def chunk_list(self, identity: str) -> tuple[list[ChunkId], list[int]]:
        """The chunks of a file and their sizes in bytes, in order.

        NotYet if a page of a long list was not fetched (missing_pages tells which).
        """
        manifest = self.manifest(identity)
        if not manifest.chunk_pages:
            return [ChunkId(bytes.fromhex(chunk)) for chunk in manifest.chunks], list(manifest.chunk_sizes)
        ids: list[ChunkId] = []
        sizes: list[int] = []
        entries: list[tuple[ChunkId, int]] = []
        for before, page in zip(["", *manifest.chunk_pages], manifest.chunk_pages, strict=False):
            if page != before:  # those of a hole are all the same
                row = self._one("SELECT entries FROM chunk_page WHERE page_id = ?", bytes.fromhex(page))
                if row is None:
                    raise NotYet("the list of chunks is not here yet", path=manifest.rel_path)
                entries = [(ChunkId(bytes.fromhex(chunk)), size) for chunk, size in _page.decode(row[0])]
            ids += [chunk for chunk, _ in entries]
            sizes += [size for _, size in entries]
        return ids, sizes

    def missing_pages(self, identity: str) -> list[ChunkId]:
        """Pages of the chunk list that must be fetched before chunk_list answers."""
        pages = [ChunkId(bytes.fromhex(page)) for page in dict.fromkeys(self.manifest(identity).chunk_pages)]
        return [page for page in pages if self._one("SELECT 1 FROM chunk_page WHERE page_id = ?", page) is None]

    def is_readable(self, identity: str) -> bool:
        """False for a version that requires what this program does not know: shown, but never misread."""
        manifest = self.manifest(identity)
        return manifest.kind is Kind.TOMBSTONE or not manifest.unknown_requirements

    # ---- feed, answers, singletons

    def feed_after(self, n: int, limit: int = 1000) -> list[FeedItem]:
        with self._lock:
            return [FeedItem._make(row) for row in self._connection.execute(_FEED, (n, limit)).fetchall()]

    def feed_first(self) -> int:
        """The number of the oldest feed item that is still there, 0 if there is none."""
        return int(self._one("SELECT coalesce(min(n), 0) FROM feed")[0])

    def feed_last(self) -> int:
        """The number of the newest feed item, 0 if there was none."""
        return int(self._one("SELECT coalesce(max(n), 0) FROM feed")[0])

    def taken_after(self, n: int, limit: int = 10_000) -> list[Taken]:
        with self._lock:
            rows = self._connection.execute(f"{_TAKEN} WHERE n > ? ORDER BY n LIMIT ?", (n, limit)).fetchall()
        return [Taken._make(row) for row in rows]

    def last_taken(self) -> int:
        """The number of the last answer that is still kept, 0 if none is."""
        return int(self._one("SELECT coalesce(max(n), 0) FROM taken")[0])

    def answer(self, seal_id: bytes) -> Taken | None:
        row = self._one(f"{_TAKEN} WHERE seal_id = ?", seal_id)
        return None if row is None else Taken._make(row)

    def answers(self, seal_ids: Iterable[bytes]) -> list[Taken]:
        """answer, of many seals; those without one are left out."""
        found: list[Taken] = []
        for batch in batches(seal_ids):
            with self._lock:
                rows = self._connection.execute(f"{_TAKEN} WHERE seal_id IN {marks(len(batch))}", batch).fetchall()
            found += map(Taken._make, rows)
        return found

    def data_version(self) -> int:
        """Another number than last time: some other connection has committed."""
        return int(self._one("PRAGMA data_version")[0])

    @property
    def epoch(self) -> str:
        """Names this very database file."""
        return str(self._meta("epoch"))

    @property
    def fleet_id(self) -> str:
        return str(self._meta("fleet_id"))

    @property
    def machine_id(self) -> str:
        return str(self._meta("machine_id"))

    def own_ids(self) -> frozenset[str]:
        """Every machine_id that this machine has, or has had."""
        with self._lock:
            return frozenset(row[0] for row in self._connection.execute("SELECT machine_id FROM machine WHERE own = 1"))

    @property
    def machine_name(self) -> str:
        return str(self._meta("machine_name"))

    def tcfsignore(self) -> str:
        """The text of the fleet's .tcfsignore, '' if there is none."""
        return str(self._meta("tcfsignore") or "")

    def tcfsignore_version(self) -> str:
        """The identity of the version whose text that is, '' for none."""
        return str(self._meta("tcfsignore_version") or "")

    # ---- inside

    def _meta(self, key: str) -> Any:
        row = self._one("SELECT value FROM meta WHERE key = ?", key)
        return None if row is None else row[0]

    def _one(self, sql: str, *arguments: object) -> Any:
        with self._lock:
            return self._connection.execute(sql, arguments).fetchone()

    def _record_of(self, identity: str) -> bytes:
        row = self._record(identity) or self._record(self.resolve(identity))
        if row is None:
            raise NotFound(f"version {identity} is not known here")
        return bytes(row[1])

    def _record(self, identity: str) -> Any:
        machine_id, seq, digest = split_version_id(identity)
        return self._one(_RECORD, machine_id, seq, int(digest, 16))

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Several reads of one moment."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")


def _check_schema(connection: sqlite3.Connection, path: Path | str) -> None:
    known, found = schema_version(FLEET_PACKAGE), applied_version(connection)
    if found < known:
        raise NotYet(f"{path} has schema {found}, this program needs {known}", hint="start tcfsd of this version")
    if found > known:
        raise Unsupported(f"{path} has schema {found}, this program knows {known}", hint="restart the mount")


def _memory_of(manifest: Manifest) -> int:
    """Bytes, roughly; at most what a cache of them holds, so that the newest one is always kept."""
    return min(2000 + 160 * len(manifest.chunks) + 120 * len(manifest.chunk_pages), MANIFESTS_KEPT)
