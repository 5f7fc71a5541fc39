"""RENAME_EXCHANGE: two names change what is behind them, here and elsewhere, each of them always there."""

import errno

import pytest
from powerkit import Disk
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


def furnish(yoga: Machine) -> None:
    """A published folder, and what it can change places with."""
    yoga.mkdir("d")
    yoga.write("d/x", b"x")
    yoga.mkdir("d/e")
    yoga.write("file", b"file")
    yoga.symlink("link", "elsewhere")
    yoga.mkdir("far")
    yoga.write("far/below", b"below")
    yoga.cycle()
    yoga.mkdir("new")
    yoga.write("new/y", b"y")
    yoga.write("0", b"takes a name")


FOLDER = {"": None, "/x": b"x", "/e": None}
OTHERS = {
    "file": {"": b"file"},
    "link": {"": "elsewhere"},
    "far/below": {"": b"below"},
    "new": {"": None, "/y": b"y"},
    "0": {"": b"takes a name"},
}


def after(other: str | None) -> dict[str, object]:
    """What there is when the folder has changed places with one of them, or with none."""
    at = {"d": FOLDER, **OTHERS}
    if other is not None:
        at["d"], at[other] = at[other], at["d"]
    return {"far": None, **{f"{path}{below}": what for path, found in at.items() for below, what in found.items()}}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_published_folder_and_anything(yoga: Machine, bates: Machine, other: str, is_first: bool) -> None:
    furnish(yoga)
    numbers = yoga.ino("d"), yoga.ino(other)
    names = ("d", other) if is_first else (other, "d")
    exchange(yoga, *names)
    assert (yoga.ino(other), yoga.ino("d")) == numbers
    assert yoga.walk() == after(other)
    yoga.check()
    same(yoga, bates, after(other))
    assert not [path for path in bates.walk() if "conflict" in path]
    exchange(yoga, *names)
    same(yoga, bates, after(None))


@pytest.mark.parametrize("other", OTHERS)
def test_there_and_back_before_it_is_published(yoga: Machine, bates: Machine, other: str) -> None:
    furnish(yoga)
    exchange(yoga, "d", other)
    exchange(yoga, "d", other)
    assert yoga.walk() == after(None)
    yoga.check()
    same(yoga, bates, after(None))


@pytest.mark.parametrize("other", OTHERS)
def test_a_folder_while_seals_are_on_their_way(yoga: Machine, bates: Machine, other: str) -> None:
    furnish(yoga)
    yoga.write("d/x", b"x")
    yoga.seal()
    exchange(yoga, "d", other)
    yoga.publish()
    yoga.note()
    same(yoga, bates, after(other))


@pytest.mark.parametrize("other", OTHERS)
def test_a_power_cut_behind_any_commit(yoga: Machine, bates: Machine, disk: Disk, other: str) -> None:
    """The disk has one state or the other, and never the name that is used meanwhile."""
    furnish(yoga)
    for path in ("0", "new/y"):
        file = yoga.open(path, write=True)
        yoga.fsync(file)
        yoga.release(file)
    yoga.tree.overlay.commit()
    disk.is_synced()
    exchange(yoga, "d", other)
    disk.cut_power()
    assert yoga.walk() == after(None)
    exchange(yoga, "d", other)
    yoga.tree.overlay.commit()
    disk.is_synced()
    yoga.unlink("d" if other != "new" else "d/y")
    disk.cut_power()
    assert yoga.walk() == after(other)
    yoga.check()
    same(yoga, bates, after(other))


def test_no_commit_comes_in_between(yoga: Machine, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    furnish(yoga)
    yoga.tree.overlay.commit()
    commits: list[int] = []
    monkeypatch.setattr(type(yoga.tree.overlay), "commit", lambda *_: commits.append(1))
    exchange(yoga, "d", "file")
    assert not commits


def test_what_a_rename_refuses_leaves_all_as_it_was(yoga: Machine, bates: Machine) -> None:
    deep = ""
    for _ in range(15):
        deep += ("/" if deep else "") + "p" * 250
        yoga.mkdir(deep)
    yoga.write(f"{deep}/f", b"file")
    yoga.mkdir("d")
    yoga.mkdir(f"d/{'q' * 250}")
    yoga.write(f"d/{'q' * 250}/{'r' * 250}", b"far below")
    yoga.cycle()
    expected = yoga.walk()
    with pytest.raises(OSError) as caught:
        exchange(yoga, "d", f"{deep}/f")
    assert caught.value.errno == errno.ENAMETOOLONG
    assert yoga.walk() == expected
    yoga.check()
    same(yoga, bates, expected)


def test_an_edit_by_somebody_else_meanwhile_lives(yoga: Machine, bates: Machine) -> None:
    yoga.mkdir("d")
    yoga.write("d/x", b"x")
    yoga.write("f", b"f")
    yoga.cycle()
    bates.learn()
    bates.write("d/x", b"their x")
    bates.write("f", b"their f")
    bates.cycle()
    exchange(yoga, "d", "f")
    for _ in range(2):
        yoga.cycle()
        bates.learn()
        bates.cycle()
        yoga.learn()
        yoga.note()
    for machine in (yoga, bates):
        contents = [found for found in machine.walk().values() if found is not None]
        assert {b"their x", b"their f"} <= set(contents), machine.walk()
        machine.check()


def test_what_cannot_be(yoga: Machine, bates: Machine) -> None:
    bates.write("c", b"theirs")
    yoga.mkdir("d")
    yoga.mkdir("e")
    yoga.mkdir("d/inner")
    yoga.write("a", b"a")
    yoga.write("c", b"ours")
    yoga.cycle()
    bates.cycle()
    yoga.learn()
    yoga.write("d/f", b"")
    yoga.write(".git", b"stays here")
    for one, other, number in (
        ("d", "d/inner", errno.EINVAL),
        ("d/f", "d", errno.EINVAL),
        ("d", ".git", errno.EXDEV),
    ):
        with pytest.raises(OSError) as caught:
            exchange(yoga, one, other)
        assert caught.value.errno == number
    exchange(yoga, "d", "d")
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
