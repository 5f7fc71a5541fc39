"""Paths longer than what can be published: made and used as any other, kept on this machine until they are short."""

import pytest
from treekit import Fleet, Machine

from fs.tree.model import DIR, ROOT_ID
from sync.core.paths import PATH_MAX


@pytest.fixture
def bates(fleet: Fleet, yoga: Machine) -> Machine:
    return fleet.machine("bates")


def deep(machine: Machine, levels: int) -> int:
    parent = ROOT_ID
    for _ in range(levels):
        parent = machine.tree.create(parent, "d" * 200, DIR, 0o755, 0, 0).ino
    return parent


def names(machine: Machine, folder: int) -> list[str]:
    return [name for name, _ in machine.tree.read_dir(folder, "", 100)]


def test_what_is_too_deep_stays_here(yoga: Machine, bates: Machine) -> None:
    folder = deep(yoga, 21)
    yoga.tree.create(folder, "e" * 200, DIR, 0o755, 0, 0)
    assert len(yoga.tree.path_of(folder)) > PATH_MAX
    assert yoga.tree.lookup(folder, "e" * 200).kind == DIR
    assert [len(seal.path) <= PATH_MAX for seal in yoga.seal()] == [True] * 20
    yoga.cycle()
    bates.learn()
    assert len(bates.walk()) == 20
    assert len(yoga.walk()) == 22
    yoga.tree.commit(full=True)
    yoga.restart()
    assert len(yoga.walk()) == 22


def test_it_goes_out_when_it_is_moved_up(yoga: Machine, bates: Machine) -> None:
    folder = deep(yoga, 21)
    yoga.tree.create(folder, "e" * 200, DIR, 0o755, 0, 0)
    top = "d" * 200
    yoga.cycle()
    yoga.rename(top, "short")
    yoga.cycle()
    bates.learn()
    assert len(bates.walk()) == 21
    above = yoga.tree.parent_of(folder)
    yoga.tree.rename(above, "d" * 200, ROOT_ID, "moved")
    yoga.cycle()
    bates.learn()
    assert bates.walk().keys() >= {"moved", f"moved/{'e' * 200}"}
    assert yoga.walk() == bates.walk()
