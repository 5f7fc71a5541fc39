"""The tree as a user of one machine sees it, before and after publishing."""

import pytest
from treekit import Fleet, Machine

from sync.core.errors import AlreadyExists, NotEmpty, NotFound


def test_a_new_tree_is_empty(yoga: Machine) -> None:
    assert yoga.listing() == []
    with pytest.raises(NotFound):
        yoga.attr("a")


def test_what_is_written_is_read_back(yoga: Machine) -> None:
    yoga.mkdir("d")
    yoga.write("d/a", b"hello")
    yoga.patch("d/a", 3, b"XYZ")
    assert yoga.read("d/a") == b"helXYZ"
    assert yoga.walk() == {"d": None, "d/a": b"helXYZ"}


def test_publishing_changes_nothing_that_stat_shows(yoga: Machine) -> None:
    yoga.mkdir("d", 0o750)
    yoga.write("d/a", b"hello")
    yoga.symlink("d/l", "a")
    yoga.fleet.clock.elapsed += 1
    before = {path: yoga.attr(path)._replace(told=0) for path in ("d", "d/a", "d/l")}
    yoga.cycle()
    after = {path: yoga.attr(path)._replace(told=0) for path in ("d", "d/a", "d/l")}
    assert after == before
    assert yoga.tree.state.overlay.all_entries() == []
    assert yoga.read("d/a") == b"hello"


def test_a_second_machine_sees_it(fleet: Fleet, yoga: Machine) -> None:
    bates = fleet.machine("bates")
    yoga.mkdir("d")
    yoga.write("d/a", b"hello")
    yoga.cycle()
    bates.learn()
    assert bates.walk() == {"d": None, "d/a": b"hello"}
    bates.patch("d/a", 0, b"J")
    bates.cycle()
    yoga.learn()
    yoga.note()
    assert yoga.walk() == {"d": None, "d/a": b"Jello"}


def test_names_that_are_taken_and_names_that_are_missing(yoga: Machine) -> None:
    yoga.mkdir("d")
    yoga.write("d/a", b"")
    with pytest.raises(AlreadyExists):
        yoga.mkdir("d")
    with pytest.raises(NotEmpty):
        yoga.rmdir("d")
    with pytest.raises(IsADirectoryError):
        yoga.unlink("d")
    with pytest.raises(NotADirectoryError):
        yoga.rmdir("d/a")
    yoga.unlink("d/a")
    yoga.rmdir("d")
    with pytest.raises(NotFound):
        yoga.rmdir("d")
    assert yoga.listing() == []
