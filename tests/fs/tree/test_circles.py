"""Directories that wait for one another in a circle: one steps aside, and nobody sees anything of that."""

from collections.abc import Callable
from typing import Final

import pytest
from treekit import Machine

from fs.tree import sealing
from fs.tree.freeze import Freezer
from sync.core.paths import PATH_MAX

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
    renames(three, "a -> t; b -> a; t -> b")
    found = sealed(three)
    number = found[0][2]
    assert number.isdigit()
    assert found == [("movedir", "b", number), ("movedir", "a", "b"), ("movedir", number, "a")]
    three.publish()
    three.note()
    bates.learn()
    assert not [path for path in (*three.walk(), *bates.walk()) if path.startswith(number)]


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


def test_hundreds_swap_their_names(yoga: Machine, bates: Machine) -> None:
    """All of them step aside at once: one after the other this took a minute, and all of the mount waited."""
    pairs = [(f"n{number}", f"m{number}") for number in range(200)]
    for pair in pairs:
        for name in pair:
            yoga.mkdir(name)
    yoga.cycle()
    numbers = [[yoga.ino(name) for name in pair] for pair in pairs]
    for one, other in pairs:
        renames(yoga, f"{one} -> t; {other} -> {one}; t -> {other}")
    passes = 0
    add_late = Freezer._add_late

    def count(freezer: Freezer) -> None:
        nonlocal passes
        passes += 1
        add_late(freezer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Freezer, "_add_late", count)
        assert len(yoga.seal()) == 3 * len(pairs)
    assert passes < 5
    same(yoga, bates, dict.fromkeys(name for pair in pairs for name in pair))
    assert [[yoga.ino(name) for name in reversed(pair)] for pair in pairs] == numbers


def test_names_that_are_numbers(yoga: Machine, bates: Machine) -> None:
    """Also in a folder that the engine has elsewhere when one steps aside."""
    expected: dict[str, object] = {"p": None, "p/of": b"r"}
    yoga.mkdir("r")
    yoga.write("r/of", b"r")
    for name in ["a", "b", *"0123456789"]:
        yoga.mkdir(f"r/{name}")
        yoga.write(f"r/{name}/of", name.encode())
        expected |= {f"p/{name}": None, f"p/{name}/of": name.encode()}
    yoga.cycle()
    renames(yoga, "r -> p; p/a -> p/t; p/b -> p/a; p/t -> p/b")
    same(yoga, bates, expected | {"p/a/of": b"b", "p/b/of": b"a"})


def test_a_short_number_where_a_long_one_would_be_too_long(yoga: Machine, bates: Machine) -> None:
    for name in "ab":
        deep = name
        yoga.mkdir(name)
        for part in [*("p" * 250 for _ in range(16)), "q" * (PATH_MAX - 1 - 16 * 251 - 1)]:
            deep += f"/{part}"
            yoga.mkdir(deep)
        assert len(deep) == PATH_MAX
    yoga.cycle()
    expected = yoga.walk()
    renames(yoga, "a -> t; b -> a; t -> b")
    assert len(sealed(yoga)[0][2]) == 1
    same(yoga, bates, expected)


@pytest.fixture
def blocked(three: Machine) -> Machine:
    """Four in a circle that has to wait: something of one is on its way."""
    three.mkdir("d")
    for name in "pq":
        three.mkdir(name)
        three.write(f"{name}/of-{name}", name.encode())
    three.cycle()
    three.tree.setattr(three.ino("a"), mode=0o700)
    three.seal()
    renames(three, "a -> t; b -> a; c -> b; d -> c; t -> d")
    return three


BLOCKED: Final[dict[str, object]] = folder("a", "b") | folder("b", "c") | folder("d", "a") | {"c": None}
E_IN_D: Final[dict[str, object]] = {"d/e": None, "d/e/y": b"y"}


def test_a_circle_that_has_to_wait_holds_up_no_other(blocked: Machine, bates: Machine) -> None:
    renames(blocked, "p -> t; q -> p; t -> q")
    found = sealed(blocked)[1:]
    assert [(op, path) for op, _, path in found[1:]] == [("movedir", "q"), ("movedir", "p")]
    same(
        blocked,
        bates,
        BLOCKED | E_IN_D | {"p": None, "p/of-q": b"q", "q": None, "q/of-p": b"p"},
    )


def test_what_was_frozen_in_vain_is_due_as_before(blocked: Machine, bates: Machine) -> None:
    """A file that stays open does not wait from the start, and nothing is forgotten of what waits."""
    st = blocked.tree.state
    blocked.write("p/f", b"1")
    file = blocked.open("p/f", write=True)
    file.write(0, b"2")
    blocked.fleet.clock.elapsed += sealing.OPEN_NEW_MAX
    before = {entry.key: (entry.last, entry.origin, entry.moved_to) for entry in st.overlay.all_entries()}
    since = dict(st.pending)
    found = sealing.begin(st, ["a", "b", "c", "d"])
    assert not found.items
    assert st.pending == since
    assert {entry.key: (entry.last, entry.origin, entry.moved_to) for entry in st.overlay.all_entries()} == before
    for _ in range(2):
        due = sealing.begin(st, only_due=True)
        assert "p/f" in [item.ref.path for item in due.items]
        sealing.abort(st, due)
    blocked.release(file)
    others: dict[str, object] = {"p": None, "p/of-p": b"p", "p/f": b"2", "q": None, "q/of-q": b"q"}
    same(blocked, bates, BLOCKED | E_IN_D | others)


def test_out_of_what_was_removed_to_its_name(yoga: Machine, bates: Machine) -> None:
    """Two levels up: the folder between is to be gone before, and it can be when this one has left it."""
    for path in ("t", "t/u", "t/u/y"):
        yoga.mkdir(path)
        yoga.write(f"{path}/f", path.encode())
    yoga.cycle()
    bates.learn()
    renames(yoga, "t/u/y -> d")
    yoga.unlink("t/u/f")
    yoga.rmdir("t/u")
    yoga.unlink("t/f")
    yoga.rmdir("t")
    renames(yoga, "d -> t")
    same(yoga, bates, {"t": None, "t/f": b"t/u/y"})


def test_out_of_what_was_removed_to_the_name_of_what_goes_there(yoga: Machine, bates: Machine) -> None:
    """What stood in the way has gone with a move of the same round."""
    for path in ("d", "d/t", "d/t/e", "p"):
        yoga.mkdir(path)
    yoga.write("d/t/e/f", b"e")
    yoga.write("p/f", b"p")
    yoga.cycle()
    bates.learn()
    renames(yoga, "d/t/e -> x")
    yoga.rmdir("d/t")
    yoga.rmdir("d")
    renames(yoga, "p -> d; x -> p")
    same(yoga, bates, {"d": None, "d/f": b"p", "p": None, "p/f": b"e"})
