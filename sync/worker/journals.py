"""Reads the journals of other machines, each segment authentic by itself: a gap never stops reading."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sync.core.errors import BadFormat, Integrity, NotAuthorised, ObjectMissing, TcfsError
from sync.core.journal import (
    JournalHead,
    MachineInfo,
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
from sync.core.ranges import RangeSet
from sync.worker.apply import Applied, ReadSegment, apply_group, joined, reach_of, read_segment, release_whole
from sync.worker.context import Context, ProblemKind
from sync.worker.threads import run_to_end

BATCH_PATIENCE: Final = 60.0  # seconds that a batch behind a hole waits before its creations are applied
WAITING_RECORDS: Final = 20_000  # read but not applied, before the next segment is asked for
FIRST_HEAD_PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds: a head is put behind the segment that it names

_UNREADABLE = (Integrity, BadFormat, NotAuthorised)


@dataclass(slots=True)
class _Journal:
    """What is known of one journal beyond fleet.db.

    newest_first: the greatest first seq asked for so far. expected: the first seq of the segment behind that one; None
    if that cannot be known, as the one before is broken. last_hash: of the segment before `expected`, if it is known.
    strange: segments that do not follow the one that is stored before them: (first of that one, their key). has_waited:
    for the head of a machine that has put its first segment.
    """

    machine_id: str
    verify_key: bytes
    newest_first: int
    expected: int | None
    last_hash: bytes | None
    head_bytes: bytes = b""
    has_waited: bool = False
    waiting: list[ReadSegment] = field(default_factory=list)
    strange: list[tuple[int, str]] = field(default_factory=list)


class JournalReader:
    """Brings the journals of machines into fleet.db. One read of a journal at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._journals: dict[str, _Journal] = {}
        self._lock = asyncio.Lock()

    async def read(self, machine_id: str, *, by_keys: bool = False) -> int:
        """Apply what is new in a machine's journal; how many versions came. StoreAway; all else is reported.

        With a head that is missing or broken, or by_keys, the journal is read from its keys. A head older than one
        remembered is not followed.
        """
        async with self._lock:
            journal = await self._journal(machine_id)
            if journal is None:
                return 0
            head, is_news = await self._head(journal) if not by_keys else (None, False)
            if head is None:
                await self._read_from(journal, None)
                if journal.newest_first == 0:  # a machine that has just joined and published nothing
                    self._context.problems.clear(ProblemKind.HEAD, head_key(machine_id))
                elif not by_keys and self._may_be_under_way(journal):
                    head, is_news = await self._first_head(journal)
            if head is not None and is_news:
                await self._read_from(journal, head.last)
            versions = await self._apply(journal)
            self._report_strange(journal)
            if head is not None and is_news:
                await self._remember_head(journal, head)
            return versions

    def forget(self, machine_id: str) -> None:
        """What is known of a journal beyond fleet.db: read it anew from what that says."""
        self._journals.pop(machine_id, None)

    async def retry_holes(self) -> int:
        """Ask again for every segment that was missing or broken; how many versions came."""
        versions = 0
        async with self._lock:
            for hole in self._context.db.holes():
                journal = await self._journal(hole.machine_id)
                if journal is None:
                    continue
                segment = await self._segment(journal, hole.first)
                if segment is not None:
                    self._context.problems.clear(ProblemKind.HOLE, segment_key(hole.machine_id, hole.first))
                    self._fill(journal, segment[0])
                    versions += await self._apply(journal)
        return versions

    # ---- one machine

    async def _journal(self, machine_id: str) -> _Journal | None:
        journal = self._journals.get(machine_id)
        if journal is not None:
            return journal
        known = self._context.db.machine(machine_id)
        verify_key = known.verify_key if known is not None else None
        if verify_key is None:
            info = await self._machine_info(machine_id)
            if info is None:
                return None
            verify_key = info.verify_key
        journal = self._journals[machine_id] = self._at_start(machine_id, verify_key)
        return journal

    def _at_start(self, machine_id: str, verify_key: bytes) -> _Journal:
        """Behind the applied prefix: what lay behind a hole and was not applied yet is read again."""
        expected, newest_first, digest = 1, 0, None
        for segment in self._context.db.segments(machine_id):
            if segment.first != expected:
                break
            expected, newest_first, digest = segment.last + 1, segment.first, segment.segment_hash
        return _Journal(machine_id, verify_key, newest_first, expected, digest)

    async def _machine_info(self, machine_id: str) -> MachineInfo | None:
        context, key = self._context, machine_key(machine_id)
        try:
            info = decode_machine(context.keys, context.fleet_id, machine_id, await context.store.get(key))
        except _UNREADABLE as error:
            context.problems.report(ProblemKind.MACHINE, key, _named(key, error))
            return None
        context.problems.clear(ProblemKind.MACHINE, key)
        with context.db.transaction() as txn:
            txn.remember_machine(info)
        return info

    async def _head(self, journal: _Journal) -> tuple[JournalHead | None, bool]:
        """(the journal head, whether it tells of something new); None if it cannot be read."""
        context, key = self._context, head_key(journal.machine_id)
        try:
            data = await context.store.get(key)
            if data == journal.head_bytes:
                return self._remembered(journal), False
            head = decode_head(context.keys, context.fleet_id, journal.machine_id, data, journal.verify_key)
        except _UNREADABLE as error:
            if not (isinstance(error, ObjectMissing) and self._may_be_under_way(journal)):
                journal.has_waited = True
                context.problems.report(ProblemKind.HEAD, key, _named(key, error))
            return None, False
        context.problems.clear(ProblemKind.HEAD, key)
        known = self._remembered(journal)
        if known is not None and (head.last < known.last or (head.last == known.last and head != known)):
            message = f"{key} ends with {head.last}, but it has been at {known.last}: the store holds an older state"
            context.problems.report(ProblemKind.ROLLBACK, key, message)
            return known, False
        context.problems.clear(ProblemKind.ROLLBACK, key)
        journal.head_bytes = data
        return head, head != known

    def _may_be_under_way(self, journal: _Journal) -> bool:
        """True if nobody has seen a head of this journal yet, nor waited for it."""
        return not journal.has_waited and self._remembered(journal) is None

    async def _first_head(self, journal: _Journal) -> tuple[JournalHead | None, bool]:
        """As _head, of a journal that begins to be there: between the first segment and its head it lacks nothing."""
        for pause in FIRST_HEAD_PAUSES:
            await self._context.env.sleep(pause)
            head, is_news = await self._head(journal)
            if head is not None:
                return head, is_news
        journal.has_waited = True
        return await self._head(journal)

    def _remembered(self, journal: _Journal) -> JournalHead | None:
        machine = self._context.db.machine(journal.machine_id)
        return machine.head if machine is not None else None

    async def _remember_head(self, journal: _Journal, head: JournalHead) -> None:
        """Not before everything up to it is applied or noted as a hole: then it is looked at again."""
        if journal.waiting:
            journal.head_bytes = b""
            return
        with self._context.db.transaction() as txn:
            txn.set_head(journal.machine_id, head.first, head.last, head.segment_hash)

    # ---- segments

    async def _read_from(self, journal: _Journal, last: int | None) -> None:
        """Fetch what begins behind newest_first, up to the seq `last` (None: whatever there is); note holes."""
        known = self._context.db.segments(journal.machine_id, journal.newest_first)
        applied = {segment.first: segment for segment in known}
        for first in await self._firsts(journal):
            if last is not None and first > last:
                break
            if journal.expected is not None and first > journal.expected:
                self._note_hole(journal, journal.expected, "missing")
            if first in applied:
                journal.expected, journal.last_hash = applied[first].last + 1, applied[first].segment_hash
            else:
                await self._take(journal, first)
            journal.newest_first = first  # not before it came: whoever is cut off asks for it again
            if sum(len(segment.records) for segment in journal.waiting) >= WAITING_RECORDS:
                await self._apply(journal)
        if last is None:
            return
        if journal.expected is not None and journal.expected <= last:
            self._note_hole(journal, journal.expected, "missing")
            journal.newest_first, journal.last_hash = journal.expected, None
        if journal.expected is None or journal.expected <= last:
            journal.expected = last + 1

    async def _firsts(self, journal: _Journal) -> list[int]:
        """The first seqs of stored segments behind newest_first."""
        start_after = segment_key(journal.machine_id, journal.newest_first) if journal.newest_first else ""
        listing = self._context.store.list(journal_prefix(journal.machine_id), start_after)
        return [first async for item in listing if (first := segment_first(item.key)) is not None]

    async def _take(self, journal: _Journal, first: int) -> None:
        """Fetch one segment that should be there: it waits for being applied, or is a hole."""
        segment = await self._segment(journal, first)
        if segment is None:
            journal.expected = journal.last_hash = None
            return
        key = segment_key(journal.machine_id, first)
        if journal.last_hash is not None and first == journal.expected and segment[1] != journal.last_hash:
            journal.strange.append((journal.newest_first, key))
        journal.waiting.append(segment[0])
        journal.expected, journal.last_hash = segment[0].last + 1, segment[0].hash

    async def _segment(self, journal: _Journal, first: int) -> tuple[ReadSegment, bytes] | None:
        """A segment and the predecessor it names; None, and noted as a hole, if it is missing or does not verify."""
        context, machine_id = self._context, journal.machine_id
        key = segment_key(machine_id, first)
        try:
            data = await context.store.get(key)
            return await context.env.run(self._decode, journal, first, data)
        except _UNREADABLE as error:
            self._note_hole(journal, first, error.message)
            return None

    def _decode(self, journal: _Journal, first: int, data: bytes) -> tuple[ReadSegment, bytes]:
        context, machine_id = self._context, journal.machine_id
        found = decode_segment(context.keys, context.fleet_id, machine_id, first, data, journal.verify_key)
        return read_segment(machine_id, found, object_hash(data), context.env.now()), found.predecessor

    def _note_hole(self, journal: _Journal, first: int, reason: str) -> None:
        key = segment_key(journal.machine_id, first)
        with self._context.db.transaction() as txn:
            txn.set_hole(journal.machine_id, first, reason)
        self._context.problems.report(ProblemKind.HOLE, key, reason if key in reason else f"{key}: {reason}")

    # ---- applying

    async def _apply(self, journal: _Journal) -> int:
        """Apply what has waited long enough or is whole; how many versions came."""
        if not journal.waiting:
            return 0
        versions = 0
        db = self._context.db
        known = db.segments(journal.machine_id, reach_of(journal.waiting)[0])
        available = RangeSet((segment.first, segment.last + 1) for segment in known)
        for segment in journal.waiting:
            available.add(segment.first, segment.last + 1)
        for group in list(joined(journal.waiting)):
            if self._is_ready(group, available):
                versions += self._report(await run_to_end(self._context.env, apply_group, db, group, available))
                journal.waiting = [segment for segment in journal.waiting if segment not in group]
        return versions + self._report(await run_to_end(self._context.env, release_whole, db, journal.machine_id))

    def _is_ready(self, group: Sequence[ReadSegment], available: RangeSet) -> bool:
        start, end = reach_of(group)
        if available.covers(start, end + 1):
            return True
        machine_id = group[0].machine_id
        holes = [hole.since for hole in self._context.db.holes() if hole.machine_id == machine_id]
        since = min([*(segment.received for segment in group), *holes])
        return (
            abs(self._context.env.now() - since) >= BATCH_PATIENCE
        )  # a clock that was set back by years waits no longer

    def _report(self, applied: Applied) -> int:
        for subject, message in applied.broken:
            self._context.problems.report(ProblemKind.RECORD, subject, message)
        for subject, message in applied.clones:
            self._context.problems.report(ProblemKind.CLONE, subject, message)
        return applied.versions

    def _report_strange(self, journal: _Journal) -> None:
        """Segments that follow another one than is stored before them, unless their machine tells that it put that
        again; which it does later in its journal.
        """
        if not journal.strange or journal.waiting:
            return
        refilled = self._context.db.refilled(journal.machine_id)
        strange, journal.strange = journal.strange, []
        for before, key in strange:
            if before not in refilled:
                message = f"{key} follows another segment than the one that is stored before it"
                self._context.problems.report(ProblemKind.CHAIN, key, message)

    def _fill(self, journal: _Journal, segment: ReadSegment) -> None:
        """A hole's segment has come; if it is not all that was missing there, the rest is a hole still."""
        journal.waiting = sorted([*journal.waiting, segment], key=lambda item: item.first)
        known = self._context.db.segments(journal.machine_id)
        firsts = {item.first for item in known} | {item.first for item in journal.waiting}
        if journal.newest_first == segment.first:
            if journal.expected is None:
                journal.expected, journal.last_hash = segment.last + 1, segment.hash
            elif journal.expected > segment.last + 1:
                self._note_hole(journal, segment.last + 1, "missing")
        elif segment.last + 1 not in firsts and any(first > segment.last for first in firsts):
            self._note_hole(journal, segment.last + 1, "missing")


def _named(key: str, error: TcfsError) -> str:
    return error.message if key in error.message else f"{key}: {error.message}"
