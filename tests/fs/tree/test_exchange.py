"""RENAME_EXCHANGE: two names change what is behind them, here and elsewhere, each of them always there."""

import errno

import pytest
from treekit import Machine

from fs.tree.model import FIFO
from sync.core.errors import NotFound, ReadOnly


def exchange(machine: Machine, one: str, other: str) -> None:
    machine.tree.exchange(*machine.place(one), *machine.place(other))


def same(yoga: Machine, bates: Machine, expected: dict[str, object]) -> None:
    yoga.cycle()
    bates.learn()
    assert yoga.walk() == expected
    assert bates.walk() == expected
    assert yoga.tree.overlay.all_entries() == []


def test_published_files(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"first")
    yoga.mkdir("d")
    yoga.write("d/b", b"second")
    yoga.cycle()
    bates.learn()
    numbers = yoga.ino("a"), yoga.ino("d/b")
    exchange(yoga, "a", "d/b")
    assert (yoga.ino("d/b"), yoga.ino("a")) == numbers
    assert [(seal.op, seal.path) for seal in yoga.seal()] == [("put", "a"), ("put", "d/b")]
    same(yoga, bates, {"a": b"second", "d": None, "d/b": b"first"})
    assert (yoga.ino("d/b"), yoga.ino("a")) == numbers
    exchange(yoga, "a", "d/b")
    same(yoga, bates, {"a": b"first", "d": None, "d/b": b"second"})


def test_what_was_just_written_and_renamed(yoga: Machine, bates: Machine) -> None:
    yoga.write("x", b"first")
    yoga.write("b", b"second")
    yoga.cycle()
    yoga.rename("x", "a")
    yoga.write("x", b"third")
    exchange(yoga, "a", "b")
    exchange(yoga, "x", "b")
    same(yoga, bates, {"a": b"second", "b": b"third", "x": b"first"})


def test_while_a_seal_is_on_its_way(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"first")
    yoga.write("b", b"second")
    yoga.seal()
    exchange(yoga, "a", "b")
    yoga.publish()
    yoga.note()
    same(yoga, bates, {"a": b"second", "b": b"first"})


def test_over_a_restart(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"first")
    yoga.symlink("b", "elsewhere")
    yoga.cycle()
    exchange(yoga, "a", "b")
    yoga.tree.overlay.commit()
    yoga.restart()
    same(yoga, bates, {"b": b"first", "a": "elsewhere"})


def test_new_folders(yoga: Machine, bates: Machine) -> None:
    yoga.mkdir("d")
    yoga.write("d/x", b"x")
    yoga.mkdir("e")
    yoga.mkdir("e/f")
    yoga.write("a", b"a")
    exchange(yoga, "d", "e")
    exchange(yoga, "e", "a")
    assert (yoga.attr("").nlink, yoga.attr("d").nlink, yoga.attr("a").nlink) == (4, 3, 2)
    same(yoga, bates, {"d": None, "d/f": None, "a": None, "a/x": b"x", "e": b"a"})


def test_what_cannot_be(yoga: Machine, bates: Machine) -> None:
    bates.write("c", b"theirs")
    yoga.mkdir("d")
    yoga.write("a", b"a")
    yoga.write("c", b"ours")
    yoga.cycle()
    bates.cycle()
    yoga.learn()
    for one, other, number in (("d", "a", errno.EINVAL), ("a", "d", errno.EINVAL)):
        with pytest.raises(OSError) as caught:
            exchange(yoga, one, other)
        assert caught.value.errno == number
    with pytest.raises(NotFound):
        exchange(yoga, "a", "missing")
    with pytest.raises(ReadOnly):
        exchange(yoga, "a", "c.bates.conflict")
    exchange(yoga, "a", "a")
    yoga.mkdir("n")
    yoga.mkdir("n/m")
    with pytest.raises(OSError, match="above") as caught:
        exchange(yoga, "n", "n/m")
    assert caught.value.errno == errno.EINVAL


def test_names_of_a_file_with_several(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    yoga.write("c", b"two")
    yoga.cycle()
    exchange(yoga, "a", "b")
    assert yoga.linked() == [["a", "b"]]
    exchange(yoga, "a", "c")
    assert yoga.linked() == [["b", "c"]] and yoga.read("a") == b"two" and yoga.read("c") == b"one"
    yoga.cycle()
    bates.learn()
    for machine in (yoga, bates):
        assert machine.linked() == [["b", "c"]] and machine.read("a") == b"two"


def test_a_special_file_stays_here(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"one")
    yoga.cycle()
    yoga.tree.create(*yoga.place("p"), FIFO, 0o600, 1, 1)
    exchange(yoga, "a", "p")
    assert yoga.attr("a").kind == FIFO and yoga.read("p") == b"one"
    yoga.cycle()
    yoga.check()
    bates.learn()
    assert bates.listing() == ["p"] and bates.read("p") == b"one" and yoga.attr("a").kind == FIFO
