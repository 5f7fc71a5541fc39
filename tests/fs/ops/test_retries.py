"""ESTALE is looked up again by the kernel, but once: who meets a second change in between is served all the same."""

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pyfuse3
import pytest
import trio
from pyfuse3 import FUSEError
from treekit import Machine

from fs.adapter import Adapter
from fs.ops import read as read_ops
from fs.ops.retries import RETRY_S, Retries
from fs.ops.volume import Volume

ROOT = 1


def run(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    async def guarded() -> Any:
        with trio.fail_after(30):
            return await function(*args)

    return trio.run(guarded)


class Context:
    uid = gid = umask = 0

    def __init__(self, pid: int) -> None:
        self.pid = pid


@pytest.fixture
def shown(bates: Machine, yoga: Machine) -> Machine:
    """bates has written /a and made the link /l, yoga has learned them."""
    change(bates, yoga, 0)
    return yoga


def change(bates: Machine, yoga: Machine, number: int) -> None:
    bates.fleet.clock.elapsed += 1
    bates.write("a", b"%d" % number * (number + 1))
    bates.tree.setxattr(bates.ino("a"), "user.n", b"%d" % number)
    if bates.exists("l"):
        bates.unlink("l")
    bates.symlink("l", f"target{number}")
    bates.cycle()
    yoga.learn()


class Program:
    """What the kernel does for a thread: after ESTALE a name is looked up again, once."""

    def __init__(self, volume: Volume, pid: int = 7) -> None:
        self.adapter = Adapter(volume)
        self.context: Any = Context(pid)

    def lookup(self, name: str) -> int:
        return int(run(self.adapter.lookup, ROOT, name.encode(), self.context).st_ino)

    def call(self, operation: str, ino: int, *args: Any) -> Any:
        return run(getattr(self.adapter, operation), ino, *args, self.context)

    def is_stale(self, operation: str, ino: int, *args: Any) -> bool:
        with pytest.raises(FUSEError) as caught:
            self.call(operation, ino, *args)
        return caught.value.errno == errno.ESTALE


def content(volume: Volume, info: Any) -> bytes:
    return bytes(run(read_ops.read, volume, info.fh, 0, 100))


def test_an_open_that_meets_two_changes(volume: Volume, shown: Machine, bates: Machine) -> None:
    program = Program(volume)
    old = program.lookup("a")
    change(bates, shown, 1)
    assert program.is_stale("open", old, os.O_RDONLY)
    new = program.lookup("a")
    change(bates, shown, 2)
    assert content(volume, program.call("open", new, os.O_RDONLY)) == b"11"
    assert not volume.retries
    assert content(volume, program.call("open", program.lookup("a"), os.O_RDONLY)) == b"222"


def test_whoever_was_not_told_before_is_told(volume: Volume, shown: Machine, bates: Machine) -> None:
    first, second = Program(volume), Program(volume, 8)
    old = first.lookup("a")
    change(bates, shown, 1)
    assert first.is_stale("open", old, os.O_RDONLY)
    new = second.lookup("a")
    change(bates, shown, 2)
    assert second.is_stale("open", new, os.O_RDONLY)  # its lookup was no retry
    assert first.is_stale("open", new, os.O_RDONLY)  # it has not looked up what it opens


def test_stat_of_what_is_gone_looks_it_up_again(volume: Volume, shown: Machine, bates: Machine) -> None:
    program = Program(volume)
    old = program.lookup("a")
    gone(bates, shown, "a")
    assert program.is_stale("getattr", old)
    assert program.lookup("a") == 0
    assert program.is_stale("getattr", old)


@pytest.mark.parametrize("operation", ["readlink", "getattr", "listxattr", "getxattr"])
def test_reading_what_was_named(volume: Volume, shown: Machine, bates: Machine, operation: str) -> None:
    program = Program(volume)
    name = "l" if operation == "readlink" else "a"
    args = [b"user.n"] if operation == "getxattr" else []
    old = program.lookup(name)
    gone(bates, shown, name)
    assert program.is_stale(operation, old, *args)
    change(bates, shown, 1)
    new = program.lookup(name)
    gone(bates, shown, name)
    found = program.call(operation, new, *args)
    expected = {"readlink": b"target1", "listxattr": [b"user.n"], "getxattr": b"1"}
    assert found.st_size == 2 if operation == "getattr" else found == expected[operation]


def gone(bates: Machine, shown: Machine, name: str) -> None:
    bates.unlink(name)
    bates.cycle()
    shown.learn()


def changes(**values: int) -> list[Any]:
    attr, fields = pyfuse3.EntryAttributes(), Fields()
    for name, value in values.items():
        setattr(attr, f"st_{name}", value)
        setattr(fields, f"update_{name}", True)
    return [attr, fields, None]


class Fields:
    update_mode = update_uid = update_gid = update_size = update_atime = update_mtime = False


def test_chmod_and_setxattr_change_what_stands_there(volume: Volume, shown: Machine, bates: Machine) -> None:
    program = Program(volume)
    old = program.lookup("a")
    change(bates, shown, 1)
    assert program.is_stale("setattr", old, *changes(mode=0o600))
    new = program.lookup("a")
    change(bates, shown, 2)
    answer = program.call("setattr", new, *changes(mode=0o600))
    assert (answer.st_ino, answer.st_size, answer.st_mode & 0o777) == (new, 2, 0o600)
    assert shown.read("a") == b"222" and shown.attr("a").mode == 0o600
    shown.cycle()
    change(bates, shown, 3)
    assert program.is_stale("setxattr", new, b"user.x", b"1")
    new = program.lookup("a")
    change(bates, shown, 4)
    program.call("setxattr", new, b"user.x", b"1")
    assert shown.tree.getxattr(shown.ino("a"), "user.x") == b"1"
    shown.check()


def test_chmod_of_what_was_removed_meanwhile_was_before(volume: Volume, shown: Machine, bates: Machine) -> None:
    program = Program(volume)
    old = program.lookup("a")
    change(bates, shown, 1)
    assert program.is_stale("setattr", old, *changes(mode=0o600))
    new = program.lookup("a")
    gone(bates, shown, "a")
    assert program.call("setattr", new, *changes(mode=0o600)).st_mode & 0o777 == 0o600
    assert not shown.exists("a")


def test_truncate_keeps_both(volume: Volume, shown: Machine, bates: Machine) -> None:
    program = Program(volume)
    old = program.lookup("a")
    change(bates, shown, 1)
    assert program.is_stale("setattr", old, *changes(size=1))
    new = program.lookup("a")
    change(bates, shown, 2)
    assert program.call("setattr", new, *changes(size=1)).st_size == 1
    assert shown.read("a") == b"222"
    shown.cycle()
    assert shown.read("a.bates.conflict") == b"222" and shown.read("a") == b"1"
    shown.check()


def test_a_removed_folder_is_looked_up_again(volume: Volume, shown: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    bates.cycle()
    shown.learn()
    program = Program(volume)
    old = program.lookup("d")
    bates.rmdir("d")
    bates.cycle()
    shown.learn()
    assert program.is_stale("opendir", old)


def test_a_retry_is_one_for_a_moment() -> None:
    now = [0.0]
    retries = Retries(lambda: now[0])
    retries.failed(1)
    retries.looked_up(1, 5)
    assert retries.is_second(1, 5, is_last=False) and retries.is_second(1, 5, is_last=True)
    assert not retries.is_second(1, 5, is_last=True)
    retries.failed(1)
    retries.failed(2)
    retries.looked_up(1, 5)
    now[0] = RETRY_S + 0.1
    assert not retries.is_second(1, 5, is_last=False)
    retries.looked_up(3, 6)
    assert not retries
