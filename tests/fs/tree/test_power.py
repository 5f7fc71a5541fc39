"""A power cut may take the last commits of tree.db, and leave what was done to work files after them."""

import os

import pytest
from powerkit import Disk
from treekit import Machine

from fs.tree import shrink


def write_synced(yoga: Machine, disk: Disk, data: bytes) -> None:
    file = yoga.open("f", write=True, truncate=True) if yoga.exists("f") else yoga.create("f")
    file.write(0, data)
    yoga.fsync(file)
    disk.is_synced()
    yoga.release(file)


def test_what_was_synced_is_there_though_it_was_replaced(yoga: Machine, disk: Disk) -> None:
    write_synced(yoga, disk, b"synced")
    yoga.write("f.new", b"new")
    yoga.rename("f.new", "f")
    yoga.tree.overlay.commit()
    disk.cut_power()
    assert yoga.read("f") == b"synced"


def test_what_was_synced_is_there_or_not_when_it_was_removed(yoga: Machine, disk: Disk) -> None:
    write_synced(yoga, disk, b"synced")
    yoga.unlink("f")
    yoga.tree.overlay.commit()
    disk.cut_power()
    assert yoga.walk() in ({}, {"f": b"synced"})


@pytest.mark.parametrize("new", [b"", b"new", b"new and longer"])
@pytest.mark.parametrize("published", [False, True])
def test_what_was_synced_is_there_though_it_was_written_anew(
    yoga: Machine, disk: Disk, new: bytes, published: bool
) -> None:
    if published:
        yoga.write("f", b"published")
        yoga.cycle()
    write_synced(yoga, disk, b"synced")
    yoga.write("f", new)
    yoga.tree.overlay.commit()
    disk.cut_power()
    assert yoga.read("f") == b"synced"


def test_what_was_synced_is_there_though_the_next_mount_wrote_it_anew(yoga: Machine, disk: Disk) -> None:
    write_synced(yoga, disk, b"synced")
    yoga.restart()
    yoga.tree.overlay.remove = disk.removable.extend
    disk.is_synced()
    yoga.write("f", b"new")
    yoga.tree.overlay.commit()
    disk.cut_power()
    assert yoga.read("f") == b"synced"


def test_what_was_synced_is_there_though_it_was_made_shorter(yoga: Machine, disk: Disk) -> None:
    write_synced(yoga, disk, b"synced")
    yoga.tree.setattr(yoga.ino("f"), size=3)
    yoga.tree.overlay.commit()
    disk.cut_power()
    assert yoga.read("f") == b"synced"


def test_what_was_synced_is_there_though_a_thread_makes_it_shorter(
    yoga: Machine, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of which too much is kept to be copied."""
    monkeypatch.setattr(shrink, "COPY_MAX", 2)
    write_synced(yoga, disk, b"synced")
    fdatasync = os.fdatasync

    def syncing(fd: int) -> None:
        fdatasync(fd)
        disk.is_synced()

    yoga.tree.setattr(yoga.ino("f"), size=4)
    cut = yoga.tree.take_cut()
    assert cut is not None
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", syncing)
        cut()
    yoga.tree.cut_done(cut)
    disk.cut_power()
    assert yoga.read("f") == b"sync"


def test_what_was_written_in_place_over_synced_bytes_is_there_or_not(yoga: Machine, disk: Disk) -> None:
    yoga.write("f", b"published")
    yoga.cycle()
    write_synced(yoga, disk, b"synced")
    yoga.patch("f", 0, b"S")
    yoga.tree.overlay.commit()
    disk.cut_power()
    assert yoga.walk() in ({"f": b"synced"}, {"f": b"Synced"})


def test_what_was_never_synced_is_cut_where_it_is(yoga: Machine, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "_replace", None)  # a new file costs more
    yoga.write("f", b"not synced")
    yoga.write("f", b"x")
    assert yoga.read("f") == b"x"


def test_the_log_is_synced_before_work_files_without_a_row_go(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount that died may have committed the removal of the row just before."""
    orphan = yoga.paths.work_dir / "77" / f"{0x77:016x}"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x")
    order: list[str] = []
    fdatasync, unlink = os.fdatasync, os.unlink

    def syncing(fd: int) -> None:
        order.append(os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[2])
        fdatasync(fd)

    def removing(path: str) -> None:
        order.append(path.rpartition("/")[2])
        unlink(path)

    monkeypatch.setattr(os, "fdatasync", syncing)
    monkeypatch.setattr(os, "unlink", removing)
    yoga.restart()
    assert order[:2] == ["tree.db-wal", orphan.name]
