"""Large files of a mount wait for their bytes to be packed, through real trees, engines and journals.

Here every content is a large file, and the test says when one is packed.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from worldkit import World, WorldMachine


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, large=100) as made:
        yield made


@pytest.fixture
def yoga(world: World) -> WorldMachine:
    return world.machine("yoga")


@pytest.fixture
def bates(world: World, yoga: WorldMachine) -> WorldMachine:
    return world.machine("bates")


BIG = b"much " * 200


def run_once(machine: WorldMachine) -> int:
    return machine.world.do(machine.sealer.run_once())


def arrives(writer: WorldMachine, reader: WorldMachine) -> None:
    """Everything but the bytes of large files."""
    for _ in range(3):
        writer.tree.overlay.commit()
        writer.seal()
        run_once(writer)
        writer.note()
    reader.learn()
    reader.feed()


def test_a_small_file_is_there_before_the_large_one(yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.write("d-big", BIG)
    yoga.mkdir("d")
    yoga.write("d/small", b"small")
    arrives(yoga, bates)
    assert bates.names() == ["d"]
    assert bates.text("d/small") == "small"


def test_a_removed_large_file_never_goes_out(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.write("big", BIG)
    arrives(yoga, bates)
    yoga.unlink("big")
    yoga.write("small", b"small")
    arrives(yoga, bates)
    assert bates.names() == ["small"]
    assert not world.do(yoga.sealer.pack_large())
    assert yoga.tree_reader.seals() == []
    assert not len(yoga.tree.state.pending)
    assert yoga.db.heads("big") == ()
    assert [path for path in yoga.paths.work_dir.rglob("*") if path.is_file()] == []


def test_its_name_is_free_again_at_once(yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.write("big", BIG)
    arrives(yoga, bates)
    yoga.unlink("big")
    yoga.write("big", b"small")
    arrives(yoga, bates)
    assert bates.text("big") == "small"


def test_it_is_replaced_by_a_small_one(yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.write("big", BIG)
    arrives(yoga, bates)
    yoga.write("new", b"small")
    yoga.rename("new", "big")
    arrives(yoga, bates)
    assert bates.names() == ["big"]
    assert bates.text("big") == "small"


def test_it_is_renamed_while_it_waits(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.write("big", BIG)
    arrives(yoga, bates)
    yoga.rename("big", "other")
    yoga.write("small", b"small")
    arrives(yoga, bates)
    assert bates.names() == ["small"]
    world.settle()
    assert bates.names() == ["other", "small"]
    assert bates.read("other") == BIG


def test_its_folder_is_renamed_while_it_waits(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.mkdir("d")
    yoga.write("d/small", b"small")
    arrives(yoga, bates)
    yoga.write("d/big", BIG)
    yoga.seal()
    run_once(yoga)
    yoga.rename("d", "e")
    yoga.write("beside", b"beside")
    arrives(yoga, bates)
    assert bates.names() == ["beside", "d"]
    world.settle()
    assert bates.names() == ["beside", "e"]
    assert bates.read("e/big") == BIG


def test_its_folder_is_renamed_and_it_is_removed(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    """What waited for it goes out as soon as it is given up: nothing of it is refused."""
    yoga.mkdir("d")
    world.settle()
    yoga.write("d/big", BIG)
    yoga.seal()
    run_once(yoga)
    yoga.rename("d", "e")
    yoga.write("e/new", b"new")
    yoga.seal()
    run_once(yoga)
    yoga.unlink("e/big")
    yoga.tree.overlay.commit()
    with yoga.crash_at("publish.before_outbox"):
        run_once(yoga)
    run_once(yoga)
    assert [taken.answer for taken in yoga.db.view.taken_after(1, 10)] == ["refused", "queued", "queued"]
    assert yoga.context.problems.current() == ()
    bates.learn()
    assert bates.walk() == {"e": None, "e/new": b"new"}
    world.settle()
    world.verify()


def test_a_moved_one_stays_in_sight(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    """The old name goes with the new one, not before it."""
    yoga.write("a", b"small")
    arrives(yoga, bates)
    yoga.rename("a", "b")
    yoga.write("b", BIG)
    arrives(yoga, bates)
    assert bates.names() == ["a"]
    world.settle()
    assert bates.names() == ["b"]
    assert bates.read("b") == BIG


def test_an_edit_elsewhere_while_it_waits(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.write("a", b"small")
    arrives(yoga, bates)
    yoga.write("a", BIG)
    arrives(yoga, bates)
    bates.write("a", b"theirs")
    world.settle()
    assert {yoga.read(name) for name in yoga.names()} == {BIG, b"theirs"}


def test_the_engine_dies_while_it_is_packed(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.write("big", BIG)
    arrives(yoga, bates)
    with yoga.crash_at("pack.after_put"):
        world.do(yoga.sealer.pack_large())
    yoga.write("small", b"small")
    arrives(yoga, bates)
    assert bates.names() == ["small"]
    world.settle()
    assert bates.read("big") == BIG


def test_a_file_written_to_all_the_time_goes_out(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.write("log", BIG)
    arrives(yoga, bates)
    yoga.patch("log", 0, b"MUCH")
    world.do(yoga.sealer.pack_large())
    run_once(yoga)
    bates.learn()
    assert bates.read("log") == BIG
    yoga.note()


def test_all_names_of_a_large_file_wait_for_its_bytes(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.mkdir("d")
    yoga.write("big", BIG)
    yoga.link("big", "d/too")
    arrives(yoga, bates)
    assert bates.names() == ["d"] and bates.names("d") == []
    assert world.do(yoga.sealer.pack_large())
    assert not world.do(yoga.sealer.pack_large())  # the other name needs no bytes of its own
    arrives(yoga, bates)
    assert bates.linked() == [["big", "d/too"]] and bates.read("d/too") == BIG


@pytest.mark.parametrize("gone", [["big"], ["too"], ["big", "too"]])
def test_names_of_a_large_file_that_go_while_it_waits(
    world: World, yoga: WorldMachine, bates: WorldMachine, gone: list[str]
) -> None:
    yoga.write("big", BIG)
    yoga.link("big", "too")
    arrives(yoga, bates)
    for name in gone:
        yoga.unlink(name)
    arrives(yoga, bates)
    assert bates.names() == []
    world.settle()
    assert bates.names() == yoga.names() == [name for name in ("big", "too") if name not in gone]
