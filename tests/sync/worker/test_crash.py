"""A crash at every fault point of publishing: what was queued goes out once, what was not is pushed again."""

import re
from pathlib import Path

import pytest
from workerkit import Fleet, Machine, Mount, run

import sync
from sync.core.manifest import Manifest, decode_record
from sync.env import Crash, fault_names
from sync.worker.journals import JournalReader

POINTS = sorted(name for name in fault_names([Path(sync.__file__).parent]) if re.match(r"(publish|pack|fleet)\.", name))


def published_versions(machine: Machine) -> list[str]:
    """path of every version record that the store's journals hold, whoever wrote it."""
    rows = machine.db.query("SELECT record FROM version")
    records = (decode_record(line) for (line,) in rows)
    return sorted(record.rel_path for record in records if isinstance(record, Manifest))


def test_the_points_are_there() -> None:
    for name in ("before_outbox", "after_outbox", "after_segment_put", "after_head_put", "after_confirm"):
        assert f"publish.{name}" in POINTS


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("passing", [1, 2])
def test_push_crashes(fleet: Fleet, point: str, passing: int) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    for number in range(5):
        yoga.write(f"d/{number}", f"content {number}" * 500)

    async def go() -> None:
        yoga.env.arm(point, passing)
        with pytest.raises(Crash):
            for _ in range(10):
                await yoga.push("d")
                yoga.write("d/extra", str(fleet.clock.elapsed) + point)
                await yoga.env.sleep(1)
        yoga.reopen()
        await yoga.publisher.drain()
        assert yoga.db.outbox() == []
        await yoga.push("d")
        await bates.learner.poll()
        assert bates.problems_now() == []
        expected = {f"d/{number}" for number in range(5)} | {"d"}
        assert expected <= set(bates.shown())
        assert bates.shown() == yoga.shown()
        for number in range(5):
            assert await bates.content(f"d/{number}") == (f"content {number}" * 500).encode()
        # Nothing twice: one version a path, but for the file that was written in every round.
        counted = [path for path in published_versions(bates) if path != "d/extra"]
        assert sorted(counted) == sorted(expected)
        assert len(fleet_ids(yoga)) == 1

    run(go(), fleet.clock)


def fleet_ids(machine: Machine) -> frozenset[str]:
    return machine.db.own_ids


@pytest.mark.parametrize("point", POINTS)
def test_seals_crash(fleet: Fleet, point: str) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    mount = Mount(yoga)
    with mount.round():
        seals = [mount.put_file(f"f{number}", b"content %d" % number * 300, node=3 + 2 * number) for number in range(4)]

    async def go() -> None:
        yoga.env.arm(point)
        with pytest.raises(Crash):
            await yoga.sealer.run_once()
        yoga.reopen()
        await yoga.publisher.drain()
        await yoga.sealer.run_once()
        assert await yoga.sealer.run_once() == 0
        await bates.learner.poll()
        assert published_versions(bates) == ["f0", "f1", "f2", "f3"]
        answers = [yoga.db.view.answer(seal) for seal in seals]
        assert [answer.answer for answer in answers if answer] == ["queued"] * 4
        assert [yoga.db.view.resolve_path(f"f{number}").id for number in range(4)] == [3, 5, 7, 9]

    run(go(), fleet.clock)
    mount.close()


def test_a_reader_that_crashes_goes_on(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("d/a", "x" * 10_000)

    async def go() -> None:
        await yoga.push("d")
        bates.env.arm("fleet.before_commit", 2)
        with pytest.raises(Crash):
            await bates.learner.poll()
        bates.reopen()
        await bates.learner.poll()
        assert bates.shown() == yoga.shown()
        assert isinstance(bates.journals, JournalReader)

    run(go(), fleet.clock)
