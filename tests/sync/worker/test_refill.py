"""A store that was set back, or has lost objects of our journal: the owner puts them again, nobody loses or doubts."""

import pytest
from fsckkit import paths_of
from workerkit import Fleet, Machine, run

from sync.core.errors import Integrity, NoSpace, ReadOnly, TcfsError
from sync.env import Crash
from sync.worker.context import ProblemKind
from sync.worker.fsck import Severity, fsck

CONTENT = {"a": "one", "b": "content of b", "c": "content of c"}


async def set_back(fleet: Fleet, yoga: Machine, *, packs_kept: bool) -> None:
    """yoga has published three files; the store forgets the last two, and that c was removed and written anew."""
    yoga.write("a", CONTENT["a"])
    await yoga.push("a")
    older = dict(fleet.memory.objects)
    yoga.write("b", CONTENT["b"])
    await yoga.push("b")
    yoga.write("c", "an earlier c")
    await yoga.push("c")
    yoga.write("c", CONTENT["c"])
    await yoga.push("c")
    packs = {key: data for key, data in fleet.memory.objects.items() if key.startswith("packs/")}
    fleet.memory.objects.clear()
    fleet.memory.objects.update(older | (packs if packs_kept else {}))


async def goes_on(machine: Machine) -> None:
    """What an engine does once a second."""
    await machine.learner.poll(thorough=True)
    await machine.publisher.drain()


async def is_whole(fleet: Fleet, *machines: Machine) -> None:
    """These, and one that has just joined, show and read all of it; nobody has anything to say of the journals."""
    carol = fleet.machine(f"carol{len(fleet.machines)}")
    for machine in (*machines, carol):
        await goes_on(machine)
        assert list(machine.shown()) == sorted(CONTENT), machine.name
        for path, text in CONTENT.items():
            assert await machine.content(path) == text.encode()
        kinds = {problem.kind for problem in machine.context.problems.current()}
        assert kinds <= {ProblemKind.ROLLBACK}, machine.problems_now()
        found = await fsck(machine.context, paths_of(machine))
        assert [finding for finding in found if finding.severity is Severity.ERROR] == []
    assert carol.problems_now() == []
    heads = [{path: [head.id for head in machine.db.heads(path)] for path in CONTENT} for machine in (*machines, carol)]
    assert all(one == heads[0] for one in heads)


def test_the_owner_puts_its_journal_again(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")

    async def go() -> None:
        await set_back(fleet, yoga, packs_kept=True)
        before = yoga.db.machine_id, {path: yoga.db.heads(path)[0].id for path in CONTENT}
        await goes_on(yoga)
        assert before == (yoga.db.machine_id, {path: yoga.db.heads(path)[0].id for path in CONTENT})
        assert yoga.problems(ProblemKind.ROLLBACK)
        await is_whole(fleet, yoga)
        yoga.write("d", "later")
        await yoga.push("d")
        assert yoga.db.outbox() == []

    run(go(), fleet.clock)


def test_contents_that_went_too_are_pushed_again(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")

    async def go() -> None:
        await set_back(fleet, yoga, packs_kept=False)
        await goes_on(yoga)
        carol = fleet.machine("carol")
        await goes_on(carol)
        assert list(carol.shown()) == sorted(CONTENT)
        with pytest.raises(Integrity):
            await carol.content("b")
        report = await yoga.push("a", "b", "c")
        assert (report.restored, report.error()) == (2, None)
        await is_whole(fleet, yoga, carol)

    run(go(), fleet.clock)


def test_whoever_has_newer_knowledge_has_no_conflict(fleet: Fleet) -> None:
    """What others wrote after what was lost still supersedes it: the versions are the very same."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")

    async def go() -> None:
        yoga.write("c", "first")
        await yoga.push("c")
        older = dict(fleet.memory.objects)
        yoga.write("c", "second")
        yoga.write("b", "b")
        await yoga.push("b", "c")
        await bates.pull("c", "c")
        bates.write("c", "third, of bates")
        assert (await bates.push("c")).error() is None
        packs = {key: data for key, data in fleet.memory.objects.items() if key.startswith("packs/")}
        fleet.memory.objects.clear()
        fleet.memory.objects.update(older | packs)
        for machine in (yoga, bates, yoga, bates):
            await goes_on(machine)
        carol = fleet.machine("carol")
        for machine in (yoga, bates, carol):
            await goes_on(machine)
            assert list(machine.shown()) == ["b", "c"]
            assert await machine.content("c") == b"third, of bates"
            assert machine.problems(ProblemKind.CHAIN) == []
        assert carol.problems_now() == []

    run(go(), fleet.clock)


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_a_single_segment_that_was_lost(fleet: Fleet, which: int) -> None:
    """Found by the next process of its owner. The segment behind it names other bytes, and nobody minds."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")

    async def go() -> None:
        await set_back(fleet, yoga, packs_kept=True)
        await goes_on(yoga)
        await goes_on(bates)
        keys = sorted(key for key in fleet.memory.objects if key.startswith(f"journal/{yoga.db.machine_id}/"))
        del fleet.memory.objects[keys[which]]
        yoga.reopen()
        await goes_on(yoga)
        assert keys[which] in fleet.memory.objects
        await is_whole(fleet, yoga, bates)
        before = dict(fleet.memory.objects)
        yoga.reopen()
        await goes_on(yoga)
        assert dict(fleet.memory.objects) == before

    run(go(), fleet.clock)


@pytest.mark.parametrize("point", ["fleet.before_commit", "fleet.after_commit"])
def test_a_crash_anywhere_on_the_way(fleet: Fleet, point: str) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")

    async def go() -> None:
        await set_back(fleet, yoga, packs_kept=True)
        await goes_on(bates)
        for passing in range(1, 30):
            yoga.env.arm(point, passing)
            try:
                await goes_on(yoga)
                break
            except Crash:
                yoga.reopen()
        else:
            raise AssertionError("it never gets done")
        assert passing > 3
        yoga.reopen()
        await is_whole(fleet, yoga, bates)

    run(go(), fleet.clock)


def test_with_something_queued(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")

    async def go() -> None:
        await set_back(fleet, yoga, packs_kept=True)
        yoga.write("d", "queued")
        yoga.env.arm("publish.after_outbox")
        backup = dict(fleet.memory.objects)
        with pytest.raises(Crash):
            await yoga.push("d")
        fleet.memory.objects.update(backup)
        yoga.reopen()
        await goes_on(yoga)
        carol = fleet.machine("carol")
        await goes_on(carol)
        assert list(carol.shown()) == ["a", "b", "c", "d"]
        assert carol.problems_now() == []

    run(go(), fleet.clock)


@pytest.mark.parametrize("gone", [["machines/"], ["heads/"], ["journal/"], ["machines/", "heads/", "journal/"]])
def test_all_of_ours_is_gone(fleet: Fleet, gone: list[str]) -> None:
    yoga = fleet.machine("yoga")

    async def go() -> None:
        await set_back(fleet, yoga, packs_kept=True)
        await goes_on(yoga)
        for key in list(fleet.memory.objects):
            if key.startswith(tuple(gone)):
                del fleet.memory.objects[key]
        yoga.reopen()
        await goes_on(yoga)
        await is_whole(fleet, yoga)

    run(go(), fleet.clock)


def test_what_an_older_program_has_published(fleet: Fleet) -> None:
    """Which record named which pack was not kept then: the packs get new records."""
    yoga = fleet.machine("yoga")

    async def go() -> None:
        await set_back(fleet, yoga, packs_kept=True)
        with yoga.db.transaction() as txn:
            txn._execute("UPDATE pack SET seq = NULL")
        await goes_on(yoga)
        await is_whole(fleet, yoga)

    run(go(), fleet.clock)


@pytest.mark.parametrize("error", [ReadOnly, NoSpace])
def test_a_store_that_takes_nothing_is_read_all_the_same(fleet: Fleet, error: type[TcfsError]) -> None:
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")

    async def refused(*_: object) -> bool:
        raise error("it takes nothing")

    async def go() -> None:
        await set_back(fleet, yoga, packs_kept=True)
        bates.write("of-bates", "x")
        await bates.push("of-bates")
        put, fleet.memory.put_if_absent = fleet.memory.put_if_absent, refused  # type: ignore[assignment, method-assign]
        await yoga.learner.poll(thorough=True)
        assert "of-bates" in yoga.shown()
        assert yoga.problems(ProblemKind.PENDING) == ["it takes nothing"]
        fleet.memory.put_if_absent = put  # type: ignore[method-assign]
        await goes_on(yoga)
        await goes_on(bates)
        assert list(bates.shown()) == ["a", "b", "c", "of-bates"]

    run(go(), fleet.clock)


def test_a_listing_that_is_late_is_no_loss(fleet: Fleet) -> None:
    """A segment that is there although the store has just not listed it."""
    yoga = fleet.machine("yoga")

    async def go() -> None:
        await set_back(fleet, yoga, packs_kept=True)
        await goes_on(yoga)
        key = sorted(key for key in fleet.memory.objects if key.startswith(f"journal/{yoga.db.machine_id}/"))[1]
        data, list_all = fleet.memory.objects[key], fleet.memory.list

        async def late(prefix: str = "", start_after: str = ""):  # type: ignore[no-untyped-def]
            async for item in list_all(prefix, start_after):
                if item.key != key:
                    yield item

        yoga.reopen()
        fleet.memory.list = late  # type: ignore[method-assign]
        await goes_on(yoga)
        fleet.memory.list = list_all  # type: ignore[method-assign]
        assert fleet.memory.objects[key] == data
        assert yoga.problems(ProblemKind.FORK) == []
        await is_whole(fleet, yoga)

    run(go(), fleet.clock)
