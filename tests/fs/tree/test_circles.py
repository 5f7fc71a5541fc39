"""Directories that wait for one another in a circle: one steps aside, and nobody sees anything of that."""

from collections.abc import Callable
from typing import Final

import pytest
from treekit import Machine

from fs.tree import sealing

Step = Callable[[Machine], object]


def folder(name: str, of: str) -> dict[str, object]:
    """A folder that was called `of` before."""
    return {name: None, f"{name}/of-{of}": of.encode(), f"{name}/x": f"x of {of}".encode()}


@pytest.fixture
def three(yoga: Machine, bates: Machine) -> Machine:
    """Three published folders."""
    for name in "abc":
        yoga.mkdir(name)
        yoga.write(f"{name}/of-{name}", name.encode())
        yoga.write(f"{name}/x", f"x of {name}".encode())
    yoga.mkdir("a/e")
    yoga.write("a/e/y", b"y")
    yoga.cycle()
    bates.learn()
    return yoga


def same(yoga: Machine, bates: Machine, expected: dict[str, object]) -> None:
    yoga.check()
    yoga.cycle()
    bates.learn()
    for machine in (yoga, bates):
        assert machine.walk() == expected
        machine.check()
    assert yoga.tree.overlay.all_entries() == []


def renames(machine: Machine, text: str) -> None:
    for line in text.split("; "):
        old, new = line.split(" -> ")
        if new == "nowhere":
            machine.rmdir(old)
        elif old == "new":
            machine.mkdir(new)
        else:
            machine.rename(old, new)


def sealed(machine: Machine) -> list[tuple[str, str | None, str]]:
    return [(seal.op, seal.from_path, seal.path) for seal in machine.seal()]


E_IN_B: Final[dict[str, object]] = {"b/e": None, "b/e/y": b"y"}
CIRCLES: dict[str, tuple[str, dict[str, object]]] = {
    "two swap names": ("a -> t; b -> a; t -> b", folder("a", "b") | folder("b", "a") | folder("c", "c") | E_IN_B),
    "three rotate": (
        "a -> t; b -> a; c -> b; t -> c",
        folder("a", "b") | folder("b", "c") | folder("c", "a") | {"c/e": None, "c/e/y": b"y"},
    ),
    "into a new one of its name": (
        "a -> t; new -> a; t -> a/a",
        {"a": None} | folder("a/a", "a") | folder("b", "b") | folder("c", "c") | {"a/a/e": None, "a/a/e/y": b"y"},
    ),
    "inside out": (
        "a/e -> t; a -> t/a; t -> a",
        {"a": None, "a/y": b"y"} | folder("a/a", "a") | folder("b", "b") | folder("c", "c"),
    ),
    "into what waits for it": (
        "b -> d; a -> b; new -> a; d -> a/x",
        {"a": None} | folder("a/x", "b") | folder("b", "a") | folder("c", "c") | E_IN_B,
    ),
    "the name that waits for what is inside": (
        "a -> c/b; b -> a; c -> b",
        folder("a", "b") | folder("b", "c") | folder("b/b", "a") | {"b/b/e": None, "b/b/e/y": b"y"},
    ),
    "a name that one inside has left": (
        "a/e -> c/e; a -> d; c -> d/e",
        folder("d", "a") | folder("d/e", "c") | folder("b", "b") | {"d/e/e": None, "d/e/e/y": b"y"},
    ),
    "in a folder that is made anew": (
        "c/x -> x; c/of-c -> of-c; a/e -> c/e; b -> c/b; c/e -> t; c/b -> c/e; t -> c/b; "
        "new -> n; c/e -> n/e; c/b -> n/b; c -> nowhere; n -> c; x -> c/x; of-c -> c/of-c",
        folder("a", "a") | folder("c", "c") | folder("c/e", "b") | {"c/b": None, "c/b/y": b"y"},
    ),
}
BETWEEN: dict[str, Step] = {
    "at once": lambda machine: None,
    "sealed": lambda machine: machine.seal(),
    "sealed and sent": lambda machine: (machine.seal(), machine.publish()),
    "published": lambda machine: machine.cycle(),
    "killed": lambda machine: (machine.tree.overlay.commit(), machine.restart()),
}


@pytest.mark.parametrize("circle", CIRCLES)
@pytest.mark.parametrize("between", BETWEEN)
def test_a_circle(three: Machine, bates: Machine, circle: str, between: str) -> None:
    steps, expected = CIRCLES[circle]
    for step in steps.split("; "):
        renames(three, step)
        BETWEEN[between](three)
        three.check()
    same(three, bates, expected)


@pytest.mark.parametrize("circle", CIRCLES)
def test_what_is_below_has_changed_too(three: Machine, bates: Machine, circle: str) -> None:
    """Before, and behind the renames."""
    steps, expected = CIRCLES[circle]
    three.write("a/x", b"changed before")
    three.unlink("b/of-b")
    three.write("a/new", b"new")
    three.write("a/e/y", b"also")
    renames(three, steps)
    changed: dict[object, bytes | None] = {
        b"x of a": b"changed before",
        b"b": None,
        b"x of b": b"changed behind",
        b"c": None,
        b"y": b"also",
    }
    (moved,) = (path.removesuffix("/of-a") for path, what in expected.items() if what == b"a")
    for path, what in expected.items():
        if what == b"x of b":
            three.write(path, b"changed behind")
        elif what == b"c":
            three.unlink(path)
    after = {path: changed.get(what, what) for path, what in expected.items()}
    after = {path: what for path, what in after.items() if what is not None or expected[path] is None}
    same(three, bates, after | {f"{moved}/new": b"new"})


def test_the_numbers_stay(three: Machine, bates: Machine) -> None:
    numbers = [three.ino(path) for path in ("a", "a/x", "b", "b/x")]
    renames(three, "a -> t; b -> a; t -> b")
    three.cycle()
    assert [three.ino(path) for path in ("b", "b/x", "a", "a/x")] == numbers


def test_one_steps_aside_and_nothing_is_left_of_that(three: Machine, bates: Machine) -> None:
    three.write("0", b"a name that is taken")
    three.cycle()
    three.write("1", b"one that will be")
    renames(three, "a -> t; b -> a; t -> b")
    assert sealed(three) == [
        ("put", None, "1"),
        ("movedir", "b", "2"),
        ("movedir", "a", "b"),
        ("movedir", "2", "a"),
    ]
    three.publish()
    three.note()
    bates.learn()
    assert not [path for path in (*three.walk(), *bates.walk()) if path.startswith("2")]


def test_there_and_back(three: Machine, bates: Machine) -> None:
    before = three.walk()
    for _ in range(2):
        renames(three, "a -> t; b -> a; t -> b")
    assert {op for op, _, _ in sealed(three)} == {"put"}  # their times
    same(three, bates, before)


def test_who_cannot_go_all_the_way_does_not_step_aside(three: Machine, bates: Machine) -> None:
    """Something of a is on its way, so nobody takes its name; and nobody is seen where he does not belong meanwhile."""
    three.mkdir("d")
    three.cycle()
    three.tree.setattr(three.ino("a"), mode=0o700)
    three.seal()
    renames(three, "a -> t; b -> a; c -> b; d -> c; t -> d")
    assert three.seal()[1:] == []
    three.check()
    same(
        three,
        bates,
        folder("a", "b") | folder("b", "c") | folder("d", "a") | {"c": None, "d/e": None, "d/e/y": b"y"},
    )


def test_the_disk_refuses_the_round(three: Machine, bates: Machine) -> None:
    renames(three, "a -> t; b -> a; t -> b")
    three.write("a/x", b"changed")
    sealing.abort(three.tree.state, sealing.begin(three.tree.state))
    three.check()
    same(three, bates, folder("a", "b") | folder("b", "a") | folder("c", "c") | E_IN_B | {"a/x": b"changed"})


def test_somebody_else_changes_what_moves(three: Machine, bates: Machine) -> None:
    bates.write("a/x", b"theirs")
    bates.write("b/new", b"theirs, too")
    bates.cycle()
    renames(three, "a -> t; b -> a; t -> b")
    three.cycle()
    for _ in range(2):
        for machine in (three, bates):
            machine.learn()
            machine.note()
            machine.cycle()
    for machine in (three, bates):
        contents = [what for what in machine.walk().values() if what is not None]
        assert sorted(contents) == [b"a", b"b", b"c", b"theirs", b"theirs, too", b"x of a", b"x of b", b"x of c", b"y"]
        machine.check()


def test_hundreds_rotate(yoga: Machine, bates: Machine) -> None:
    names = [f"n{number}" for number in range(300)]
    for name in names:
        yoga.mkdir(name)
    yoga.cycle()
    numbers = [yoga.ino(name) for name in names]
    yoga.rename(names[0], "t")
    for old, new in zip(names[1:], names[:-1], strict=True):
        yoga.rename(old, new)
    yoga.rename("t", names[-1])
    assert len(yoga.seal()) == 301
    same(yoga, bates, dict.fromkeys(names))
    assert [yoga.ino(name) for name in [names[-1], *names[:-1]]] == numbers


def test_many_circles_in_one_round(yoga: Machine, bates: Machine) -> None:
    """One steps aside in each."""
    pairs = [(f"a{number}", f"b{number}") for number in range(20)]
    for pair in pairs:
        for name in pair:
            yoga.mkdir(name)
    yoga.cycle()
    for one, other in pairs:
        renames(yoga, f"{one} -> t; {other} -> {one}; t -> {other}")
    assert len(yoga.seal()) == 3 * len(pairs)
    same(yoga, bates, dict.fromkeys(name for pair in pairs for name in pair))
