"""PackWriter and ChunkReader together: what goes in comes out, and nothing else ever does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

import pytest

from sync.cas.index import RANGE_MAX, ChunkPlace
from sync.cas.reader import ChunkReader
from sync.cas.writer import GROUP_CHUNKS, PACKS_IN_MEMORY, FinishedPack, PackWriter
from sync.core.codec import chunk_id
from sync.core.errors import Integrity, NoSpace, ObjectMissing, StoreAway
from sync.core.keys import Keys
from sync.core.manifest import ChunkId
from sync.core.packfile import parse_pack_index, verify_pack
from sync.core.sealed import SigningKey
from sync.env import Crash, FakeEnv, RealEnv
from sync.store.base import Data
from sync.store.faults import Fault, FaultyStore
from sync.store.memory import MemoryStore

KEYS = Keys.from_root(bytes(32))
SIGNER = SigningKey(bytes(32))
FLEET, MACHINE = "fleet", "machine"


def run(body: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(body())


def named(datas: Sequence[bytes]) -> dict[ChunkId, bytes]:
    return {chunk_id(KEYS, data): data for data in datas}


def lines(count: int) -> dict[ChunkId, bytes]:
    return named([f"chunk number {number}\n".encode() * (number % 7 + 1) for number in range(count)])


class Places:
    """The chunk index of a test."""

    def __init__(self) -> None:
        self.places: dict[ChunkId, list[ChunkPlace]] = {}

    def add(self, packs: Sequence[FinishedPack]) -> None:
        for pack in packs:
            for packed in pack.chunks:
                place = ChunkPlace(pack.pack_id, MACHINE, packed.offset, packed.length, packed.raw_length, packed.flags)
                self.places.setdefault(ChunkId(bytes.fromhex(packed.id)), []).append(place)

    def locate(self, ids: Sequence[ChunkId]) -> dict[ChunkId, list[ChunkPlace]]:
        return {chunk: self.places[chunk] for chunk in ids if chunk in self.places}

    def known(self, chunk: ChunkId) -> bool:
        return chunk in self.places


class World:
    def __init__(self, env: FakeEnv | RealEnv | None = None) -> None:
        self.env = env or FakeEnv()
        self.store = MemoryStore(self.env)
        self.places = Places()
        self.damage: list[str] = []

    def writer(self, target: int = 16 << 20) -> PackWriter:
        return PackWriter(self.env, KEYS, self.store, FLEET, MACHINE, SIGNER, self.places.known, target)

    def reader(self) -> ChunkReader:
        return ChunkReader(self.env, KEYS, self.store, self.places.locate, lambda key, error: self.damage.append(key))

    async def write(self, chunks: dict[ChunkId, bytes], target: int = 16 << 20) -> list[FinishedPack]:
        async with self.writer(target) as writer:
            for chunk, data in chunks.items():
                await writer.add(chunk, data)
            packs = await writer.finish()
        self.places.add(packs)
        return packs

    async def read(self, ids: Sequence[ChunkId]) -> list[tuple[ChunkId, bytes]]:
        async with contextlib.aclosing(self.reader().read(ids)) as found:
            return [pair async for pair in found]


def test_round_trip_in_order_and_packs_are_whole() -> None:
    async def body() -> None:
        world = World()
        chunks = lines(3 * GROUP_CHUNKS + 5)
        packs = await world.write(chunks, target=20_000)
        assert len(packs) > 2
        assert [packed.id for pack in packs for packed in pack.chunks] == [chunk.hex() for chunk in chunks]
        for pack in packs:
            raw = world.store.objects[f"packs/{MACHINE}/{pack.pack_id[:2]}/{pack.pack_id}"]
            assert len(raw) == pack.size
            verify_pack(bytes.fromhex(pack.pack_id), raw)
            index = parse_pack_index(KEYS, FLEET, MACHINE, bytes.fromhex(pack.pack_id), raw, SIGNER.public)
            assert index == pack.chunks
        assert await world.read(list(chunks)) == list(chunks.items())
        assert world.damage == []

    run(body)


def test_the_same_with_real_threads() -> None:
    async def body() -> None:
        env = RealEnv({})
        world = World(env)
        chunks = lines(2000)
        await world.write(chunks, target=30_000)
        assert dict(await world.read(list(chunks))) == chunks
        env.close()

    run(body)


def test_chunks_known_or_added_before_are_not_written_again() -> None:
    async def body() -> None:
        world = World()
        await world.write(named([b"old"]))
        async with world.writer() as writer:
            for data in (b"old", b"new", b"new", b"old"):
                await writer.add(chunk_id(KEYS, data), data)
            (pack,) = await writer.finish()
        assert [packed.id for packed in pack.chunks] == [chunk_id(KEYS, b"new").hex()]

    run(body)


def test_nothing_added_makes_no_pack() -> None:
    async def body() -> None:
        world = World()
        assert await world.write({}) == []
        assert world.store.objects == {}

    run(body)


def test_a_buffer_may_be_used_again_after_add() -> None:
    async def body() -> None:
        world = World()
        async with world.writer() as writer:
            buffer = bytearray(b"first")
            await writer.add(chunk_id(KEYS, buffer), memoryview(buffer))
            buffer[:] = b"other"
            world.places.add(await writer.finish())
        assert await world.read([chunk_id(KEYS, b"first")]) == [(chunk_id(KEYS, b"first"), b"first")]

    run(body)


class SlowStore(MemoryStore):
    """Takes its time, and counts how many packs are on their way at once."""

    def __init__(self, env: FakeEnv) -> None:
        super().__init__(env)
        self.under_way = 0
        self.most_under_way = 0

    async def put(self, key: str, data: Data) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        for _ in range(200):
            await asyncio.sleep(0)
        await super().put(key, data)
        self.under_way -= 1


def test_packs_under_way_are_bounded_and_concurrent() -> None:
    async def body() -> None:
        world = World()
        world.store = SlowStore(world.env)
        await world.write(lines(4000), target=10_000)
        assert world.store.most_under_way == PACKS_IN_MEMORY - 1

    run(body)


def test_a_store_that_goes_away_stops_the_writer() -> None:
    async def body() -> None:
        world = World()
        world.store.is_away = True
        async with world.writer(target=1000) as writer:
            with pytest.raises(StoreAway):
                for chunk, data in lines(20_000).items():
                    await writer.add(chunk, data)
                await writer.finish()
        world.store.is_away = False
        assert world.store.objects == {}

    run(body)


def test_a_store_that_goes_away_at_the_last_pack_fails_finish() -> None:
    async def body() -> None:
        world = World()
        world.store.is_away = True
        async with world.writer() as writer:
            await writer.add(chunk_id(KEYS, b"x"), b"x")
            with pytest.raises(StoreAway):
                await writer.finish()

    run(body)


@pytest.mark.parametrize(("point", "stored"), [("pack.before_put", 0), ("pack.after_put", 1)])
def test_fault_points(point: str, stored: int) -> None:
    async def body() -> None:
        env = FakeEnv()
        world = World(env)
        env.arm(point)
        with pytest.raises(Crash):
            await world.write(named([b"x"]))
        assert len(world.store.objects) == stored

    run(body)


def test_a_writer_left_early_leaves_no_tasks() -> None:
    async def body() -> None:
        world = World()
        world.store = SlowStore(world.env)
        with pytest.raises(ZeroDivisionError):
            async with world.writer(target=1000) as writer:
                for chunk, data in lines(2000).items():
                    await writer.add(chunk, data)
                raise ZeroDivisionError
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(body)


def test_an_unknown_chunk_is_named() -> None:
    async def body() -> None:
        with pytest.raises(ObjectMissing, match="00" * 32):
            await World().read([ChunkId(bytes(32))])

    run(body)


def test_a_missing_pack_is_named_and_what_can_be_read_comes_first() -> None:
    async def body() -> None:
        world = World()
        first, second = named([b"one"]), named([b"two"])
        await world.write(first)
        (gone,) = await world.write(second)
        key = f"packs/{MACHINE}/{gone.pack_id[:2]}/{gone.pack_id}"
        del world.store.objects[key]
        found = []
        with pytest.raises(ObjectMissing, match=key):
            async for pair in world.reader().read([*first, *second]):
                found.append(pair)
        assert found == list(first.items())
        assert world.damage == [key]

    run(body)


@pytest.mark.parametrize("cut", [False, True])
def test_damage_hits_only_its_own_chunk_and_is_named(cut: bool) -> None:
    async def body() -> None:
        world = World()
        chunks = lines(10)
        (pack,) = await world.write(chunks)
        key = f"packs/{MACHINE}/{pack.pack_id[:2]}/{pack.pack_id}"
        victim = pack.chunks[9]
        raw = bytearray(world.store.objects[key])
        if cut:
            del raw[victim.offset + 5 :]
        else:
            raw[victim.offset + 20] ^= 1
        world.store.objects[key] = bytes(raw)
        found: dict[ChunkId, bytes] = {}
        with pytest.raises(Integrity, match=key):
            async for chunk, data in world.reader().read(list(chunks)):
                found[chunk] = data
        bad = ChunkId(bytes.fromhex(victim.id))
        assert found == {chunk: data for chunk, data in chunks.items() if chunk != bad}

    run(body)


@pytest.mark.parametrize("how", ["missing", "altered"])
def test_another_place_makes_up_for_a_bad_one(how: str) -> None:
    async def body() -> None:
        world = World()
        chunks = lines(10)
        (first,) = await world.write(chunks)
        known, world.places.known = world.places.known, lambda chunk: False  # type: ignore[method-assign]
        await world.write(chunks)
        world.places.known = known  # type: ignore[method-assign]
        key = f"packs/{MACHINE}/{first.pack_id[:2]}/{first.pack_id}"
        if how == "missing":
            del world.store.objects[key]
        else:
            world.store.objects[key] = bytes(len(world.store.objects[key]))
        assert dict(await world.read(list(chunks))) == chunks
        assert set(world.damage) == {key}

    run(body)


def test_a_store_away_is_not_damage() -> None:
    async def body() -> None:
        world = World()
        chunks = lines(3)
        await world.write(chunks)
        world.store.is_away = True
        with pytest.raises(StoreAway):
            await world.read(list(chunks))
        assert world.damage == []

    run(body)


def test_requests_are_few_and_counted() -> None:
    async def body() -> None:
        world = World()
        chunks = lines(1000)
        (pack,) = await world.write(chunks)
        reader = world.reader()
        async for _ in reader.read(list(chunks)):
            pass
        statistics = reader.statistics()
        assert statistics.requests == 1
        assert statistics.bytes_read == sum(packed.length for packed in pack.chunks) <= RANGE_MAX
        async for _ in reader.read([next(iter(chunks))]):
            pass
        assert reader.statistics().bytes_read - statistics.bytes_read == pack.chunks[0].length

    run(body)


def test_stopping_early_leaves_no_tasks() -> None:
    async def body() -> None:
        world = World()
        chunks = lines(5000)
        await world.write(chunks, target=5000)
        found: AsyncIterator[tuple[ChunkId, bytes]] = world.reader().read(list(chunks))
        async with contextlib.aclosing(found):  # type: ignore[type-var]
            async for _ in found:
                break
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(body)


def test_packs_are_taken_back_from_a_store_that_is_full() -> None:
    async def body() -> None:
        world = World()
        store = FaultyStore(world.env, world.store, Fault("put", "packs/", nth=3, times=0, error=NoSpace))
        writer = PackWriter(world.env, KEYS, store, FLEET, MACHINE, SIGNER, world.places.known, target=1000)
        with pytest.raises(NoSpace):
            for chunk, data in lines(400).items():
                await writer.add(chunk, data)
            await writer.finish()
        put = [key for operation, key in store.calls if operation == "put"]
        assert len(put) >= 3
        await writer.take_back()
        assert [item async for item in world.store.list("packs/")] == []

    run(body)
