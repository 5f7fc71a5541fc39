"""What a changed file has of the whole file of the version before: lent at once, copied by and by."""

import random
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from workerkit import Fleet, Machine, Mount, run

from sync.cas import room as room_module
from sync.core.errors import StoreAway, TcfsError
from sync.core.manifest import ChunkId
from sync.core.ranges import RangeSet
from sync.state.rows import file_value
from sync.worker import reused as reused_module
from sync.worker.fetch import Priority
from sync.worker.reused import PAUSES_S, REUSED, WRITTEN_S

BIG = random.Random(1).randbytes(400_000)
NEW = BIG[:200_000] + b"changed" + BIG[200_007:]


class Told(NamedTuple):
    """What the mount hears: tokens of contents that are all here now, and of those whose whole file went."""

    came: list[int]
    gone: list[int]


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


async def once(machine: Machine, needed: Callable[[], Collection[str]] = frozenset, told: Told | None = None) -> Told:
    found = Told([], []) if told is None else told
    await machine.fetcher.reused.run_once(
        needed, lambda values, dropped: (found.gone if dropped else found.came).extend(values)
    )
    return found


async def work(machine: Machine, *needed: str) -> Told:
    """What is done at once, and when what was copied must be on the disk."""
    told = await once(machine, lambda: needed)
    assert told.gone == []
    await machine.env.sleep(WRITTEN_S)
    return await once(machine, lambda: needed, told)


def between_pieces(machine: Machine, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[object]]) -> None:
    """act is done once, when the first piece is copied."""
    sleep = machine.env.sleep

    async def between(seconds: float) -> None:
        monkeypatch.setattr(machine.env, "sleep", sleep)
        await act()
        await sleep(seconds)

    monkeypatch.setattr(machine.env, "sleep", between)


def test_a_large_file_is_copied_behind_its_publishing(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """And the old whole file goes, whose chunks nobody needs any more."""

    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        assert 0 < here(yoga) < 10  # what was changed, and what the cutter looked at: nobody has waited for more
        assert await work(yoga) == Told([file_value(content_of(yoga, "f"))], [file_value(whole.name)])
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
        assert await work(yoga) == Told([file_value(content_of(yoga, "f"))], [file_value(whole.name)])
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

        async def again() -> None:
            beside.append(here(yoga))
            await change(yoga, mount, 300_000, b"again")

        between_pieces(yoga, monkeypatch, again)
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
            monkeypatch.setattr(reused_module, "PIECE", 1)
            yoga.cache.room.quota = 600_000  # 400_000 are the whole file
        else:
            monkeypatch.setattr(room_module, "DISK_SPARE", 1 << 60)
        assert await once(yoga) == Told([], [])
        assert yoga.cache.room.evictions == 0 and whole.exists()
        copied = here(yoga)
        if lacks == "quota":
            assert yoga.cache.room.recount().used <= 600_000 * 15 // 16  # what an eviction frees ahead
        assert before < copied < len(chunks_of(yoga)) if lacks == "quota" else before == copied
        yoga.cache.room.quota = 1 << 30
        monkeypatch.setattr(room_module, "DISK_SPARE", 0)
        assert await once(yoga) == Told([], [])  # not at once
        await yoga.env.sleep(PAUSES_S[-1])
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
        assert await work(yoga) == Told([file_value(content_of(yoga, "f"))], [file_value(whole.name)])
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

        def needed() -> Collection[str]:
            if by == "nobody can tell":
                raise TcfsError("fleet.db is locked")
            return [] if by == "another file" else [whole.name]

        assert (await once(yoga, needed)).gone == []
        assert here(yoga) == len(chunks_of(yoga)) and whole.read_bytes() == BIG
        waited = 0
        while yoga.fetcher.reused.has_work():
            await yoga.env.sleep(10)
            waited += 10
            assert (await once(yoga, needed)).gone == []
            assert waited < 800
        assert waited > 600 and whole.exists() and yoga.db.meta(REUSED) is None

    run(go(), fleet.clock)


def test_it_goes_once_it_is_not_needed_any_more(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """As when the mount takes note of the answer."""

    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        assert (await work(yoga, whole.name)).gone == []
        await yoga.env.sleep(1)
        assert (await once(yoga)).gone == [file_value(whole.name)]
        assert not whole.exists()

    run(go(), fleet.clock)


def test_it_stays_until_the_copy_is_on_the_disk(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """A machine that loses its power finds files without their bytes."""

    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        await once(yoga)
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


def test_who_reads_it_uses_it(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """Or what is read would push it out of a full cache."""

    async def go() -> None:
        await make(yoga, mount)
        await change(yoga, mount)
        await yoga.env.sleep(31)
        fleet.memory.is_away = True
        yoga.cache.room.recount()
        yoga.cache.room.quota = 600_000
        (head,) = yoga.db.heads("f")
        ids = chunks_of(yoga)
        lent = yoga.fetcher.reused.lent(ids)
        for index in [index for index, chunk in enumerate(ids) if chunk in lent]:
            await yoga.env.sleep(0.1)
            await yoga.fetcher.base_bytes(head.id, [index])
        assert yoga.cache.room.evictions > 0

    run(go(), fleet.clock)


def test_it_lends_to_what_is_needed(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """As long as it is not copied."""

    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        reused, needed = yoga.fetcher.reused, {content_of(yoga, "f"), "0" * 64}
        assert reused.lenders(needed) == {whole.name} and reused.lenders({"0" * 64}) == frozenset()
        await once(yoga)
        assert reused.has_work() and reused.lenders(needed) == frozenset()

    run(go(), fleet.clock)


@pytest.mark.parametrize("is_shown", [False, True])
def test_what_nobody_shows_any_more_is_not_copied(fleet: Fleet, yoga: Machine, mount: Mount, is_shown: bool) -> None:
    """is_shown: by another file, that of the middle of three versions."""

    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        if is_shown:
            yoga.write("copy", NEW)
            await yoga.push("copy")
        await change(yoga, mount, 300_000, b"again")
        ids, before = chunks_of(yoga), here(yoga)
        (head,) = yoga.db.heads("f")
        with mount.round():
            mount.seal("remove", "f", seen=[head.id], last=head.id)
        await yoga.sealer.run_once()
        mount.note()
        came = [file_value(content_of(yoga, "copy"))] if is_shown else []
        assert await work(yoga) == Told(came, [file_value(whole.name)])
        if is_shown:
            assert here(yoga, "copy") == len(chunks_of(yoga, "copy"))
        else:
            assert sum(yoga.cache.has(chunk) for chunk in ids) == before

    run(go(), fleet.clock)


def test_what_is_about_to_be_published_is_copied(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """Nothing shows it yet, but the mount needs what it is made of; and it is not copied anew at each attempt."""

    async def go() -> None:
        whole = await make(yoga, mount)
        base = yoga.db.heads("f")[0].id
        ids, sizes = await yoga.fetcher.chunk_list(base)
        reused, newer = yoga.fetcher.reused, "ab" * 32
        await reused.keep(base, ids, sizes, RangeSet([(0, len(ids))]), newer)
        assert await once(yoga, lambda: {whole.name}) == Told([file_value(newer)], [])
        assert here(yoga) == len(ids)
        await reused.keep(base, ids, sizes, RangeSet([(0, len(ids))]), newer)
        await yoga.env.sleep(WRITTEN_S - 1)
        assert await once(yoga, lambda: {whole.name}) == Told([], [])

    run(go(), fleet.clock)


def test_the_same_bytes_are_written_again(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount, 200_000, BIG[200_000:200_007])
        assert content_of(yoga, "f") == whole.name
        assert not yoga.fetcher.reused.has_work() and here(yoga) < 10

    run(go(), fleet.clock)


def test_the_mount_is_told_although_the_next_one_fails(
    fleet: Fleet, yoga: Machine, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        wholes = [await make(yoga, mount, "a", BIG), await make(yoga, mount, "b", BIG[::-1])]
        await change(yoga, mount, path="a")
        await change(yoga, mount, path="b")
        await once(yoga)
        await yoga.env.sleep(WRITTEN_S)

        def broken(text: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        told = Told([], [])
        with monkeypatch.context() as patch:
            patch.setattr(yoga.fetcher.reused, "_write", broken)
            for _ in wholes:
                with pytest.raises(sqlite3.OperationalError):
                    await once(yoga, told=told)
        assert told.gone == [file_value(whole.name) for whole in wholes]
        assert not any(whole.exists() for whole in wholes)

    run(go(), fleet.clock)


def test_it_does_not_stay_while_another_one_is_copied(
    fleet: Fleet, yoga: Machine, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the minute that its own copy needs."""

    async def go() -> None:
        first = await make(yoga, mount, "a", BIG)
        second = await make(yoga, mount, "b", BIG[::-1])
        await change(yoga, mount, path="a")
        await once(yoga)
        await change(yoga, mount, path="b")
        told = Told([], [])
        between_pieces(yoga, monkeypatch, lambda: yoga.env.sleep(WRITTEN_S))
        await once(yoga, told=told)
        assert told.gone == [file_value(first.name)] and not first.exists()
        assert here(yoga, "b") == len(chunks_of(yoga, "b")) and second.exists()

    run(go(), fleet.clock)


def test_an_evicted_file_lends_nothing(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        assert yoga.fetcher.reused.lent(chunks_of(yoga))
        whole.unlink()
        assert not yoga.fetcher.reused.lent(chunks_of(yoga))

    run(go(), fleet.clock)


def test_what_two_files_lend_is_there_once(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        await make(yoga, mount)
        await make(yoga, mount, "g", BIG[:200_000] + bytes(100) + BIG[200_100:])
        await change(yoga, mount)
        await change(yoga, mount, path="g", data=NEW[200_000:200_100])
        assert content_of(yoga, "f") == content_of(yoga, "g")
        lent = yoga.fetcher.reused.lent(chunks_of(yoga))
        assert sum(each.place.size for each in lent.values()) < len(NEW)

    run(go(), fleet.clock)


def test_what_is_freed_while_it_is_copied_does_not_stay(
    fleet: Fleet, yoga: Machine, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        between_pieces(yoga, monkeypatch, lambda: yoga.fetcher.reused.forget(chunks_of(yoga)))
        assert await once(yoga) == Told([], [])
        assert await once(yoga) == Told([], [file_value(whole.name)])

    run(go(), fleet.clock)


def test_a_torn_chunk_is_copied(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """As of a machine that lost its power."""

    async def go() -> None:
        whole = await make(yoga, mount)
        await change(yoga, mount)
        await once(yoga)
        for chunk in chunks_of(yoga)[:5]:
            path = yoga.cache.path(chunk)
            path.write_bytes(path.read_bytes()[:512])
        yoga.reopen()
        assert (await work(yoga)).gone == [file_value(whole.name)]
        fleet.memory.is_away = True
        assert await yoga.content("f") == NEW

    run(go(), fleet.clock)


def test_it_is_lent_again_while_it_goes(
    fleet: Fleet, yoga: Machine, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        await make(yoga, mount)
        base = yoga.db.heads("f")[0].id
        ids, sizes = await yoga.fetcher.chunk_list(base)
        await change(yoga, mount)
        await once(yoga)
        await yoga.env.sleep(WRITTEN_S)
        run_io = yoga.env.run_io

        async def beside(fn: Callable[..., object], *args: object) -> object:
            if fn == yoga.cache.drop_whole:
                await yoga.fetcher.reused.keep(base, ids, sizes, RangeSet([(0, len(ids))]), "ab" * 32)
            return await run_io(fn, *args)

        monkeypatch.setattr(yoga.env, "run_io", beside)
        await once(yoga)
        assert yoga.fetcher.reused.has_work()
        await work(yoga)
        assert not yoga.fetcher.reused.has_work()

    run(go(), fleet.clock)


def test_long_lists_are_gone_through_in_threads(
    fleet: Fleet, yoga: Machine, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    counted = {name: getattr(reused_module, name) for name in ("_places", "_numbers")}

    async def go() -> None:
        run, is_in_thread = yoga.env.run, [False]

        async def beside(fn: Callable[..., object], *args: object) -> object:
            is_in_thread[0] = True
            try:
                return await run(fn, *args)
            finally:
                is_in_thread[0] = False

        def noting(name: str) -> Callable[..., object]:
            def noted(*args: object) -> object:
                threads.append(name if is_in_thread[0] else "the loop")
                return counted[name](*args)

            return noted

        await make(yoga, mount)
        monkeypatch.setattr(yoga.env, "run", beside)
        for name in counted:
            monkeypatch.setattr(reused_module, name, noting(name))
        await change(yoga, mount)
        assert sorted(set(threads)) == ["_numbers", "_places"]

    run(go(), fleet.clock)


@pytest.mark.parametrize("text", ['[{"base": 3}]', "{}", "["])
def test_what_another_tcfs_has_written_is_passed_over(yoga: Machine, text: str) -> None:
    with yoga.db.transaction() as txn:
        txn.set_meta(REUSED, text)
    yoga.reopen()
    assert not yoga.fetcher.reused.has_work()
