"""Which handles write past the kernel's pages, and what that leaves to us."""

import os
from collections.abc import Coroutine
from typing import Any

import pytest
import trio
from treekit import Machine

from fs.ops import direct
from fs.ops import open as open_ops
from fs.ops import read as read_ops
from fs.ops.volume import Volume
from fs.ops.write import write
from fs.tree import local_xattrs
from sync.state.rows import ROOT_ID

NEW = os.O_WRONLY | os.O_CREAT


def created(volume: Volume, name: bytes, flags: int = NEW, mode: int = 0o644, uid: int = 1000) -> int:
    return open_ops.create(volume, ROOT_ID, name, mode, flags, uid, uid)[0]


def again(volume: Volume, handle: int, flags: int, uid: int = 1000) -> int:
    return open_ops.open_file(volume, volume.handles[handle].ino, flags, 0, uid)


def read(volume: Volume, handle: int, size: int = 100) -> bytes:
    return trio.run(read_ops.read, volume, handle, 0, size)


def write_now(volume: Volume, handle: int, offset: int, data: bytes) -> int:
    """Written without waiting."""
    written = write(volume, handle, offset, data)
    assert isinstance(written, int)
    return written


class Kernel:
    """Does what a test asks for while pages are dropped."""

    def __init__(self) -> None:
        self.dropped: list[int] = []
        self.meanwhile = lambda: None

    def invalidate_inode(self, inode: int, attr_only: bool = False) -> None:
        assert not attr_only
        self.dropped.append(inode)
        trio.from_thread.run_sync(self.meanwhile)

    def invalidate_entry(self, inode_p: int, name: bytes, deleted: int = 0) -> None: ...


@pytest.fixture
def kernel(volume: Volume) -> Kernel:
    made = Kernel()
    volume.invalidations._kernel = made  # type: ignore[assignment]
    return made


def finish(coroutine: int | Coroutine[Any, Any, int]) -> int:
    assert not isinstance(coroutine, int)

    async def run() -> int:
        return await coroutine

    return trio.run(run)


@pytest.mark.parametrize(
    ("flags", "is_direct"),
    [
        (os.O_WRONLY, True),
        (os.O_WRONLY | os.O_APPEND, True),
        (os.O_RDWR, False),
        (os.O_RDONLY, False),
        (os.O_WRONLY | os.O_SYNC, False),
        (os.O_WRONLY | os.O_DSYNC, False),
    ],
)
def test_handles_that_can_only_write_an_empty_file(volume: Volume, flags: int, is_direct: bool) -> None:
    made = created(volume, b"a", flags | os.O_CREAT)
    assert volume.handles[made].is_direct is is_direct
    filled = created(volume, b"b")
    assert volume.handles[again(volume, filled, flags)].is_direct is is_direct
    write_now(volume, filled, 0, b"x")
    assert not volume.handles[again(volume, filled, flags)].is_direct
    assert volume.handles[again(volume, filled, flags | os.O_TRUNC)].is_direct is is_direct


def test_pages_are_dropped_once_behind_each_read(volume: Volume, kernel: Kernel) -> None:
    handle = created(volume, b"a")
    reader = again(volume, handle, os.O_RDONLY)
    write_now(volume, handle, 0, b"old")
    assert read(volume, reader) == b"old"
    assert finish(write(volume, handle, 0, b"new")) == 3
    assert kernel.dropped == [volume.handles[handle].ino]
    write_now(volume, handle, 3, b"er")
    assert read(volume, reader) == b"newer"
    volume.handles[again(volume, handle, os.O_WRONLY | os.O_TRUNC)]  # with that the kernel drops them itself
    write_now(volume, handle, 0, b"anew")
    assert len(kernel.dropped) == 1


def test_what_a_mapping_writes_back_meanwhile_does_not_cover_what_is_written(volume: Volume, kernel: Kernel) -> None:
    handle = created(volume, b"a")
    mapped = again(volume, handle, os.O_RDWR)
    write_now(volume, handle, 0, b"." * 12)
    read(volume, mapped)
    kernel.meanwhile = lambda: [  # type: ignore[assignment,return-value]
        write_now(volume, mapped, start, b"m" * length) for start, length in ((0, 12), (2, 3), (5, 2), (9, 1))
    ]
    assert finish(write(volume, handle, 4, b"1234")) == 4
    assert read(volume, mapped) == b"mmmm1234mmmm"
    write_now(volume, mapped, 0, b"-" * 12)
    assert read(volume, mapped) == b"-" * 12


def test_a_reader_that_waits_for_content_is_not_waited_for(volume: Volume, kernel: Kernel) -> None:
    handle = created(volume, b"a")
    write_now(volume, handle, 0, b"old")
    read(volume, again(volume, handle, os.O_RDONLY))
    with volume.invalidations.request(volume.handles[handle].ino):
        assert finish(write(volume, handle, 0, b"new")) == 3
    assert not kernel.dropped
    assert [item.kind for item in volume.invalidations.take()] == ["data"]


@pytest.mark.parametrize(
    ("uid", "before", "behind"),
    [(0, 0o6755, 0o6755), (1000, 0o6755, 0o755), (1000, 0o2644, 0o2644), (1000, 0o4600, 0o600), (1000, 0o755, 0o755)],
)
def test_privileges_go_with_a_write(volume: Volume, yoga: Machine, uid: int, before: int, behind: int) -> None:
    handle = created(volume, b"a", uid=uid)
    ino = volume.handles[handle].ino
    yoga.tree.setattr(ino, mode=before)
    write_now(volume, handle, 0, b"x")
    assert yoga.tree.attr(ino).mode & 0o7777 == behind


def test_capabilities_go_with_a_write(volume: Volume, yoga: Machine) -> None:
    handle = created(volume, b"a", uid=0)
    open_handle = volume.handles[handle]
    local_xattrs.put(yoga.tree.state, open_handle.file.node, direct.CAPABILITIES, b"some")
    write_now(volume, handle, 0, b"x")
    assert not local_xattrs.of(yoga.tree.state, open_handle.ino)


def test_dropping_pages_takes_no_thread_that_a_read_may_wait_for(volume: Volume, kernel: Kernel) -> None:
    """The kernel drops a page when the read of it is answered; that read may have to look at a cached chunk first."""
    handle = created(volume, b"a")
    write_now(volume, handle, 0, b"old")
    read(volume, again(volume, handle, os.O_RDONLY))
    free: list[float] = []
    kernel.meanwhile = lambda: free.append(volume.disk_threads.available_tokens)
    finish(write(volume, handle, 0, b"new"))
    assert free == [volume.disk_threads.total_tokens]
