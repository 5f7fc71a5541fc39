"""Fifos, sockets and device nodes: they stay here, over restarts, and others see that what had their name is gone."""

import pytest
from treekit import Fleet, Machine

from fs.tree.model import BLOCK_DEVICE, CHAR, FIFO, SOCKET, Attr
from sync.core.errors import AlreadyExists, NotFound
from sync.state.tree.reader import TreeReader


def mknod(machine: Machine, path: str, kind: int = FIFO, rdev: int = 0) -> Attr:
    return machine.tree.create(*machine.place(path), kind, 0o640, 1000, 1000, "", rdev)


def reported(machine: Machine) -> tuple[list[str], list[str], list[str]]:
    """(dirty, ignored, special) as status has them."""
    machine.tree.overlay.commit()
    reader = TreeReader(machine.env, machine.paths.tree_db)
    path_of = machine.db.view.path_of
    found = [item.path for item in reader.dirty(path_of)], reader.local_only(path_of), reader.special(path_of)
    reader.close()
    return found


@pytest.mark.parametrize("kind", [FIFO, SOCKET, CHAR, BLOCK_DEVICE])
def test_they_are_kept_and_never_published(yoga: Machine, kind: int) -> None:
    yoga.mkdir("d")
    attr = mknod(yoga, "d/s", kind, 0x501 if kind in (CHAR, BLOCK_DEVICE) else 0)
    assert (attr.kind, attr.mode, attr.nlink, attr.size) == (kind, 0o640, 1, 0)
    yoga.cycle()
    assert reported(yoga) == ([], [], ["d/s"])
    assert yoga.db.heads("d/s") == ()
    yoga.restart()
    assert yoga.attr("d/s")._replace(told=0) == attr
    with pytest.raises(AlreadyExists):
        mknod(yoga, "d/s")


def test_attributes_names_and_folders(yoga: Machine) -> None:
    yoga.mkdir("d")
    ino = mknod(yoga, "d/s").ino
    yoga.cycle()
    yoga.tree.setattr(ino, mode=0o600, uid=7, gid=8, mtime_ns=5)
    yoga.rename("d/s", "d/t")
    yoga.rename("d", "e")
    yoga.cycle()
    yoga.restart()
    found = yoga.attr("e/t")
    assert (found.ino, found.mode, found.uid, found.gid, found.mtime_ns) == (ino, 0o600, 7, 8, 5)
    assert reported(yoga) == ([], [], ["e/t"])
    yoga.unlink("e/t")
    yoga.rmdir("e")
    yoga.cycle()
    assert yoga.listing() == [] and reported(yoga) == ([], [], [])
    assert [path for path in ("d/s", "d/t", "e/t") if yoga.db.heads(path)] == []


@pytest.mark.parametrize("how", ["mkfifo", "mv"])
@pytest.mark.parametrize("is_published", [False, True])
def test_over_a_file_and_back(fleet: Fleet, yoga: Machine, how: str, is_published: bool) -> None:
    bates = fleet.machine("bates")
    yoga.write("a", b"one")
    if is_published:
        yoga.cycle()
    if how == "mkfifo":
        yoga.unlink("a")
        mknod(yoga, "a")
    else:
        mknod(yoga, "f")
        yoga.rename("f", "a")
    assert yoga.attr("a").kind == FIFO
    assert reported(yoga)[0] == (["a"] if is_published else reported(yoga)[0])
    yoga.cycle()
    bates.learn()
    assert not bates.exists("a") and yoga.attr("a").kind == FIFO
    assert reported(yoga) == ([], [], ["a"])
    yoga.write("g", b"two")
    yoga.rename("g", "a")
    yoga.cycle()
    bates.learn()
    assert bates.read("a") == b"two" and yoga.read("a") == b"two"
    assert bates.listing() == ["a"] and reported(yoga) == ([], [], [])


def test_what_another_machine_puts_at_the_name_shows_when_it_goes(fleet: Fleet, yoga: Machine) -> None:
    bates = fleet.machine("bates")
    mknod(yoga, "a")
    bates.write("a", b"theirs")
    bates.cycle()
    yoga.learn()
    assert yoga.attr("a").kind == FIFO
    yoga.cycle()
    yoga.unlink("a")
    assert yoga.read("a") == b"theirs"
    bates.learn()
    assert bates.read("a") == b"theirs"


def test_a_file_moved_over_one_does_not_replace_what_others_have_made(fleet: Fleet, yoga: Machine) -> None:
    bates = fleet.machine("bates")
    mknod(yoga, "a")
    bates.write("a", b"theirs")
    bates.cycle()
    yoga.learn()
    yoga.write("b", b"mine")
    yoga.rename("b", "a")
    yoga.cycle()
    assert yoga.read("a") == b"mine" and yoga.read("a.bates.conflict") == b"theirs"


def test_a_sibling_is_removed_beside_one(fleet: Fleet, yoga: Machine) -> None:
    bates = fleet.machine("bates")
    yoga.write("a", b"mine")
    bates.write("a", b"theirs")
    for machine in (yoga, bates, yoga):
        machine.cycle()
        machine.learn()
    yoga.unlink("a")
    mknod(yoga, "a")
    yoga.cycle()
    yoga.unlink("a.bates.conflict")
    yoga.cycle()
    bates.learn()
    assert yoga.listing() == ["a"] and bates.listing() == []
    with pytest.raises(NotFound):
        bates.attr("a")


def test_a_folder_that_others_remove_stays_for_what_is_in_it(fleet: Fleet, yoga: Machine) -> None:
    bates = fleet.machine("bates")
    yoga.mkdir("d")
    yoga.cycle()
    bates.learn()
    mknod(yoga, "d/s")
    bates.rmdir("d")
    bates.cycle()
    yoga.learn()
    yoga.note()
    assert yoga.attr("d/s").kind == FIFO
    yoga.unlink("d/s")
    yoga.note()
    yoga.rmdir("d") if yoga.exists("d") else None
    yoga.cycle()
    assert yoga.listing() == []


def test_a_new_tcfsignore_changes_nothing(yoga: Machine) -> None:
    mknod(yoga, "a")
    yoga.write(".tcfsignore", b"x\n")
    yoga.cycle()
    yoga.learn()
    assert reported(yoga) == ([], [], ["a"])


def test_they_stay_when_fleet_db_is_lost(yoga: Machine) -> None:
    yoga.mkdir("d")
    yoga.cycle()
    mknod(yoga, "d/s", CHAR, 0x103)
    yoga.tree.overlay.commit()
    yoga.lose_fleet_db()
    assert (yoga.attr("d/s").kind, yoga.attr("d/s").rdev) == (CHAR, 0x103)


@pytest.mark.parametrize("is_published", [True, False])
@pytest.mark.parametrize("is_exchange", [True, False])
def test_a_name_of_a_file_with_several_comes_to_one(
    fleet: Fleet, yoga: Machine, is_exchange: bool, is_published: bool
) -> None:
    """The name is shared as the others are: only what stands there was not."""
    yoga.write("a", b"1")
    yoga.link("a", "b")
    if is_published:
        yoga.cycle()
    mknod(yoga, "f")
    if is_exchange:
        yoga.tree.exchange(*yoga.place("a"), *yoga.place("f"))
        assert yoga.attr("a").kind == FIFO
        yoga.unlink("a")
    else:
        yoga.rename("a", "f")
    assert yoga.linked() == [["b", "f"]]
    yoga.cycle()
    yoga.cycle()
    yoga.check()
    bates = fleet.machine("bates")
    bates.learn()
    for machine in (yoga, bates):
        assert machine.walk() == {"b": b"1", "f": b"1"} and machine.linked() == [["b", "f"]]


@pytest.mark.parametrize("is_published", [True, False])
def test_a_folder_is_exchanged_with_one(fleet: Fleet, yoga: Machine, is_published: bool) -> None:
    yoga.mkdir("d")
    yoga.write("d/x", b"x")
    if is_published:
        yoga.cycle()
    mknod(yoga, "f")
    yoga.tree.exchange(*yoga.place("f"), *yoga.place("d"))
    assert yoga.attr("d").kind == FIFO and yoga.read("f/x") == b"x"
    yoga.cycle()
    yoga.check()
    bates = fleet.machine("bates")
    bates.learn()
    assert bates.walk() == {"f": None, "f/x": b"x"} and yoga.attr("d").kind == FIFO
