"""Large files that become short, or go: their space is given back elsewhere than in the request loop."""

import os
from pathlib import Path

import pytest
from treekit import Fleet, Machine

from fs.tree import sealing, shrink
from fs.tree.files import OpenFile

LARGE = shrink.AT_ONCE + shrink.COPY_MAX


@pytest.fixture
def yoga(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(shrink, "AT_ONCE", 1000)
    monkeypatch.setattr(shrink, "COPY_MAX", 100)
    return fleet.machine("yoga")


@pytest.fixture
def removed(yoga: Machine) -> list[str | int]:
    """What would be removed by a thread."""
    found: list[str | int] = []
    yoga.tree.overlay.remove = found.extend
    return found


def large(yoga: Machine, path: str = "a") -> OpenFile:
    handle = yoga.create(path)
    handle.write(0, bytes(range(200)) * 50)
    return handle


def work_path(handle: OpenFile) -> Path:
    assert handle.node.work is not None
    return Path(handle.node.work.path)


def test_an_emptied_file_gets_a_new_work_file(yoga: Machine, removed: list[str | int]) -> None:
    yoga.release(large(yoga))
    handle = yoga.open("a", write=True)
    old = work_path(handle)
    yoga.tree.setattr(yoga.ino("a"), size=0)
    assert old.stat().st_size == 10_000
    assert removed == []
    yoga.tree.overlay.commit()
    assert removed == [str(old)]
    handle.write(0, b"new")
    yoga.release(handle)
    assert yoga.read("a") == b"new"
    yoga.check()
    yoga.cycle()
    assert yoga.read("a") == b"new"


def test_what_is_kept_of_a_little_is_copied(yoga: Machine) -> None:
    yoga.release(large(yoga))
    yoga.tree.setattr(yoga.ino("a"), size=70)
    assert yoga.tree.take_cut() is None
    yoga.tree.setattr(yoga.ino("a"), size=90)
    assert yoga.read("a") == bytes(range(70)) + bytes(20)
    yoga.tree.overlay.commit()
    yoga.restart()
    assert yoga.read("a") == bytes(range(70)) + bytes(20)
    yoga.cycle()


def test_a_file_that_dies_before_the_commit_is_as_it_was(yoga: Machine) -> None:
    yoga.release(large(yoga))
    yoga.tree.setattr(yoga.ino("a"), size=0)
    yoga.restart()
    assert len(yoga.read("a")) == 10_000
    yoga.cycle()


def test_a_file_that_is_cut_by_a_thread_is_not_sealed_meanwhile(yoga: Machine) -> None:
    handle = large(yoga)
    handle.flush()
    old = work_path(handle)
    yoga.tree.setattr(handle.node.id, size=5000)
    cut = yoga.tree.take_cut()
    assert cut is not None
    assert yoga.tree.take_cut() is None
    assert old.stat().st_size == 10_000
    assert yoga.attr("a").size == 5000
    assert yoga.bytes_of(handle) == bytes(range(200)) * 25
    assert not sealing.begin(yoga.tree.state, None, include_busy=True)
    yoga.fleet.clock.elapsed += 1
    assert sealing.seal_due(yoga.tree.state, yoga.env.monotonic()).ready == 0
    cut()
    yoga.tree.cut_done(cut)
    assert old.stat().st_size == 5000
    yoga.release(handle)
    yoga.cycle()
    assert yoga.read("a") == bytes(range(200)) * 25


def test_a_cut_that_never_came_is_made_at_the_next_start(yoga: Machine) -> None:
    handle = large(yoga)
    handle.flush()
    old = work_path(handle)
    yoga.tree.setattr(handle.node.id, size=5000)
    cut = yoga.tree.take_cut()
    assert cut is not None
    os.close(cut.fd)
    yoga.restart()
    assert old.stat().st_size == 5000
    assert yoga.read("a") == bytes(range(200)) * 25
    yoga.cycle()


def test_a_disk_that_takes_no_new_file_leaves_the_old_one(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = large(yoga)
    handle.flush()
    old = work_path(handle)

    def no_space(*args: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_space)
        yoga.tree.setattr(handle.node.id, size=0)
    assert yoga.tree.take_cut() is None
    assert work_path(handle) == old
    assert old.stat().st_size == 0
    yoga.release(handle)
    yoga.cycle()
    assert yoga.read("a") == b""


def test_a_removed_file_is_closed_and_then_removed_by_a_thread(yoga: Machine, removed: list[str | int]) -> None:
    handle = large(yoga)
    handle.flush()
    path = str(work_path(handle))
    yoga.unlink("a")
    yoga.tree.overlay.commit()
    assert removed == []
    yoga.release(handle)
    assert removed == [path]
    assert os.path.getsize(path) == 10_000


def test_a_file_without_a_name_is_closed_by_a_thread(yoga: Machine, removed: list[str | int]) -> None:
    handle = large(yoga)
    handle.flush()
    yoga.tree.state.inodes.known.clear()
    yoga.unlink("a")
    yoga.tree.overlay.commit()
    path = str(work_path(handle))
    assert removed == [path]
    yoga.release(handle)
    fd = removed[1]
    assert isinstance(fd, int)
    assert os.fstat(fd).st_size == 10_000
    os.close(fd)


def test_a_removed_file_that_is_emptied(yoga: Machine, removed: list[str | int]) -> None:
    handle = large(yoga)
    handle.flush()
    first = work_path(handle)
    yoga.unlink("a")
    yoga.tree.overlay.commit()
    yoga.tree.setattr(handle.node.id, size=0)
    second = work_path(handle)
    assert second != first
    handle.write(0, b"still here")
    assert yoga.bytes_of(handle) == b"still here"
    yoga.release(handle)
    assert [item for item in removed if isinstance(item, str)] == [str(first), str(second)]
    for item in removed:
        if isinstance(item, int):
            os.close(item)


def test_what_is_small_is_cut_in_passing(fleet: Fleet) -> None:
    bates = fleet.machine("bates")
    handle = bates.create("a")
    handle.write(0, bytes(1000))
    path = work_path(handle)
    bates.tree.setattr(handle.node.id, size=10)
    assert bates.tree.take_cut() is None
    assert work_path(handle) == path
    assert path.stat().st_size == 10
    bates.release(handle)
    bates.cycle()
