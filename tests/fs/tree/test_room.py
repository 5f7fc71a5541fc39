"""A full disk under tree.db and the work files: what is refused, what goes through; nothing is lost, or half."""

import errno
import os
import sqlite3
from collections.abc import Callable

import pytest
from treekit import Fleet, Machine

from fs.tree import sealing
from fs.tree.model import FILE
from fs.tree.overlay import Overlay
from sync.core.errors import AlreadyExists, NoSpace
from sync.state import ballast


class Disk:
    """The disk of one machine. full: no byte for files, and for rows only without the ballast. stuck: not even then."""

    def __init__(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = self.stuck = False
        self.machine = machine
        self.ballast = machine.paths.ballast
        self._pwrite = os.pwrite
        self._transact = machine.tree.overlay._transact
        monkeypatch.setattr(os, "pwrite", self.pwrite)
        monkeypatch.setattr(ballast, "has_room", lambda path: not self.full)
        monkeypatch.setattr(ballast, "_allocate", lambda fd: os.truncate(fd, ballast.SIZE))
        monkeypatch.setattr(machine.tree.overlay, "_transact", self.transact)
        assert ballast.keep(self.ballast)
        machine.tree.overlay.commit(full=True)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._pwrite(fd, data, offset)

    def transact(self, full: bool) -> object:
        if self.stuck or (self.full and self.ballast.exists()):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return self._transact(full)

    def free(self) -> None:
        self.full = self.stuck = False


@pytest.fixture
def disk(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(yoga, monkeypatch)


def test_a_commit_has_the_ballasts_space(yoga: Machine, disk: Disk) -> None:
    yoga.write("f", b"kept")
    disk.full = True
    yoga.unlink("f")
    yoga.tree.overlay.commit()
    assert not disk.ballast.exists()
    assert yoga.tree.overlay.trouble == ""
    assert yoga.tree.statfs().f_bavail == 0


def test_what_needs_room_is_refused_and_changes_nothing(yoga: Machine, disk: Disk) -> None:
    yoga.write("f", b"as it was")
    yoga.cycle()
    yoga.write("local", b"not published")
    disk.full = True
    yoga.tree.setattr(yoga.ino("f"), mode=0o600)
    yoga.tree.overlay.commit()
    file = yoga.open("f", write=True)
    refused: list[Callable[[], object]] = [
        lambda: yoga.create("new"),
        lambda: yoga.mkdir("d"),
        lambda: yoga.symlink("s", "target"),
        lambda: file.write(0, b"x"),
        lambda: yoga.open("f", write=True, truncate=True),
        lambda: yoga.tree.setattr(yoga.ino("f"), size=3),
        lambda: yoga.tree.setxattr(yoga.ino("f"), "user.a", b"x"),
    ]
    for act in refused:
        with pytest.raises(NoSpace):
            act()
    yoga.release(file)
    with pytest.raises(AlreadyExists):  # which comes first: open(O_CREAT) opens what is there
        yoga.tree.create(1, "f", FILE, 0o644, 0, 0)
    assert yoga.walk() == {"f": b"as it was", "local": b"not published"}
    assert yoga.attr("f").mode == 0o600


def test_what_gives_space_back_goes_through(yoga: Machine, disk: Disk) -> None:
    for name in ("a", "b", "c"):
        yoga.write(name, b"x" * 1000)
    work_dir = yoga.paths.work_dir
    disk.full = True
    yoga.rename("a", "z")
    yoga.unlink("b")
    yoga.tree.overlay.commit()
    yoga.tree.setattr(yoga.ino("c"), size=0)
    yoga.release(yoga.open("z", write=True, truncate=True))
    assert yoga.walk() == {"c": b"", "z": b""}
    assert sum(path.stat().st_size for path in work_dir.glob("*/*")) == 0
    disk.free()
    yoga.write("z", b"again")
    assert disk.ballast.exists()
    assert yoga.read("z") == b"again"


def test_a_write_that_fails_leaves_what_was_there(yoga: Machine, disk: Disk) -> None:
    yoga.write("f", b"published")
    yoga.cycle()
    file = yoga.open("f", write=True)
    file.write(0, b"PUB")
    disk.full = True
    with pytest.raises(OSError, match="No space"):
        file.write(3, b"LISHED")
    assert yoga.bytes_of(file) == b"PUBlished"
    yoga.release(file)
    disk.free()
    yoga.restart()
    assert yoga.read("f") == b"PUBlished"


def test_a_work_file_that_cannot_be_made_has_no_row(yoga: Machine, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    file = yoga.create("f")

    def no_inodes(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as without:
        without.setattr("fs.work.workfile.create_file", no_inodes)
        with pytest.raises(OSError, match="No space"):
            file.write(0, b"x")
    yoga.release(file)
    assert yoga.tree.overlay.stored_work_ids() == set()
    yoga.restart()
    yoga.patch("f", 0, b"x")
    assert yoga.read("f") == b"x"


def test_a_close_finds_that_the_disk_is_full(yoga: Machine, disk: Disk) -> None:
    yoga.write("f", b"kept")
    yoga.cycle()
    file = yoga.create("large")
    file.write(0, b"x")
    disk.full = True
    yoga.paths.ballast.unlink()  # by the engine
    file.flush()
    with pytest.raises(NoSpace):
        yoga.open("f", write=True, truncate=True)
    assert yoga.read("f") == b"kept"


def test_a_write_finds_that_the_disk_is_full(yoga: Machine, disk: Disk) -> None:
    yoga.write("f", b"kept")
    yoga.cycle()
    file = yoga.create("large")
    disk.full = True
    with pytest.raises(OSError, match="No space"):
        file.write(0, b"x")
    with pytest.raises(NoSpace):
        yoga.open("f", write=True, truncate=True)
    assert yoga.read("f") == b"kept"


def test_without_room_even_for_rows_all_stays_in_memory(yoga: Machine, disk: Disk) -> None:
    yoga.write("f", b"kept")
    yoga.tree.overlay.commit(full=True)
    file = yoga.open("f", write=True)
    file.write(4, b" and more")
    disk.full = disk.stuck = True
    file.flush()  # the redo log has its space
    file.release()
    yoga.files.remove(file)
    yoga.rename("f", "g")
    with pytest.raises(NoSpace):
        yoga.tree.overlay.commit()
    assert "full" in yoga.tree.overlay.trouble
    assert yoga.walk() == {"g": b"kept and more"}
    disk.free()
    yoga.tree.overlay.commit()
    assert yoga.tree.overlay.trouble == ""
    yoga.restart()
    assert yoga.walk() == {"g": b"kept and more"}


def test_what_came_is_told_to_the_kernel_though_it_cannot_be_committed(fleet: Fleet, yoga: Machine, disk: Disk) -> None:
    bates = fleet.machine("bates")
    yoga.write("mine", b"x")
    yoga.seal()
    yoga.publish()
    bates.write("theirs", b"y")
    bates.cycle()
    yoga.learn()
    disk.full = disk.stuck = True
    yoga.note()
    assert "theirs" in {item.name for item in yoga.told}
    assert yoga.walk() == {"mine": b"x", "theirs": b"y"}
    disk.free()
    yoga.tree.overlay.commit()
    assert yoga.seals() == []
    yoga.restart()
    assert yoga.walk() == {"mine": b"x", "theirs": b"y"}
    assert yoga.publish() == []


def test_a_seal_that_the_disk_refused_is_none(yoga: Machine, disk: Disk) -> None:
    """Its row must not come with a later commit: the engine would read a file that is written to."""
    yoga.write("f", b"one")
    seal_round = sealing.begin(yoga.tree.state)
    seal_round.sync()
    disk.full = disk.stuck = True
    with pytest.raises(NoSpace):
        sealing.finish(yoga.tree.state, seal_round)
    sealing.abort(yoga.tree.state, seal_round)
    disk.free()
    yoga.tree.overlay.commit()
    assert yoga.seals() == []
    yoga.patch("f", 0, b"ONE more")
    yoga.cycle()
    assert yoga.walk() == {"f": b"ONE more"}
    assert len(yoga.fleet.records) == 1


def test_an_old_name_waits_for_its_node_though_a_seal_was_refused(yoga: Machine, disk: Disk) -> None:
    yoga.write("old", b"content")
    yoga.cycle()
    yoga.rename("old", "new")
    seal_round = sealing.begin(yoga.tree.state)
    seal_round.sync()
    disk.full = disk.stuck = True
    with pytest.raises(NoSpace):
        sealing.finish(yoga.tree.state, seal_round)
    sealing.abort(yoga.tree.state, seal_round)
    disk.free()
    file = yoga.open("new", write=True)  # busy: it cannot be sealed now
    assert yoga.seal() == []
    yoga.release(file)
    assert [(seal.op, seal.path) for seal in yoga.seal()] == [("put", "new"), ("remove", "old")]


def test_layers_that_the_disk_cannot_join_stay_and_wait(yoga: Machine, disk: Disk) -> None:
    yoga.write("f", b"lower layer")
    yoga.write("other", b"other")
    seal_round = sealing.begin(yoga.tree.state, ["f"])
    file = yoga.open("f", write=True)
    file.write(0, b"UPPER")
    disk.full = True
    sealing.abort(yoga.tree.state, seal_round)
    yoga.release(file)
    assert yoga.read("f") == b"UPPER layer"
    assert [seal.path for seal in yoga.seal()] == ["other"]
    yoga.check()
    yoga.restart()
    assert yoga.read("f") == b"UPPER layer"
    disk.free()
    yoga.cycle()
    assert yoga.read("f") == b"UPPER layer"
    assert yoga.fleet.records[-1][1].count(b'"rel_path":"f"') == 1


def test_an_fsync_that_fails_promises_nothing(yoga: Machine, disk: Disk) -> None:
    file = yoga.create("f")
    file.write(0, b"x")
    disk.full = disk.stuck = True
    with pytest.raises(NoSpace):
        yoga.fsync(file)
    assert file.node.unflushed
    assert not file.node.synced
    disk.free()
    yoga.fsync(file)
    assert file.node.synced
    yoga.release(file)


def test_a_ballast_that_the_engine_gave_up_counts_as_well(yoga: Machine, disk: Disk) -> None:
    yoga.write("f", b"x")
    disk.full = True
    ballast.give_up(disk.ballast)
    yoga.tree.setattr(yoga.ino("f"), mode=0o600)
    yoga.tree.overlay.commit()
    with pytest.raises(NoSpace):
        yoga.mkdir("d")
    disk.free()
    yoga.mkdir("d")
    assert disk.ballast.exists()


def test_a_mount_that_starts_on_a_full_disk_fills_it_no_further(yoga: Machine, disk: Disk) -> None:
    yoga.write("f", b"x")
    disk.full = True
    ballast.give_up(disk.ballast)
    yoga.restart()
    with pytest.raises(NoSpace):
        yoga.mkdir("d")
    disk.free()
    yoga.mkdir("d")
    assert disk.ballast.exists()


def test_a_mount_starts_though_nothing_can_be_committed(
    yoga: Machine, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    yoga.write("f", b"x")
    orphan = yoga.paths.work_dir / "77" / f"{0x77:016x}"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"of a mount that was killed")
    disk.full = disk.stuck = True
    monkeypatch.setattr(Overlay, "_transact", lambda self, full: disk.transact(full))
    yoga.restart()
    assert "full" in yoga.tree.overlay.trouble
    assert not orphan.exists()
    assert yoga.walk() == {"f": b"x"}
    monkeypatch.undo()
    disk.free()
    yoga.tree.overlay.commit(full=True)
    assert yoga.tree.overlay.trouble == ""
