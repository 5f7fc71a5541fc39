"""Paths longer than what can be published: made and used as any other, kept on this machine until they are short."""

import pytest
from treekit import Machine

from fs.tree.model import DIR, ROOT_ID
from sync.core.paths import PATH_MAX


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
    yoga.tree.overlay.commit(full=True)
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


@pytest.fixture
def file(yoga: Machine) -> str:
    """The path of a file that is too deep."""
    path = f"{yoga.tree.path_of(deep(yoga, 20))}/{'f' * 200}"
    assert len(path) > PATH_MAX
    yoga.write(path, b"one")
    return path


def same(machine: Machine, *paths: str) -> bool:
    return {machine.attr(path).nlink for path in paths} == {len({machine.ino(path) for path in paths}) * len(paths)}


def shown(yoga: Machine, bates: Machine) -> dict[str, object]:
    """What the other machine shows outside of the deep folders, behind a whole round."""
    for _ in range(2):
        yoga.cycle()
        bates.learn()
    yoga.check()
    return {path: value for path, value in bates.walk().items() if not path.startswith("ddd")}


def test_a_name_that_is_too_deep_keeps_the_others_here(yoga: Machine, bates: Machine, file: str) -> None:
    yoga.link(file, "short")
    yoga.link("short", "third")
    assert same(yoga, file, "short", "third") and shown(yoga, bates) == {}
    yoga.patch("short", 0, b"two")
    assert yoga.read(file) == b"two" and shown(yoga, bates) == {}
    yoga.tree.overlay.commit(full=True)
    yoga.restart()
    assert same(yoga, file, "short", "third") and shown(yoga, bates) == {}
    yoga.unlink(file)
    assert shown(yoga, bates).keys() == {"short", "third"}
    assert same(bates, "short", "third") and bates.read("third") == b"two"


def test_it_lets_them_go_as_it_came(yoga: Machine, bates: Machine, file: str) -> None:
    yoga.unlink(file)
    yoga.write("short", b"one")
    yoga.link("short", file)
    assert same(yoga, "short", file) and shown(yoga, bates) == {}
    yoga.rename(file, "moved")
    assert shown(yoga, bates).keys() == {"short", "moved"} and same(bates, "short", "moved")


def test_one_that_somebody_has_seen_gets_no_such_name(yoga: Machine, bates: Machine, file: str) -> None:
    yoga.unlink(file)
    yoga.write("short", b"one")
    yoga.write("other", b"one")
    yoga.link("other", "another")
    yoga.seal(["short"])
    for _ in range(2):
        for name in ("short", "other") if "short" in bates.walk() else ("short",):
            with pytest.raises(OSError, match="all stay"):
                yoga.link(name, file)
        assert shown(yoga, bates).keys() == {"short", "other", "another"}
    with pytest.raises(OSError, match="all stay"):
        yoga.rename("other", file)
    assert same(yoga, "other", "another")


def test_what_comes_to_its_short_name_is_shared(yoga: Machine, bates: Machine, file: str) -> None:
    for name in ("short", "third", "fourth"):
        yoga.link(file, name)
    yoga.write("temp", b"two")
    yoga.rename("temp", "short")
    yoga.unlink("third")
    yoga.write("third", b"three")
    yoga.write(f"{file[:-1]}g", b"four")
    yoga.tree.exchange(*yoga.place("fourth"), *yoga.place(f"{file[:-1]}g"))
    assert yoga.read("fourth") == b"four" and yoga.read(file) == b"one"
    assert shown(yoga, bates).keys() == {"short", "third", "fourth"}
    assert {name: bates.read(name) for name in ("short", "third", "fourth")} == {
        "short": b"two", "third": b"three", "fourth": b"four"
    }  # fmt: skip


def test_its_short_name_takes_no_published_one(yoga: Machine, bates: Machine, file: str) -> None:
    yoga.write("theirs", b"two")
    assert shown(yoga, bates).keys() == {"theirs"}
    yoga.link(file, "short")
    with pytest.raises(OSError, match="all stay"):
        yoga.rename("short", "theirs")
    yoga.rename("short", "again")
    assert same(yoga, file, "again") and shown(yoga, bates).keys() == {"theirs"}


def test_its_folder_moves_up(yoga: Machine, bates: Machine, file: str) -> None:
    yoga.link(file, "short")
    yoga.rename("d" * 200, "up")
    assert shown(yoga, bates).keys() > {"short", "up"}
    assert same(bates, "short", f"up{file[200:]}") and yoga.walk() == bates.walk()
