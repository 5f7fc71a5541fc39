"""Folders that are gone: what it costs to have many of them, or very deep ones."""

import pytest
from treekit import Machine

from fs.tree.gone import GoneFolders
from fs.tree.model import DIR, FILE, ROOT_ID


def make_again(machine: Machine, folders: int) -> None:
    """A tree that is published is removed, and made again."""
    for _ in range(2):
        if machine.exists("top"):
            remove(machine)
        fill(machine, folders)
        machine.seal()
        machine.publish()
        machine.note()


def fill(machine: Machine, folders: int) -> None:
    machine.mkdir("top")
    for n in range(folders):
        machine.mkdir(f"top/{n}")
        machine.write(f"top/{n}/f", b"")


def remove(machine: Machine) -> None:
    for name in machine.listing("top"):
        machine.unlink(f"top/{name}/f")
        machine.rmdir(f"top/{name}")
    machine.rmdir("top")


@pytest.mark.parametrize("is_noted", [True, False])
def test_many_are_not_looked_for_again_and_again(
    yoga: Machine, is_noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Each search for all of them takes as long as there are many."""
    searches = 0
    find = GoneFolders._find

    def count(gone: GoneFolders) -> dict[str, list[int]]:
        nonlocal searches
        searches += gone._ids is None
        return find(gone)

    monkeypatch.setattr(GoneFolders, "_find", count)
    make_again(yoga, 20)
    if not is_noted:  # and what was not published yet is removed as well
        remove(yoga)
        fill(yoga, 20)
        remove(yoga)
    assert 0 < searches < 15
    yoga.cycle()


def test_deeper_than_python_calls_functions(yoga: Machine) -> None:
    path = "a/" * 340 + "f"
    folders = [ROOT_ID]
    while len(folders) <= 340:
        folders.append(yoga.tree.create(folders[-1], "a", DIR, 0o755, 1000, 1000).ino)
    yoga.tree.state.forget_paths()
    yoga.tree.create(folders[-1], "f", FILE, 0o644, 1000, 1000)
    assert yoga.tree.path_of(folders[-1]) == path[:-2]
    yoga.seal([path])
    yoga.publish()
    assert yoga.db.view.resolve_path(path) is not None
    yoga.note()
    yoga.tree.unlink(folders[-1], "f")
    for above in reversed(folders[:-1]):
        yoga.tree.rmdir(above, "a")
    yoga.cycle()
    assert yoga.db.view.resolve_path("a") is None


def test_a_folder_that_is_made_again_the_same_keeps_its_new_number(yoga: Machine) -> None:
    """As by `rm -rf d; cp -a copy d`: somebody may be in it when that is published."""
    for _ in range(2):
        if yoga.exists("d"):
            yoga.unlink("d/e/f")
            yoga.rmdir("d/e")
            yoga.rmdir("d")
        inos = [yoga.mkdir("d"), yoga.mkdir("d/e")]
        yoga.write("d/e/f", b"one")
        for folder in ("d", "d/e"):
            yoga.tree.setattr(yoga.ino(folder), mtime_ns=1000)
        yoga.cycle()
        assert [yoga.ino("d"), yoga.ino("d/e")] == inos
        for ino in inos:
            yoga.tree.check_folder(ino)
