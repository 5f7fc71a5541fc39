"""A pack that the store has lost: whoever has the bytes puts them again, and everybody can read them."""

import pytest
from fsckkit import paths_of
from workerkit import Fleet, Machine, Mount, run

from sync.core.errors import Integrity
from sync.worker import content as content_module
from sync.worker.fsck import Finding, Severity, fsck
from sync.worker.fsck import packs as packs_module
from sync.worker.lost import DAMAGED, MISSING
from sync.worker.restore import restore

TREE = {f"d/f{number}": bytes([number]) * 3000 for number in range(4)}


@pytest.fixture
def yoga(fleet: Fleet) -> Machine:
    return fleet.machine("yoga")


@pytest.fixture
def bates(fleet: Fleet, yoga: Machine) -> Machine:
    machine = fleet.machine("bates")

    async def fill() -> None:
        for path, data in TREE.items():
            yoga.write(path, data)
        await yoga.push("d")
        await machine.learner.poll()

    run(fill(), fleet.clock)
    return machine


def pack_keys(fleet: Fleet) -> list[str]:
    return sorted(key for key in fleet.memory.objects if key.startswith("packs/"))


def lose(fleet: Fleet, how: str) -> dict[str, bytes]:
    """All packs; what they were."""
    before = {key: fleet.memory.objects[key] for key in pack_keys(fleet)}
    for key, data in before.items():
        if how == "gone":
            del fleet.memory.objects[key]
        elif how == "cut":
            fleet.memory.objects[key] = data[:40]
        else:
            fleet.memory.objects[key] = bytes(len(data))
    return before


def lost(machine: Machine) -> list[int]:
    return [row[0] for row in machine.db.query("SELECT lost FROM pack ORDER BY num")]


async def look(machine: Machine) -> list[Finding]:
    return await fsck(machine.context, paths_of(machine))


async def all_readable(machine: Machine) -> None:
    await machine.learner.poll()
    for path, data in TREE.items():
        assert await machine.content(path) == data


@pytest.mark.parametrize("how", ["gone", "cut", "zeros"])
def test_what_fsck_finds_lost_is_put_again_by_a_plain_push(
    fleet: Fleet, yoga: Machine, bates: Machine, how: str
) -> None:
    async def go() -> None:
        lose(fleet, how)
        with pytest.raises(Integrity):
            await bates.content("d/f1")
        found = await look(yoga)
        assert {finding.path for finding in found if finding.path} == set(TREE)
        assert any("tcfs push --force" in finding.hint for finding in found)
        assert lost(yoga) == [MISSING if how == "gone" else DAMAGED]
        report = await yoga.push("d")
        assert (report.files, report.unchanged, report.restored, report.error()) == (0, 4, 4, None)
        await all_readable(bates)
        for machine in (yoga, bates):
            assert {finding.severity for finding in await look(machine)} == {Severity.WARNING}
        assert (await yoga.push("d")).moved_bytes == 0

    run(go(), fleet.clock)


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_force_looks_for_itself(fleet: Fleet, yoga: Machine, bates: Machine, how: str) -> None:
    async def go() -> None:
        lose(fleet, how)
        assert (await yoga.push("d")).restored == 0  # nobody has told this machine
        report = await yoga.push("d", force=True)
        assert (report.files, report.restored) == (0, 4)
        await all_readable(bates)
        report = await yoga.push("d", force=True)
        assert (report.restored, report.moved_bytes) == (0, 0)

    run(go(), fleet.clock)


def test_the_bytes_may_come_from_anywhere(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    """From another machine, and a folder that was never pushed; without force once it is known that they are lost."""

    async def go() -> None:
        lose(fleet, "gone")
        for path, data in TREE.items():
            bates.write(path, data)
        with pytest.raises(Integrity):
            await bates.content("d/f0")
        assert (await bates.push("d")).error() is None
        await all_readable(yoga)

    run(go(), fleet.clock)


def test_a_reader_that_finds_it_missing_or_back_again_remembers(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    async def go() -> None:
        before = lose(fleet, "gone")
        with pytest.raises(Integrity):
            await bates.content("d/f1")
        assert lost(bates) == [MISSING]
        bates.reopen()
        assert lost(bates) == [MISSING]
        fleet.memory.objects.update(before)
        assert await bates.content("d/f1") == TREE["d/f1"]
        assert lost(bates) == [0]

    run(go(), fleet.clock)


def test_only_fsck_finds_that_a_damaged_one_is_whole(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    async def go() -> None:
        before = lose(fleet, "zeros")
        with pytest.raises(Integrity):
            await bates.content("d/f1")
        fleet.memory.objects.update(before)
        assert await bates.content("d/f1") == TREE["d/f1"]
        assert lost(bates) == [DAMAGED]
        assert await look(bates) == []
        assert lost(bates) == [0]

    run(go(), fleet.clock)


def test_what_was_damaged_is_read_whole_however_large_the_store(
    fleet: Fleet, yoga: Machine, bates: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        before = lose(fleet, "zeros")
        await look(yoga)
        assert lost(yoga) == [DAMAGED]
        monkeypatch.setattr(packs_module, "FULL_MAX", 0)
        fleet.memory.objects.update(before)
        await look(yoga)
        assert lost(yoga) == [0]

    run(go(), fleet.clock)


def test_a_store_that_is_away_has_lost_nothing(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    async def go() -> None:
        fleet.memory.is_away = True
        await look(bates)
        assert lost(bates) == [0]
        fleet.memory.is_away = False

    run(go(), fleet.clock)


def test_what_needs_no_bytes_is_published_all_the_same(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    """A mode, a rename: the content is as lost as before, and no more."""

    async def go() -> None:
        lose(fleet, "gone")
        await look(yoga)
        mount = Mount(yoga)
        version = yoga.db.heads("d/f1")[0].id
        with mount.round():
            mount.seal(
                "put", "d/f1", kind=1, mode=0o600, size=3000, mtime_ns=1, base=version, seen=[version], last=version
            )
            mount.seal("movedir", "e", from_path="d", node=9, kind=2, mode=0o755, mtime_ns=9, ctime_ns=9)
        await yoga.sealer.run_once()
        mount.close()
        await bates.learner.poll()
        assert set(bates.shown()) == {"e", *(path.replace("d/", "e/") for path in TREE)}

    run(go(), fleet.clock)


def test_what_is_in_the_cache_is_put_again(
    fleet: Fleet, yoga: Machine, bates: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of files in the mount, long lists of chunks too."""
    monkeypatch.setattr(content_module, "CHUNKS_INLINE_MAX", 2)
    data = bytes(range(251)) * 200

    async def go() -> None:
        yoga.write("long", data)
        await yoga.push("long")
        await bates.learner.poll()
        assert await bates.content("long") == data
        files = [(path, bates.db.heads(path)[0].id) for path in ["long", "d/f2"]]
        lose(fleet, "gone")
        done = await restore(bates.publisher, bates.fetcher, files, verify=True)
        assert (done.files, [failure.path for failure in done.failures]) == (1, ["d/f2"])
        carol = fleet.machine("carol")
        await carol.learner.poll()
        assert await carol.content("long") == data

    run(go(), fleet.clock)


def test_no_pack_is_lost_that_never_was(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    """After the healing a third machine, which knows nothing of it, reads what is there."""

    async def go() -> None:
        lose(fleet, "gone")
        await yoga.push("d", force=True)
        carol = fleet.machine("carol")
        await all_readable(carol)
        assert sorted(lost(carol)) == [0, MISSING]

    run(go(), fleet.clock)
