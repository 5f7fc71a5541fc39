"""Segments of another journal into fleet.db: batches whole, or behind a hole only what cannot take anything away."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from sync.core.errors import BadFormat
from sync.core.heads import equal_clocks
from sync.core.journal import Segment
from sync.core.manifest import Manifest, Record, Version, VersionId, decode_record, version_id
from sync.core.ranges import RangeSet
from sync.state.fleet import FleetDb
from sync.state.writer import Transaction

TRANSACTION_RECORDS: Final = 2000

BatchRange = tuple[int, int]


class ReadRecord(msgspec.Struct, frozen=True):
    """One line of a segment. record None: of an unknown type, or broken (error). batch: that it belongs to."""

    seq: int
    line: bytes
    record: Record | None
    error: str = ""
    batch: BatchRange | None = None


class ReadSegment(msgspec.Struct, frozen=True):
    """A segment that verified, not applied yet. hash: of its stored bytes; received: wall clock, s."""

    machine_id: str
    first: int
    last: int
    hash: bytes
    records: tuple[ReadRecord, ...]
    received: float

    @property
    def reach(self) -> BatchRange:
        """The seqs from the first to the last that its batches have."""
        batches = [record.batch for record in self.records if record.batch is not None]
        return min([self.first, *(first for first, _ in batches)]), max([self.last, *(last for _, last in batches)])


def read_segment(machine_id: str, segment: Segment, digest: bytes, received: float) -> ReadSegment:
    """Decode the lines. A line that is broken is carried along with its error; the others count."""
    records = []
    for seq, line in enumerate(segment.lines, segment.first):
        try:
            records.append(_read(seq, line))
        except BadFormat as error:
            records.append(ReadRecord(seq, line, None, error.message))
    return ReadSegment(machine_id, segment.first, segment.last, digest, tuple(records), received)


def _read(seq: int, line: bytes) -> ReadRecord:
    """A batch that does not hold the record itself is none. BadFormat."""
    record = decode_record(line)
    batch = record.batch if isinstance(record, Manifest) else None
    if batch is not None and not batch[0] <= seq <= batch[1]:
        batch = None
    return ReadRecord(seq, line, record, batch=batch)


def joined(waiting: Sequence[ReadSegment]) -> Iterator[list[ReadSegment]]:
    """Runs of segments, sorted by first, that batches tie together: they are applied together."""
    group: list[ReadSegment] = []
    for segment in waiting:
        if group and (group[-1].last + 1 != segment.first or not _is_tied(group[-1], segment)):
            yield group
            group = []
        group.append(segment)
    if group:
        yield group


def _is_tied(left: ReadSegment, right: ReadSegment) -> bool:
    return left.reach[1] > left.last or right.reach[0] < right.first


def reach_of(group: Sequence[ReadSegment]) -> BatchRange:
    return min(segment.reach[0] for segment in group), max(segment.reach[1] for segment in group)


class Applied(msgspec.Struct, frozen=True):
    """What applying brought: new versions, and what should be reported (subject, message)."""

    versions: int = 0
    broken: tuple[tuple[str, str], ...] = ()
    clones: tuple[tuple[str, str], ...] = ()


def apply_group(db: FleetDb, group: Sequence[ReadSegment], available: RangeSet) -> Applied:
    """Apply segments tied together, in transactions of TRANSACTION_RECORDS or one batch, whichever is more.

    available: the seqs of this journal that are known with these. Of a batch that is not whole the creations are
    applied and the tombstones held back. Doing it again does no harm; a segment is noted with its last record.
    """
    machine_id = group[0].machine_id
    ends = {segment.last: segment for segment in group}
    total = Applied()
    for records in _transactions(record for segment in group for record in segment.records):
        with db.transaction() as txn:
            applier = _Applier(txn, machine_id, available)
            for record in records:
                applier.add(record)
                if record.seq in ends:
                    done = ends[record.seq]
                    txn.note_segment(machine_id, done.first, done.last, done.hash)
            applied = applier.applied()
        total = Applied(total.versions + applied.versions, total.broken + applied.broken, total.clones + applied.clones)
    return total


def release_whole(db: FleetDb, machine_id: str) -> Applied:
    """Apply what was held back and whose batch is whole by now."""
    held = db.held_back(machine_id)
    if not held:
        return Applied()
    known = RangeSet((segment.first, segment.last + 1) for segment in db.segments(machine_id))
    whole = [item for item in held if known.covers(item.first, item.last + 1)]
    if not whole:
        return Applied()
    with db.transaction() as txn:
        applier = _Applier(txn, machine_id, known)
        for item in whole:
            applier.add(_read(item.seq, item.record))
        txn.release(machine_id, [item.seq for item in whole])
        return applier.applied()


class _Applier:
    def __init__(self, txn: Transaction, machine_id: str, available: RangeSet) -> None:
        self._txn = txn
        self._machine_id = machine_id
        self._available = available
        self._paths: dict[str, None] = {}
        self._versions = 0
        self._broken: list[tuple[str, str]] = []

    def add(self, item: ReadRecord) -> None:
        if item.error:
            self._broken.append((f"{self._machine_id}:{item.seq}", item.error))
        elif not isinstance(item.record, Manifest):
            self._txn.insert(self._machine_id, item.line)
        elif item.batch is not None and not item.record.is_live and not self._is_whole(item.batch):
            self._txn.hold_back(self._machine_id, item.seq, item.batch, item.line)
        else:
            identity: VersionId = version_id(self._machine_id, item.seq, item.line)
            if self._txn.insert_version(item.line, Version(identity, item.record)):
                self._versions += 1
                self._paths[item.record.rel_path] = None

    def applied(self) -> Applied:
        clones = []
        for path in self._paths:
            heads = self._txn.versions.heads(path)
            for head in heads if len(heads) > 1 else ():
                if equal_clocks(heads, head):
                    clones.append((path, f"{path}: two versions with one clock, {head.id} is one of them"))
                    break
        return Applied(self._versions, tuple(self._broken), tuple(clones))

    def _is_whole(self, batch: BatchRange) -> bool:
        return self._available.covers(batch[0], batch[1] + 1)


def _transactions(records: Iterable[ReadRecord]) -> Iterator[list[ReadRecord]]:
    """Runs of records that end where no batch goes on."""
    run: list[ReadRecord] = []
    for record, following in pairwise([*records, None]):
        assert record is not None, "only the last of the pairs ends with None"
        run.append(record)
        goes_on = following is not None and record.batch is not None and following.batch == record.batch
        if len(run) >= TRANSACTION_RECORDS and not goes_on:
            yield run
            run = []
    if run:
        yield run
