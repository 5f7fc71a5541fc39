"""What the tasks beside the requests do with the tree."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from blake3 import blake3
from treekit import Fleet, Machine

from fs.hydrate.cache import CachedContent
from fs.hydrate.reader import VersionReader
from fs.ops.volume import Volume
from fs.tasks import Tasks
from fs.tree.kernel import Invalidations
from fs.work.writeback import RUN_BYTES
from sync.state.policies import PolicyFile


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Machine]:
    with Fleet(tmp_path) as fleet:
        yield fleet.machine("yoga")


@pytest.fixture
def tasks(yoga: Machine) -> Tasks:
    """Without a kernel and an engine: neither is asked for what is tested here."""
    reader = VersionReader(
        yoga.tree.state.view, CachedContent(yoga.paths.cache_dir, lambda data: blake3(data).digest())
    )
    kernel = Invalidations(None, yoga.tree.is_known)  # type: ignore[arg-type]
    volume = Volume(yoga.env, yoga.tree, reader, None, kernel, "epoch")  # type: ignore[arg-type]
    return Tasks(volume, lambda: None, PolicyFile(yoga.paths.config_dir / "policies.toml"))


def test_commits_are_on_the_disk_before_files_go_that_they_do_without(
    yoga: Machine, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
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
                nursery.start_soon(tasks._tidy)
                await trio.testing.wait_all_tasks_blocked()
                yoga.unlink("f")
                yoga.tree.commit()
                while work.exists():
                    await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()

    yoga.write("f", b"1")
    (work,) = (path for path in yoga.paths.work_dir.rglob("*") if path.is_file())
    monkeypatch.setattr(os, "fdatasync", syncing)
    monkeypatch.setattr(os, "unlink", removing)
    trio.run(run)
    assert order == ["tree.db-wal", work.name]


def test_a_large_file_starts_for_the_disk_while_it_is_written(yoga: Machine, tasks: Tasks) -> None:
    async def run() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tasks._write_back)
                await trio.testing.wait_all_tasks_blocked()
                handle = yoga.create("large")
                for start in range(0, RUN_BYTES, 1 << 20):
                    assert not yoga.tree.writeback.is_due
                    handle.write(start, bytes(1 << 20))
                assert yoga.tree.writeback.is_due
                tasks.changed()
                while yoga.tree.writeback.is_due:
                    await trio.testing.wait_all_tasks_blocked()
                handle.flush()
                handle.release()
                nursery.cancel_scope.cancel()

    trio.run(run)
