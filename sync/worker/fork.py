"""After a fork (a clone, a state folder from backup): go on under a new machine_id, with nothing lost."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from sync.cas.reader import ChunkReader
from sync.cas.writer import FinishedPack, PackWriter
from sync.core.errors import BadFormat, Integrity, NotAuthorised
from sync.core.journal import (
    JournalHead,
    MachineInfo,
    decode_segment,
    encode_machine,
    journal_prefix,
    machine_key,
    object_hash,
    segment_first,
    segment_key,
)
from sync.core.manifest import (
    ChunkId,
    Manifest,
    PackedChunk,
    PackRecord,
    SucceedsRecord,
    Version,
    decode_record,
    version_id,
)
from sync.core.plan import republish
from sync.state.books import OutboxRow
from sync.worker.chunks import reading
from sync.worker.commit import Committer
from sync.worker.context import Context, ProblemKind
from sync.worker.journals import JournalReader
from sync.worker.threads import run_to_end

FORK_TO = "fork_to"  # meta: the machine_id being taken; a crash on the way does not take another one


@dataclass(slots=True)
class _Lost:
    """What we have written and the store lacks."""

    stored: list[OutboxRow] = field(default_factory=list)  # queued rows that the store does hold
    dropped: list[OutboxRow] = field(default_factory=list)
    segments: list[JournalHead] = field(default_factory=list)  # confirmed ones behind the last that the store holds
    versions: list[Version] = field(default_factory=list)
    packs: list[PackRecord] = field(default_factory=list)


async def take_new_identity(context: Context, journals: JournalReader, chunks: ChunkReader, reason: str) -> str:
    """Under context.journal_lock: the new machine_id, which fleet.db has; what was lost waits in the outbox. StoreAway.

    A crash on the way leaves everything to be done again. Whoever keeps machine_id elsewhere reads it from fleet.db.
    """
    old = context.db.machine_id
    is_new = context.db.confirmed is None and context.db.next_seq == 1
    await journals.read(old, by_keys=True)
    lost = await _find_lost(context, old)
    new = _new_id(context)
    info = MachineInfo(new, context.db.machine_name, context.signer.public, int(context.env.now()))
    sealed = encode_machine(context.keys, context.fleet_id, info, context.nonce(), context.signer)
    await context.store.put(machine_key(new), sealed)
    context.env.fault("fork.after_machine_put")
    packs = await repack(context, chunks, new, lost.packs)
    context.env.fault("fork.before_commit")
    await run_to_end(context.env, _commit, context, old, info, lost, packs)
    journals.forget(old)
    context.env.fault("fork.after_commit")
    why = f"fleet.db was made anew beside the journal of {old}" if is_new else f"another machine went on as {old}"
    message = f"{why}: this one is {new} now, {len(lost.versions)} versions go out again ({reason})"
    context.problems.report(ProblemKind.FORK, old, message, "nothing is to be done: all of it stays")
    return new


async def repack(
    context: Context, reader: ChunkReader, machine_id: str, packs: Iterable[PackRecord | FinishedPack]
) -> list[FinishedPack]:
    """The chunks of packs that no journal names, in new packs of machine_id. Unreadable ones are left out, reported."""
    ids = list(dict.fromkeys(ChunkId(bytes.fromhex(chunk.id)) for pack in packs for chunk in pack.chunks))
    async with PackWriter(
        context.env,
        context.keys,
        context.store,
        context.fleet_id,
        machine_id,
        context.signer,
        lambda chunk: False,
    ) as writer:
        for chunk in ids:
            try:
                async with reading(reader, [chunk]) as found:
                    async for _, data in found:
                        await writer.add(chunk, data)
            except Integrity as error:
                context.problems.report(ProblemKind.REFUSED, chunk.hex(), error.message)
        return await writer.finish()


def _new_id(context: Context) -> str:
    begun = context.db.meta(FORK_TO)
    if begun is not None:
        return str(begun)
    new = context.env.uuid4()
    with context.db.transaction(full=True) as txn:
        txn.set_meta(FORK_TO, new)
    return new


async def _find_lost(context: Context, old: str) -> _Lost:
    lost = _Lost()
    firsts = {
        first
        async for item in context.store.list(journal_prefix(old))
        if (first := segment_first(item.key)) is not None
    }
    confirmed = context.db.segments(old)
    kept = await _last_kept(context, old, confirmed, firsts)
    for segment in confirmed:
        if segment.last > kept:
            lost.segments.append(segment)
        if segment.last > kept or segment.first not in firsts:
            lost.versions += _versions_between(context, old, segment)
    if lost.versions:
        lost.packs += await _unnamed_packs(context, old, firsts)
    for row in context.db.outbox():
        if row.first in firsts and await _is_stored(context, row):
            lost.stored.append(row)
        else:
            lost.dropped.append(row)
            _read_lost(context, old, row, lost)
    return lost


async def _last_kept(context: Context, old: str, confirmed: list[JournalHead], firsts: set[int]) -> int:
    """The last seq of the newest confirmed segment that the store holds as it was; 0 for none.

    Each names its predecessor: those before it are ours too. A store set back may hold another one's in their place.
    """
    for segment in reversed(confirmed):
        if segment.first in firsts:
            data = await _stored(context, segment_key(old, segment.first))
            if data is not None and object_hash(data) == segment.segment_hash:
                return segment.last
    return 0


async def _unnamed_packs(context: Context, old: str, firsts: set[int]) -> list[PackRecord]:
    """The packs under `old` that are known here and that no segment in the store names any more."""
    named: set[str] = set()
    for first in firsts:
        data = await _stored(context, segment_key(old, first))
        if data is not None:
            named |= await context.env.run(_packs_named, context, old, first, data)
    queued = {pack.pack_id for row in context.db.outbox() for pack in _queued_packs(context, old, row)}
    return [
        PackRecord(seq=0, pack_id=pack, size=0, chunks=_chunks_of(context, old, pack))
        for pack in sorted(context.db.packs.ids(old) - named - queued)
    ]


def _packs_named(context: Context, old: str, first: int, data: bytes) -> set[str]:
    """None of a segment that is broken: nobody else can read it either."""
    named: set[str] = set()
    with contextlib.suppress(BadFormat, NotAuthorised):
        segment = decode_segment(context.keys, context.fleet_id, old, first, data, context.signer.public)
        for line in segment.lines:
            record = decode_record(line)
            if isinstance(record, PackRecord):
                named.add(record.pack_id)
    return named


def _queued_packs(context: Context, old: str, row: OutboxRow) -> list[PackRecord]:
    queued = _Lost()
    _read_lost(context, old, row, queued)
    return queued.packs


def _chunks_of(context: Context, old: str, pack_id: str) -> list[PackedChunk]:
    sql = (
        "SELECT c.chunk_id, c.offset, c.length, c.raw_length, c.flags FROM chunk AS c JOIN pack AS p ON p.num = c.pack"
        " JOIN machine AS m ON m.num = p.machine WHERE m.machine_id = ? AND p.pack_id = ? ORDER BY c.offset"
    )
    rows = context.db.query(sql, old, bytes.fromhex(pack_id))
    return [PackedChunk(chunk.hex(), *place) for chunk, *place in rows]


async def _stored(context: Context, key: str) -> bytes | None:
    """None if it is missing or the medium cannot read it."""
    try:
        return await context.store.get(key)
    except Integrity:
        return None


async def _is_stored(context: Context, row: OutboxRow) -> bool:
    return await _stored(context, segment_key(row.machine_id, row.first)) == row.segment


def _versions_between(context: Context, old: str, segment: JournalHead) -> list[Version]:
    """Own versions of a segment that was confirmed and is gone from the store."""
    rows = context.db.query(
        "SELECT v.record FROM version AS v JOIN machine AS m ON m.num = v.machine"
        " WHERE m.machine_id = ? AND v.seq BETWEEN ? AND ?",
        old,
        segment.first,
        segment.last,
    )
    return [version for (line,) in rows if (version := _version(old, line)) is not None]


def _read_lost(context: Context, old: str, row: OutboxRow, lost: _Lost) -> None:
    segment = decode_segment(context.keys, context.fleet_id, old, row.first, row.segment, context.signer.public)
    for line in segment.lines:
        record = decode_record(line)
        if isinstance(record, PackRecord):
            lost.packs.append(record)
        elif isinstance(record, Manifest):
            lost.versions.append(Version(version_id(old, record.seq, line), record))


def _version(machine_id: str, line: bytes) -> Version | None:
    record = decode_record(line)
    return Version(version_id(machine_id, record.seq, line), record) if isinstance(record, Manifest) else None


def _commit(context: Context, old: str, info: MachineInfo, lost: _Lost, packs: list[FinishedPack]) -> None:
    with context.db.transaction(full=True) as txn:
        for row in lost.stored:
            txn.confirm(row.first, row.last, object_hash(row.segment))
        for row in lost.dropped:
            txn.drop_outbox(row.first)
        txn.forget_versions([version.id for version in lost.versions])
        if lost.segments:
            txn.forget_segments(old, [segment.first for segment in lost.segments])
        for pack in lost.packs:
            # No journal names it any more: nobody else could find what lies in it.
            txn.condemn(old, pack.pack_id)
        txn.take_machine_id(info.machine_id, info.name)
        txn.remember_machine(info)
        txn.set_meta(FORK_TO, None)
        committer = Committer(context, txn)
        line = committer.add_record(SucceedsRecord(seq=committer.next_seq, machine_id=old))
        txn.insert(info.machine_id, line)
        committer.add_packs(packs)
        for item in republish(lost.versions, info.machine_id, committer.next_seq, committer.find):
            committer.add_line(item.line)
            if not txn.insert_version(item.line, item.version):
                raise BadFormat(f"version {item.version.id} is known already")
            txn.rename_version(item.old, item.version.id)
        committer.finish()
