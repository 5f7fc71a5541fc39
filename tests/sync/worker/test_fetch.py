"""Fetching: cache first, single flight, neighbours, progress, what the cache cannot take."""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable

import pytest
from workerkit import Fleet, Machine, run

from sync.cas import room as room_module
from sync.cas.cache import Kept
from sync.cas.reader import DECODED_AT_ONCE
from sync.core.codec import Buffer, ChunkCodec
from sync.core.errors import BadFormat, Integrity, NotFound, StoreAway
from sync.core.filekey import FileKey
from sync.core.manifest import ChunkId, VersionId
from sync.core.ranges import RangeSet
from sync.worker import fetch as fetch_module
from sync.worker.fetch import BACKGROUND_LOADS, Priority


async def two(fleet: Fleet, files: dict[str, bytes]) -> tuple[Machine, Machine]:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    for name, data in files.items():
        yoga.write(f"d/{name}", data)
    await yoga.push("d")
    await bates.learner.poll()
    return yoga, bates


def version(machine: Machine, path: str) -> VersionId:
    return machine.db.heads(path)[0].id


def test_small_neighbours_come_along(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {f"f{number:02}": b"content %d" % number for number in range(20)})
        assert await bates.fetcher.fetch(version(bates, "d/f03"), [0]) == {}
        assert bates.reader.statistics().requests == 1
        for number in range(3, 20):
            assert await bates.fetcher.fetch(version(bates, f"d/f{number:02}"), [0]) == {}
        assert bates.reader.statistics().requests == 1

    run(go(), fleet.clock)


@pytest.mark.parametrize("lacks", ["", "quota", "disk"])
def test_what_is_kept_needs_room_that_nobody_else_needs(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    async def go() -> None:
        data = random.Random(5).randbytes(100_000)
        yoga, _ = await two(fleet, {"f": data})
        identity = version(yoga, "d/f")
        ids, _ = await yoga.fetcher.chunk_list(identity)
        whole = yoga.cache.whole_path(yoga.db.view.manifest(identity).content_id)
        whole.parent.mkdir(parents=True)
        whole.write_bytes(data)
        if lacks == "quota":
            yoga.cache.room.quota = 150_000
        elif lacks == "disk":
            monkeypatch.setattr(room_module, "DISK_SPARE", 1 << 60)
        await yoga.fetcher.keep_base(identity, RangeSet([(0, len(ids))]), "newer")
        assert [yoga.cache.has(chunk) for chunk in ids] == [not lacks] * len(ids)
        await yoga.fetcher.keep([(ids[0], data[:1])])  # as the name of it was just compared
        assert yoga.cache.has(ids[0]) == (lacks != "disk")
        assert whole.read_bytes() == data

    run(go(), fleet.clock)


def test_one_request_for_all_who_ask(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"f": bytes(range(256)) * 400})
        identity = version(bates, "d/f")
        ids, _ = await bates.fetcher.chunk_list(identity)
        indexes = range(len(ids))
        await asyncio.gather(*(bates.fetcher.fetch(identity, indexes) for _ in range(5)))
        read = bates.reader.statistics().bytes_read
        packs = sum(len(data) for key, data in fleet.memory.objects.items() if key.startswith("packs/"))
        assert 0 < read <= packs
        await bates.fetcher.fetch(identity, indexes)
        assert bates.reader.statistics().bytes_read == read

    run(go(), fleet.clock)


def test_files_are_told_only_of_chunks_that_were_compared_for_this(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"f": random.Random(3).randbytes(100_000)})
        identity = version(bates, "d/f")
        ids, sizes = await bates.fetcher.chunk_list(identity)
        assert len(ids) > 2
        there = bates.cache.path(ids[1])
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(bytes(sizes[1]))  # damaged, and nobody has looked
        told: dict[ChunkId, FileKey] = {}
        await bates.fetcher.fetch(identity, range(len(ids)), written=told.__setitem__)
        fetched = [chunk for chunk in ids if chunk != ids[1]]
        assert told == {chunk: FileKey.of(bates.cache.path(chunk).stat()) for chunk in fetched}
        told.clear()
        await bates.fetcher.fetch(identity, range(len(ids)), written=told.__setitem__)
        assert told == {}

    run(go(), fleet.clock)


def test_a_large_chunk_is_written_by_the_thread_that_has_decoded_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes once more only where the cache refused it."""

    async def go() -> None:
        _, bates = await two(fleet, {"f": random.Random(3).randbytes(100_000)})
        identity = version(bates, "d/f")
        ids, sizes = await bates.fetcher.chunk_list(identity)
        monkeypatch.setattr(fetch_module, "NEIGHBOUR_MAX", min(sizes) - 1)
        put, trips = bates.cache.put_checked, bates.env.run_io
        asked: list[ChunkId] = []
        ran: list[object] = []

        def put_some(chunks: Iterable[tuple[ChunkId, Buffer]]) -> Kept:
            pairs = list(chunks)
            asked.extend(chunk for chunk, _ in pairs)
            return Kept({}, {ids[1]}) if pairs[0][0] == ids[1] else put(pairs)

        async def run_io(fn: Callable[..., object], *args: object) -> object:
            ran.append(fn)
            return await trips(fn, *args)

        bates.cache.put_checked = put_some  # type: ignore[method-assign]
        bates.env.run_io = run_io  # type: ignore[method-assign, assignment]
        inline = await bates.fetcher.fetch(identity, range(len(ids)))
        assert {index: len(data) for index, data in inline.items()} == {1: sizes[1]}
        assert sorted(asked) == sorted(ids)
        assert put_some not in ran
        assert all(bates.cache.get(chunk) is not None for chunk in ids if chunk != ids[1])

    run(go(), fleet.clock)


def test_all_who_wait_for_one_flight_are_told_of_its_file(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"f": b"hello"})
        identity = version(bates, "d/f")
        told: list[tuple[ChunkId, FileKey]] = []

        def written(chunk: ChunkId, file: FileKey) -> None:
            told.append((chunk, file))

        await asyncio.gather(*(bates.fetcher.fetch(identity, [0], written=written) for _ in range(3)))
        chunk = (await bates.fetcher.chunk_list(identity))[0][0]
        assert told == [(chunk, FileKey.of(bates.cache.path(chunk).stat()))] * 3

    run(go(), fleet.clock)


def test_what_the_cache_cannot_take_comes_inline(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"f": b"hello"})
        bates.cache.put_checked = lambda chunks: Kept({}, {chunk for chunk, _ in chunks})  # type: ignore[method-assign]
        assert await bates.fetcher.fetch(version(bates, "d/f"), [0]) == {0: b"hello"}

    run(go(), fleet.clock)


def test_progress_and_who_goes_away(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"f": b"hello"})
        gate = asyncio.Event()
        original = fleet.memory.get

        async def slow(key: str, start: int = 0, length: int | None = None) -> bytes:
            await gate.wait()
            return await original(key, start, length)

        fleet.memory.get = slow  # type: ignore[method-assign]
        told: list[float] = []

        async def progress() -> None:
            told.append(bates.env.monotonic())

        waiting = asyncio.ensure_future(bates.fetcher.fetch(version(bates, "d/f"), [0], progress=progress))
        await bates.env.sleep(3.5)
        assert len(told) == 3
        waiting.cancel()
        await asyncio.wait([waiting])
        gate.set()
        await bates.env.sleep(0.1)
        ids, _ = await bates.fetcher.chunk_list(version(bates, "d/f"))
        assert bates.cache.has(ids[0])  # the fetch went on

    run(go(), fleet.clock)


def test_errors_are_named_and_not_remembered(fleet: Fleet) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"f": b"hello"})
        identity = version(bates, "d/f")
        (pack,) = [key for key in fleet.memory.objects if key.startswith("packs/")]
        kept = fleet.memory.objects.pop(pack)
        with pytest.raises(Integrity, match=pack):
            await bates.fetcher.fetch(identity, [0])
        fleet.memory.is_away = True
        with pytest.raises(StoreAway):
            await bates.fetcher.fetch(identity, [0])
        fleet.memory.is_away = False
        fleet.memory.objects[pack] = kept
        assert await bates.fetcher.fetch(identity, [0]) == {}
        with pytest.raises(BadFormat):
            await bates.fetcher.fetch(identity, [1])
        with pytest.raises(NotFound):
            await bates.fetcher.fetch("00000009-0000-4000-8000-000000000000:1:00000000", [0])

    run(go(), fleet.clock)


def test_a_whole_file_is_a_base_too(fleet: Fleet) -> None:
    async def go() -> None:
        yoga, bates = await two(fleet, {"f": b"hello"})
        manifest = yoga.db.heads("d/f")[0].manifest
        place = bates.cache.whole_path(manifest.content_id)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"hello")
        assert await bates.fetcher.base_bytes(version(bates, "d/f"), [0]) == {0: b"hello"}
        assert bates.reader.statistics().requests == 0
        place.write_bytes(b"wrong")
        assert await bates.fetcher.base_bytes(version(bates, "d/f"), [0]) == {0: b"hello"}
        assert bates.reader.statistics().requests == 1

    run(go(), fleet.clock)


def held(fleet: Fleet) -> tuple[asyncio.Event, list[str]]:
    """From now on the store holds back what it delivers until the event is set; and which packs were asked for."""
    gate = asyncio.Event()
    asked: list[str] = []
    original = fleet.memory.get

    async def slow(key: str, start: int = 0, length: int | None = None) -> bytes:
        asked.append(key)
        await gate.wait()
        return await original(key, start, length)

    fleet.memory.get = slow  # type: ignore[method-assign]
    return gate, asked


async def one_pack_each(fleet: Fleet, count: int) -> Machine:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    for number in range(count):
        yoga.write(f"d/{number}", random.Random(number).randbytes(500_000))
        await yoga.push("d")
    await bates.learner.poll()
    return bates


def test_who_waits_goes_before_all_that_nobody_waits_for(fleet: Fleet) -> None:
    """Also when the chunk is one that a load in the queue would bring; and each is asked for once."""

    async def go() -> None:
        count = 8
        bates = await one_pack_each(fleet, count)
        lists = [(await bates.fetcher.chunk_list(version(bates, f"d/{n}")))[0] for n in range(count)]
        gate, asked = held(fleet)
        ahead = [asyncio.ensure_future(bates.fetcher.bring(ids, Priority.BACKGROUND)) for ids in lists]
        await bates.env.sleep(0.1)
        began = len(asked)
        assert began <= BACKGROUND_LOADS * 4  # requests of a load
        waiting = asyncio.ensure_future(bates.fetcher.fetch(version(bates, f"d/{count - 1}"), [0]))
        await bates.env.sleep(0.1)
        assert len(asked) > began
        gate.set()
        await waiting
        await asyncio.gather(*ahead)
        wanted = sum(len(ids) for ids in lists)
        assert bates.cache.usage().chunks == wanted
        assert bates.reader.statistics().requests == len(asked) <= wanted

    run(go(), fleet.clock)


def test_what_has_come_and_is_gone_again_is_brought_once_more(fleet: Fleet) -> None:
    """While the load that had brought it still waits for others: it is not in flight any more."""

    async def go() -> None:
        bates = await one_pack_each(fleet, 2)
        (first, *_), (_, *others) = [(await bates.fetcher.chunk_list(version(bates, f"d/{n}")))[0] for n in range(2)]
        held_back = bates.context.db.packs.locate(others)[others[0]][0].key
        gate = asyncio.Event()
        original = fleet.memory.get

        async def slow(key: str, start: int = 0, length: int | None = None) -> bytes:
            if key == held_back:
                await gate.wait()
            return await original(key, start, length)

        fleet.memory.get = slow  # type: ignore[method-assign]
        ahead = asyncio.ensure_future(bates.fetcher.bring([first, *others], Priority.READ))
        await bates.env.sleep(0.1)
        assert bates.cache.has(first) and not ahead.done()
        bates.cache.drop(first)  # evicted, or dehydrated
        assert await bates.fetcher.bring([first], Priority.READ) == set()
        assert bates.cache.has(first)
        gate.set()
        await ahead
        assert not bates.fetcher._flights

    run(go(), fleet.clock)


def test_the_place_of_a_load_that_went_before_its_turn_is_free_again(fleet: Fleet) -> None:
    async def go() -> None:
        bates = await one_pack_each(fleet, 6)
        lists = [(await bates.fetcher.chunk_list(version(bates, f"d/{n}")))[0] for n in range(6)]
        for _ in range(3):
            for ids in lists:
                for chunk in ids:
                    bates.cache.drop(chunk)
            ahead = [asyncio.ensure_future(bates.fetcher.bring(ids, Priority.BACKGROUND)) for ids in lists]
            await asyncio.sleep(0)
            await asyncio.gather(*(bates.fetcher.bring(ids, Priority.READ) for ids in lists))
            await asyncio.gather(*ahead)
        await bates.env.sleep(1)
        assert bates.fetcher._background._value == BACKGROUND_LOADS
        assert not bates.fetcher._queued and not bates.fetcher._flights

    run(go(), fleet.clock)


def test_who_reads_one_span_after_the_other_waits_more_and_more_rarely(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody who jumps about makes more come than the neighbours."""
    monkeypatch.setattr(fetch_module, "NEIGHBOUR_SPAN", 20_000)
    monkeypatch.setattr(fetch_module, "SPAN_MAX", 160_000)

    async def go() -> None:
        count = 600
        _, bates = await two(fleet, {f"f{n:03}": random.Random(n).randbytes(1000) for n in range(count)})
        lists = [(await bates.fetcher.chunk_list(version(bates, f"d/f{n:03}")))[0] for n in range(count)]
        waited = []
        for number, (chunk,) in enumerate(lists):
            if not bates.cache.has(chunk):
                waited.append(number)
                await bates.fetcher.fetch(version(bates, f"d/f{number:03}"), [0])
                await bates.env.sleep(0.1)  # what was begun ahead comes meanwhile
        gaps = [after - before for before, after in itertools.pairwise(waited)]
        assert len(waited) <= 8 < count * 1000 // 20_000
        assert gaps[0] < gaps[1] < gaps[2]
        for ids in lists:
            bates.cache.drop(ids[0])
        await bates.fetcher.fetch(version(bates, "d/f300"), [0])
        await bates.env.sleep(0.1)
        await bates.fetcher.fetch(version(bates, "d/f100"), [0])
        await bates.env.sleep(0.1)
        assert sum(bates.cache.has(ids[0]) for ids in lists) <= 2 * 25

    run(go(), fleet.clock)


def test_who_reads_two_packs_by_turns_goes_straight_on_in_both(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "NEIGHBOUR_SPAN", 20_000)
    monkeypatch.setattr(fetch_module, "SPAN_MAX", 160_000)

    async def go() -> None:
        count = 300
        yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
        for half in "yx":  # the packs are made in another order than they are read in, so neither lies behind the other
            for number in range(count):
                yoga.write(f"{half}/f{number:03}", random.Random(half + str(number)).randbytes(1000))
            await yoga.push(half)
        await bates.learner.poll()
        waited = 0
        for number in range(count):
            for half in "xy":
                (chunk,) = (await bates.fetcher.chunk_list(version(bates, f"{half}/f{number:03}")))[0]
                if not bates.cache.has(chunk):
                    waited += 1
                    await bates.fetcher.fetch(version(bates, f"{half}/f{number:03}"), [0])
                    await bates.env.sleep(0.1)
        assert waited <= 2 * 7 < 2 * count * 1000 // 20_000

    run(go(), fleet.clock)


def test_who_waits_for_a_small_chunk_does_not_wait_for_its_neighbours(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[ChunkId] = []
    decode = ChunkCodec.decode

    def counted(self: ChunkCodec, chunk: ChunkId, encoded: Buffer, flags: int, raw_length: int) -> bytes:
        decoded.append(chunk)
        return decode(self, chunk, encoded, flags, raw_length)

    monkeypatch.setattr(ChunkCodec, "decode", counted)

    async def go() -> None:
        count = 1000
        _, bates = await two(fleet, {f"f{n:03}": random.Random(n).randbytes(1000) for n in range(count)})
        asked = version(bates, "d/f100")
        decoded.clear()
        await bates.fetcher.fetch(asked, [0])
        assert decoded[:1] == (await bates.fetcher.chunk_list(asked))[0]
        assert len(decoded) <= 8 * DECODED_AT_ONCE  # the asker, too, takes some turns of the loop
        await bates.env.sleep(1)
        assert len(decoded) > 12 * DECODED_AT_ONCE
        assert bates.cache.usage().chunks == len(decoded)

    run(go(), fleet.clock)


def test_what_has_landed_is_told_though_another_request_failed(fleet: Fleet) -> None:
    async def go() -> None:
        yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
        body = random.Random(3).randbytes(60_000)
        yoga.write("d/first", body)
        await yoga.push("d")
        packs = {key for key in fleet.memory.objects if key.startswith("packs/")}
        yoga.write("d/f", body + random.Random(4).randbytes(60_000))
        await yoga.push("d")
        await bates.learner.poll()
        get = fleet.memory.get

        async def away(key: str, start: int = 0, length: int | None = None) -> bytes:
            if key in packs:
                await bates.env.sleep(1)
                raise StoreAway("away")
            return await get(key, start, length)

        fleet.memory.get = away  # type: ignore[method-assign]
        identity = version(bates, "d/f")
        count = len((await bates.fetcher.chunk_list(identity))[0])
        both = [bates.fetcher.fetch(identity, range(count)), bates.fetcher.fetch(identity, [count - 1])]
        failed, found = await asyncio.gather(*both, return_exceptions=True)
        assert isinstance(failed, StoreAway)
        assert found == {}

    run(go(), fleet.clock)


@pytest.mark.parametrize("turns", range(6))
def test_nobody_waits_for_what_was_stopped_before_it_began(fleet: Fleet, turns: int) -> None:
    async def go() -> None:
        _, bates = await two(fleet, {"f": b"hello"})
        asking = asyncio.ensure_future(bates.fetcher.fetch(version(bates, "d/f"), [0]))
        for _ in range(turns):  # of the loop: the load is made in one of them, and begins in the next one
            await asyncio.sleep(0)
        await bates.fetcher.aclose()
        async with asyncio.timeout(5):
            await asyncio.gather(asking, return_exceptions=True)

    run(go(), fleet.clock)
