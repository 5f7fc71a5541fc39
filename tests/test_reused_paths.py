"""Paths that are used again: removed with the folder around them, and made or moved there anew.

Whatever the order in which the parts of it go out, the machine itself shows at every moment what its person did, and in
the end everybody shows that, without any conflict: nobody else has changed a thing.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shellkit import Shell
from worldkit import World, WorldMachine

from fs.tree import sealing

pytestmark = pytest.mark.logs_trouble

# What is shared before; what is done then.
SEQUENCES = {
    "moved out, the folder removed, moved back as a folder": (
        "mkdir old; echo app old/app; echo cfg old/cfg",
        "mkdir t; mv old/* t; rmdir old; mv t old",
    ),
    "moved down, up, and over the old name": (
        "mkdir old; echo app old/app; echo cfg old/cfg",
        "mkdir old/sub; mv old/cfg old/app old/sub; mv old/sub sub; rmdir old; mv sub old",
    ),
    "moved into another folder that takes the name": (
        "mkdir d; mkdir e; echo dx d/x; echo ex e/x",
        "mv e/x d/x; rmdir e; mv d e",
    ),
    "moved into another folder that replaces its own": (
        "mkdir d; mkdir e; echo dx d/x; echo ex e/x",
        "mv e/x d/x; mv -T d e",
    ),
    "one kept, one new": (
        "mkdir old; echo app old/app; echo cfg old/cfg",
        "mkdir new; echo 2 new/app; mv old/cfg new/cfg; rm -rf old; mv new old",
    ),
    "made again": ("mkdir d; echo 1 d/x", "rm -rf d; mkdir d; echo 2 d/x"),
    "made again, deeper": (
        "mkdir d; mkdir d/e; mkdir d/e/f; echo 1 d/e/f/x; echo 1 d/e/y",
        "rm -rf d; mkdir d; mkdir d/e; mkdir d/e/f; echo 2 d/e/f/x; echo 2 d/e/f/z",
    ),
    "made again, the same": ("mkdir d; echo 1 d/x", "rm -rf d; mkdir d; echo 1 d/x"),
    "made again, twice": (
        "mkdir d; echo 1 d/x; echo 1 d/y",
        "rm -rf d; mkdir d; echo 2 d/x; rm -rf d; mkdir d; echo 3 d/y; echo 3 d/z",
    ),
    "made again and removed again": ("mkdir d; echo 1 d/x", "rm -rf d; mkdir d; echo 2 d/x; rm d/x"),
    "a shared folder takes the name": (
        "mkdir old; echo 1 old/x; echo 1 old/y; mkdir new; echo 2 new/x; echo 2 new/z",
        "rm -rf old; mv new old",
    ),
    "a shared folder takes the name, with folders below": (
        "mkdir old; mkdir old/s; echo 1 old/s/x; mkdir new; mkdir new/s; echo 2 new/s/x; echo 2 new/s/y",
        "rm -rf old; mv new old",
    ),
    "a new folder takes the name": (
        "mkdir old; echo 1 old/x; echo 1 old/y",
        "mkdir new; echo 2 new/x; echo 2 new/z; rm -rf old; mv new old",
    ),
    "a copy is made": ("mkdir o; echo 1 o/x; mkdir n; echo 2 n/x", "rm -rf o; mkdir o; echo 2 o/x"),
    "shared folders are exchanged as deployments do it": (
        "mkdir d; echo 1 d/x; echo 1 d/y; mkdir d.new; echo 2 d.new/x; echo 2 d.new/z",
        "mv d d.old; mv d.new d; rm -rf d.old",
    ),
    "folders are exchanged as deployments do it": (
        "mkdir d; echo 1 d/x; echo 1 d/y",
        "mkdir d.new; echo 2 d.new/x; mv d d.old; mv d.new d; rm -rf d.old",
    ),
    "emptied, and a shared folder replaces it": (
        "mkdir old; echo 1 old/x; mkdir new; echo 2 new/x",
        "rm old/x; mv -T new old",
    ),
    "emptied, and a new folder replaces it": (
        "mkdir old; echo 1 old/x",
        "mkdir new; echo 2 new/x; rm old/x; mv -T new old",
    ),
    "a shared folder on the name of a file": ("echo 1 f; mkdir d; echo 2 d/x", "rm f; mv d f"),
    "a new folder on the name of a file": ("echo 1 f", "rm f; mkdir f; echo 2 f/x"),
    "a file on the name of a folder": ("mkdir d; echo 1 d/x", "rm -rf d; echo 2 d"),
    "a file out of the folder on its name": ("mkdir d; echo 1 d/x", "mv d/x y; rmdir d; mv y d"),
    "a file where a file was in a folder": ("mkdir d; mkdir d/e; echo 1 d/e/x", "rm -rf d; mkdir d; echo 2 d/e"),
    "a folder where a file was in a folder": ("mkdir d; echo 1 d/e", "rm -rf d; mkdir d; mkdir d/e; echo 2 d/e/x"),
    "git checkout there and back": (
        "mkdir src; mkdir src/lib; echo 1 src/a; echo 1 src/lib/b; echo 1 readme",
        "rm src/a; rm src/lib/b; rmdir src/lib; rmdir src; echo 2 readme;"
        "mkdir src; echo 1 src/a; mkdir src/lib; echo 1 src/lib/b; echo 1 readme",
    ),
    "out of a folder that goes, under a folder that takes its name": (
        "mkdir d; echo d d/y; mkdir e; echo e e/x",
        "mv e/x d/new; rmdir e; mv d e",
    ),
    "the folder above is exchanged": (
        "mkdir a; mkdir a/d; echo 1 a/d/x; mkdir b; mkdir b/d; echo 2 b/d/x",
        "rm -rf a/d; mv b/d a/d; rmdir b; mv a b; mkdir a; mkdir a/d; echo 3 a/d/x",
    ),
    "made anew far below what took the name": (
        "mkdir t; mkdir t/s; echo 1 t/s/y; mkdir d; mkdir d/s; echo 2 d/s/x; mkdir d/s/e; mkdir d/s/e/e",
        "rm -rf d; mv t d; echo 3 d/s/x; mkdir d/s/e; mkdir d/s/e/e",
    ),
    "up over its parent, and so what is in it": (
        "mkdir a; mkdir a/b; mkdir a/b/b; echo 1 a/b/b/b; echo 2 a/b/b/c",
        "mv a/b t; rmdir a; mv t a",
    ),
    "through where something was removed, and is made anew": (
        "mkdir o; mkdir o/s; echo 1 o/s/x; mkdir d; mkdir d/s; echo 1 d/s/y",
        "rm -rf o; mv d o; mv o/s t; mkdir o/s; echo 2 o/s/x",
    ),
    "back to its name below another, out of which something goes": (
        "mkdir d; mkdir d/e; echo 1 d/e/x; mkdir n; mkdir n/g; echo 1 n/g/y",
        "mv d/e n/e; rmdir d; mv n d; mv d/g k",
    ),
    "removed in a folder that moves": (
        "mkdir a; mkdir a/g; echo 1 a/g/x; echo 1 a/y",
        "rm -rf a/g; mv a b; mkdir b/g; echo 2 b/g/x",
    ),
    "there and back, then removed": ("mkdir d; echo 1 d/x; echo 1 d/y", "mv d e; mv e d; rm d/x"),
    "moved there and back under another folder": (
        "mkdir d; echo 1 d/x",
        "mkdir t; mv d/x t/x; rmdir d; mv t d; mkdir t; mv d/x t/x; rmdir d; mv t d",
    ),
    "renamed, removed, and another renamed to it": (
        "mkdir d; echo 1 d/x; mkdir f; echo 2 f/x",
        "mv d e; rm -rf e; mv f e",
    ),
    "renamed, removed, and made": ("mkdir d; echo 1 d/x", "mv d e; rm -rf e; mkdir e; echo 2 e/x; mkdir d; echo 3 d/x"),
}

# What happens behind every system call.
HABITS: dict[str, Callable[[WorldMachine], object]] = {
    "at once": lambda m: None,
    "sealed": lambda m: m.seal(),
    "sealed and sent": lambda m: (m.seal(), m.work()),
    "sealed and sent, the feed followed": lambda m: (m.seal(), m.work(), m.feed()),
    "published": lambda m: m.publish(),
    "published, the feed followed": lambda m: m.step(),
    "noted late": lambda m: (m.note(), m.feed(), m.seal(), m.work()),
    "killed": lambda m: (m.tree.overlay.commit(), m.crash_mount(), m.seal(), m.work()),
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_what_the_person_did_is_what_everybody_shows(world: World, sequence: str, habit: str) -> None:
    before, then = SEQUENCES[sequence]
    yoga, bates = world.machine("yoga"), world.machine("bates")
    shell = Shell(yoga)
    shell.run(before)
    world.settle()
    assert bates.walk() == shell.files

    def between() -> None:
        assert yoga.walk() == shell.files
        HABITS[habit](yoga)
        assert yoga.walk() == shell.files

    shell.between = between
    shell.run(then)
    for _ in range(6):
        for step in (yoga.seal, yoga.work, yoga.note, yoga.feed):
            step()
            assert yoga.walk() == shell.files
    world.settle()
    world.verify()
    assert yoga.walk() == shell.files
    assert bates.walk() == shell.files


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("is_new", [False, True])
def test_a_renamed_folder_keeps_its_content_when_fleet_db_is_lost(world: World, is_new: bool, is_sealed: bool) -> None:
    yoga, bates = world.machine("yoga"), world.machine("bates")
    shell = Shell(yoga)
    shell.run("mkdir d; echo 1 d/x; echo 1 d/y")
    if is_new:
        yoga.seal(), yoga.work()
    else:
        world.settle()
    shell.run("mv d e; echo 2 e/y")
    yoga.note()
    if is_sealed:
        yoga.seal()
    yoga.tree.overlay.commit()
    yoga.lose_fleet_db()
    assert yoga.walk() == shell.files
    world.settle()
    world.verify()
    assert [machine.walk() for machine in (yoga, bates)] == [shell.files] * 2


def test_two_folders_of_one_path_when_fleet_db_is_lost(world: World) -> None:
    """One that was removed, and the one that was made there, are the same for the new fleet.db."""
    yoga, bates = world.machine("yoga"), world.machine("bates")
    shell = Shell(yoga)
    shell.run("mkdir d; echo 1 d/x; echo 1 d/y")
    world.settle()
    shell.run("rm -rf d; mkdir d; echo 2 d/x")
    yoga.seal(), yoga.work()
    shell.run("echo 3 d/x; echo 3 d/z; rm -rf d; mkdir d; echo 4 d/x")
    yoga.tree.overlay.commit()
    yoga.lose_fleet_db()
    assert yoga.text("d/x") == "4"
    world.settle()
    world.verify()
    for machine in (yoga, bates):  # what was published before the loss may be a conflict now
        assert b"4" in [content for path, content in machine.walk().items() if path.startswith("d/x")]


@pytest.mark.parametrize("steps", ["", "seal", "seal work", "seal work note"])
def test_a_folder_takes_the_name_of_what_two_renames_carry_along(world: World, steps: str) -> None:
    """The file was removed before they were published; the folder that came there has seen it, whatever its path."""
    yoga, bates = world.machine("yoga"), world.machine("bates")
    yoga.mkdir("a")
    yoga.mkdir("a/d")
    yoga.write("a/d/e", b"file")
    yoga.mkdir("b")
    yoga.write("b/in", b"1")
    world.settle()
    yoga.rename("a", "q")
    for step in steps.split():
        getattr(yoga, step)()
    yoga.unlink("q/d/e")
    yoga.rename("b", "q/d/e")
    yoga.rename("q", "c")
    world.settle()
    world.verify()
    for machine in (yoga, bates):
        assert machine.walk() == {"c": None, "c/d": None, "c/d/e": None, "c/d/e/in": b"1"}


def test_a_removal_is_noted_while_two_folders_of_its_path_are_gone(world: World) -> None:
    """What the second one left has seen it, too, and hands that on to what is made there in the third."""
    yoga, bates = world.machine("yoga"), world.machine("bates")
    shell = Shell(yoga)
    shell.run("mkdir e; echo 1 e/x")
    world.settle()
    shell.run("rm -rf e")
    yoga.seal()
    shell.run("mkdir e; echo 2 e/x")
    yoga.work()
    shell.run("rm -rf e; mkdir e; mkdir e/e")
    yoga.note()
    seal_round = sealing.begin(yoga.tree.state, ["e/e"])
    seal_round.sync()
    sealing.finish(yoga.tree.state, seal_round)
    shell.run("echo 3 e/x")
    world.settle()
    world.verify()
    for machine in (yoga, bates):
        assert machine.walk() == shell.files


def test_what_others_have_hidden_is_not_seen_by_what_takes_its_path(world: World) -> None:
    """Also where the removal of something older has gone out with it."""
    yoga, bates = world.machine("yoga"), world.machine("bates")
    Shell(yoga).run("mkdir e; echo 1 e/x")
    world.settle()
    Shell(yoga).run("mkdir d; echo 3 d/x")
    yoga.unlink("e/x"), yoga.rmdir("e"), yoga.mkdir("e")
    file = yoga.create("e/x")
    file.write(0, b"2")
    yoga.seal(), yoga.work(), yoga.note(), yoga.feed()
    bates.learn(), bates.feed()
    bates.unlink("e/x")
    bates.rmdir("e")
    bates.seal(), bates.work()
    yoga.release(file)
    yoga.seal()
    yoga.learn()
    assert yoga.names() == ["d"]
    yoga.rename("d", "e")
    yoga.write("e/x", b"4")
    yoga.work(), yoga.note()
    world.settle()
    world.verify()
    for machine in (yoga, bates):
        assert sorted(what for what in machine.walk().values() if what is not None) == [b"2", b"4"]
