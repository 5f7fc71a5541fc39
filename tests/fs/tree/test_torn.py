"""The mount dies between a change of bytes and the commit of the rows that tell of it: nothing is torn or half."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from worldkit import World, WorldMachine

from fs.tree import sealing

OLD = b"old content, closed and not yet sealed. " * 100


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[WorldMachine]:
    """a was written and closed."""
    world = World(tmp_path)
    try:
        machine = world.machine("yoga")
        machine.write("a", OLD)
        yield machine
    finally:
        world.close()


def publishes(yoga: WorldMachine) -> bytes | None:
    """What goes out without anybody's doing, after the mount was started again; None: nothing."""
    yoga.crash_mount()
    seal_round = sealing.begin(yoga.tree.state, None)
    seal_round.sync()
    sealing.finish(yoga.tree.state, seal_round)
    yoga.world.settle()
    heads = yoga.db.heads("a")
    return yoga._content(heads[0].id) if heads else None


def test_truncated_when_opened(yoga: WorldMachine) -> None:
    yoga.open("a", write=True, truncate=True)
    assert publishes(yoga) in (OLD, None)
    assert yoga.read("a") in (OLD, b"")


def test_truncated_and_begun_anew(yoga: WorldMachine) -> None:
    yoga.open("a", write=True, truncate=True).write(0, b"new")
    assert publishes(yoga) in (OLD, None)
    assert yoga.read("a") in (OLD, b"", b"new")


def test_truncated_by_path(yoga: WorldMachine) -> None:
    yoga.tree.setattr(yoga.ino("a"), size=10)
    assert publishes(yoga) in (OLD, OLD[:10])
    assert yoga.read("a") in (OLD, OLD[:10])


def test_truncated_and_grown_by_path(yoga: WorldMachine) -> None:
    yoga.tree.setattr(yoga.ino("a"), size=10)
    yoga.tree.setattr(yoga.ino("a"), size=1000)
    steps = (OLD, OLD[:10], OLD[:10] + bytes(990))
    assert publishes(yoga) in steps
    assert yoga.read("a") in steps


def test_appended_and_then_changed_in_the_middle(yoga: WorldMachine) -> None:
    file = yoga.open("a", write=True)
    file.write(len(OLD), b"appended")
    file.write(5, b"changed")
    changed = OLD[:5] + b"changed" + OLD[12:]
    assert publishes(yoga) in (OLD, None)
    assert yoga.read("a") in (OLD, OLD + b"appended", changed + b"appended")


def test_changed_after_fsync(yoga: WorldMachine) -> None:
    file = yoga.open("a", write=True)
    file.write(len(OLD), b"appended")
    yoga.fsync(file)
    file.write(len(OLD) + 8, b"more")
    file.write(5, b"changed")
    assert publishes(yoga) in (OLD + b"appended", None)


def test_removed_and_closed(yoga: WorldMachine) -> None:
    """The removal may be lost, but then the file is whole."""
    file = yoga.open("a")
    yoga.unlink("a")
    yoga.release(file)
    assert publishes(yoga) in (OLD, None)
    assert not yoga.exists("a") or yoga.read("a") == OLD


def test_replaced_and_closed(yoga: WorldMachine) -> None:
    yoga.write("b", b"other")
    file = yoga.open("a")
    yoga.rename("b", "a")
    yoga.release(file)
    assert publishes(yoga) in (OLD, b"other")
    assert yoga.read("a") in (OLD, b"other")


def test_appended_without_a_commit(yoga: WorldMachine) -> None:
    """Bytes behind the ranges, which the rows do not know, are no part of a complete file."""
    yoga.open("a", write=True).write(len(OLD), b"appended")
    path = Path(yoga.tree.overlay.all_nodes()[0].files[0].path)
    assert path.stat().st_size > len(OLD)
    yoga.crash_mount()
    assert path.stat().st_size == len(OLD)
    assert publishes(yoga) == OLD
