"""A folder is removed with all that was in it while earlier changes of it are still under way: it never comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from worldkit import World, WorldMachine


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


@pytest.fixture
def yoga(world: World) -> WorldMachine:
    """d/f is published."""
    yoga = world.machine("yoga")
    world.machine("bates")
    yoga.mkdir("d")
    yoga.write("d/f", b"one")
    world.settle()
    return yoga


def stays_away(world: World, yoga: WorldMachine) -> None:
    for _ in range(4):
        for step in (yoga.seal, yoga.work, yoga.note, yoga.feed):
            step()
            assert yoga.names() == []
    world.settle()
    world.verify()
    assert [machine.names() for machine in world.machines] == [[], []]


def remove(machine: WorldMachine, folder: str) -> None:
    for name in machine.names(folder):
        machine.unlink(f"{folder}/{name}")
    machine.rmdir(folder)


def test_a_file_in_it_was_just_sealed(world: World, yoga: WorldMachine) -> None:
    yoga.write("d/f", b"two")
    yoga.seal()
    remove(yoga, "d")
    stays_away(world, yoga)


def test_it_was_just_renamed(world: World, yoga: WorldMachine) -> None:
    yoga.rename("d", "e")
    yoga.seal()
    remove(yoga, "e")
    stays_away(world, yoga)


def test_it_was_just_renamed_and_the_mount_dies(world: World, yoga: WorldMachine) -> None:
    yoga.rename("d", "e")
    yoga.seal()
    remove(yoga, "e")
    yoga.tree.overlay.commit()
    yoga.crash_mount()
    stays_away(world, yoga)


def test_the_folder_above_was_just_renamed(world: World, yoga: WorldMachine) -> None:
    yoga.mkdir("above")
    yoga.rename("d", "above/d")
    world.settle()
    yoga.rename("above", "below")
    yoga.seal()
    remove(yoga, "below/d")
    yoga.rmdir("below")
    stays_away(world, yoga)
