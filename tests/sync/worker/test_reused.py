"""What a changed file has of the whole file of the version before: lent at once, copied by and by."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from workerkit import Fleet, Machine, Mount, run

from sync.cas import room as room_module
from sync.core.errors import StoreAway, TcfsError
from sync.core.manifest import ChunkId
from sync.state.rows import file_value
from sync.worker import reused as reused_module
from sync.worker.fetch import Priority
from sync.worker.reused import LAST_S, REUSED, SHOWN_S, WRITTEN_S, Copied

BIG = random.Random(1).randbytes(400_000)
NEW = BIG[:200_000] + b"changed" + BIG[200_007:]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reused_module, "KEEP_MAX", 10_000)
    monkeypatch.setattr(reused_module, "PIECE", 50_000)
    monkeypatch.setattr(reused_module, "ROWS_AT_ONCE", 1)


@pytest.fixture
def yoga(fleet: Fleet) -> Machine:
    return fleet.machine("yoga")


@pytest.fixture
def mount(yoga: Machine) -> Iterator[Mount]:
    made = Mount(yoga)
    yield made
    made.close()


async def make(yoga: Machine, mount: Mount, path: str = "f", data: bytes = BIG) -> Path:
    """A new file is published, and lies in the cache as the mount leaves it there: as one, which is returned."""
    with mount.round():
        mount.put_file(path, data)
    await yoga.sealer.run_once()
    mount.note()
    whole = yoga.cache.whole_path(content_of(yoga, path))
    whole.parent.mkdir(parents=True, exist_ok=True)
    whole.write_bytes(data)
    return whole


async def change(yoga: Machine, mount: Mount, at: int = 200_000, data: bytes = b"changed", path: str = "f") -> None:
    """These bytes are written to the file in place, and published."""
    (head,) = yoga.db.heads(path)
    size = head.manifest.file_size
    layer = mount.layer([(at, data)])
    with mount.round():
        mount.seal(
            "put", path, kind=1, mode=0o644, size=size, mtime_ns=at, ctime_ns=2, base=head.id, layer=layer,
            limit_below=size, seen=[head.id], last=head.id,
        )  # fmt: skip
    await yoga.sealer.run_once()
    mount.note()


def content_of(machine: Machine, path: str) -> str:
    (head,) = machine.db.heads(path)
    return head.manifest.content_id


def chunks_of(machine: Machine, path: str = "f") -> list[ChunkId]:
    (head,) = machine.db.heads(path)
    return machine.db.view.chunk_list(head.id)[0]


def here(machine: Machine, path: str = "f") -> int:
    """How many chunks of the file are chunks of the cache."""
    return sum(machine.cache.has(chunk) for chunk in chunks_of(machine, path))


async def work(machine: Machine, *needed: str) -> Copied:
    """What is done at once, and when what was copied must be on the disk."""
    reused = machine.fetcher.reused
    at_once = await reused.run_once(lambda content_id: content_id in needed)
    assert at_once.gone == []
    await machine.env.sleep(WRITTEN_S)
    later = await reused.run_once(lambda content_id: content_id in needed)
    return Copied(at_once.came + later.came, later.gone)


def test_a_large_file_is_copied_behind_its_publishing(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """And the old whole file goes, whose chunks nobody needs any more."""

    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        assert 0 < here(yoga) < 10  # what was changed, and what the cutter looked at: nobody has waited for more
        assert await work(yoga) == Copied([file_value(content_of(yoga, "f"))], [file_value(whole.name)])
        assert here(yoga) == len(chunks_of(yoga))
        assert not whole.exists()
        assert yoga.db.meta(REUSED) is None and not yoga.fetcher.reused.has_work()
        fleet.memory.is_away = True
        assert await yoga.content("f") == NEW

    run(go(), fleet.clock)


def test_it_is_read_before_it_is_copied(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """With the store away, and also what the cache has no room for."""

    async def go() -> None:
        await make(yoga, mount)
        await change(yoga, mount)
        fleet.memory.is_away = True
        ids = chunks_of(yoga)
        assert await yoga.fetcher.bring(ids[:3], Priority.READ) == set()
        assert all(yoga.cache.has(chunk) for chunk in ids[:3])
        yoga.cache.room.quota = 1000
        assert await yoga.content("f") == NEW

    run(go(), fleet.clock)


def test_it_is_changed_again_before_it_is_copied(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        await change(yoga, mount, 300_000, b"again")
        assert await work(yoga) == Copied([file_value(content_of(yoga, "f"))], [file_value(whole.name)])
        fleet.memory.is_away = True
        assert await yoga.content("f") == NEW[:300_000] + b"again" + NEW[300_005:]

    run(go(), fleet.clock)


def test_it_is_changed_again_while_it_is_copied(
    fleet: Fleet, yoga: Machine, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its publishing does not wait for the copy."""
    beside: list[int] = []

    async def go() -> None:
        await make(yoga, mount)
        await change(yoga, mount)
        before = here(yoga)
        sleep = yoga.env.sleep

        async def between(seconds: float) -> None:
            if not beside:
                beside.append(here(yoga))
                await change(yoga, mount, 300_000, b"again")
            await sleep(seconds)

        monkeypatch.setattr(yoga.env, "sleep", between)
        await work(yoga)
        assert before < beside[0] < len(chunks_of(yoga)) // 2
        fleet.memory.is_away = True
        assert await yoga.content("f") == NEW[:300_000] + b"again" + NEW[300_005:]

    run(go(), fleet.clock)


@pytest.mark.parametrize("lacks", ["quota", "disk"])
def test_it_takes_only_room_that_nobody_else_needs(
    fleet: Fleet, yoga: Machine, mount: Mount, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """As far as there is some; the rest is lent, and copied once there is more."""

    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        before = here(yoga)
        yoga.cache.room.recount()
        if lacks == "quota":
            yoga.cache.room.quota = 600_000  # 400_000 are the whole file
        else:
            monkeypatch.setattr(room_module, "DISK_SPARE", 1 << 60)
        assert await yoga.fetcher.reused.run_once(lambda content_id: False) == Copied([], [])
        assert yoga.cache.room.evictions == 0 and whole.exists()
        copied = here(yoga)
        assert before < copied < len(chunks_of(yoga)) if lacks == "quota" else before == copied
        yoga.cache.room.quota = 1 << 30
        monkeypatch.setattr(room_module, "DISK_SPARE", 0)
        assert await yoga.fetcher.reused.run_once(lambda content_id: False) == Copied([], [])  # not at once
        await yoga.env.sleep(LAST_S)
        assert (await work(yoga)).gone == [file_value(whole.name)]
        assert here(yoga) == len(chunks_of(yoga))

    run(go(), fleet.clock)


def test_another_engine_goes_on_with_it(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        yoga.reopen()
        fleet.memory.is_away = True
        assert await yoga.content("f") == NEW
        yoga.reopen()
        assert await work(yoga) == Copied([file_value(content_of(yoga, "f"))], [file_value(whole.name)])
        assert here(yoga) == len(chunks_of(yoga))
        yoga.reopen()
        assert not yoga.fetcher.reused.has_work()

    run(go(), fleet.clock)


@pytest.mark.parametrize("by", ["another file", "a change that is not published", "nobody can tell"])
def test_a_whole_file_that_is_needed_stays(fleet: Fleet, yoga: Machine, mount: Mount, by: str) -> None:
    """It is no business of ours for ever, and evicted as any other."""

    async def go() -> None:
        whole = await make(yoga, mount)
        if by == "another file":
            yoga.write("copy", BIG)
            await yoga.push("copy")
        await change(yoga, mount)

        def is_needed(content_id: str) -> bool:
            if by == "nobody can tell":
                raise TcfsError("fleet.db is locked")
            return by != "another file" and content_id == whole.name

        assert (await yoga.fetcher.reused.run_once(is_needed)).gone == []
        assert here(yoga) == len(chunks_of(yoga)) and whole.read_bytes() == BIG
        waited = 0
        while yoga.fetcher.reused.has_work():
            await yoga.env.sleep(10)
            waited += 10
            assert (await yoga.fetcher.reused.run_once(is_needed)).gone == []
            assert waited < 3 * SHOWN_S
        assert whole.exists() and yoga.db.meta(REUSED) is None

    run(go(), fleet.clock)


def test_it_goes_once_it_is_not_needed_any_more(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """As when the mount takes note of the answer."""

    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        assert (await work(yoga, whole.name)).gone == []
        await yoga.env.sleep(1)
        assert (await yoga.fetcher.reused.run_once(lambda content_id: False)).gone == [file_value(whole.name)]
        assert not whole.exists()

    run(go(), fleet.clock)


def test_it_stays_until_the_copy_is_on_the_disk(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """A machine that loses its power finds files without their bytes."""

    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        await yoga.fetcher.reused.run_once(lambda content_id: False)
        before = here(yoga)
        for chunk in chunks_of(yoga)[:5]:
            yoga.cache.path(chunk).write_bytes(b"")
        yoga.reopen()
        fleet.memory.is_away = True
        assert await yoga.fetcher.bring(chunks_of(yoga)[:1], Priority.READ) == set()
        assert (await work(yoga)).gone == [file_value(whole.name)]
        assert here(yoga) == before
        assert await yoga.content("f") == NEW

    run(go(), fleet.clock)


def test_it_is_evicted_before_it_is_copied(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """That is known, and the rest comes from the store. It was used just now: that is what its turn depends on."""

    async def go() -> None:
        whole = await make(yoga, mount)
        await yoga.env.sleep(1000)
        await change(yoga, mount)
        assert yoga.cache.room.evict(1 << 20) == 0 and whole.exists()
        await yoga.env.sleep(31)
        yoga.cache.room.evict(1 << 20)
        assert not whole.exists()
        yoga.cache.room.quota = 1000  # whether there is room or not
        assert (await work(yoga)).gone == [file_value(whole.name)]
        assert not yoga.fetcher.reused.has_work() and yoga.db.meta(REUSED) is None
        assert await yoga.content("f") == NEW
        fleet.memory.is_away = True
        with pytest.raises(StoreAway):
            await yoga.content("f")

    run(go(), fleet.clock)


def test_what_is_damaged_is_not_copied(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        with whole.open("r+b") as file:
            file.seek(5)
            file.write(b"?!")
        await work(yoga)
        assert here(yoga) == len(chunks_of(yoga)) - 1
        assert await yoga.content("f") == NEW

    run(go(), fleet.clock)


def test_a_file_that_needs_nothing_of_the_old_one(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount, 0, BIG[::-1])
        assert not yoga.fetcher.reused.has_work() and whole.exists()

    run(go(), fleet.clock)
