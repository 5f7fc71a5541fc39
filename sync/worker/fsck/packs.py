"""fsck of packs: there, of the right size, with the index that the journal's record says; and their bytes, if cheap."""

from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from sync.core.codec import ChunkCodec
from sync.core.errors import Integrity, ObjectMissing, TcfsError
from sync.core.manifest import ChunkId, PackedChunk
from sync.core.packfile import pack_key, pack_tail_size, parse_pack_index, verify_pack
from sync.store.base import ObjectInfo
from sync.worker.fsck.ahead import batches, bytes_of, fetch_all
from sync.worker.fsck.check import UNREADABLE, Check
from sync.worker.fsck.findings import HINT_COPY, text_of
from sync.worker.lost import DAMAGED, MISSING

FULL_MAX: Final = 1 << 30  # bytes of packs in a directory store that are all read without being asked to
TAIL: Final = 64 << 10  # bytes: holds the index of most packs, where it is not known how long it is
SLACK: Final = 1 << 10  # bytes before an index that are read with it
PAGE: Final = 200

_NAMED = """
SELECT p.num, p.pack_id, p.size, p.condemned, p.lost,
  coalesce((SELECT max(c.offset + c.length) FROM chunk AS c WHERE c.pack = p.num), 0)
FROM pack AS p JOIN machine AS m ON m.num = p.machine
WHERE m.machine_id = ? AND p.pack_id > ? ORDER BY p.pack_id LIMIT ?"""
_CHUNKS = "SELECT chunk_id, offset, length, raw_length, flags FROM chunk WHERE pack = ? ORDER BY offset"
_TOTAL = "SELECT count(*), coalesce(sum(size), 0) FROM pack WHERE condemned = 0"
_LOST = "SELECT num, lost FROM pack WHERE lost <> 0"
_HINT: Final = HINT_COPY + "; the files that cannot be read without it are named too"


class _Pack(NamedTuple):
    """A pack as fleet.db has it from the journal. end: where its last chunk ends and its index begins, 0 if unknown."""

    number: int
    pack_id: bytes
    size: int
    condemned: int
    lost: int
    end: int

    def tail_start(self) -> int:
        """From where on to read for the index: for packs of a few hundred KiB TAIL would be most of them."""
        return max(0, (min(self.end, self.size) or self.size - TAIL + SLACK) - SLACK)


class _Found(NamedTuple):
    """A pack and how many bytes the store says it has; None: it has none."""

    pack: _Pack
    size: int | None


async def check_packs(check: Check) -> None:
    """Every pack that fleet.db names or the store holds. Needs check.verify_keys; fills check.damage. StoreAway."""
    db = check.context.db
    count, size = db.query(_TOTAL)[0]
    is_local = check.context.store.url.startswith(("file:", "memory:"))
    reads_all = check.deep or (is_local and size < FULL_MAX)
    if not reads_all:
        text = f"the bytes of {count} packs ({size} bytes): only their sizes and indexes; --deep reads them"
        check.tally.unverified.append(text)
    ids = {machine.machine_id for machine in db.machines()}
    ids |= {name async for name in check.machines_below("packs/")}
    for machine_id in sorted(ids):
        await _MachinePacks(check, machine_id, reads_all).run()


def tell_of_packs(check: Check) -> None:
    """What is wrong with packs, when the contents were looked at: a pack that no live file needs is no loss."""
    for number, said in check.damage.said.items():
        is_needed = not check.damage.is_judged or number in check.damage.needed
        for key, message in said:
            if is_needed:
                check.findings.error(key, message, hint=_HINT)
            else:
                check.findings.warning(key, f"{message}; no file needs it", hint="nothing is to be done")


def remember_lost(check: Check) -> None:
    """fleet.db learns what the store lacks, so that whoever pushes it puts it again, and what it has again."""
    db, damage = check.context.db, check.damage
    before = {int(number): int(lost) for number, lost in db.query(_LOST)}
    found = dict.fromkeys(damage.packs | {number for number, _ in damage.chunks}, DAMAGED)
    found |= dict.fromkeys(damage.missing, MISSING)
    sound = {number for number, lost in before.items() if lost == MISSING or number in damage.whole} - found.keys()
    changed = {number: lost for number, lost in found.items() if before.get(number) != lost}
    changed |= dict.fromkeys(sound, 0)
    if changed and check.tally.away is None:
        with db.transaction() as txn:
            for number, lost in changed.items():
                txn.set_lost(number, lost)


class _MachinePacks:
    def __init__(self, check: Check, machine_id: str, reads_all: bool) -> None:
        self._check = check
        self._context = check.context
        self._findings = check.findings
        self._damage = check.damage
        self._id = machine_id
        self._reads_all = reads_all
        self._codec = ChunkCodec(check.context.keys)

    async def run(self) -> None:
        async for batch in batches(self._expected(), self._size):
            found = await fetch_all(partial(self._fetch, each) for each in batch)
            done = 0
            while done < len(batch):
                done, damaged = await self._context.env.run(self._check_batch, batch, found, done)
                if damaged is not None:
                    await self._read_whole(damaged)
            self._check.tell()

    async def _expected(self) -> AsyncIterator[_Found]:
        """What should be there. Goes along the listing and along fleet.db, which have one order."""
        named = self._named()
        pack = next(named, None)
        async for info in self._context.store.list(f"packs/{self._id}/"):
            while pack is not None and self._key(pack) < info.key:
                yield await self._unlisted(pack)
                pack = next(named, None)
            if pack is not None and self._key(pack) == info.key:
                yield _Found(pack, info.size)
                pack = next(named, None)
            else:
                self._unnamed(info)
        while pack is not None:
            yield await self._unlisted(pack)
            pack = next(named, None)

    def _key(self, pack: _Pack) -> str:
        return pack_key(self._id, pack.pack_id.hex())

    def _named(self) -> Iterator[_Pack]:
        after = b""
        while rows := self._context.db.query(_NAMED, self._id, after, PAGE):
            yield from map(_Pack._make, rows)
            after = rows[-1][1]

    def _unnamed(self, info: ObjectInfo) -> None:
        """Of others it is no business of ours: they may be about to name it."""
        pack_id = info.key.rpartition("/")[2]
        if self._id in self._context.db.own_ids and not self._is_named(pack_id):
            text = f"{info.key} ({info.size} bytes) is named by no journal: left by a publishing that was stopped"
            self._findings.warning(info.key, text, hint="it only takes room; one that is being written looks so too")

    def _is_named(self, pack_id: str) -> bool:
        try:
            return self._context.db.packs.size(self._id, pack_id) is not None
        except ValueError:  # a name that no pack has
            return False

    async def _unlisted(self, pack: _Pack) -> _Found:
        """Packs are put before they are named, so one that was not listed may be there now."""
        try:
            return _Found(pack, (await self._context.store.stat(self._key(pack))).size)
        except ObjectMissing:
            return _Found(pack, None)

    # ---- several at a time

    def _reads_bytes(self, found: _Found) -> bool:
        """All of it: so is what is cut, or was found damaged before."""
        return self._reads_all or found.size != found.pack.size or found.pack.lost == DAMAGED

    def _size(self, found: _Found) -> int:
        """Bytes that _fetch takes into memory."""
        if found.size is None or found.pack.condemned:
            return 0
        return found.pack.size - (0 if self._reads_bytes(found) else found.pack.tail_start())

    async def _fetch(self, found: _Found) -> bytes:
        """All of the pack, or its end with the index; nothing of what is not to be looked at."""
        store, pack, key = self._context.store, found.pack, self._key(found.pack)
        if found.size is None or pack.condemned:
            return b""
        if self._reads_bytes(found):
            return await store.get(key, 0, pack.size)
        tail = await store.get(key, pack.tail_start(), pack.size - pack.tail_start())
        if pack.end:  # an index that claims more than all behind the last chunk is damaged: read whole later, alone
            return tail
        needed = min(pack.size, pack_tail_size(pack.pack_id, tail))
        return tail if needed <= len(tail) else await store.get(key, pack.size - needed, needed)

    def _check_batch(
        self, batch: Sequence[_Found], outcomes: Sequence[bytes | TcfsError], start: int
    ) -> tuple[int, _Pack | None]:
        """From `start` on, up to the first whose index is damaged, a reason to read all of it: (those done, it)."""
        for place in range(start, len(batch)):
            if not self._is_sound(batch[place], outcomes[place]):
                return place + 1, batch[place].pack
        return len(batch), None

    def _is_sound(self, found: _Found, outcome: bytes | TcfsError) -> bool:
        """False if the index alone was read, and is not as it should be."""
        pack, key, check = found.pack, self._key(found.pack), self._check
        if found.size is None:
            self._damage.packs.add(pack.number)
            self._damage.missing.add(pack.number)
        if pack.condemned:
            return True
        check.tally.packs += 1
        if found.size is None:
            self._damage.say(pack.number, key, f"{key} is missing from the store")
            return True
        check.tally.objects += 1
        if found.size != pack.size:
            self._damage.say(pack.number, key, f"{key} has {found.size} bytes, not {pack.size}")
        try:
            data = bytes_of(outcome)
        except UNREADABLE as error:
            self._unreadable(pack, key, error)
            return True
        check.tally.pack_bytes += len(data)
        if not self._reads_bytes(found):
            return self._compare_index(pack, key, data, self._chunks(pack))
        self._verify(pack, key, data)
        return True

    def _unreadable(self, pack: _Pack, key: str, error: TcfsError) -> None:
        self._damage.packs.add(pack.number)
        self._damage.say(pack.number, key, text_of(key, error))

    # ---- its bytes

    async def _read_whole(self, pack: _Pack) -> None:
        key = self._key(pack)
        try:
            data = await self._context.store.get(key, 0, pack.size)
        except UNREADABLE as error:
            self._unreadable(pack, key, error)
            return
        self._check.tally.pack_bytes += len(data)
        await self._context.env.run(self._verify, pack, key, data)

    def _verify(self, pack: _Pack, key: str, data: bytes) -> None:
        """Where the whole is not what its name says, each chunk is tried: the others can still be read."""
        chunks = self._chunks(pack)
        try:
            verify_pack(pack.pack_id, data)
            is_whole = True
        except Integrity as error:
            is_whole = False
            self._damage.say(pack.number, key, f"{key} is damaged: {error.message}")
        if is_whole:
            self._check.tally.packs_read += 1
            self._damage.whole.add(pack.number)
            self._compare_index(pack, key, data, chunks)
        if is_whole and not self._check.deep:
            return
        view = memoryview(data)
        for chunk in chunks:
            chunk_id = ChunkId(bytes.fromhex(chunk.id))
            try:
                encoded = view[chunk.offset : chunk.offset + chunk.length]
                self._codec.decode(chunk_id, encoded, chunk.flags, chunk.raw_length)
                self._check.tally.chunks += 1
            except Integrity as error:
                self._damage.chunks.add((pack.number, chunk_id))
                if is_whole:
                    self._damage.say(pack.number, key, f"{key}: {error.message}")

    # ---- its index

    def _compare_index(self, pack: _Pack, key: str, tail: bytes, chunks: list[PackedChunk]) -> bool:
        """True if the index is as it should be.

        The record in the journal decides where chunks lie: a wrong index alone makes no file unreadable.
        """
        context, verify_key = self._context, self._check.verify_keys.get(self._id)
        try:
            index = parse_pack_index(context.keys, context.fleet_id, self._id, pack.pack_id, tail, verify_key)
        except UNREADABLE as error:
            self._findings.error(key, f"{key}: its index is damaged: {error.message}", hint=HINT_COPY)
            return False
        if index != chunks:
            self._findings.error(key, f"{key}: its index and the journal's record differ", hint=HINT_COPY)
        return index == chunks

    def _chunks(self, pack: _Pack) -> list[PackedChunk]:
        return [PackedChunk(row[0].hex(), *row[1:]) for row in self._context.db.query(_CHUNKS, pack.number)]
