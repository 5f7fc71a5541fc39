"""The rename of a large folder costs each path little: no statements of its own, here or where it is learned."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from worldkit import World, WorldMachine

FILES = 400
PAGES = 100  # statements of the transaction, and one for some hundreds of rows


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def statements(machine: WorldMachine, work: Callable[[], object]) -> int:
    """How many statements its fleet.db runs meanwhile; one for many rows counts once."""
    seen: list[str] = []
    machine.db._connection.set_trace_callback(seen.append)
    try:
        work()
    finally:
        machine.db._connection.set_trace_callback(None)
    return len([sql for sql in seen if sql.lstrip().upper().startswith("SELECT")])


def test_a_folder_with_many_files(world: World) -> None:
    yoga, bates = world.machine("yoga"), world.machine("bates")
    yoga.mkdir("d")
    for number in range(FILES):
        yoga.write(f"d/{number:03}", b"%d" % number)
    world.settle()
    before = {name: (yoga.ino(f"d/{name}"), yoga.read(f"d/{name}")) for name in yoga.names("d")}
    yoga.rename("d", "e")
    yoga.seal()
    assert statements(yoga, yoga.work) < PAGES
    assert statements(bates, bates.learn) < PAGES
    world.settle()
    assert {name: (yoga.ino(f"e/{name}"), yoga.read(f"e/{name}")) for name in yoga.names("e")} == before
    assert {name: bates.read(f"e/{name}") for name in bates.names("e")} == {n: b for n, (_, b) in before.items()}
    assert not bates.exists("d") and not yoga.exists("d")
    world.verify()


def test_there_and_back(world: World) -> None:
    """The second rename finds tombstones of its own where it goes."""
    yoga, bates = world.machine("yoga"), world.machine("bates")
    yoga.mkdir("d")
    for number in range(FILES):
        yoga.write(f"d/{number:03}", b"%d" % number)
    world.settle()
    for old, new in (("d", "e"), ("e", "d")):
        yoga.rename(old, new)
        yoga.seal()
        assert statements(yoga, yoga.work) < PAGES
        yoga.note()
        assert statements(bates, bates.learn) < PAGES
    world.settle()
    assert sorted(bates.names("")) == ["d"]
    assert len(bates.names("d")) == FILES
    assert all(len(heads) == 1 for heads in bates.all_heads().values())
    world.verify()
