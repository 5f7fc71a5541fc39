"""Hard links of plain folders: a push records them, a pull makes them again, never beyond what it brings."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from workerkit import Fleet, Machine, run

from sync.plain import pull as pull_module
from sync.plain.target import TargetDir

BIG = bytes(range(256)) * 2000


def linked(folder: Path) -> list[list[str]]:
    names: dict[int, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            names.setdefault(path.lstat().st_ino, []).append(str(path.relative_to(folder)))
    return sorted(paths for paths in names.values() if len(paths) > 1)


def contents(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def yoga(fleet: Fleet) -> Machine:
    machine = fleet.machine("yoga")
    machine.write("d/a", "one")
    machine.write("d/e/big", BIG)
    machine.write("d/alone", "alone")
    os.link(machine.home / "d/a", machine.home / "d/e/b")
    os.link(machine.home / "d/a", machine.home / "d/z")
    os.link(machine.home / "d/e/big", machine.home / "d/huge")
    (machine.home / "d/s").symlink_to("a")
    os.link(machine.home / "d/s", machine.home / "d/t", follow_symlinks=False)
    return machine


@pytest.fixture
def bates(fleet: Fleet, yoga: Machine) -> Machine:
    return fleet.machine("bates")


LINKS = [["a", "e/b", "z"], ["e/big", "huge"], ["s", "t"]]


async def travels(yoga: Machine, bates: Machine) -> tuple[Any, Any]:
    pushed, pulled = await yoga.push("d"), await bates.pull("d", "d")
    assert pushed.error() is None and pulled.error() is None
    assert contents(yoga.home / "d") == contents(bates.home / "d")
    return pushed, pulled


def test_links_travel_once(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    async def go() -> None:
        _, pulled = await travels(yoga, bates)
        assert linked(bates.home / "d") == LINKS
        assert pulled.moved_bytes == len(BIG) + len(b"onealone")
        for _ in range(2):  # nothing is read or written again, on either side
            pushed, pulled = await travels(yoga, bates)
            assert (pushed.files, pulled.files, pushed.moved_bytes, pulled.moved_bytes) == (0, 0, 0, 0)
        pushed = await bates.push("d")
        assert (pushed.files, pushed.moved_bytes) == (0, 0)
        heads = {head.manifest.link_id for name in ("d/a", "d/e/b", "d/z") for head in yoga.db.heads(name)}
        assert len(heads) == 1 and heads != {""}

    run(go(), fleet.clock)


def test_changes_of_linked_files(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    async def go() -> None:
        await travels(yoga, bates)
        (yoga.home / "d/z").write_text("two")
        await travels(yoga, bates)
        assert linked(bates.home / "d") == LINKS and (bates.home / "d/a").read_text() == "two"
        (bates.home / "d/a").write_text("three")
        assert (await bates.push("d")).error() is None
        assert (await yoga.pull("d", "d")).error() is None
        assert linked(yoga.home / "d") == LINKS and (yoga.home / "d/e/b").read_text() == "three"
        # One name is replaced, another file gets one more.
        (yoga.home / "d/a").unlink()
        (yoga.home / "d/a").write_text("new")
        os.link(yoga.home / "d/alone", yoga.home / "d/both")
        await travels(yoga, bates)
        assert linked(bates.home / "d") == [["alone", "both"], ["e/b", "z"], *LINKS[1:]]

    run(go(), fleet.clock)


def test_a_broken_link_of_equal_content(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    async def go() -> None:
        await travels(yoga, bates)
        shutil.copy2(yoga.home / "d/huge", yoga.home / "tmp")
        (yoga.home / "tmp").rename(yoga.home / "d/huge")
        await yoga.push("d")
        fresh = await bates.pull("d", "fresh")
        assert fresh.error() is None and linked(bates.home / "fresh") == [LINKS[0], LINKS[2]]

    run(go(), fleet.clock)


def test_links_made_after_the_files_were_pushed(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    async def go() -> None:
        await yoga.push("d")
        os.link(yoga.home / "d/alone", yoga.home / "d/0")
        os.link(yoga.home / "d/a", yoga.home / "d/0a")
        await travels(yoga, bates)
        assert linked(bates.home / "d") == [["0", "alone"], ["0a", "a", "e/b", "z"], *LINKS[1:]]

    run(go(), fleet.clock)


def test_one_file_alone_links_nothing(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    """A pull of one name makes one; what was there before is no source."""

    async def go() -> None:
        await travels(yoga, bates)
        report = await bates.pull("d/z", "z")
        assert report.error() is None and (bates.home / "z").stat().st_nlink == 1
        assert (bates.home / "d/z").stat().st_nlink == 3

    run(go(), fleet.clock)


def test_where_links_cannot_be_made(
    fleet: Fleet, yoga: Machine, bates: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TargetDir, "link", lambda *_: False)

    async def go() -> None:
        await travels(yoga, bates)
        assert linked(bates.home / "d") == []
        pushed = await bates.push("d")  # copies say nothing about the links of others
        assert pushed.files == 0
        (bates.home / "d/e/b").chmod(0o600)
        (bates.home / "d/e/b").chmod(0o644)
        assert (await bates.push("d")).files == 0
        heads = {head.manifest.link_id for name in ("d/a", "d/e/b", "d/z") for head in bates.db.heads(name)}
        assert len(heads) == 1 and heads != {""}

    run(go(), fleet.clock)


def test_the_first_name_is_refused(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    bates.write("d/a", "mine")

    async def go() -> None:
        await yoga.push("d")
        report = await bates.pull("d", ".")
        assert report.conflicts == [str(bates.home / "d/a")]
        assert (bates.home / "d/a").read_text() == "mine" and (bates.home / "d/z").read_text() == "one"
        assert linked(bates.home / "d") == [["e/b", "z"], *LINKS[1:]]

    run(go(), fleet.clock)


def test_the_first_name_is_changed_before_the_second_is_made(
    fleet: Fleet, yoga: Machine, bates: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    real = pull_module.PullLinks.make

    def meddle(self: Any, step: Any, temp: str) -> bool:
        first = bates.home / "d/e/big"
        if step.entry.name == "huge":
            first.write_text("changed by somebody")
            made.append(first)
        return real(self, step, temp)

    monkeypatch.setattr(pull_module.PullLinks, "make", meddle)

    async def go() -> None:
        await yoga.push("d")
        await bates.pull("d", "d")

    run(go(), fleet.clock)
    assert made and (bates.home / "d/huge").read_bytes() == BIG
    assert (bates.home / "d/e/big").read_text() == "changed by somebody"


def test_two_machines_push_the_same_tree(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    shutil.copytree(yoga.home / "d", bates.home / "d", symlinks=True)
    for name in ("e/b", "z"):
        (bates.home / "d" / name).unlink()
        os.link(bates.home / "d/a", bates.home / "d" / name)

    async def go() -> None:
        await yoga.push("d")
        report = await bates.push("d")
        assert report.error() is None and report.conflicts == []
        assert (await yoga.pull("d", "again")).error() is None
        assert ["a", "e/b", "z"] in linked(yoga.home / "again")

    run(go(), fleet.clock)


def test_what_once_was_one_file_and_is_two(fleet: Fleet, yoga: Machine, bates: Machine) -> None:
    """Both have more names by now: they do not get one link_id."""

    async def go() -> None:
        await yoga.push("d")
        copy = yoga.home / "d/copy"
        shutil.copy2(yoga.home / "d/z", copy)
        (yoga.home / "d/z").unlink()
        copy.rename(yoga.home / "d/z")
        os.link(yoga.home / "d/z", yoga.home / "d/zz")
        await travels(yoga, bates)
        assert linked(bates.home / "d") == [["a", "e/b"], ["e/big", "huge"], ["s", "t"], ["z", "zz"]]

    run(go(), fleet.clock)
