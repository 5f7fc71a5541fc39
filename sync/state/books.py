"""What a transaction writes besides versions: machines, journals, outbox, answers, packs, plain folders, singletons."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from sync.core.errors import NotFound
from sync.core.journal import JournalHead, MachineInfo
from sync.core.manifest import ChunkId, PackRecord
from sync.env import Env
from sync.state.many import insert_many
from sync.state.rows import MachineNumbers

QUEUED: Final = "queued"
UNCHANGED: Final = "unchanged"
REFUSED: Final = "refused"
OWNERS_TO_DERIVE: Final = "derive_owners"  # key of meta: Transaction.derive_owners is still to be done


class OutboxRow(NamedTuple):
    """A segment on its way to the store: the final bytes of it and of the journal head that follows."""

    first: int
    last: int
    machine_id: str
    segment: bytes
    head: bytes


class Hole(NamedTuple):
    """A segment that should be there and is not, or does not verify. since: wall clock, s."""

    machine_id: str
    first: int
    since: float
    reason: str


class HeldBack(NamedTuple):
    """A record whose batch [first, last] has a hole before it. since: wall clock, s."""

    machine_id: str
    seq: int
    first: int
    last: int
    since: float
    record: bytes


class Machine(NamedTuple):
    """A machine whose journal was seen. head: the journal head last read from the store."""

    machine_id: str
    name: str
    verify_key: bytes | None
    own: bool
    head: JournalHead | None


class Plain(NamedTuple):
    """What was pushed or pulled last, and the local file's stat then. size in bytes; ctime_ns 0: not known."""

    local: str
    remote: str
    version: str
    size: int
    mtime_ns: int
    ino: int
    ctime_ns: int


class Books:
    """The part of Transaction that touches no path of the tree."""

    def __init__(self, env: Env, connection: sqlite3.Connection, machines: MachineNumbers) -> None:
        self._env = env
        self._connection = connection
        self._machines = machines

    # ---- machines and their journals

    def remember_machine(self, info: MachineInfo) -> None:
        """Note what a machine says of itself (its object, or our own)."""
        number = self.machine_number(info.machine_id)
        self._execute("UPDATE machine SET name = ?, verify_key = ? WHERE num = ?", info.name, info.verify_key, number)

    def machine_number(self, machine_id: str) -> int:
        """The short number of a machine, given now if it has none."""
        number = self._machines.number(machine_id)
        if number is None:
            self._execute("INSERT INTO machine (machine_id) VALUES (?)", machine_id)
            self._machines.reload()
            number = self._machines.number(machine_id)
        if number is None:
            raise NotFound(f"machine {machine_id} has no number")
        return number

    def set_head(self, machine_id: str, first: int, last: int, segment_hash: bytes) -> None:
        """The journal head of a machine as last read from the store."""
        self._execute(
            "UPDATE machine SET head_first = ?, head_last = ?, head_hash = ? WHERE num = ?",
            *(first, last, segment_hash, self.machine_number(machine_id)),
        )

    def note_segment(self, machine_id: str, first: int, last: int, segment_hash: bytes) -> None:
        """A segment has been applied; fills the hole that was noted at its place."""
        number = self.machine_number(machine_id)
        self._execute("INSERT OR REPLACE INTO segment VALUES (?, ?, ?, ?)", number, first, last, segment_hash)
        self._execute("DELETE FROM hole WHERE machine = ? AND first = ?", number, first)

    def forget_segments(self, machine_id: str, firsts: Iterable[int]) -> None:
        """These were never applied, nor any journal head of this machine read: another one's may lie in their place."""
        number = self.machine_number(machine_id)
        self._connection.executemany(
            "DELETE FROM segment WHERE machine = ? AND first = ?", [(number, first) for first in firsts]
        )
        self._execute("UPDATE machine SET head_first = 0, head_last = 0, head_hash = NULL WHERE num = ?", number)

    def set_hole(self, machine_id: str, first: int, reason: str) -> None:
        """A segment is missing or broken. The time of a hole known already stays."""
        self._execute(
            "INSERT INTO hole VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET reason = excluded.reason",
            *(self.machine_number(machine_id), first, self._env.now(), reason),
        )

    def hold_back(self, machine_id: str, seq: int, batch: tuple[int, int], record: bytes) -> None:
        """Keep a record until its batch is whole. The time of one held back already stays."""
        self._execute(
            "INSERT OR IGNORE INTO held_back VALUES (?, ?, ?, ?, ?, ?)",
            *(self.machine_number(machine_id), seq, *batch, self._env.now(), record),
        )

    def release(self, machine_id: str, seqs: Iterable[int]) -> None:
        """Records are held back no more."""
        number = self.machine_number(machine_id)
        self._connection.executemany(
            "DELETE FROM held_back WHERE machine = ? AND seq = ?", [(number, seq) for seq in seqs]
        )

    # ---- our own journal

    def enqueue(self, first: int, last: int, segment: bytes, head: bytes) -> None:
        """Queue a segment of ours and the journal head that follows it. The next version's seq is last + 1 then."""
        own = self.machine_number(str(self.meta("machine_id")))
        self._execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", first, last, own, segment, head)
        self.set_meta("next_seq", last + 1)

    def confirm(self, first: int, last: int, segment_hash: bytes) -> None:
        """The store holds this segment and its journal head: they leave the outbox."""
        machine_id = str(self.meta("machine_id"))
        self._execute("DELETE FROM outbox WHERE first = ?", first)
        self.note_segment(machine_id, first, last, segment_hash)
        self.set_head(machine_id, first, last, segment_hash)
        self.set_confirmed(JournalHead(first, last, segment_hash))

    def set_confirmed(self, head: JournalHead | None) -> None:
        """The newest journal head of ours that the store holds; None: nothing yet (a new machine_id)."""
        self.set_meta("confirmed", msgspec.json.encode(head).decode() if head is not None else None)

    def drop_outbox(self, first: int) -> None:
        """Forget a queued segment that will never be sent (after a fork)."""
        self._execute("DELETE FROM outbox WHERE first = ?", first)

    # ---- answers to seals

    def answer(self, seal_id: bytes, answer: str, version: str | None = None, reason: str | None = None) -> int:
        """Answer a seal: 'queued' with the version's identity, 'unchanged', or 'refused' with a reason. The answer's n.

        A seal answered already keeps its answer.
        """
        self._execute(
            "INSERT OR IGNORE INTO taken (seal_id, answer, version, reason) VALUES (?, ?, ?, ?)",
            *(seal_id, answer, version, reason),
        )
        return int(self._one("SELECT n FROM taken WHERE seal_id = ?", seal_id)[0])

    def answer_all(self, answers: Sequence[tuple[bytes, str, str | None, str | None]]) -> None:
        """answer, of many seals: (seal_id, answer, version, reason) of each, numbered in their order."""
        insert_many(self._connection, "INSERT OR IGNORE INTO taken (seal_id, answer, version, reason) VALUES ", answers)

    def prune_taken(self, durable_upto: int) -> None:
        """Forget answers up to this number: the mount has noted them, and a commit that is on disk says so."""
        self._execute("DELETE FROM taken WHERE n <= ?", durable_upto)

    def prune_feed(self, upto: int) -> None:
        """Forget items of the feed up to this number; the newest one stays, so that feed_last never goes back."""
        self._execute("DELETE FROM feed WHERE n <= ? AND n < (SELECT max(n) FROM feed)", upto)

    # ---- chunks

    def add_pack(self, machine_id: str, record: PackRecord) -> None:
        """A pack of this machine and its chunks. It stays condemned if it was."""
        key = (self.machine_number(machine_id), bytes.fromhex(record.pack_id))
        self._execute(
            "INSERT INTO pack (machine, pack_id, size, seq) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (machine, pack_id) DO UPDATE SET size = excluded.size, seq = excluded.seq",
            *(*key, record.size, record.seq),
        )
        pack = self._one("SELECT num FROM pack WHERE machine = ? AND pack_id = ?", *key)[0]
        rows = [
            (bytes.fromhex(chunk.id), pack, chunk.offset, chunk.length, chunk.raw_length, chunk.flags)
            for chunk in record.chunks
        ]
        rows.sort()  # in the order of the table each page is found once
        insert_many(self._connection, "INSERT OR IGNORE INTO chunk VALUES ", rows)

    def condemn(self, machine_id: str, pack_id: str) -> None:
        """Never refer to this pack (hex) of this machine again. May come before the pack itself is known."""
        self._execute(
            "INSERT INTO pack (machine, pack_id, size, condemned) VALUES (?, ?, 0, 1)"
            " ON CONFLICT (machine, pack_id) DO UPDATE SET condemned = 1",
            *(self.machine_number(machine_id), bytes.fromhex(pack_id)),
        )

    def set_pack_lost(self, machine_id: str, pack_id: str, lost: int) -> None:
        """What was seen of a pack (hex) of this machine: 0 nothing wrong, 1 missing, 2 damaged."""
        self._execute(
            "UPDATE pack SET lost = ? WHERE machine = ? AND pack_id = ?",
            *(lost, self.machine_number(machine_id), bytes.fromhex(pack_id)),
        )

    def set_lost(self, pack: int, lost: int) -> None:
        """As set_pack_lost, of a pack's number."""
        self._execute("UPDATE pack SET lost = ? WHERE num = ?", lost, pack)

    def add_page(self, page_id: ChunkId, entries: bytes) -> None:
        """Keep a fetched page of a chunk list: JSON [[hex, size], ...]."""
        self._execute("INSERT OR REPLACE INTO chunk_page VALUES (?, ?)", page_id, entries)

    # ---- plain folders

    def set_plain(self, plains: Sequence[Plain]) -> None:
        """What was pushed or pulled last between two paths, of each."""
        insert_many(self._connection, "INSERT OR REPLACE INTO plain VALUES ", plains)

    # ---- singletons

    def meta(self, key: str) -> object:
        row = self._one("SELECT value FROM meta WHERE key = ?", key)
        return None if row is None else row[0]

    def set_meta(self, key: str, value: str | int | bytes | None) -> None:
        """None removes it."""
        if value is None:
            self._execute("DELETE FROM meta WHERE key = ?", key)
        else:
            self._execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value)

    # ---- inside

    def _execute(self, sql: str, *arguments: object) -> None:
        self._connection.execute(sql, arguments)

    def _one(self, sql: str, *arguments: object) -> Sequence[int]:
        row: Sequence[int] = self._connection.execute(sql, arguments).fetchone()
        return row
