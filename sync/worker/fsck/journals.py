"""fsck of journals: machine objects, journal heads, segments, their chain, and that fleet.db holds what they say."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from sync.core.errors import BadFormat, ObjectMissing, TcfsError
from sync.core.journal import (
    FLEET_KEY,
    NO_PREDECESSOR,
    JournalHead,
    Segment,
    decode_fleet,
    decode_head,
    decode_machine,
    decode_segment,
    head_key,
    journal_prefix,
    machine_key,
    object_hash,
    segment_first,
    segment_key,
)
from sync.core.manifest import Manifest, PackRecord, Record, decode_record
from sync.worker.fsck.ahead import batches, bytes_of, fetch_all
from sync.worker.fsck.check import UNREADABLE, Check
from sync.worker.fsck.findings import HINT_COPY, HINT_REBUILD, text_of

PAGE: Final = 1000  # rows of fleet.db that are read at once

_OF_MACHINE = "FROM segment WHERE machine = (SELECT num FROM machine WHERE machine_id = ?)"
_NEWEST = f"SELECT coalesce(max(first), 0) {_OF_MACHINE}"
_APPLIED = f"SELECT first, last, hash {_OF_MACHINE} AND first > ? AND first <= ? ORDER BY first LIMIT ?"
_PATHS = """
SELECT count(DISTINCT v.path), min(v.path) FROM version AS v JOIN machine AS m ON m.num = v.machine
WHERE m.machine_id = ? AND v.seq BETWEEN ? AND ?"""
_SEQS = """
SELECT v.seq, v.hash FROM version AS v JOIN machine AS m ON m.num = v.machine
WHERE m.machine_id = ? AND v.seq BETWEEN ? AND ?"""
_HINT_FLEET = "another machine of the fleet, or a copy of the store, has the right one"
_HINT_HEAD = "its machine puts it again when it runs"


@dataclass(slots=True)
class _Chain:
    """Where a journal stands while it is read. expected, predecessor: None where what comes before is broken."""

    expected: int | None = 1
    predecessor: bytes | None = NO_PREDECESSOR
    last: JournalHead | None = None  # the segment read last, whether it opens or not


class _Stored(NamedTuple):
    """A segment that the store lists. size: bytes; applied: as fleet.db has it, if it does."""

    first: int
    size: int
    applied: JournalHead | None


async def check_fleet(check: Check) -> None:
    """fleet.json: parses, is this fleet's, and has our key's check value. StoreAway."""
    context, findings = check.context, check.findings
    try:
        info = decode_fleet(await context.store.get(FLEET_KEY))
    except UNREADABLE as error:
        findings.error(FLEET_KEY, text_of(FLEET_KEY, error), hint=_HINT_FLEET)
        return
    check.looked_at_object()
    if info.fleet_id != context.fleet_id:
        findings.error(FLEET_KEY, f"{FLEET_KEY} is of another fleet, {info.fleet_id}", hint=_HINT_FLEET)
    elif not info.is_key(context.keys):
        findings.error(FLEET_KEY, f"{FLEET_KEY} has the check value of another key than ours", hint=_HINT_FLEET)
    elif info.chunk_params(context.keys) != context.params:
        findings.error(FLEET_KEY, f"{FLEET_KEY} has other chunk sizes than it had", hint=_HINT_FLEET)


async def check_journals(check: Check) -> None:
    """Every machine that the store or fleet.db knows of. Fills check.verify_keys. StoreAway."""
    ids = {machine.machine_id for machine in check.context.db.machines()}
    for prefix in ("machines/", "heads/", "journal/"):
        ids |= {name async for name in check.machines_below(prefix)}
    for machine_id in sorted(ids):
        await _MachineCheck(check, machine_id).run()


class _MachineCheck:
    def __init__(self, check: Check, machine_id: str) -> None:
        self._check = check
        self._context = check.context
        self._db = check.context.db
        self._findings = check.findings
        self._id = machine_id
        self._refilled = check.context.db.refilled(machine_id)
        self._head_key = head_key(machine_id)

    async def run(self) -> None:
        verify_key = await self._verify_key()
        if verify_key is None:
            self._check.tally.unverified.append(f"the journal and packs of {self._id}: its signing key is not known")
            return
        self._check.verify_keys[self._id] = verify_key
        head, trouble = await self._head(verify_key)
        chain = await self._segments(verify_key)
        if trouble is not None:
            # A machine that has published nothing yet has no head; neither has one whose first segment is under way.
            if isinstance(trouble, ObjectMissing) and chain.last is not None:
                head, trouble = await self._head(verify_key)
            if trouble is not None and not (isinstance(trouble, ObjectMissing) and self._is_new(chain)):
                self._findings.error(self._head_key, text_of(self._head_key, trouble), hint=_HINT_HEAD)
        if head is not None:
            await self._check_head(head, chain, verify_key)

    def _is_new(self, chain: _Chain) -> bool:
        known = self._db.machine(self._id)
        return chain.last is None and (known is None or known.head is None)

    async def _verify_key(self) -> bytes | None:
        """The machine's signing key, from the store or, where its object is broken, from fleet.db."""
        key, known = machine_key(self._id), self._db.machine(self._id)
        remembered = known.verify_key if known is not None else None
        try:
            info = decode_machine(
                self._context.keys, self._context.fleet_id, self._id, await self._context.store.get(key)
            )
        except UNREADABLE as error:
            self._findings.error(key, text_of(key, error), hint=HINT_COPY)
            return remembered
        self._check.looked_at_object()
        if remembered not in (None, info.verify_key):
            self._findings.error(key, f"{key} names another signing key than it did", hint=HINT_COPY)
            return remembered
        return info.verify_key

    async def _head(self, verify_key: bytes) -> tuple[JournalHead | None, TcfsError | None]:
        try:
            data = await self._context.store.get(self._head_key)
            head = decode_head(self._context.keys, self._context.fleet_id, self._id, data, verify_key)
        except UNREADABLE as error:
            return None, error
        self._check.looked_at_object()
        return head, None

    # ---- segments

    async def _segments(self, verify_key: bytes) -> _Chain:
        chain = _Chain()
        unlisted: list[JournalHead] = []
        async for batch in batches(self._stored(unlisted), lambda stored: stored.size):
            found = await fetch_all(
                partial(self._context.store.get, segment_key(self._id, each.first)) for each in batch
            )
            await self._context.env.run(self._check_batch, batch, found, chain, verify_key)
            self._check.tell()
        for segment in unlisted:
            self._missing(segment.first, segment.last)
        return chain

    async def _stored(self, unlisted: list[JournalHead]) -> AsyncIterator[_Stored]:
        """Goes along the listing and along fleet.db, which have one order. unlisted: takes what only fleet.db has."""
        applied = self._applied()
        at = await anext(applied, None)
        async for info in self._context.store.list(journal_prefix(self._id)):
            first = segment_first(info.key)
            if first is None:
                continue
            while at is not None and at.first < first:
                unlisted.append(at)
                at = await anext(applied, None)
            if at is not None and at.first == first:
                yield _Stored(first, info.size, at)
                at = await anext(applied, None)
            else:
                yield _Stored(first, info.size, None)
        while at is not None:
            unlisted.append(at)
            at = await anext(applied, None)

    async def _applied(self) -> AsyncIterator[JournalHead]:
        """What is applied when this begins: what comes later need not be in a listing that was begun before."""
        env, after = self._context.env, 0
        ((newest,),) = await env.run(self._db.query, _NEWEST, self._id)
        while rows := await env.run(self._db.query, _APPLIED, self._id, after, newest, PAGE):
            for row in rows:
                yield JournalHead(*row)
            after = rows[-1][0]

    def _check_batch(
        self, batch: Sequence[_Stored], found: Sequence[bytes | TcfsError], chain: _Chain, verify_key: bytes
    ) -> None:
        for stored, outcome in zip(batch, found, strict=True):
            self._segment(stored.first, outcome, chain, stored.applied, verify_key)

    def _segment(
        self, first: int, outcome: bytes | TcfsError, chain: _Chain, applied: JournalHead | None, verify_key: bytes
    ) -> None:
        key = segment_key(self._id, first)
        if chain.expected is not None and first > chain.expected:
            self._missing(chain.expected, first - 1)
            chain.predecessor = None
        elif chain.expected is not None and first < chain.expected:
            self._findings.error(key, f"{key} begins within the segment before it", hint=HINT_COPY)
        try:
            data = bytes_of(outcome)
            segment = decode_segment(self._context.keys, self._context.fleet_id, self._id, first, data, verify_key)
        except UNREADABLE as error:
            self._broken(key, text_of(key, error), first, applied)
            chain.expected = applied.last + 1 if applied is not None else None
            chain.predecessor = None
            chain.last = JournalHead(first, applied.last if applied is not None else first, b"")
            return
        self._check.tally.segments += 1
        self._check.tally.objects += 1
        digest = object_hash(data)
        before = chain.last.first if chain.last is not None else 0
        is_strange = chain.predecessor is not None and segment.predecessor != chain.predecessor
        if is_strange and before not in self._refilled:
            message = f"{key} follows another segment than the one that is stored before it"
            self._findings.error(key, message, hint=HINT_COPY)
        chain.expected, chain.predecessor = segment.last + 1, digest
        chain.last = JournalHead(first, segment.last, digest)
        self._compare(key, segment, chain.last, applied)

    def _missing(self, first: int, last: int) -> None:
        key = segment_key(self._id, first)
        if self._id != self._db.machine_id and self._id in self._db.own_ids:
            # After a fork: what the store lacked then was published again under the id we have now.
            self._findings.warning(key, f"{key}, of a machine id that we had before, is missing from the store")
        elif not self._findings.names(key):
            self._broken(key, f"{key} is missing from the store", first, JournalHead(first, last, b""))

    def _broken(self, key: str, message: str, first: int, applied: JournalHead | None) -> None:
        """Names a path that the segment speaks of, as far as fleet.db has applied it."""
        count, path = 0, None
        if applied is not None:
            count, path = self._db.query(_PATHS, self._id, first, applied.last)[0]
        if count:
            message += f"; it tells of {count} path{'s' if count > 1 else ''}"
        self._findings.error(key, message, hint=HINT_COPY, path=path or "")

    # ---- against fleet.db

    def _compare(self, key: str, segment: Segment, stored: JournalHead, applied: JournalHead | None) -> None:
        if applied is not None and (
            applied == stored or (applied.last == stored.last and applied.first in self._refilled)
        ):
            self._compare_records(key, segment)
            return
        for seq, line in enumerate(segment.lines, segment.first):
            self._record(key, line, seq)
        if applied is None:
            self._check_unapplied(key, segment)
        else:
            self._findings.error(key, f"{key} is not the segment that was applied here", hint=HINT_COPY)

    def _record(self, key: str, line: bytes, seq: int) -> Record | None:
        try:
            return decode_record(line)
        except BadFormat as error:
            self._findings.error(key, f"{key}: record {seq} is broken: {error.message}", path=error.path)
            return None

    def _check_unapplied(self, key: str, segment: Segment) -> None:
        """Not applied when the journal was begun; it may have been since."""
        queued = {first for first, _ in self._db.queued_seqs()}  # looked at first: what is confirmed is applied then
        if any(item.first == segment.first for item in self._db.segments(self._id, segment.first)):
            return
        if self._id == self._db.machine_id:
            if segment.first not in queued:
                message = (
                    f"{key} was not written by this machine's fleet.db: a clone of it, or an older copy, is at work"
                )
                self._findings.error(key, message, hint="start tcfsd: it takes a new machine id by itself")
            return
        machine = self._db.machine(self._id)
        is_hole = any((hole.machine_id, hole.first) == (self._id, segment.first) for hole in self._db.holes())
        if machine is not None and machine.head is not None and segment.last <= machine.head.last and not is_hole:
            self._findings.error(key, f"{key} was passed over: fleet.db does not hold it", hint=HINT_REBUILD)

    def _compare_records(self, key: str, segment: Segment) -> None:
        """What fleet.db has as a version, most records, was parsed when it was applied."""
        held = {item.seq for item in self._db.held_back(self._id)}  # looked at first: what is released is known then
        known = set(self._db.query(_SEQS, self._id, segment.first, segment.last))
        unknown = [
            (seq, line)
            for seq, line in enumerate(segment.lines, segment.first)
            if (seq, _hash_number(line)) not in known
        ]
        records = [self._record(key, line, seq) for seq, line in unknown]
        for record in records:
            if isinstance(record, Manifest):
                if record.seq not in held:
                    message = f"{key}: record {record.seq} is not in fleet.db"
                    self._findings.error(key, message, hint=HINT_REBUILD, path=record.rel_path)
            elif isinstance(record, PackRecord) and self._db.packs.size(self._id, record.pack_id) != record.size:
                message = f"{key}: pack {record.pack_id} is not in fleet.db as record {record.seq} has it"
                self._findings.error(key, message, hint=HINT_REBUILD)

    # ---- the head

    async def _check_head(self, head: JournalHead, chain: _Chain, verify_key: bytes) -> None:
        last = chain.last
        if last is None or head.first > last.first:
            # What was published while the journal was listed is there now.
            try:
                await self._context.store.stat(segment_key(self._id, head.first))
            except ObjectMissing:
                self._missing(head.first, head.last)
        elif head.first == last.first:
            if last.segment_hash not in (b"", head.segment_hash):
                message = f"{self._head_key} names another segment than the one stored as {last.first}"
                self._findings.error(self._head_key, message, hint=_HINT_HEAD)
        else:
            again, _ = await self._head(verify_key)
            if again is not None and again.first < last.first:
                self._findings.warning(
                    segment_key(self._id, last.first),
                    f"{self._head_key} does not name the last segment, {last.first}, yet",
                    hint="its machine does so when it runs again",
                )


def _hash_number(line: bytes) -> int:
    """The first 4 bytes of a record's hash as version.hash has them."""
    return int.from_bytes(object_hash(line)[:4])
