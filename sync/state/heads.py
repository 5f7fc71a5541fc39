"""Versions and heads, as one transaction of the engine sees and changes them.

Inserts are collected and written in batches; whoever reads gets what was inserted before.
"""

import sqlite3
from collections.abc import Collection, Iterable

from sync.core.clock import machine_of
from sync.core.heads import Heads, heads_of, insert
from sync.core.manifest import Version, VersionId, decode_clock, split_version_id
from sync.state.many import batches, insert_many, marks
from sync.state.rows import MachineNumbers, decode_version, identity_of

_COLUMNS = "v.num, v.machine, v.seq, v.hash, v.record"
_OF_PATH = f"SELECT {_COLUMNS} FROM version AS v WHERE v.path = ?"
_BY_IDENTITY = f"SELECT {_COLUMNS} FROM version AS v WHERE v.machine = ? AND v.seq = ? AND v.hash = ?"
_BY_NUMBER = f"SELECT {_COLUMNS} FROM version AS v WHERE v.num = ?"
_RECORDS = "SELECT path, record FROM version WHERE path IN "
_HEADS = f"SELECT {_COLUMNS} FROM head AS h JOIN version AS v ON v.num = h.version WHERE h.path IN "


class VersionTable:
    """Tables `version` and `head` within one transaction (a new object each). `changed` names the paths to derive."""

    def __init__(self, connection: sqlite3.Connection, machines: MachineNumbers) -> None:
        self._connection = connection
        self._machines = machines
        self._next = int(connection.execute("SELECT coalesce(max(num), 0) + 1 FROM version").fetchone()[0])
        self._newest_seq: dict[int, int] = {}
        self._pending: list[tuple[int, int, int, int, str, bytes]] = []
        self._pending_paths: dict[str, list[Version]] = {}
        self._heads: dict[str, Heads] = {}
        self._numbers: dict[VersionId, int] = {}
        self._forgotten: dict[int, Version] = {}
        self._at_hand: dict[VersionId, Version] = {}
        self._clocks: dict[str, list[dict[str, int]]] = {}  # of every version of a path
        self.changed: dict[str, None] = {}

    # ---- writing

    def add(self, machine: int, line: bytes, version: Version) -> bool:
        """Insert a version; False if it is known already."""
        manifest = version.manifest
        seq, digest = manifest.seq, int(version.id[-8:], 16)
        newest = self._newest_seq.get(machine)
        if newest is None:
            found = self._connection.execute("SELECT max(seq) FROM version WHERE machine = ?", (machine,)).fetchone()
            newest = found[0] or 0
        if seq <= newest and self._is_known(version.id, machine, seq, digest):
            return False
        self._newest_seq[machine] = max(newest, seq)
        number = self._next
        self._next += 1
        path = manifest.rel_path
        self._pending.append((number, machine, seq, digest, path, line))
        self._numbers[version.id] = number
        self._at_hand[version.id] = version
        self._pending_paths.setdefault(path, []).append(version)
        if path in self._clocks:
            self._clocks[path].append(version.clock)
        return True

    def forget(self, identities: Iterable[str]) -> list[str]:
        """Take versions out again, as if never heard of; the paths whose heads were made anew."""
        self.flush()
        paths: dict[str, None] = {}
        for identity in identities:
            row = self._row(identity)
            if row is not None:
                self._forgotten[row[0]] = self._version_of(row)
                paths[self._forgotten[row[0]].path] = None
                self._connection.execute("DELETE FROM version WHERE num = ?", (row[0],))
                self._numbers.pop(VersionId(identity), None)
                self._at_hand.pop(VersionId(identity), None)
        self._newest_seq.clear()
        self._clocks.clear()
        for path in paths:
            self._store_heads(path, heads_of(self.history(path)))
        self.changed.update(paths)
        return list(paths)

    def flush(self) -> None:
        """Write what was added and bring the heads up to date."""
        if not self._pending:
            return
        insert_many(self._connection, "INSERT INTO version VALUES ", self._pending)
        paths, self._pending_paths = self._pending_paths, {}
        self._pending = []
        self.load(paths)
        gone: list[tuple[str, int]] = []
        came: list[tuple[str, int, int]] = []
        for path, versions in paths.items():
            before = heads = self._heads[path]
            for version in versions:
                heads = insert(heads, version)
            # Beside several heads even a version that is none may be the common ancestor they are merged against.
            if heads is not before or len(heads) > 1:
                self.changed[path] = None
            if heads is before:
                continue
            self._heads[path] = heads
            if before:
                gone += [(path, self._numbers[head.id]) for head in before if head not in heads]
                came += [self._head_row(path, head) for head in heads if head not in before]
            else:
                came += [self._head_row(path, head) for head in heads]
        self._connection.executemany("DELETE FROM head WHERE path = ? AND version = ?", gone)
        insert_many(self._connection, "INSERT INTO head VALUES ", came)

    def _store_heads(self, path: str, heads: Heads) -> None:
        self._connection.execute("DELETE FROM head WHERE path = ?", (path,))
        self._connection.executemany(
            "INSERT INTO head VALUES (?, ?, ?)", [self._head_row(path, head) for head in heads]
        )
        self._heads[path] = heads

    def _head_row(self, path: str, head: Version) -> tuple[str, int, int]:
        return (path, self._numbers[head.id], 0 if head.is_live else 1)

    # ---- reading

    def load(self, paths: Iterable[str]) -> None:
        """Read the heads of these paths in few statements; heads() answers for them without one."""
        missing = [path for path in paths if path not in self._heads]
        for batch in batches(missing):
            self._heads.update(dict.fromkeys(batch, ()))
            found: dict[str, list[Version]] = {}
            for row in self._connection.execute(_HEADS + marks(len(batch)), batch):
                version = self._version_of(row)
                found.setdefault(version.path, []).append(version)
            for path, versions in found.items():
                self._heads[path] = tuple(sorted(versions, key=lambda version: version.id))

    def heads(self, path: str) -> Heads:
        """The heads of a path, sorted by identity; () if it was never heard of."""
        if self._pending_paths and path in self._pending_paths:
            self.flush()
        if path not in self._heads:
            self.load([path])
        return self._heads[path]

    def history(self, path: str) -> list[Version]:
        """Every version known of a path, the newest first."""
        if path in self._pending_paths:
            self.flush()
        versions = [self._version_of(row) for row in self._connection.execute(_OF_PATH, (path,)).fetchall()]
        return newest_first(versions)

    def find(self, identity: str) -> Version | None:
        """A version by its identity as stored (not read through renames); None if it is not known."""
        version = self._at_hand.get(VersionId(identity))
        if version is not None:
            return version
        row = self._row(identity)
        return None if row is None else self._version_of(row)

    def version(self, number: int) -> Version:
        """A version by its number, even one just forgotten: rows show it until they are derived."""
        if number in self._forgotten:
            return self._forgotten[number]
        return self._version_of(self._connection.execute(_BY_NUMBER, (number,)).fetchone())

    def number(self, identity: VersionId) -> int:
        """The number of a version that this object has handed out or taken in."""
        return self._numbers[identity]

    def own_newest(self, path: str, own_ids: Collection[str]) -> dict[str, int]:
        """For each of our actors the newest number that any version known of this path gives it."""
        if path not in self._clocks:
            self.load_clocks([path])
        newest: dict[str, int] = {}
        for clock in self._clocks[path]:
            for actor, number in clock.items():
                if machine_of(actor) in own_ids:
                    newest[actor] = max(number, newest.get(actor, 0))
        return newest

    def load_clocks(self, paths: Iterable[str]) -> None:
        """Read what own_newest answers from, for these paths, in few statements."""
        for batch in batches(path for path in paths if path not in self._clocks):
            for path in batch:
                self._clocks[path] = [version.clock for version in self._pending_paths.get(path, ())]
            for path, record in self._connection.execute(_RECORDS + marks(len(batch)), batch):
                self._clocks[path].append(decode_clock(record))

    def _is_known(self, identity: VersionId, machine: int, seq: int, digest: int) -> bool:
        if identity in self._numbers:
            return True
        return self._connection.execute(_BY_IDENTITY, (machine, seq, digest)).fetchone() is not None

    def _row(self, identity: str) -> tuple[int, int, int, int, bytes] | None:
        machine_id, seq, digest = split_version_id(identity)
        machine = self._machines.number(machine_id)
        if machine is None:
            return None
        row: tuple[int, int, int, int, bytes] | None = self._connection.execute(
            _BY_IDENTITY, (machine, seq, int(digest, 16))
        ).fetchone()
        return row

    def _version_of(self, row: tuple[int, int, int, int, bytes]) -> Version:
        number, machine, seq, digest, record = row
        identity = identity_of(self._machines.id(machine), seq, digest)
        version = self._at_hand.get(identity)
        if version is None:
            version = self._at_hand[identity] = decode_version(identity, record)
            self._numbers[identity] = number
        return version


def newest_first(versions: Iterable[Version]) -> list[Version]:
    """By the time of writing, but never a version before one that had seen it, whatever the clocks of machines say."""
    moments: dict[str, tuple[int, int, str]] = {}
    ordered = sorted(
        versions, key=lambda version: sum(version.clock.values())
    )  # who has seen another has the greater sum
    for place, version in enumerate(ordered):
        seen = [moments[parent][0] for parent in version.manifest.parents if parent in moments]
        moments[version.id] = (max(version.manifest.written_at, *seen, 0), place, version.id)
    return sorted(ordered, key=lambda version: moments[version.id], reverse=True)
