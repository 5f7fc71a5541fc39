"""Brings chunks here: cache first, every chunk by one request only, whoever asks for it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from enum import IntEnum
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec
from cachetools import LRUCache

from sync.cas.cache import ChunkCache, open_quietly
from sync.cas.reader import ChunkReader
from sync.core.codec import chunk_id
from sync.core.errors import BadFormat, Integrity, Unsupported
from sync.core.filekey import FileKey
from sync.core.manifest import CHUNKS_INLINE_MAX, ChunkId
from sync.core.ranges import RangeSet
from sync.worker.chunks import reading, reading_ranges
from sync.worker.context import Context
from sync.worker.landing import Landing
from sync.worker.reused import Reused

PROGRESS_EVERY: Final = 1.0  # seconds
NEIGHBOUR_MAX: Final = 256 << 10  # bytes; larger chunks do not come along unasked
NEIGHBOUR_SPAN: Final = 4 << 20  # bytes of packs that a read of a small file may bring
NEIGHBOURS_MAX: Final = 1000  # chunks in such a span: each is a file of the cache
SPANS_KEPT: Final = 4  # readers that go straight on, or packs that one of them goes through by turns
SPAN_MAX: Final = 32 << 20  # and that are brought ahead of somebody who reads one such span after the other
BACKGROUND_LOADS: Final = 2
LISTS_KEPT: Final = 100_000  # entries of chunk lists kept in memory, some 100 bytes each
LIST_ENTRIES: Final = 4  # that a list costs by itself

_Flight = asyncio.Future[FileKey | bytes | None]  # see _load for what it holds in the end

Written = Callable[[ChunkId, FileKey], None]

_page = msgspec.json.Decoder(list[tuple[str, int]])


class Priority(IntEnum):
    """Who waits: a program's read, or nobody in particular (hydrate, readahead far away)."""

    READ = 0
    BACKGROUND = 1


class _Span(NamedTuple):
    """Neighbours that were brought, and how many bytes of packs they were to be."""

    chunks: frozenset[ChunkId]
    size: int


class _Load:
    """A load under way, of chunks in flight. urgent: somebody waits for one of them, so it queues no longer."""

    __slots__ = ("urgent",)

    def __init__(self) -> None:
        self.urgent = asyncio.Event()


class Fetcher:
    """Chunks of versions, into the cache or inline. A fetch goes on when the one who asked has gone."""

    def __init__(self, context: Context, cache: ChunkCache, reader: ChunkReader) -> None:
        self._context = context
        self._cache = cache
        self.reader = reader
        self.reused = Reused(context, cache)
        self._flights: dict[ChunkId, _Flight] = {}
        self._loads: set[asyncio.Task[None]] = set()
        self._queued: dict[ChunkId, _Load] = {}  # those in flight whose load waits for its turn
        self._background = asyncio.Semaphore(BACKGROUND_LOADS)
        self._spans: list[_Span] = []  # what the last neighbours were, newest first
        self._lists: LRUCache[str, tuple[list[ChunkId], list[int]]] = LRUCache(
            LISTS_KEPT, lambda found: min(LIST_ENTRIES + len(found[0]), LISTS_KEPT)
        )

    async def aclose(self) -> None:
        """Stop what is under way; whoever waits is cancelled."""
        for task in self._loads:
            task.cancel()
        await asyncio.gather(*self._loads, return_exceptions=True)
        for flight in self._flights.values():  # of loads that had not even begun, and could settle nothing
            flight.cancel()

    async def fetch(
        self,
        version: str,
        indexes: Sequence[int],
        priority: Priority = Priority.READ,
        progress: Callable[[], Awaitable[None]] | None = None,
        written: Written | None = None,
    ) -> dict[int, bytes]:
        """Have these chunks of a version in the cache; those that it cannot take are returned, by index.

        progress is awaited each second. written hears, as they land, of the files of those that were not there before.
        NotFound for an unknown version, Unsupported for one that must not be read, Integrity naming the object that is
        missing or wrong, StoreAway. BadFormat for an index it does not have.
        """
        work = asyncio.ensure_future(self._fetch(version, indexes, priority, written))
        try:
            while not work.done():
                tick = asyncio.ensure_future(self._context.env.sleep(PROGRESS_EVERY))
                await asyncio.wait({work, tick}, return_when=asyncio.FIRST_COMPLETED)
                tick.cancel()
                if not work.done() and progress is not None:
                    await progress()
            return await work
        finally:
            work.cancel()

    async def _fetch(
        self, version: str, indexes: Sequence[int], priority: Priority, written: Written | None
    ) -> dict[int, bytes]:
        ids, sizes = await self.chunk_list(version)
        if any(not 0 <= index < len(ids) for index in indexes):
            raise BadFormat(f"version {version} has {len(ids)} chunks, not all of those asked for")
        wanted = dict.fromkeys(ids[index] for index in indexes)
        neighbours = len(ids) == 1 and sizes[0] <= NEIGHBOUR_MAX
        inline = await self._bring(wanted, priority, neighbours, written)
        return {index: inline[ids[index]] for index in indexes if ids[index] in inline}

    async def bring(self, ids: Sequence[ChunkId], priority: Priority) -> set[ChunkId]:
        """Have these chunks in the cache; those that it could not take. Keep the number small. Errors as of fetch."""
        return set(await self._bring(dict.fromkeys(ids), priority, False))

    async def chunk_list(self, version: str) -> tuple[list[ChunkId], list[int]]:
        """(ids, sizes in bytes) of all chunks, not to be changed; pages of a long list are fetched once and kept in
        fleet.db. Errors as of fetch.
        """
        kept = self._lists.get(version)
        if kept is not None:
            return kept
        view = self._context.db.view
        manifest = view.manifest(version)
        if manifest.unknown_requirements:
            words = ", ".join(manifest.unknown_requirements)
            raise Unsupported(f"reading it needs {words}, which this tcfs does not know", path=manifest.rel_path)
        missing = view.missing_pages(version)
        for page, data in (await self.chunk_bytes(missing)).items() if missing else ():
            _check_page(page, data)
            with self._context.db.transaction() as txn:
                txn.add_page(page, data)
        self._lists[version] = found = view.chunk_list(version)
        return found

    async def base_bytes(self, version: str, indexes: Sequence[int]) -> dict[int, bytes]:
        """The plain bytes of these chunks of a version, by index: from a whole file here, else as chunk_bytes."""
        ids, sizes = await self.chunk_list(version)
        starts = [0, *accumulate(sizes)]
        content_id = self._context.db.view.manifest(version).content_id
        places = [(index, starts[index], sizes[index], ids[index]) for index in indexes]
        found = await self._context.env.run_io(self._from_whole, content_id, places)
        missing = [index for index in indexes if index not in found]
        if missing:
            data = await self.chunk_bytes([ids[index] for index in missing])
            found |= {index: data[ids[index]] for index in missing}
        return found

    def _from_whole(self, content_id: str, places: Sequence[tuple[int, int, int, ChunkId]]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        with contextlib.suppress(FileNotFoundError), open_quietly(self._cache.whole_path(content_id)) as file:
            for index, start, size, chunk in places:
                data = os.pread(file.fileno(), size, start)
                if chunk_id(self._context.keys, data) == chunk:
                    found[index] = data
        return found

    async def keep(self, chunks: Sequence[tuple[ChunkId, bytes]]) -> None:
        """Into the cache, as far as there is room: they were written here. Just compared with their names."""
        if chunks:
            await self._context.env.run_io(self._keep, chunks)

    def _keep(self, chunks: Sequence[tuple[ChunkId, bytes]]) -> None:
        if self._cache.room.has_spare(sum(len(data) for _, data in chunks), evicting=True):
            self._cache.put_checked(chunks)

    async def keep_base(self, version: str, indexes: RangeSet, newer: str) -> None:
        """Have what the whole file of a version holds here of these chunks stay here: a newer content has them, too."""
        if indexes:
            ids, sizes = await self.chunk_list(version)
            await self.reused.keep(version, ids, sizes, indexes, newer)

    async def chunk_bytes(self, ids: Sequence[ChunkId]) -> dict[ChunkId, bytes]:
        """The plain bytes of chunks, from the cache or the store. Keep the number small: they are all in memory."""
        inline = await self._bring(dict.fromkeys(ids), Priority.READ, False)
        found: dict[ChunkId, bytes] = {}
        for chunk in ids:
            data = inline.get(chunk) or await self._context.env.run_io(self._cache.get, chunk)
            # Evicted between the two: then straight from the store.
            found[chunk] = data if data is not None else await self._read_one(chunk)
        return found

    async def _read_one(self, chunk: ChunkId) -> bytes:
        async with reading(self.reader, [chunk]) as found:
            async for _, data in found:
                return data
        raise Integrity(f"chunk {chunk.hex()} cannot be read")

    async def _bring(
        self, wanted: Iterable[ChunkId], priority: Priority, neighbours: bool, written: Written | None = None
    ) -> dict[ChunkId, bytes]:
        """Have chunks in the cache; the bytes of those it could not take."""
        inline: dict[ChunkId, bytes] = {}
        missing = [chunk for chunk in wanted if not self._cache.has(chunk)]
        if lent := self.reused.lent(missing):
            inline = await self._context.env.run_io(self.reused.take, lent)
            missing = [chunk for chunk in missing if chunk not in inline and not self._cache.has(chunk)]
        while missing:
            claimed = [chunk for chunk in missing if chunk not in self._flights]
            waiting = {chunk: self._flights[chunk] for chunk in missing if chunk in self._flights}
            if claimed:
                self._take_off(claimed, self._neighbours(claimed) if neighbours else [], priority)
                waiting |= {chunk: self._flights[chunk] for chunk in claimed}
            if priority is Priority.READ:
                for load in {self._queued[chunk] for chunk in waiting if chunk in self._queued}:
                    load.urgent.set()
            # shield: the flight belongs to all who wait for it.
            missing = []
            for chunk, flight in waiting.items():
                brought = await asyncio.shield(flight)
                if brought is None:
                    missing.append(chunk)
                elif isinstance(brought, FileKey):
                    if written is not None:
                        written(chunk, brought)
                elif brought:
                    inline[chunk] = brought
        return inline

    def _take_off(self, claimed: Sequence[ChunkId], extra: Sequence[ChunkId], priority: Priority) -> None:
        loop = asyncio.get_running_loop()
        flights: dict[ChunkId, _Flight] = {}
        for chunk in [*claimed, *extra]:
            flights[chunk] = loop.create_future()
            flights[chunk].add_done_callback(_retrieve)
        self._flights |= flights
        load = None
        if priority is not Priority.READ:
            load = _Load()
            self._queued |= dict.fromkeys(flights, load)
        self._start(self._load(flights, claimed, load))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    async def _load(self, flights: Mapping[ChunkId, _Flight], claimed: Sequence[ChunkId], queued: _Load | None) -> None:
        """Bring chunks that are in flight, when it is the turn of what nobody waits for (queued).

        Settles their futures: the file where the cache took it, b'' where that had one, else the bytes; None for one
        that came along unasked and failed: whoever wants it asks for it by itself.
        """
        error: Exception | None = None
        try:
            if queued is None:
                await self._read_into_cache(flights, claimed)
            else:
                async with self._turn(queued):
                    for chunk in flights:
                        del self._queued[chunk]
                    await self._read_into_cache(flights, claimed)
        except Exception as failure:
            error = failure
        finally:
            for flight in (flights[chunk] for chunk in claimed if not flights[chunk].done()):
                if error is not None:
                    flight.set_exception(error)
                else:
                    flight.cancel()
            for chunk, flight in flights.items():
                self._settle(chunk, flight, None)
                if queued is not None and self._queued.get(chunk) is queued:
                    del self._queued[chunk]

    @contextlib.asynccontextmanager
    async def _turn(self, load: _Load) -> AsyncIterator[None]:
        """Few loads that nobody waits for run at a time; one that somebody begins to wait for goes at once."""
        turn = asyncio.ensure_future(self._background.acquire())
        urgent = asyncio.ensure_future(load.urgent.wait())
        try:
            await asyncio.wait({turn, urgent}, return_when=asyncio.FIRST_COMPLETED)
            yield
        finally:
            urgent.cancel()
            turn.cancel()
            if turn.done() and not turn.cancelled():
                self._background.release()

    async def _read_into_cache(self, flights: Mapping[ChunkId, _Flight], claimed: Sequence[ChunkId]) -> None:
        # Where neighbours come along, what somebody waits for lies somewhere among them.
        first = frozenset(claimed) if len(flights) > len(claimed) else frozenset()
        landing = Landing(self._cache, first, lambda chunk, landed: self._settle(chunk, flights[chunk], landed))
        try:
            async with reading_ranges(self.reader, list(flights), landing.keep, first) as ranges:
                async for _ in ranges:
                    landing.tell()
        finally:
            landing.tell()  # what other requests had brought when one failed
        for chunk, flight in flights.items():
            if not flight.done():
                flight.set_exception(Integrity(f"chunk {chunk.hex()} was not delivered"))

    def _settle(self, chunk: ChunkId, flight: _Flight, result: FileKey | bytes | None) -> None:
        """It has landed. The rest of its load may take long, and the cache may have lost it by then: who asks for it
        from now on does not ask this flight.
        """
        if not flight.done():
            flight.set_result(result)
        if self._flights.get(chunk) is flight:
            del self._flights[chunk]

    def _neighbours(self, claimed: Sequence[ChunkId]) -> list[ChunkId]:
        """Small chunks that lie behind these, in the same pack and the next ones: few requests bring them all.

        Who comes from where earlier ones were is reading straight on: more and more is brought ahead of him then.
        """
        found = self._context.db.packs.neighbours(claimed, NEIGHBOUR_SPAN, NEIGHBOUR_MAX, NEIGHBOURS_MAX)
        size, brought = NEIGHBOUR_SPAN, found
        before = next((span for span in self._spans if not span.chunks.isdisjoint(found)), None)
        if before is not None:
            self._spans = [span for span in self._spans if span is not before]
            size = min(2 * before.size, SPAN_MAX)
            count = NEIGHBOURS_MAX * size // NEIGHBOUR_SPAN
            brought = self._context.db.packs.neighbours(claimed, size, NEIGHBOUR_MAX, count)
            near = {*found, *claimed}
            self._start(self._go_ahead([chunk for chunk in brought if chunk not in near]))
        self._spans = [_Span(frozenset(brought), size), *self._spans[: SPANS_KEPT - 1]]
        return self._missing(found)

    def _missing(self, chunks: Iterable[ChunkId]) -> list[ChunkId]:
        return [chunk for chunk in chunks if chunk not in self._flights and not self._cache.has(chunk)]

    async def _go_ahead(self, chunks: Sequence[ChunkId]) -> None:
        """Bring what is missing of these, as something that nobody waits for yet."""
        missing = await self._context.env.run_io(self._missing, chunks)
        if wanted := [chunk for chunk in missing if chunk not in self._flights]:
            self._take_off(wanted, [], Priority.BACKGROUND)


def _check_page(page: ChunkId, data: bytes) -> None:
    """BadFormat unless it is a page of a chunk list. Its bytes are what its id says: the reader has checked that."""
    try:
        entries = _page.decode(data)
    except msgspec.DecodeError as error:
        raise BadFormat(f"page {page.hex()} of a chunk list is broken: {error}") from error
    if len(entries) > CHUNKS_INLINE_MAX or any(len(chunk) != 64 or size <= 0 for chunk, size in entries):
        raise BadFormat(f"page {page.hex()} of a chunk list holds what no file can have")


def _retrieve(future: _Flight) -> None:
    """An error nobody waited for any more (its asker timed out) is no news to the loop."""
    if not future.cancelled():
        future.exception()
