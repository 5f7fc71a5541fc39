"""Saving: in which order things come to the disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from treekit import Fleet, Machine

from fs.pace import Pace
from fs.tasks.saving import Saver
from fs.work.writeback import RUN_BYTES


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Machine]:
    with Fleet(tmp_path) as fleet:
        yield fleet.machine("yoga")


@pytest.fixture
def saver(yoga: Machine) -> Saver:
    return Saver(yoga.tree.state, Pace(yoga.env.monotonic), lambda: None)


def test_commits_are_on_the_disk_before_files_go_that_they_do_without(
    yoga: Machine, saver: Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fdatasync, unlink = os.fdatasync, os.unlink

    def syncing(fd: int) -> None:
        order.append(os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[2])
        fdatasync(fd)

    def removing(path: str) -> None:
        order.append(path.rpartition("/")[2])
        unlink(path)

    async def run() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(saver.tidy)
                await trio.testing.wait_all_tasks_blocked()
                yoga.unlink("f")
                yoga.tree.overlay.commit()
                while work.exists():
                    await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()

    yoga.write("f", b"1")
    (work,) = (path for path in yoga.paths.work_dir.rglob("*") if path.is_file())
    monkeypatch.setattr(os, "fdatasync", syncing)
    monkeypatch.setattr(os, "unlink", removing)
    trio.run(run)
    assert order == ["tree.db-wal", work.name]


def test_a_large_file_starts_for_the_disk_while_it_is_written(yoga: Machine, saver: Saver) -> None:
    async def run() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(saver.write_back)
                await trio.testing.wait_all_tasks_blocked()
                handle = yoga.create("large")
                for start in range(0, RUN_BYTES, 1 << 20):
                    assert not yoga.tree.overlay.writeback.is_due
                    handle.write(start, bytes(1 << 20))
                assert yoga.tree.overlay.writeback.is_due
                saver.changed()
                while yoga.tree.overlay.writeback.is_due:
                    await trio.testing.wait_all_tasks_blocked()
                handle.flush()
                handle.release()
                nursery.cancel_scope.cancel()

    trio.run(run)
