"""A store that was set back, or has lost an object: segments of our journal that were confirmed and are not there.

Nobody else wrote under our machine_id (that would be a fork), and fleet.db knows what was in them. So they are put
again, under their own numbers and with the very records they had: whoever has applied them has nothing new to apply,
whoever has not gets every version under the identity it always had. A new machine_id, as after a fork, would make what
others have written since concurrent with what they had seen.

Only the bytes differ (the nonce), and with them the hash that the next segment and fleet.db elsewhere know: a
`refilled` record tells of it. Contents that went with the packs are another matter, see worker/restore.py.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from sync.core.errors import Fork, ObjectMissing
from sync.core.journal import (
    NO_PREDECESSOR,
    JournalHead,
    MachineInfo,
    encode_machine,
    encode_segment,
    journal_prefix,
    machine_key,
    object_hash,
    segment_first,
    segment_key,
)
from sync.core.manifest import PackedChunk, PackRecord, RefilledRecord, RemarkRecord, encode_record
from sync.core.packfile import pack_key
from sync.state.fleet import FleetDb
from sync.worker.commit import Committer
from sync.worker.context import Context
from sync.worker.lost import MISSING
from sync.worker.threads import run_to_end

REFILLING: Final = "refilling"  # meta: JSON [first of each segment being put again]; a crash forgets to tell of none
UNKNOWN: Final = "this record is not known any more"  # text of the remark in its place

_VERSIONS: Final = """
SELECT v.seq, v.record FROM version AS v JOIN machine AS m ON m.num = v.machine
WHERE m.machine_id = ? AND v.seq BETWEEN ? AND ?"""
_OTHERS: Final = """
SELECT o.seq, o.record FROM other_record AS o JOIN machine AS m ON m.num = o.machine
WHERE m.machine_id = ? AND o.seq BETWEEN ? AND ?"""
_PACKS: Final = """
SELECT p.num, p.seq, p.pack_id, p.size FROM pack AS p JOIN machine AS m ON m.num = p.machine
WHERE m.machine_id = ? AND p.seq BETWEEN ? AND ?"""
_OLD_PACKS: Final = """
SELECT p.num, 0, p.pack_id, p.size FROM pack AS p JOIN machine AS m ON m.num = p.machine
WHERE m.machine_id = ? AND p.seq IS NULL AND p.size > 0 ORDER BY p.num"""
_CHUNKS: Final = "SELECT chunk_id, offset, length, raw_length, flags FROM chunk WHERE pack = ? ORDER BY offset"

_firsts = msgspec.json.Decoder(list[int])


async def refill(context: Context) -> int:
    """Put again what the store lacks of our machine object and confirmed segments; how many there are to be told of.

    Fork, StoreAway.

    Under context.journal_lock. What tells of it waits in the outbox then, and the journal head goes out behind that.
    """
    db, machine_id = context.db, context.db.machine_id
    await _put_machine(context)
    stored = {segment_first(item.key) async for item in context.store.list(journal_prefix(machine_id))}
    segments = db.segments(machine_id)
    lacking = [segment.first for segment in segments if segment.first not in stored]
    begun = refilling(db)
    if not lacking and not begun:
        return 0
    with db.transaction(full=True) as txn:
        txn.set_meta(REFILLING, msgspec.json.encode(sorted({*begun, *lacking})).decode())
    previous, unknown = NO_PREDECESSOR, False
    for segment in segments:
        if segment.first in lacking:
            known = await context.env.run(_known_lines, db, machine_id, segment)
            unknown = unknown or len(known) <= segment.last - segment.first
            lines = [known.get(seq) or _placeholder(seq) for seq in range(segment.first, segment.last + 1)]
            previous = await _put_again(context, segment, lines, previous)
        else:
            previous = segment.segment_hash
    await _note_missing_packs(context)
    await run_to_end(context.env, _tell, context, {*begun, *lacking}, unknown)
    return len({*begun, *lacking})


def refilling(db: FleetDb) -> list[int]:
    """The segments (first) that are being put again: nobody has been told yet."""
    return _firsts.decode(db.meta(REFILLING) or "[]")


async def _put_again(context: Context, segment: JournalHead, lines: Sequence[bytes], previous: bytes) -> bytes:
    """The hash of what is stored in its place then: never something that fleet.db does not know."""
    machine_id, key = context.db.machine_id, segment_key(context.db.machine_id, segment.first)
    data = await context.env.run(
        encode_segment,
        context.keys,
        context.fleet_id,
        machine_id,
        lines,
        segment.first,
        segment.last,
        previous,
        context.nonce(),
        context.signer,
    )
    new = JournalHead(segment.first, segment.last, object_hash(data))
    _note(context, segment, new)
    if await context.store.put_if_absent(key, data):
        return new.segment_hash
    found = object_hash(await context.store.get(key))
    if found == segment.segment_hash:  # a listing that was late: it was there all the time
        _note(context, new, segment)
    elif found != new.segment_hash:
        raise Fork(f"{key} holds what this machine has not written", path=key)
    return found


def _note(context: Context, old: JournalHead, new: JournalHead) -> None:
    """Before it is put: a crash behind the put must not leave what looks like another machine's."""
    machine_id = context.db.machine_id
    is_newest = context.db.confirmed == old
    with context.db.transaction(full=True) as txn:
        txn.note_segment(machine_id, new.first, new.last, new.segment_hash)
        if is_newest:
            txn.set_head(machine_id, new.first, new.last, new.segment_hash)
            txn.set_confirmed(new)


def _known_lines(db: FleetDb, machine_id: str, segment: JournalHead) -> dict[int, bytes]:
    """The records of a segment by their seq."""
    place = (machine_id, segment.first, segment.last)
    lines: dict[int, bytes] = {seq: line for sql in (_VERSIONS, _OTHERS) for seq, line in db.query(sql, *place)}
    return lines | {record.seq: encode_record(record) for record in _pack_records(db, db.query(_PACKS, *place))}


def _placeholder(seq: int) -> bytes:
    return encode_record(RemarkRecord(seq=seq, text=UNKNOWN))


def _pack_records(db: FleetDb, rows: Iterable[tuple[int, int, bytes, int]]) -> Iterable[PackRecord]:
    for number, seq, pack_id, size in rows:
        chunks = [PackedChunk(chunk.hex(), *place) for chunk, *place in db.query(_CHUNKS, number)]
        yield PackRecord(seq=seq, pack_id=pack_id.hex(), size=size, chunks=chunks)


def _tell(context: Context, firsts: set[int], unknown: bool) -> None:
    """Queue records that say which segments have other bytes now, and those of packs that had no known place."""
    machine_id = context.db.machine_id
    with context.db.transaction(full=True) as txn:
        committer = Committer(context, txn)
        for first in sorted(firsts):
            line = committer.add_record(RefilledRecord(seq=committer.next_seq, first=first))
            txn.insert(machine_id, line)
        for record in list(_pack_records(context.db, context.db.query(_OLD_PACKS, machine_id))) if unknown else ():
            placed = msgspec.structs.replace(record, seq=committer.next_seq)
            committer.add_record(placed)
            txn.add_pack(machine_id, placed)
        txn.set_meta(REFILLING, None)
        committer.finish()


async def _put_machine(context: Context) -> None:
    """Nobody could read our journal without it."""
    key = machine_key(context.db.machine_id)
    try:
        await context.store.stat(key)
    except ObjectMissing:
        db = context.db
        info = MachineInfo(db.machine_id, db.machine_name, context.signer.public, int(context.env.now()))
        await context.store.put(
            key, encode_machine(context.keys, context.fleet_id, info, context.nonce(), context.signer)
        )


async def _note_missing_packs(context: Context) -> None:
    """What lies in packs of ours that are gone, too, counts as stored nowhere from now on."""
    db, machine_id = context.db, context.db.machine_id
    stored = {item.key async for item in context.store.list(f"packs/{machine_id}/")}
    gone = [pack for pack in db.packs.ids(machine_id) if pack_key(machine_id, pack) not in stored]
    if gone:
        with db.transaction() as txn:
            for pack in gone:
                txn.set_pack_lost(machine_id, pack, MISSING)
