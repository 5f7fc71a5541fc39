"""Reading journals: holes, broken objects, batches that are not whole."""

import asyncio

import pytest
from workerkit import Fleet, Machine, run

from sync.core.errors import StoreAway
from sync.core.journal import head_key
from sync.core.manifest import CondemnedRecord, Kind, PackedChunk, PackRecord
from sync.worker.change import Change
from sync.worker.commit import Committer
from sync.worker.context import ProblemKind


def segments(fleet: Fleet, machine: Machine) -> list[str]:
    return sorted(key for key in fleet.memory.objects if key.startswith(f"journal/{machine.db.machine_id}/"))


async def push_many(machine: Machine, count: int) -> None:
    for number in range(count):
        machine.write(f"f{number}", f"content {number}")
        await machine.push(f"f{number}")


def test_another_journal_takes_no_pack_over(fleet: Fleet) -> None:
    """A hostile member, or one with a bug, names packs of others: as its own, elsewhere, or as condemned."""
    yoga, bates, carol = fleet.machine("yoga"), fleet.machine("bates"), fleet.machine("carol")
    yoga.write("f", "precious")
    yoga.write("g", "precious too")

    async def go() -> None:
        await yoga.push("f", "g")
        await bates.learner.poll()
        (pack,) = yoga.db.packs.ids(yoga.db.machine_id)
        places = bates.db.query("SELECT chunk_id, offset, length, raw_length, flags FROM chunk")
        chunks = [PackedChunk(chunk.hex(), 4, *rest) for chunk, _, *rest in places]
        with bates.db.transaction() as txn:
            committer = Committer(bates.context, txn)
            committer.add_record(PackRecord(seq=committer.next_seq, pack_id=pack, size=99, chunks=chunks))
            committer.add_record(CondemnedRecord(seq=committer.next_seq, pack_id=pack))
            committer.finish()
        await bates.publisher.drain()
        for machine in (carol, yoga):
            await machine.learner.poll()
            assert await machine.content("f") == b"precious"
            assert await machine.content("g") == b"precious too"
            assert machine.reader.statistics().damaged == 0
        assert (await yoga.push("f", force=True)).moved_bytes == 0

    run(go(), fleet.clock)


def test_a_hole_does_not_stop_reading_and_is_filled(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")

    async def go() -> None:
        await push_many(yoga, 4)
        missing = segments(fleet, yoga)[1]
        kept = fleet.memory.objects.pop(missing)
        await bates.learner.poll()
        assert list(bates.shown()) == ["f0", "f2", "f3"]
        assert any(missing in message for message in bates.problems(ProblemKind.HOLE))
        assert [hole.first for hole in bates.db.holes()] == [int(missing[-16:])]
        bates.reopen()
        await bates.learner.poll()
        assert [hole.first for hole in bates.db.holes()] == [int(missing[-16:])]
        fleet.memory.objects[missing] = kept
        await yoga.env.sleep(2)
        await bates.learner.poll()
        assert list(bates.shown()) == ["f0", "f1", "f2", "f3"]
        assert bates.db.holes() == []
        assert bates.problems_now() == []

    run(go(), fleet.clock)


def test_a_broken_segment_is_named(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")

    async def go() -> None:
        await push_many(yoga, 3)
        for broken, expected in ((1, ["f0", "f2"]), (2, ["f0"])):
            key = segments(fleet, yoga)[broken]
            fleet.memory.objects[key] = fleet.memory.objects[key][:-1] + b"!"
            other = fleet.machine(f"other{broken}")
            await other.learner.poll()
            assert list(other.shown()) == expected
            assert any(key in problem.message for problem in other.learner.unreadable())

    run(go(), fleet.clock)
    assert bates.shown() == {}


def test_a_missing_or_broken_head(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")

    async def go() -> None:
        await push_many(yoga, 2)
        key = f"heads/{yoga.db.machine_id}"
        head = fleet.memory.objects.pop(key)
        await bates.learner.poll()
        assert list(bates.shown()) == ["f0", "f1"]
        assert any(key in message for message in bates.problems(ProblemKind.HEAD))
        fleet.memory.objects[key] = head[:50]
        carl = fleet.machine("carl")
        await carl.learner.poll()
        assert list(carl.shown()) == ["f0", "f1"]
        assert any(key in message for message in carl.problems(ProblemKind.HEAD))
        fleet.memory.objects[key] = head
        await carl.learner.poll()
        assert carl.problems_now() == []

    run(go(), fleet.clock)


def test_between_the_first_segment_and_its_head_nothing_is_missing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that takes a second for the head: who looks meanwhile shows what there is, and says nothing is wrong."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    key, put = head_key(yoga.db.machine_id), fleet.memory.put
    is_on_its_way, reported = asyncio.Event(), []
    report = bates.context.problems.report
    monkeypatch.setattr(bates.context.problems, "report", lambda *args: reported.append(args) or report(*args))

    async def slow_put(name: str, data: bytes) -> None:
        if name == key:
            is_on_its_way.set()
            await fleet.memory._env.sleep(1)
        await put(name, data)

    monkeypatch.setattr(fleet.memory, "put", slow_put)

    async def look() -> None:
        await is_on_its_way.wait()
        assert key not in fleet.memory.objects and segments(fleet, yoga)
        await bates.learner.poll()
        assert list(bates.shown()) == ["f0"]

    async def go() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(look())
            tasks.create_task(push_many(yoga, 1))
        assert reported == []
        assert bates.db.machine(yoga.db.machine_id).head is not None  # type: ignore[union-attr]

    run(go(), fleet.clock)


def test_a_journal_without_its_machine_object(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")

    async def go() -> None:
        await push_many(yoga, 1)
        key = f"machines/{yoga.db.machine_id}"
        info = fleet.memory.objects.pop(key)
        await bates.learner.poll()
        assert bates.shown() == {}
        assert any(key in message for message in bates.problems(ProblemKind.MACHINE))
        fleet.memory.objects[key] = info
        await bates.learner.poll()
        assert list(bates.shown()) == ["f0"]
        assert bates.problems_now() == []

    run(go(), fleet.clock)


async def rename_in_two_segments(fleet: Fleet, machine: Machine) -> None:
    """A batch of a creation at `new` and a tombstone at `old`, each in a segment of its own."""
    import sync.worker.commit as commit

    old = machine.db.heads("old")[0]
    content = old.manifest
    original, commit.SEGMENT_RECORDS = commit.SEGMENT_RECORDS, 1  # type: ignore[misc]
    try:
        from sync.worker.change import Content

        create = Change("new", Kind.FILE, source=Content.of(content), mode=0o644, mtime_ns=1)
        remove = Change("old", Kind.TOMBSTONE, seen=frozenset({old.id}), last=old.id, moved_to="new")
        await machine.publisher.publish([[remove, create]])
    finally:
        commit.SEGMENT_RECORDS = original  # type: ignore[misc]
    assert Committer is not None


def test_half_a_batch_takes_nothing_away(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("old", "content")

    async def go() -> None:
        await yoga.push("old")
        await bates.learner.poll()
        await rename_in_two_segments(fleet, yoga)
        creation = segments(fleet, yoga)[-2]
        kept = fleet.memory.objects.pop(creation)
        await bates.learner.poll()
        assert list(bates.shown()) == ["old"]
        # After a minute what cannot take anything away is applied, which here is nothing.
        await yoga.env.sleep(61)
        await bates.learner.poll()
        assert list(bates.shown()) == ["old"]
        assert len(bates.db.held_back()) == 1
        bates.reopen()
        fleet.memory.objects[creation] = kept
        await bates.learner.poll()
        assert list(bates.shown()) == ["new"]
        assert bates.db.held_back() == []
        assert bates.problems_now() == []

    run(go(), fleet.clock)


@pytest.mark.parametrize("ahead", [0.0, 366 * 86400.0], ids=["", "and when a clock that was wrong is set back"])
def test_creations_of_half_a_batch_come_after_a_minute(fleet: Fleet, ahead: float) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    bates.env.wall_offset = ahead
    yoga.write("old", "content")

    async def go() -> None:
        await yoga.push("old")
        await bates.learner.poll()
        await rename_in_two_segments(fleet, yoga)
        await push_many(yoga, 1)
        removal = segments(fleet, yoga)[-2]
        kept = fleet.memory.objects.pop(removal)
        await bates.learner.poll()
        assert list(bates.shown()) == ["f0", "old"]
        if not ahead:
            bates.reopen()
        bates.env.wall_offset = 0.0
        await yoga.env.sleep(61)
        await bates.learner.poll()
        assert list(bates.shown()) == ["f0", "new", "old"]
        fleet.memory.objects[removal] = kept
        await yoga.env.sleep(2)
        await bates.learner.poll()
        assert list(bates.shown()) == ["f0", "new"]

    run(go(), fleet.clock)


def test_an_altered_record_stops_nothing_else(fleet: Fleet) -> None:
    """A signed segment with a record that makes no sense: the others count."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")

    async def go() -> None:
        await push_many(yoga, 1)
        with yoga.db.transaction(full=True) as txn:
            committer = Committer(yoga.context, txn)
            seq = committer.next_seq
            committer.add_line(b'{"type":"version","seq":%d,"rel_path":"../evil"}' % seq)
            committer.add_line(b'{"type":"of-tomorrow","seq":%d,"more":1}' % (seq + 1))
            committer.finish()
        await yoga.publisher.drain()
        yoga.write("last", "x")
        await yoga.push("last")
        await bates.learner.poll()
        assert list(bates.shown()) == ["f0", "last"]
        assert len(bates.problems(ProblemKind.RECORD)) == 1

    run(go(), fleet.clock)


def test_a_reader_cut_off_asks_again_even_without_a_journal_head(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    real = fleet.memory.get

    async def go() -> None:
        await push_many(yoga, 3)
        del fleet.memory.objects[head_key(yoga.db.machine_id)]
        newest = segments(fleet, yoga)[-1]

        async def cut(key: str, start: int = 0, length: int | None = None) -> bytes:
            if key == newest:
                raise StoreAway("cut off")
            return await real(key, start, length)

        monkeypatch.setattr(fleet.memory, "get", cut)
        with pytest.raises(StoreAway):
            await bates.learner.poll()
        monkeypatch.setattr(fleet.memory, "get", real)
        await bates.learner.poll(thorough=True)
        assert list(bates.shown()) == ["f0", "f1", "f2"]
        assert bates.db.holes() == []

    run(go(), fleet.clock)
