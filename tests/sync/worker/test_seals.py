"""Seals that a mount wrote into tree.db become versions; no mount runs."""

from collections.abc import Iterator

import pytest
from workerkit import Fleet, Machine, Mount, run

from sync.core.manifest import Kind
from sync.state.tree.database import layer_path
from sync.worker.context import ProblemKind


@pytest.fixture
def yoga(fleet: Fleet) -> Machine:
    return fleet.machine("yoga")


@pytest.fixture
def mount(yoga: Machine) -> Iterator[Mount]:
    made = Mount(yoga)
    yield made
    made.close()


def head(machine: Machine, path: str) -> str:
    (only,) = machine.db.heads(path)
    return only.id


def answer(machine: Machine, seal_id: bytes) -> tuple[str, str | None]:
    taken = machine.db.view.answer(seal_id)
    assert taken is not None
    return taken.answer, taken.version


def test_a_new_file_takes_over_its_node(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        with mount.round():
            seal = mount.put_file("d/f", b"hello", node=7, dir_ids=[5], uid=1000, gid=1001, ctime_ns=99)
        assert await yoga.sealer.run_once() == 1
        assert answer(yoga, seal) == ("queued", head(yoga, "d/f"))
        row = yoga.db.view.resolve_path("d/f")
        assert row is not None
        assert (row.id, row.uid, row.gid, row.ctime_ns, row.mode) == (7, 1000, 1001, 99, 0o644)
        folder = yoga.db.view.resolve_path("d")
        assert folder is not None and folder.id == 5
        assert await yoga.content("d/f") == b"hello"
        assert yoga.db.outbox() == []

    run(go(), fleet.clock)


def test_chunks_lie_folder_by_folder_whatever_the_order_of_the_changes(
    fleet: Fleet, yoga: Machine, mount: Mount
) -> None:
    """As a program that walks the tree reads them: names in order, what is in a folder before what stands behind it."""
    paths = ["b/z", "a.c", "a/b/c", "b/a", "a/c", "a/b.c"]

    async def go() -> None:
        with mount.round():
            for number, path in enumerate(paths):
                mount.put_file(path, path.encode() * 30, node=11 + 2 * number)
        await yoga.sealer.run_once()
        offsets = {}
        for path in paths:
            (chunk,) = (await yoga.fetcher.chunk_list(head(yoga, path)))[0]
            offsets[path] = yoga.db.packs.locate([chunk])[chunk][0].offset
        assert sorted(paths, key=offsets.__getitem__) == ["a/b/c", "a/b.c", "a/c", "a.c", "b/a", "b/z"]

    run(go(), fleet.clock)


def test_a_change_in_a_large_file(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """Only what is around the change is read and packed; the result is what cutting from byte 0 gives."""
    import random

    old = random.Random(1).randbytes(500_000)
    new = old[:250_000] + b"changed" + old[250_007:]

    async def go() -> None:
        with mount.round():
            mount.put_file("f", old, node=3)
        await yoga.sealer.run_once()
        mount.note()
        base = head(yoga, "f")
        before = sum(len(data) for key, data in fleet.memory.objects.items() if key.startswith("packs/"))
        layer = mount.layer([(250_000, b"changed")])
        with mount.round():
            mount.seal(
                "put", "f", kind=1, mode=0o644, size=len(new), mtime_ns=2, ctime_ns=2, node=3, base=base, layer=layer,
                limit_below=len(new), seen=[base], last=base,
            )  # fmt: skip
        await yoga.sealer.run_once()
        assert await yoga.content("f") == new
        after = sum(len(data) for key, data in fleet.memory.objects.items() if key.startswith("packs/"))
        assert after - before < 60_000
        version = yoga.db.version(head(yoga, "f"))
        assert version is not None and version.manifest.file_hash == ""
        yoga.write("whole", new)
        await yoga.push("whole")
        whole = yoga.db.version(head(yoga, "whole"))
        assert whole is not None and whole.manifest.content_id == version.manifest.content_id

    run(go(), fleet.clock)


def test_truncated_and_grown_again(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """What was cut off never comes back: zeros stand there."""

    async def go() -> None:
        with mount.round():
            mount.put_file("f", b"a" * 10_000, node=3)
        await yoga.sealer.run_once()
        mount.note()
        base = head(yoga, "f")
        with mount.round():
            mount.seal(
                "put", "f", kind=1, mode=0o644, size=8000, mtime_ns=2, node=3, base=base, limit_below=3000,
                seen=[base], last=base,
            )  # fmt: skip
        await yoga.sealer.run_once()
        assert await yoga.content("f") == b"a" * 3000 + bytes(5000)

    run(go(), fleet.clock)


def test_what_did_not_change_is_answered_unchanged(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        with mount.round():
            mount.put_file("f", b"hello", node=3)
        await yoga.sealer.run_once()
        mount.note()
        base = head(yoga, "f")
        keys = set(fleet.memory.objects)
        with mount.round():
            same = mount.put_file("f", b"hello", node=3, seen=[base], last=base)
            never = mount.seal("remove", "never-was")
        await yoga.sealer.run_once()
        assert answer(yoga, same) == ("unchanged", None)
        assert answer(yoga, never) == ("unchanged", None)
        assert set(fleet.memory.objects) == keys
        mount.note()
        with mount.round():
            resolved = mount.put_file("f", b"hello", node=3, seen=[base], last=base, resolved=1)
            touched = mount.seal(
                "put", "g", kind=1, mode=0o600, size=5, mtime_ns=5, base=base, moved_from=["f", base], node=5
            )
        await yoga.sealer.run_once()
        assert answer(yoga, resolved)[0] == answer(yoga, touched)[0] == "queued"
        assert await yoga.content("g") == b"hello"

    run(go(), fleet.clock)


def test_a_round_is_one_batch(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        with mount.round():
            mount.put_file("old", b"hello", node=3)
        await yoga.sealer.run_once()
        mount.note()
        base = head(yoga, "old")
        with mount.round():
            mount.seal("remove", "old", seen=[base], last=base, moved_to="new")
            mount.seal(
                "put", "new", kind=1, mode=0o644, size=5, mtime_ns=1, node=3, base=base, moved_from=["old", base]
            )
        await yoga.sealer.run_once()
        new, old = yoga.db.heads("new")[0].manifest, yoga.db.heads("old")[0].manifest
        assert new.batch == old.batch == (new.seq, old.seq)
        assert new.seq < old.seq
        assert new.moved_from is not None and (new.moved_from.path, new.moved_from.version) == ("old", base)
        assert old.moved_to is not None and (old.moved_to.path, old.moved_to.version) == ("new", head(yoga, "new"))
        row = yoga.db.view.resolve_path("new")
        assert row is not None and row.id == 3

    run(go(), fleet.clock)


def test_a_layer_that_is_gone(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        with mount.round():
            lost = mount.put_file("lost", b"hello", node=3)
            mount.dirty("lost", lost)
            kept = mount.put_file("kept", b"hello", node=5)
        layer_path(yoga.folder / "work", 1).unlink()
        assert await yoga.sealer.run_once() == 1
        assert yoga.db.view.answer(lost) is None
        assert answer(yoga, kept)[0] == "queued"
        assert yoga.problems(ProblemKind.REFUSED)
        assert yoga.db.view.answer(lost) is None  # nothing newer waits for that
        mount.note()
        mount.connection.execute("UPDATE entry SET gen = 2 WHERE seal_id = ?", (lost,))
        assert await yoga.sealer.run_once() == 1
        assert answer(yoga, lost)[0] == "refused"
        assert not yoga.problems(ProblemKind.REFUSED)

    run(go(), fleet.clock)


def test_a_path_that_cannot_be(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        with mount.round():
            bad = mount.put_file("a/../b", b"hello", node=3)
            mount.dirty("a/../b", bad)
            good = mount.put_file("b", b"hello", node=5)
        await yoga.sealer.run_once()
        assert answer(yoga, bad)[0] == "refused"
        assert answer(yoga, good)[0] == "queued"
        # It is told until nobody has changed anything there any more.
        (problem,) = yoga.context.problems.current()
        assert (problem.subject, problem.hint) == ("a/../b", "rename it or remove it")
        mount.note()
        mount.connection.execute("UPDATE entry SET seal_id = NULL, sealed_gen = NULL")
        assert yoga.sealer.has_work()
        await yoga.sealer.run_once()
        assert yoga.problems(ProblemKind.REFUSED)
        mount.connection.execute("DELETE FROM entry")
        await yoga.sealer.run_once()
        assert not yoga.problems(ProblemKind.REFUSED)
        assert not yoga.sealer.has_work()

    run(go(), fleet.clock)


def rename(mount: Mount, old: str, new: str, node: int) -> bytes:
    return mount.seal("movedir", new, from_path=old, node=node, kind=2, mode=0o755, mtime_ns=9, ctime_ns=9)


def test_a_folder_is_renamed(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    bates = fleet.machine("bates")

    async def go() -> None:
        with mount.round():
            mount.seal("put", "d", kind=2, mode=0o750, mtime_ns=1, node=3)
            for number in range(3):
                mount.put_file(f"d/f{number}", b"content %d" % number, node=5 + 2 * number, dir_ids=[3], ctime_ns=77)
            mount.put_file("d/sub/g", b"deep", node=13, dir_ids=[3, 11])
        await yoga.sealer.run_once()
        await bates.learner.poll()
        bates.write("d/f0", "of bates")
        await bates.push("d/f0", to="d")
        mount.note()
        keys = {key for key in fleet.memory.objects if key.startswith("packs/")}
        edited = head(yoga, "d/f2")
        with mount.round():
            moved = rename(mount, "d", "e", 3)
            mount.put_file("e/f2", b"edited", node=9, dir_ids=[3], seen=[edited], last=edited)
        assert await yoga.sealer.run_once() == 2
        assert answer(yoga, moved) == ("queued", head(yoga, "e"))
        assert list(yoga.shown()) == ["e", "e/f0", "e/f1", "e/f2", "e/sub", "e/sub/g"]
        ids = {path: yoga.db.view.resolve_path(path).id for path in yoga.shown()}  # type: ignore[union-attr]
        assert ids == {"e": 3, "e/f0": 5, "e/f1": 7, "e/f2": 9, "e/sub": 11, "e/sub/g": 13}
        assert yoga.db.view.resolve_path("e/f1").ctime_ns == 77  # type: ignore[union-attr]
        assert yoga.db.view.resolve_path("e").mode == 0o750  # type: ignore[union-attr]
        # Nothing but the edited file was packed.
        assert len([key for key in fleet.memory.objects if key.startswith("packs/")]) == len(keys) + 1
        # What bates wrote to the old name, not known here then, stays there, against our tombstone.
        await yoga.learner.poll()
        await bates.learner.poll()
        assert list(bates.shown()) == ["d", "d/f0", "e", "e/f0", "e/f1", "e/f2", "e/sub", "e/sub/g"]
        assert await bates.content("d/f0") == b"of bates"
        assert await bates.content("e/f2") == b"edited"
        assert list(yoga.shown()) == ["d", "d/f0.bates.conflict", "e", "e/f0", "e/f1", "e/f2", "e/sub", "e/sub/g"]

    run(go(), fleet.clock)


def test_there_and_back_again(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """The way back has seen the tombstones of the way there; an edit on the way has seen what both moved."""

    async def go() -> None:
        with mount.round():
            mount.put_file("d/f", b"one", node=5, dir_ids=[3])
        await yoga.sealer.run_once()
        mount.note()
        first = head(yoga, "d/f")
        with mount.round():
            rename(mount, "d", "e", 3)
        with mount.round():
            rename(mount, "e", "d", 3)
            mount.put_file("d/f", b"two", node=5, dir_ids=[3], seen=[first], last=first)
        await yoga.sealer.run_once()
        assert list(yoga.shown()) == ["d", "d/f"]
        assert await yoga.content("d/f") == b"two"
        assert len(yoga.db.heads("d/f")) == 1

    run(go(), fleet.clock)


def test_a_new_file_at_the_old_name(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """Made after the rename, before anybody knew the tombstone's name: it has seen it all the same."""

    async def go() -> None:
        with mount.round():
            mount.put_file("d/f", b"one", node=5, dir_ids=[3])
        await yoga.sealer.run_once()
        mount.note()
        with mount.round():
            rename(mount, "d", "e", 3)
            mount.put_file("d/f", b"another", node=9, dir_ids=[7])
        await yoga.sealer.run_once()
        assert list(yoga.shown()) == ["d", "d/f", "e", "e/f"]
        assert await yoga.content("d/f") == b"another"
        assert yoga.db.view.resolve_path("d/f").id == 9  # type: ignore[union-attr]

    run(go(), fleet.clock)


def test_a_lost_node_and_its_entry_in_one_round(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """Two seals of one path: the second finds the first one's version beside it, both are kept."""

    async def go() -> None:
        with mount.round():
            mount.put_file("f", b"base", node=3)
        await yoga.sealer.run_once()
        mount.note()
        base = head(yoga, "f")
        with mount.round():
            mount.put_file("f", b"of the open handle", seen=[base], last=base)
            mount.put_file("f", b"of the name", node=5, seen=[base], last=base)
        await yoga.sealer.run_once()
        found = {await yoga.content(path) for path in yoga.shown()}
        assert found == {b"of the open handle", b"of the name"}
        actors = {actor for version in yoga.db.heads("f") for actor in version.clock}
        assert len(actors) == 2

    run(go(), fleet.clock)


def test_two_writes_from_one_base(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """A push beside what the mount wrote: the versions are concurrent though one machine wrote them."""

    async def go() -> None:
        yoga.write("f", "base")
        await yoga.push("f")
        base = head(yoga, "f")
        with mount.round():
            mount.put_file("f", b"of the mount", node=3, seen=[base], last=base)
        await yoga.sealer.run_once()
        yoga.write("f", "of the folder")
        assert (await yoga.push("f")).conflicts == ["f"]
        assert {await yoga.content(path) for path in yoga.shown()} == {b"of the mount", b"of the folder"}

    run(go(), fleet.clock)


def test_a_store_that_is_away_queues_nothing(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    from sync.core.errors import StoreAway

    async def go() -> None:
        with mount.round():
            seal = mount.put_file("f", b"hello", node=3)
        fleet.memory.is_away = True
        with pytest.raises(StoreAway):
            await yoga.sealer.run_once()
        assert yoga.db.view.answer(seal) is None
        assert yoga.db.outbox() == []
        fleet.memory.is_away = False
        assert await yoga.sealer.run_once() == 1
        assert Kind.FILE is yoga.db.heads("f")[0].manifest.kind

    run(go(), fleet.clock)


def test_a_layer_that_cannot_be_read_stops_nothing_else(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        with mount.round():
            mount.put_file("bad", b"x" * 5000)
            mount.put_file("good", b"hello")
        layer = next(path for path in (yoga.folder / "work").rglob("*") if path.stat().st_size == 5000)
        layer.unlink()
        layer.mkdir()
        assert await yoga.sealer.run_once() == 1
        assert list(yoga.shown()) == ["good"]
        (problem,) = yoga.problems(ProblemKind.REFUSED)
        assert str(layer) in problem

    run(go(), fleet.clock)


def journal(fleet: Fleet) -> list[str]:
    return [key for key in fleet.memory.objects if key.startswith("journal/")]


def test_rounds_that_had_to_wait_go_out_together(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    """However far the store is, whoever works all the time does not get ahead of it."""

    async def go() -> None:
        seals = []
        for n in range(30):
            with mount.round():
                seals.append(mount.put_file(f"d{n}/f", b"%d" % n, node=7 + 4 * n, dir_ids=[5 + 4 * n]))
            with mount.round():
                mount.seal("movedir", f"e{n}", from_path=f"d{n}", mode=0o755, mtime_ns=1, ctime_ns=1)
        assert await yoga.sealer.run_once() == 60
        assert len(journal(fleet)) == 1
        assert len([key for key in fleet.memory.objects if key.startswith("packs/")]) == 1
        for n, seal in enumerate(seals):
            assert answer(yoga, seal)[0] == "queued"
            assert await yoga.content(f"e{n}/f") == b"%d" % n
            assert yoga.db.view.resolve_path(f"d{n}") is None

    run(go(), fleet.clock)


def test_what_cannot_go_out_keeps_no_other_round_from_it(fleet: Fleet, yoga: Machine, mount: Mount) -> None:
    async def go() -> None:
        lost = b""
        for n in range(5):
            with mount.round():
                seal = mount.put_file(f"f{n}", b"%d" % n, node=7 + 2 * n)
            if n == 2:
                lost = seal
        layer_path(yoga.folder / "work", 5).unlink()
        assert await yoga.sealer.run_once() == 4
        assert yoga.db.view.answer(lost) is None
        assert sorted(yoga.shown()) == ["f0", "f1", "f3", "f4"]
        assert len(yoga.problems(ProblemKind.REFUSED)) == 1

    run(go(), fleet.clock)
