"""Chunks out of packs, by few and bounded requests. Never wrong bytes: every chunk is checked against its name."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple, cast

import msgspec

from sync.cas.index import ChunkPlace, PackRange, plan_ranges
from sync.core.codec import ChunkCodec
from sync.core.errors import Integrity, ObjectMissing
from sync.core.keys import Keys
from sync.core.manifest import ChunkId
from sync.env import Env
from sync.store.base import Store

REQUESTS_AT_ONCE: Final = 4  # a read: with RANGE_RAW_MAX this bounds its memory
DECODED_AT_ONCE: Final = 64  # chunks, by one trip to a thread

Locate = Callable[[Sequence[ChunkId]], Mapping[ChunkId, Sequence[ChunkPlace]]]
Damage = Callable[[str, Integrity], None]
Keep = Callable[[ChunkId, bytes], bytes]
_Pair = tuple[ChunkId, bytes]
_Chunks = Sequence[tuple[ChunkId, ChunkPlace]]


class _Work(NamedTuple):
    """What is to be done with the chunks of one read."""

    places: Mapping[ChunkId, Sequence[ChunkPlace]]
    keep: Keep
    first: Collection[ChunkId]


class ReaderStatistics(msgspec.Struct, frozen=True):
    """Since the reader was made: requests to the store, bytes they brought, and places found missing or wrong."""

    requests: int
    bytes_read: int
    damaged: int


class ChunkReader:
    """Reads chunks of a fleet. `locate` tells where chunks lie.

    on_damage(key, error) hears of each bad place, on_read(key) of each request that brought something good.
    """

    def __init__(
        self,
        env: Env,
        keys: Keys,
        store: Store,
        locate: Locate,
        on_damage: Damage = lambda key, error: None,
        on_read: Callable[[str], None] = lambda key: None,
    ) -> None:
        self._env = env
        self._store = store
        self._locate = locate
        self._on_damage = on_damage
        self._on_read = on_read
        self._codec = ChunkCodec(keys)
        self._requests = 0
        self._bytes_read = 0
        self._damaged = 0

    def statistics(self) -> ReaderStatistics:
        return ReaderStatistics(self._requests, self._bytes_read, self._damaged)

    async def read(self, ids: Sequence[ChunkId]) -> AsyncIterator[tuple[ChunkId, bytes]]:
        """Every one of ids once, with its plain bytes; chunks that lie in a row come in that order.

        A bad place is made up for by another one. Without one: ObjectMissing or Integrity naming the object, after
        all that its request brought besides; StoreAway as the store raises it. Close it (aclosing) if you stop early.
        """
        async with aclosing(cast(AsyncGenerator[list[_Pair], None], self.read_ranges(ids))) as ranges:
            async for found in ranges:
                for pair in found:
                    yield pair

    async def read_ranges(
        self, ids: Sequence[ChunkId], keep: Keep = lambda chunk, data: data, first: Collection[ChunkId] = ()
    ) -> AsyncIterator[list[tuple[ChunkId, bytes]]]:
        """As read, with all that one request has brought at a time.

        keep is called with each chunk as soon as it has been checked, in the very thread: its bytes are in the
        processor's cache there. What it returns comes in the place of the bytes. Of each request the chunks in `first`
        come first.
        """
        places = self._locate(ids)
        for chunk in ids:
            if not places.get(chunk):
                raise ObjectMissing(f"chunk {chunk.hex()} is in no known pack", hint="see `tcfs fsck`")
        planned = iter(plan_ranges(ids, places))
        running: deque[asyncio.Task[tuple[list[_Pair], Integrity | None]]] = deque()
        try:
            work = _Work(places, keep, first)
            self._start(planned, work, running)
            while running:
                found, error = await running[0]
                running.popleft()
                self._start(planned, work, running)
                yield found
                if error is not None:
                    raise error
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _start(
        self,
        planned: Iterator[PackRange],
        work: "_Work",
        running: "deque[asyncio.Task[tuple[list[_Pair], Integrity | None]]]",
    ) -> None:
        while len(running) < REQUESTS_AT_ONCE and (wanted := next(planned, None)) is not None:
            running.append(asyncio.create_task(self._read_range(wanted, work)))

    async def _read_range(self, wanted: PackRange, work: "_Work") -> tuple[list[_Pair], Integrity | None]:
        """What a range brings, other places tried where it fails, and the error if there is nothing left to try."""
        found, failed = await self._try_range(wanted, work)
        unreadable: Integrity | None = None
        for chunk, error in failed.items():
            tried = {(wanted.key, place.offset) for name, place in wanted.chunks if name == chunk}
            data = await self._try_others(chunk, tried, work)
            if data is not None:
                found.append((chunk, data))
            elif unreadable is None:
                unreadable = error
        return found, unreadable

    async def _try_others(self, chunk: ChunkId, tried: set[tuple[str, int]], work: "_Work") -> bytes | None:
        for place in work.places[chunk]:
            if (place.key, place.offset) not in tried:
                tried.add((place.key, place.offset))
                alone = PackRange(place.key, place.offset, place.end, ((chunk, place),))
                found, _ = await self._try_range(alone, work)
                if found:
                    return found[0][1]
        return None

    async def _try_range(self, wanted: PackRange, work: "_Work") -> tuple[list[_Pair], dict[ChunkId, Integrity]]:
        """(chunks that are right, an error naming the object for each that is not)."""
        self._requests += 1
        try:
            raw = await self._store.get(wanted.key, wanted.start, wanted.end - wanted.start)
        except ObjectMissing:
            missing = ObjectMissing(f"{wanted.key} is missing from the store", path=wanted.key, hint=_HINT)
            self._report(wanted.key, missing)
            return [], {chunk: missing for chunk, _ in wanted.chunks}
        except Integrity as error:
            self._report(wanted.key, error)
            return [], {chunk: error for chunk, _ in wanted.chunks}
        self._bytes_read += len(raw)
        found: list[_Pair] = []
        failed: dict[ChunkId, Integrity] = {}
        for part in _parts(wanted.chunks, work.first):
            # Not among what computes: somebody may wait for this, and encoding has long queues.
            right, wrong = await self._env.run_io(self._decode, wanted, part, raw, work.keep)
            found += right
            failed |= wrong
        if failed:
            self._report(wanted.key, next(iter(failed.values())))
        elif found:
            self._on_read(wanted.key)
        return found, failed

    def _decode(
        self, wanted: PackRange, part: "_Chunks", raw: bytes, keep: Keep
    ) -> tuple[list[_Pair], dict[ChunkId, Integrity]]:
        found: list[_Pair] = []
        failed: dict[ChunkId, Integrity] = {}
        view = memoryview(raw)
        for chunk, place in part:
            start = place.offset - wanted.start
            encoded = view[start : start + place.length]
            try:
                if len(encoded) < place.length:
                    raise Integrity(f"cut short at {wanted.start + len(raw)} bytes")
                data = self._codec.decode(chunk, encoded, place.flags, place.raw_length)
                found.append((chunk, keep(chunk, data)))
            except Integrity as error:
                failed[chunk] = Integrity(f"{wanted.key} is damaged: {error.message}", path=wanted.key, hint=_HINT)
        return found, failed

    def _report(self, key: str, error: Integrity) -> None:
        self._damaged += 1
        self._on_damage(key, error)


def _parts(chunks: "_Chunks", first: Collection[ChunkId]) -> Iterator["_Chunks"]:
    """In what portions chunks of one request are decoded: what somebody waits for, then so many that whoever comes
    meanwhile does not wait long for a thread.
    """
    if first:
        chunks = sorted(chunks, key=lambda pair: pair[0] not in first)
    for start in range(0, len(chunks), DECODED_AT_ONCE):
        yield chunks[start : start + DECODED_AT_ONCE]


_HINT: Final = "`tcfs fsck` names every file that needs this object"
