"""A copied state folder, a store set back: nothing is lost, nobody writes over anybody."""

import shutil

import pytest
from workerkit import Fleet, Machine, run

from sync.env import Crash
from sync.state.fleet import FleetDb
from sync.worker.context import ProblemKind


def clone_of(machine: Machine) -> Machine:
    """A second machine over a copy of the state folder: same ids, same keys."""
    fleet = machine.fleet
    clone = Machine(fleet, f"{machine.name}-clone", 50 + len(fleet.machines))
    clone.signer = machine.signer
    machine.db._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(machine.folder / "fleet.db", clone.folder / "fleet.db")
    clone.db = FleetDb.open(clone.env, clone.folder / "fleet.db")
    clone.assemble()
    fleet.machines.append(clone)
    return clone


def all_ids(fleet: Fleet) -> set[str]:
    return {key.removeprefix("machines/") for key in fleet.memory.objects if key.startswith("machines/")}


def test_an_idle_clone_notices(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")
    yoga.write("f", "one")

    async def go() -> None:
        await yoga.push("f")
        clone = clone_of(yoga)
        old = yoga.db.machine_id
        yoga.write("g", "two")
        await yoga.push("g")
        await clone.learner.poll()
        assert clone.db.machine_id != old
        assert clone.db.own_ids == {old, clone.db.machine_id}
        assert "another machine went on" in clone.problems(ProblemKind.FORK)[0]
        await clone.learner.poll()
        assert clone.shown() == yoga.shown()
        await yoga.learner.poll()
        assert yoga.db.machine_id == old
        assert yoga.problems(ProblemKind.FORK) == []

    run(go(), fleet.clock)


def test_an_idle_clone_notices_a_segment_without_its_head(fleet: Fleet) -> None:
    """The original died between the two PUTs: only the journal's keys tell."""
    yoga = fleet.machine("yoga")
    yoga.write("f", "one")

    async def go() -> None:
        await yoga.push("f")
        clone = clone_of(yoga)
        old = yoga.db.machine_id
        yoga.write("g", "two")
        yoga.env.arm("publish.after_segment_put")
        with pytest.raises(Crash):
            await yoga.push("g")
        await clone.learner.poll()
        assert clone.db.machine_id != old
        yoga.reopen()
        await yoga.learner.poll()
        assert yoga.db.machine_id == old

    run(go(), fleet.clock)


@pytest.mark.parametrize("point", [None, "fork.after_machine_put", "fork.before_commit", "fork.after_commit"])
def test_both_write_after_the_copy(fleet: Fleet, point: str | None) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "common")

    async def go() -> None:
        await yoga.push("f")
        clone = clone_of(yoga)
        clone.write("f", "of the clone")
        fleet.memory.is_away = False
        # The clone queues a version that it cannot send: the original takes its place in the journal.
        clone.env.arm("publish.after_outbox")
        with pytest.raises(Crash):
            await clone.push("f", force=True)
        clone.reopen()
        yoga.write("f", "of the original")
        await yoga.push("f")
        if point is not None:
            clone.env.arm(point)
            with pytest.raises(Crash):
                await clone.publisher.drain()
            clone.reopen()
        await clone.publisher.drain()
        await clone.learner.poll()
        assert clone.db.machine_id != yoga.db.machine_id
        assert len(all_ids(fleet)) == 3
        await yoga.learner.poll()
        await bates.learner.poll()
        for machine in (yoga, clone, bates):
            contents = {await machine.content(path) for path in machine.shown()}
            assert contents == {b"of the original", b"of the clone"}, machine.name
        heads = {machine.name: [head.id for head in machine.db.heads("f")] for machine in (yoga, clone, bates)}
        assert heads["yoga"] == heads["bates"] == heads["yoga-clone"]
        # The clone's memory of the folder knows the version by its new name.
        remembered = clone.db.plain(str(clone.home / "f"), "f")
        assert remembered is not None
        assert clone.db.resolve(remembered.version) in heads["bates"]
        assert (await clone.push("f")).unchanged == 1
        clone.write("f", "resolved")
        assert (await clone.push("f", force=True)).error() is None
        await bates.learner.poll()
        assert list(bates.shown()) == ["f"]

    run(go(), fleet.clock)


def test_the_clone_finds_out_while_it_sends(fleet: Fleet) -> None:
    """The own head is looked at, then the original writes: the segment's PUT meets other bytes."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "common")

    async def go() -> None:
        await yoga.push("f")
        clone = clone_of(yoga)
        clone.write("g", "of the clone")
        yoga.write("h", "of the original")
        original = fleet.memory.put_if_absent

        async def raced(key: str, data: object) -> bool:
            fleet.memory.put_if_absent = original  # type: ignore[method-assign]
            await yoga.push("h")
            return await original(key, data)  # type: ignore[arg-type]

        fleet.memory.put_if_absent = raced  # type: ignore[method-assign]
        assert (await clone.push("g")).error() is None
        assert clone.db.machine_id != yoga.db.machine_id
        await bates.learner.poll()
        assert list(bates.shown()) == ["f", "g", "h"]
        assert await bates.content("g") == b"of the clone"
        assert bates.problems_now() == []

    run(go(), fleet.clock)


def test_a_lost_fleet_db_is_a_fork(fleet: Fleet) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "one")

    async def go() -> None:
        await yoga.push("f")
        old = yoga.db.machine_id
        yoga.db.close()
        for name in ("fleet.db", "fleet.db-wal", "fleet.db-shm"):
            (yoga.folder / name).unlink(missing_ok=True)
        yoga.db = FleetDb.create(yoga.env, yoga.folder / "fleet.db", yoga.context.fleet_id, old, "yoga")
        yoga.assemble()
        await yoga.learner.poll()
        assert yoga.db.machine_id != old
        assert "fleet.db was made anew" in yoga.problems(ProblemKind.FORK)[0]
        assert list(yoga.shown()) == ["f"]
        yoga.write("f", "two, longer")
        await yoga.push("f", force=True)
        await bates.learner.poll()
        assert await bates.content("f") == b"two, longer"
        assert list(bates.shown()) == ["f"]

    run(go(), fleet.clock)


def test_a_store_set_back(fleet: Fleet) -> None:
    """An older head of ours is a rollback: the head is put again, others do not follow the older one."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("f", "one")

    async def go() -> None:
        await yoga.push("f")
        key = f"heads/{yoga.db.machine_id}"
        older = fleet.memory.objects[key]
        yoga.write("g", "two")
        await yoga.push("g")
        await bates.learner.poll()
        newer = bates.shown()
        fleet.memory.objects[key] = older
        await bates.learner.poll()
        assert bates.problems(ProblemKind.ROLLBACK)
        assert bates.shown() == newer
        old_id = yoga.db.machine_id
        await yoga.learner.poll()
        assert yoga.problems(ProblemKind.ROLLBACK)
        assert yoga.db.machine_id == old_id
        await bates.learner.poll()
        assert bates.problems(ProblemKind.ROLLBACK) == []
        yoga.write("h", "three")
        await yoga.push("h")
        await bates.learner.poll()
        assert list(bates.shown()) == ["f", "g", "h"]

    run(go(), fleet.clock)


@pytest.mark.parametrize("packs_kept", [True, False])
def test_a_store_set_back_in_which_a_clone_went_on(fleet: Fleet, packs_kept: bool) -> None:
    """Other segments lie where ours were confirmed: ours go out again, readable, and theirs are read."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")

    async def go() -> None:
        yoga.write("a", "one")
        await yoga.push("a")
        older = dict(fleet.memory.objects)
        clone = clone_of(yoga)
        for name in ("b", "c"):
            yoga.write(name, f"content of {name}")
            await yoga.push(name)
        packs = {key: data for key, data in fleet.memory.objects.items() if key.startswith("packs/")}
        fleet.memory.objects.clear()
        fleet.memory.objects.update(older | (packs if packs_kept else {}))
        clone.write("z", "of the clone")
        await clone.push("z")
        for machine in (yoga, yoga, bates, yoga):
            await machine.publisher.drain()
            await machine.learner.poll(thorough=True)
        for machine in (yoga, bates, clone):
            await machine.learner.poll(thorough=True)
            assert list(machine.shown()) == ["a", "b", "c", "z"]
            assert await machine.content("z") == b"of the clone"
            assert not packs_kept or await machine.content("b") == b"content of b"
            assert not packs_kept or await machine.content("c") == b"content of c"
        assert bool(yoga.problems(ProblemKind.REFUSED)) is not packs_kept

    run(go(), fleet.clock)
