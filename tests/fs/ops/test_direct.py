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
from fs.tree.kernel import Invalidations
from sync.state.rows import ROOT_ID

NEW = os.O_WRONLY | os.O_CREAT


def created(volume: Volume, name: bytes, flags: int = NEW) -> int:
    return open_ops.create(volume, ROOT_ID, name, 0o644, flags, 1000, 1000)[0]


def again(volume: Volume, handle: int, flags: int) -> int:
    return open_ops.open_file(volume, volume.handles[handle].ino, flags)


def closed(volume: Volume, handle: int) -> None:
    trio.run(open_ops.release, volume, handle)


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
    volume.invalidations = Invalidations(made, volume.tree.is_known)  # type: ignore[arg-type]
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
    ino = volume.handles[made].ino
    another = open_ops.open_file(volume, ino, flags)
    assert not volume.handles[another].is_direct, "somebody has it open"
    closed(volume, another)
    closed(volume, made)
    again_empty = open_ops.open_file(volume, ino, flags)
    assert volume.handles[again_empty].is_direct is is_direct
    if flags & os.O_ACCMODE:
        write_now(volume, again_empty, 0, b"x")
        closed(volume, again_empty)
        filled = open_ops.open_file(volume, ino, flags)
        assert not volume.handles[filled].is_direct
        closed(volume, filled)
        assert volume.handles[open_ops.open_file(volume, ino, flags | os.O_TRUNC)].is_direct is is_direct


def test_pages_are_dropped_once_behind_each_read(volume: Volume, kernel: Kernel) -> None:
    handle = created(volume, b"a")
    reader = again(volume, handle, os.O_RDONLY)
    write_now(volume, handle, 0, b"old")
    assert read(volume, reader) == b"old"
    assert finish(write(volume, handle, 0, b"new")) == 3
    assert kernel.dropped == [volume.handles[handle].ino]
    write_now(volume, handle, 3, b"er")
    assert read(volume, reader) == b"newer"
    ino = volume.handles[handle].ino
    closed(volume, reader)
    closed(volume, handle)
    handle = open_ops.open_file(volume, ino, os.O_WRONLY | os.O_TRUNC)  # with that the kernel drops them itself
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


@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_the_kernel_guards_a_program_with_privileges(volume: Volume, mode: int) -> None:
    handle, _ = open_ops.create(volume, ROOT_ID, b"a", mode, NEW, 1000, 1000)
    assert not volume.handles[handle].is_direct


@pytest.mark.parametrize(
    ("before", "behind"), [(0o6755, 0o755), (0o2644, 0o2644), (0o4600, 0o600), (0o6644, 0o2644), (0o1755, 0o1755)]
)
def test_privileges_go_with_a_write(volume: Volume, yoga: Machine, before: int, behind: int) -> None:
    handle = created(volume, b"a")
    ino = volume.handles[handle].ino
    yoga.tree.setattr(ino, mode=before)
    write_now(volume, handle, 0, b"x")
    assert yoga.tree.attr(ino).mode & 0o7777 == behind
    assert [item.kind for item in volume.invalidations.take()] == ["attr"] * (before != behind)


def test_capabilities_go_with_a_write(volume: Volume, yoga: Machine) -> None:
    handle = created(volume, b"a")
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


def test_another_direct_write_meanwhile_is_no_write_back(volume: Volume, kernel: Kernel) -> None:
    """io_submit and io_uring: the kernel lets go of the inode before such a write is answered."""
    handle = created(volume, b"a")
    reader = again(volume, handle, os.O_RDONLY)
    write_now(volume, handle, 0, b"." * 8)
    read(volume, reader)
    answers: list[int] = []

    async def run() -> None:
        async with trio.open_nursery() as nursery:

            async def other() -> None:
                found = write(volume, handle, 2, b"5678")
                answers.append(found if isinstance(found, int) else await found)

            def meanwhile() -> None:
                kernel.meanwhile = lambda: None  # type: ignore[assignment,return-value]
                read_now = read_ops._read_local(volume, volume.handles[reader], 0, 8, {})
                assert read_now == b"1234...."
                volume.tree.state.inodes.gave_pages(volume.handles[handle].ino)  # of what the drop has passed already
                nursery.start_soon(other)

            kernel.meanwhile = meanwhile  # type: ignore[assignment]
            first = write(volume, handle, 0, b"1234")
            assert not isinstance(first, int)
            assert await first == 4

    trio.run(run)
    assert answers == [4]
    assert len(kernel.dropped) == 2, "what was read before the second write stays with the kernel for good"
    assert read(volume, reader) == b"125678.."


def test_the_end_waits_for_what_drops_pages_and_nothing_more_does(volume: Volume, kernel: Kernel) -> None:
    """The kernel waits for answers then, which nobody would give."""
    handle = created(volume, b"a")
    reader = again(volume, handle, os.O_RDONLY)
    write_now(volume, handle, 0, b"old")
    read(volume, reader)
    seen: list[str] = []

    def end() -> None:
        volume.dropping.end(lambda: seen.append("ended"))
        seen.append("asked to end")

    kernel.meanwhile = end
    finish(write(volume, handle, 0, b"new"))
    assert seen == ["asked to end", "ended"]
    read(volume, reader)
    write_now(volume, handle, 0, b"end")
    assert len(kernel.dropped) == 1


def test_what_went_through_the_kernels_pages_is_dropped_as_what_was_read(volume: Volume, kernel: Kernel) -> None:
    handle = created(volume, b"a")
    write_now(volume, again(volume, handle, os.O_RDWR), 0, b"old")
    assert finish(write(volume, handle, 0, b"new")) == 3
    assert kernel.dropped == [volume.handles[handle].ino]
