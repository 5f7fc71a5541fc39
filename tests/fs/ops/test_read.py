import errno
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from treekit import Machine

from fs.ops import attr as attr_ops
from fs.ops import directory
from fs.ops import open as open_ops
from fs.ops import read as read_ops
from fs.ops import write as write_ops
from fs.ops.volume import Volume
from fs.tree.model import Attr
from sync.core.errors import AlreadyExists, Integrity, Stale

ROOT = 1
DATA = b"the content of another machine"


def run(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    async def guarded() -> Any:
        with trio.fail_after(30):
            return await function(*args)

    return trio.run(guarded)


@pytest.fixture
def shown(bates: Machine, yoga: Machine) -> Machine:
    """bates has written /a, yoga has learned it."""
    bates.write("a", DATA)
    bates.cycle()
    yoga.learn()
    return yoga


def open_path(volume: Volume, yoga: Machine, path: str, flags: int = os.O_RDONLY) -> int:
    parent, name = yoga.place(path)
    return open_ops.open_file(volume, yoga.tree.lookup(parent, name).ino, flags)


def test_what_is_absent_is_fetched_once(volume: Volume, shown: Machine, client: Any) -> None:
    handle = open_path(volume, shown, "a")
    assert run(read_ops.read, volume, handle, 4, 7) == DATA[4:11]
    assert run(read_ops.read, volume, handle, 0, 4096) == DATA
    assert run(read_ops.read, volume, handle, len(DATA), 10) == b""
    assert len(client.fetched) == 1
    assert volume.reader.cached.take_used()


def test_inline_chunks_are_read(volume: Volume, shown: Machine, client: Any) -> None:
    client.inline = True
    assert run(read_ops.read, volume, open_path(volume, shown, "a"), 0, 100) == DATA


def test_what_is_published_while_a_fetch_waits_is_read(volume: Volume, shown: Machine, client: Any) -> None:
    """The chunks that the cache had no room for are those of the version before."""
    handle = open_path(volume, shown, "a", os.O_RDWR)
    write_ops.write(volume, handle, 4, b"CONTENT")
    open_ops.flush(volume, handle)
    run(open_ops.release, volume, handle)
    client.inline = True
    publish = iter([shown.cycle])
    client.before = lambda: next(publish, lambda: None)()
    handle = open_path(volume, shown, "a")
    assert run(read_ops.read, volume, handle, 0, 100) == b"the CONTENT" + DATA[11:]
    assert len({version for version, _ in client.fetched}) == 2


def test_a_cache_that_loses_everything_is_an_error_and_not_a_loop(volume: Volume, shown: Machine, client: Any) -> None:
    client.lose = True
    with pytest.raises(Integrity):
        run(read_ops.read, volume, open_path(volume, shown, "a"), 0, 100)
    assert len(client.fetched) == read_ops.ATTEMPTS


def test_what_is_written_while_a_fetch_waits_is_read(volume: Volume, shown: Machine, client: Any) -> None:
    handle = open_path(volume, shown, "a", os.O_RDWR)
    client.before = lambda: write_ops.write(volume, handle, 4, b"CONTENT")
    assert run(read_ops.read, volume, handle, 0, 100) == b"the CONTENT" + DATA[11:]


def test_local_bytes_over_the_base(volume: Volume, shown: Machine, client: Any) -> None:
    handle = open_path(volume, shown, "a", os.O_RDWR)
    assert write_ops.write(volume, handle, len(DATA) + 5, b"end") == 3
    assert run(read_ops.read, volume, handle, len(DATA), 100) == b"\0" * 5 + b"end"
    assert client.fetched == []
    assert run(read_ops.read, volume, handle, 0, 100) == DATA + b"\0" * 5 + b"end"


def test_a_file_cut_behind_our_back_is_an_error(volume: Volume, yoga: Machine) -> None:
    opened, _ = open_ops.create(volume, ROOT, b"f", 0o644, os.O_RDWR, 0, 0)
    write_ops.write(volume, opened, 0, b"0123456789")
    work = volume.handles[opened].file.node.work
    assert work is not None
    os.truncate(work.path, 4)
    with pytest.raises(Integrity):
        run(read_ops.read, volume, opened, 0, 10)
    os.truncate(work.path, 10)  # or the check at the end would tell of it


def test_an_open_of_moved_content_is_stale_and_then_new(volume: Volume, shown: Machine, bates: Machine) -> None:
    ino = shown.tree.lookup(ROOT, "a").ino
    bates.write("a", b"another length")
    bates.cycle()
    shown.learn()
    with pytest.raises(Stale):
        open_ops.open_file(volume, ino, os.O_RDONLY)
    assert run(read_ops.read, volume, open_path(volume, shown, "a"), 0, 100) == b"another length"


def test_a_number_stands_for_one_content(volume: Volume, shown: Machine, bates: Machine) -> None:
    """Or else the kernel may give a reader pages, or a size, of another."""
    first = shown.tree.lookup(ROOT, "a").ino
    run(open_ops.release, volume, open_ops.open_file(volume, first, os.O_RDONLY))
    for content in (b"another length", b"as long as be4"):
        bates.write("a", content)
        bates.cycle()
        shown.learn()
        second = shown.tree.lookup(ROOT, "a").ino
        assert second != first
        for call in (volume.tree.attr, lambda ino: open_ops.open_file(volume, ino, os.O_RDONLY)):
            with pytest.raises(Stale):
                call(first)
        handle = open_ops.open_file(volume, second, os.O_RDONLY)
        assert run(read_ops.read, volume, handle, 0, 100) == content
        run(open_ops.release, volume, handle)
        first = second


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDONLY])
def test_create_of_a_name_that_came_meanwhile_is_looked_up_again(volume: Volume, shown: Machine, flags: int) -> None:
    """The kernel has checked no permissions of it."""
    with pytest.raises(Stale):
        open_ops.create(volume, ROOT, b"a", 0o644, flags | os.O_CREAT, 0, 0)
    with pytest.raises(AlreadyExists):
        open_ops.create(volume, ROOT, b"a", 0o644, flags | os.O_CREAT | os.O_EXCL, 0, 0)
    assert shown.attr("a").size == len(DATA)
    assert not volume.handles


def test_a_full_disk_says_so_and_what_came_before_stays(
    volume: Volume, yoga: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, _ = open_ops.create(volume, ROOT, b"f", 0o644, os.O_RDWR, 0, 0)
    pwrite, room = os.pwrite, [6]

    def cramped(fd: int, data: bytes, offset: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "full")
        taken = min(room[0], len(data))
        room[0] -= taken
        return pwrite(fd, bytes(data)[:taken], offset)

    monkeypatch.setattr(os, "pwrite", cramped)
    assert write_ops.write(volume, opened, 0, b"0123456789") == 6
    with pytest.raises(OSError) as caught:
        write_ops.write(volume, opened, 6, b"6789")
    assert caught.value.errno == errno.ENOSPC
    room[0] = 100
    assert write_ops.write(volume, opened, 6, b"6789") == 4
    assert run(read_ops.read, volume, opened, 0, 100) == b"0123456789"


def test_a_large_file_is_cut_by_a_thread(volume: Volume, yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    truncate = os.ftruncate

    def record(fd: int, size: int) -> None:
        threads.append(threading.get_ident())
        truncate(fd, size)

    monkeypatch.setattr(os, "ftruncate", record)
    opened, attr = open_ops.create(volume, ROOT, b"f", 0o644, os.O_RDWR, 0, 0)
    write_ops.write(volume, opened, 0, bytes(3 << 20))
    write_ops.write(volume, opened, 20 << 20, b"end")
    assert run(setattr_of, volume, attr.ino, 2 << 20).size == 2 << 20
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    work = volume.handles[opened].file.node.work
    assert work is not None
    assert os.path.getsize(work.path) == 2 << 20
    assert not volume.invalidations._in_flight


def test_the_pages_of_a_large_removed_file_are_dropped_before_the_last_answer(
    volume: Volume, yoga: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, bool]] = []
    kernel = volume.invalidations._kernel
    monkeypatch.setattr(kernel, "invalidate_inode", lambda inode, attr_only: told.append((inode, attr_only)))
    sizes = {b"small": 1000, b"large": open_ops.PAGES_AT_ONCE + 1}
    inodes = {}
    for name, size in sizes.items():
        opened, attr = open_ops.create(volume, ROOT, name, 0o644, os.O_RDWR, 0, 0)
        write_ops.write(volume, opened, size - 1, b"x")
        volume.tree.unlink(ROOT, name.decode())
        run(open_ops.release, volume, opened)
        inodes[name] = attr.ino
    assert told == [(inodes[b"large"], False)]


async def setattr_of(volume: Volume, ino: int, size: int) -> Attr:
    return await attr_ops.setattr_of(volume, ino, {"size": size})


def test_fsync_holds_invalidations_back_and_returns(volume: Volume, yoga: Machine) -> None:
    opened, _ = open_ops.create(volume, ROOT, b"f", 0o644, os.O_RDWR, 0, 0)
    write_ops.write(volume, opened, 0, b"x")
    run(open_ops.fsync, volume, opened)
    run(open_ops.fsync, volume, opened)
    run(open_ops.fsyncdir, volume, directory.opendir(volume, ROOT))


def test_a_folder_that_is_synced_keeps_only_its_caller_waiting(
    volume: Volume, yoga: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    served = threading.Event()

    def slow_disk(fd: int) -> None:
        assert served.wait(20), "nothing else was done meanwhile"
        assert volume.invalidations.is_busy(ROOT)
        synced.append(fd)

    yoga.mkdir("d")
    monkeypatch.setattr(os, "fdatasync", slow_disk)

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_ops.fsyncdir, volume, directory.opendir(volume, ROOT))
            await trio.testing.wait_all_tasks_blocked()
            assert not yoga.tree.overlay.has_changes
            served.set()

    run(scenario)
    assert len(synced) == 1 and not volume.invalidations.is_busy(ROOT)


def test_changes_are_reported_and_reading_is_none(volume: Volume, shown: Machine) -> None:
    seen: list[str] = []
    volume.on_change = lambda: seen.append("changed")
    handle = open_path(volume, shown, "a")
    run(read_ops.read, volume, handle, 0, 10)
    open_ops.flush(volume, handle)
    run(open_ops.release, volume, handle)
    assert seen == []
    handle = open_path(volume, shown, "a", os.O_WRONLY)
    open_ops.flush(volume, handle)
    run(open_ops.release, volume, handle)
    assert seen
