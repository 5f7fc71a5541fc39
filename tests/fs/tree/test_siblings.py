"""Siblings: read-only, and removing or moving them settles the conflict for every machine."""

import pytest
from treekit import Fleet, Machine

from sync.core.errors import AlreadyExists, ReadOnly

SIBLING = "a.bates.conflict"


@pytest.fixture
def torn(yoga: Machine, bates: Machine) -> Machine:
    """yoga, showing its own a = mine and bates' theirs beside it."""
    yoga.write("a", b"mine")
    bates.write("a", b"theirs")
    yoga.cycle()
    bates.cycle()
    yoga.learn()
    yoga.note()
    assert yoga.walk() == {"a": b"mine", SIBLING: b"theirs"}
    return yoga


def agree(yoga: Machine, bates: Machine, expected: dict[str, object]) -> None:
    yoga.cycle()
    bates.learn()
    bates.note()
    yoga.note()
    assert yoga.walk() == bates.walk() == expected
    assert yoga.tree.overlay.all_entries() == []
    assert len(yoga.db.heads("a")) == 1


def test_a_sibling_cannot_be_changed(torn: Machine) -> None:
    number = torn.ino(SIBLING)
    for call in (
        lambda: torn.tree.open(number, write=True),
        lambda: torn.tree.open(number, write=False, truncate=True),
        lambda: torn.tree.setattr(number, mode=0o777),
        lambda: torn.tree.setattr(number, size=0),
        lambda: torn.tree.setxattr(number, "user.x", b"1"),
        lambda: torn.rename("a", SIBLING),
    ):
        with pytest.raises(ReadOnly):
            call()
    with pytest.raises(AlreadyExists):
        torn.create(SIBLING)
    assert torn.walk() == {"a": b"mine", SIBLING: b"theirs"}


def test_saving_name_does_not_settle_it(torn: Machine, bates: Machine) -> None:
    """(!) Siblings beside NAME are not seen by saving NAME."""
    torn.write("a", b"mine again")
    torn.cycle()
    assert torn.walk() == {"a": b"mine again", SIBLING: b"theirs"}


def test_removing_it_keeps_name(torn: Machine, bates: Machine) -> None:
    """(!) A resolved entry is published even if nothing else changed."""
    torn.unlink(SIBLING)
    assert torn.walk() == {"a": b"mine"}
    seal = torn.seal()[0]
    assert (seal.op, seal.path, seal.resolved, len(seal.seen)) == ("put", "a", True, 2)
    agree(torn, bates, {"a": b"mine"})


def test_moving_it_over_name_takes_its_value(torn: Machine, bates: Machine) -> None:
    torn.rename(SIBLING, "a")
    assert torn.walk() == {"a": b"theirs"}
    agree(torn, bates, {"a": b"theirs"})


def test_moving_it_elsewhere_keeps_both(torn: Machine, bates: Machine) -> None:
    torn.rename(SIBLING, "b")
    assert torn.walk() == {"a": b"mine", "b": b"theirs"}
    agree(torn, bates, {"a": b"mine", "b": b"theirs"})


def test_removing_name_and_then_the_sibling(torn: Machine, bates: Machine) -> None:
    torn.unlink("a")
    torn.cycle()
    assert torn.walk() == {SIBLING: b"theirs"}
    torn.unlink(SIBLING)
    agree(torn, bates, {})


def test_taking_the_sibling_where_name_is_absent(torn: Machine, bates: Machine) -> None:
    torn.unlink("a")
    torn.cycle()
    torn.rename(SIBLING, "a")
    agree(torn, bates, {"a": b"theirs"})


def test_settled_and_killed_before_the_seal(torn: Machine, bates: Machine) -> None:
    torn.unlink(SIBLING)
    torn.tree.overlay.commit()
    torn.restart()
    assert torn.walk() == {"a": b"mine"}
    agree(torn, bates, {"a": b"mine"})


def test_settled_here_and_there_at_once(torn: Machine, bates: Machine) -> None:
    bates.learn()
    bates.unlink("a.yoga.conflict")
    torn.unlink(SIBLING)
    torn.cycle()
    bates.cycle()
    for machine in (torn, bates):
        machine.learn()
        machine.note()
        assert machine.tree.overlay.all_entries() == []
    assert {head.id for head in torn.db.heads("a")} == {head.id for head in bates.db.heads("a")}


def test_a_newer_sibling_of_that_name_is_not_hidden(torn: Machine, bates: Machine) -> None:
    torn.unlink(SIBLING)
    bates.write("a", b"theirs, newer")
    bates.cycle()
    torn.learn()
    torn.note()
    assert torn.walk() == {"a": b"mine", SIBLING: b"theirs, newer"}
    torn.cycle()
    assert torn.walk() == {"a": b"mine", SIBLING: b"theirs, newer"}


def test_an_open_sibling_that_is_removed_stays_readable(torn: Machine, bates: Machine) -> None:
    handle = torn.open(SIBLING)
    torn.unlink(SIBLING)
    agree(torn, bates, {"a": b"mine"})
    assert torn.bytes_of(handle) == b"theirs"
    torn.release(handle)


def test_a_directory_with_a_sibling_in_it_is_not_empty(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    yoga.mkdir("d")
    yoga.write("d/a", b"mine")
    bates.mkdir("d")
    bates.write("d/a", b"theirs")
    yoga.cycle()
    bates.cycle()
    yoga.learn()
    yoga.unlink("d/a")
    with pytest.raises(Exception, match="not empty"):
        yoga.rmdir("d")
    yoga.unlink("d/" + SIBLING)
    yoga.rmdir("d")
    yoga.cycle()
    bates.learn()
    assert yoga.walk() == bates.walk() == {}
