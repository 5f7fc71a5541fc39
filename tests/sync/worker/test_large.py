"""Large files go out beside everything else, and what nobody needs any more does not go out at all."""

import asyncio
import random
from collections.abc import Iterator, Sequence

import pytest
from workerkit import Fleet, Machine, Mount, run

from sync.core.errors import StoreAway
from sync.core.manifest import ChunkId
from sync.state.tree.database import layer_path
from sync.worker import content, large
from sync.worker.context import ProblemKind
from sync.worker.publish import Publication
from sync.worker.seals import SealWorker

LEAST = 50_000
BIG = random.Random(1).randbytes(400_000)


@pytest.fixture
def yoga(fleet: Fleet) -> Machine:
    return fleet.machine("yoga")


@pytest.fixture
def mount(yoga: Machine) -> Iterator[Mount]:
    made = Mount(yoga)
    yield made
    made.close()


@pytest.fixture
def sealer(yoga: Machine, mount: Mount) -> SealWorker:
    assert yoga.tree is not None
    return SealWorker(yoga.context, yoga.publisher, yoga.tree, yoga.folder / "work", large=LEAST)


def put(mount: Mount, path: str, data: bytes, node: int) -> bytes:
    """A new file, as long as its node is there."""
    seal = mount.put_file(path, data, node=node)
    mount.connection.execute(
        "INSERT INTO node (id, kind, mode, uid, gid, atime_ns, mtime_ns, ctime_ns, gen, seal_id, sealed_gen)"
        " VALUES (?, 1, 420, 0, 0, 1, 1, 1, 1, ?, 1)",
        (node, seal),
    )
    return seal


def remove(mount: Mount, node: int) -> None:
    mount.connection.execute("DELETE FROM node WHERE id = ?", (node,))


def answer(machine: Machine, seal: bytes) -> str | None:
    taken = machine.db.view.answer(seal)
    return None if taken is None else taken.answer


def packs(fleet: Fleet) -> int:
    return sum(key.startswith("packs/") for key in fleet.memory.objects)


def test_a_large_file_holds_nothing_up(fleet: Fleet, yoga: Machine, mount: Mount, sealer: SealWorker) -> None:
    async def go() -> None:
        with mount.round():
            big = put(mount, "big", BIG, 7)
            small = put(mount, "small", b"small", 9)
        with mount.round():
            later = put(mount, "later", b"later", 11)
        assert await sealer.run_once() == 2
        assert [answer(yoga, seal) for seal in (big, small, later)] == [None, "queued", "queued"]
        assert sealer.has_work()
        assert await sealer.run_once() == 0
        assert await sealer.pack_large()
        assert not await sealer.pack_large()
        assert answer(yoga, big) is None
        before = packs(fleet)
        assert await sealer.run_once() == 1
        assert answer(yoga, big) == "queued"
        assert packs(fleet) == before
        assert not sealer.has_work()
        assert await yoga.content("big") == BIG

    run(go(), fleet.clock)


def test_small_ones_go_out_while_it_is_packed(
    fleet: Fleet, yoga: Machine, mount: Mount, sealer: SealWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, go_on = asyncio.Event(), asyncio.Event()
    add = Publication.add

    async def slow(self: Publication, chunks: Sequence[tuple[ChunkId, bytes]]) -> None:
        if sum(len(data) for _, data in chunks) > LEAST:
            stuck.set()
            await go_on.wait()
        await add(self, chunks)

    monkeypatch.setattr(Publication, "add", slow)

    async def go() -> None:
        with mount.round():
            big = put(mount, "big", BIG, 7)
        await sealer.run_once()
        packing = asyncio.ensure_future(sealer.pack_large())
        await stuck.wait()
        with mount.round():
            small = put(mount, "small", b"small", 9)
        assert await sealer.run_once() == 1
        assert (answer(yoga, big), answer(yoga, small)) == (None, "queued")
        go_on.set()
        assert await packing
        assert await sealer.run_once() == 1
        assert await yoga.content("big") == BIG

    run(go(), fleet.clock)


def test_a_removed_one_is_not_packed(fleet: Fleet, yoga: Machine, mount: Mount, sealer: SealWorker) -> None:
    async def go() -> None:
        with mount.round():
            big = put(mount, "big", BIG, 7)
        await sealer.run_once()
        remove(mount, 7)
        assert await sealer.run_once() == 1
        assert answer(yoga, big) == "refused"
        assert yoga.problems(ProblemKind.REFUSED) == []
        assert not await sealer.pack_large()
        assert packs(fleet) == 0
        assert not sealer.has_work()

    run(go(), fleet.clock)


def test_one_that_is_removed_while_it_is_packed(
    fleet: Fleet, yoga: Machine, mount: Mount, sealer: SealWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.worker.layers.GROUP_BYTES", 30_000)
    monkeypatch.setattr("sync.cas.writer.GROUP_BYTES", 1)
    monkeypatch.setattr("sync.core.packfile.PACK_TARGET", 20_000)
    added = 0
    add = Publication.add

    async def watched(self: Publication, chunks: Sequence[tuple[ChunkId, bytes]]) -> None:
        nonlocal added
        added += 1
        await add(self, chunks)
        if added == 4:
            remove(mount, 7)

    monkeypatch.setattr(Publication, "add", watched)

    async def go() -> None:
        with mount.round():
            big = put(mount, "big", BIG, 7)
        await sealer.run_once()
        assert await sealer.pack_large()
        assert added == 4
        assert answer(yoga, big) is None
        assert await sealer.run_once() == 1
        assert answer(yoga, big) == "refused"
        assert packs(fleet) == 0
        assert not await sealer.pack_large()

    run(go(), fleet.clock)


def test_its_folder_waits_for_it(fleet: Fleet, yoga: Machine, mount: Mount, sealer: SealWorker) -> None:
    async def go() -> None:
        with mount.round():
            mount.seal("put", "d", kind=2, mode=0o755, mtime_ns=1, node=5)
            put(mount, "d/big", BIG, 7)
            put(mount, "d/small", b"small", 9)
        assert await sealer.run_once() == 2
        mount.note()
        with mount.round():
            moved = mount.seal("movedir", "e", from_path="d", kind=2, mode=0o755, mtime_ns=2, node=5)
            inside = put(mount, "e/new", b"new", 11)
            beside = put(mount, "f", b"f", 13)
        assert await sealer.run_once() == 1
        assert [answer(yoga, seal) for seal in (moved, inside, beside)] == [None, None, "queued"]
        assert await sealer.pack_large()
        assert await sealer.run_once() == 3
        assert list(yoga.shown()) == ["e", "e/big", "e/new", "e/small", "f"]
        assert await yoga.content("e/big") == BIG

    run(go(), fleet.clock)


def test_its_old_name_goes_with_it(fleet: Fleet, yoga: Machine, mount: Mount, sealer: SealWorker) -> None:
    """Nobody loses sight of what was moved, and both go out as one batch."""

    async def go() -> None:
        with mount.round():
            put(mount, "old", b"hello", 7)
        await sealer.run_once()
        base = yoga.db.heads("old")[0].id
        mount.note()
        with mount.round():
            gone = mount.seal("remove", "old", seen=[base], last=base, moved_to="new")
            seal = mount.put_file("new", BIG, node=7, moved_from=["old", base])
            mount.connection.execute("UPDATE node SET seal_id = ? WHERE id = 7", (seal,))
        assert await sealer.run_once() == 0
        assert answer(yoga, gone) is None
        await sealer.pack_large()
        assert await sealer.run_once() == 2
        new, old = yoga.db.heads("new")[0].manifest, yoga.db.heads("old")[0].manifest
        assert new.batch == old.batch == (new.seq, old.seq)

    run(go(), fleet.clock)


def test_what_was_packed_is_not_sent_again(
    fleet: Fleet, yoga: Machine, mount: Mount, sealer: SealWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is recorded along the way: a store that goes away, or a crash, costs no more than what came behind that."""
    monkeypatch.setattr(large, "RECORD", 100_000)
    monkeypatch.setattr("sync.worker.layers.GROUP_BYTES", 30_000)
    sent = 0
    put_object = fleet.memory.put

    async def away(key: str, data: object) -> None:
        nonlocal sent
        if key.startswith("packs/"):
            if sent > 250_000:
                raise StoreAway("gone")
            sent += sum(len(part) for part in data)  # type: ignore[attr-defined]
        await put_object(key, data)  # type: ignore[arg-type]

    async def go() -> None:
        with mount.round():
            big = put(mount, "big", BIG, 7)
        await sealer.run_once()
        with monkeypatch.context() as broken:
            broken.setattr(fleet.memory, "put", away)
            with pytest.raises(StoreAway):
                await sealer.pack_large()
        assert yoga.tree is not None
        yoga.reopen()
        again = SealWorker(yoga.context, yoga.publisher, yoga.tree, yoga.folder / "work", large=LEAST)
        await again.run_once()
        assert await again.pack_large()
        assert await again.run_once() == 1
        assert answer(yoga, big) == "queued"
        assert await yoga.content("big") == BIG
        stored = sum(len(data) for key, data in fleet.memory.objects.items() if key.startswith("packs/"))
        assert stored < len(BIG) + 150_000

    run(go(), fleet.clock)


def test_one_that_cannot_be_read(fleet: Fleet, yoga: Machine, mount: Mount, sealer: SealWorker) -> None:
    async def go() -> None:
        with mount.round():
            big = put(mount, "big", BIG, 7)
            other = put(mount, "other", BIG[::-1], 9)
        (layer,) = mount.connection.execute("SELECT layer FROM seal WHERE path = 'big'").fetchone()
        path = layer_path(yoga.folder / "work", layer)
        path.write_bytes(BIG[:1000])
        await sealer.run_once()
        assert await sealer.pack_large()
        assert await sealer.pack_large()
        assert await sealer.run_once() == 1
        assert (answer(yoga, big), answer(yoga, other)) == (None, "queued")
        assert "the layer ends" in yoga.problems(ProblemKind.REFUSED)[0]
        assert not await sealer.pack_large()
        path.write_bytes(BIG)
        fleet.clock.elapsed += large.AGAIN_S + 1
        await sealer.run_once()
        assert await sealer.pack_large()
        assert await sealer.run_once() == 1
        assert yoga.problems(ProblemKind.REFUSED) == []
        assert await yoga.content("big") == BIG

    run(go(), fleet.clock)


def test_few_bytes_in_a_large_file_are_no_large_file(
    fleet: Fleet, yoga: Machine, mount: Mount, sealer: SealWorker
) -> None:
    async def go() -> None:
        with mount.round():
            layer = mount.layer([(3_000_000, b"end")])
            columns = {"kind": 1, "mode": 0o644, "size": 3_000_003, "mtime_ns": 1, "ctime_ns": 1, "limit_below": 0}
            mount.seal("put", "hole", layer=layer, **columns)
        assert await sealer.run_once() == 1
        assert await yoga.content("hole") == bytes(3_000_000) + b"end"

    run(go(), fleet.clock)


def test_a_file_too_large_to_be_published(
    fleet: Fleet, yoga: Machine, mount: Mount, sealer: SealWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "PUBLISH_MAX", 300_000)
    monkeypatch.setattr(large, "PUBLISH_MAX", 300_000)

    async def go() -> None:
        with mount.round():
            big = put(mount, "big", BIG, 7)
            small = put(mount, "small", b"small", 9)
            columns = {"kind": 1, "mode": 0o644, "mtime_ns": 1, "ctime_ns": 1, "limit_below": 0}
            hole = mount.seal("put", "hole", size=400_000, **columns)
            mount.dirty("big", big)
            mount.dirty("hole", hole)
        assert await sealer.run_once() == 3
        assert [answer(yoga, seal) for seal in (big, small, hole)] == ["refused", "queued", "refused"]
        assert len(yoga.problems(ProblemKind.REFUSED)) == 2
        assert all("not published" in text for text in yoga.problems(ProblemKind.REFUSED))
        yoga.write("plain", BIG)
        report = await yoga.push("plain")
        assert "not published" in str(report.error())

    run(go(), fleet.clock)
