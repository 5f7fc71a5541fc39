"""Listing large folders, a page at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from treekit import Fleet, Machine

from fs.tree import model
from fs.tree.model import Entry, Folder

NAMES = [f"n{n}" for n in range(12)]


@given(st.lists(st.tuples(st.sampled_from("+-?"), st.sampled_from(NAMES)), max_size=80), st.sampled_from([0, 2, 1000]))
def test_a_folder_knows_its_names_whatever_comes_and_goes(steps: list[tuple[str, str]], spare: int) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(model, "SPARE_NAMES", spare)
    try:
        folder = Folder()
        for step, name in steps:
            if step == "+":
                folder.add(Entry(1, name, None))
            elif step == "-":
                folder.entries.pop(name, None)
            else:
                folder.sorted_names()
        names = folder.sorted_names()
    finally:
        patch.undo()
    assert names == sorted(set(names))
    assert [name for name in names if name in folder.entries] == sorted(folder.entries)


def test_what_comes_while_a_folder_is_listed_is_put_in_its_place(
    yoga: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(2000):
        yoga.mkdir(f"n{n:04}")
    sorts = []
    monkeypatch.setattr(model, "sorted", lambda names: sorts.append(1) or sorted(names), raising=False)
    found: list[str] = []
    while page := yoga.tree.read_dir(1, found[-1] if found else "", 50):
        found += [name for name, _ in page]
        yoga.mkdir(f"x{len(found)}")
        yoga.rmdir(f"n{len(found) - 20:04}") if found[-1] < "n2" else None
    assert found[:2000] == [f"n{n:04}" for n in range(2000)]
    assert found[2000:] == sorted(found[2000:])
    assert len(sorts) <= 2


def test_removed_names_are_passed_over_many_at_once(
    fleet: Fleet, yoga: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bates = fleet.machine("bates")
    bates.mkdir("d")
    for n in range(1000):
        bates.mkdir(f"d/{n:03}")
    bates.cycle()
    yoga.learn()
    for n in range(1000):
        yoga.rmdir(f"d/{n:03}")
    reads = []
    children = yoga.tree.state.view.children
    monkeypatch.setattr(yoga.tree.state.view, "children", lambda *args: reads.append(1) or children(*args))
    yoga.rmdir("d")
    assert len(reads) < 15
    yoga.cycle()
    bates.learn()
    assert bates.walk() == {}
