"""The helper process by itself: who watches, and that it keeps its hands off anything but its own mount."""

import ctypes
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fs.waker import HELPER

IN_CREATE, IN_MODIFY = 0x100, 0x2


class Helper:
    """Started as the mount starts it; the test is the mount, `root` the mount point."""

    def __init__(self, root: Path, device: str | None = None, mount_pid: int | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(HELPER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.ask([str(root), device or device_of(root), mount_pid or os.getpid()], answer=False)

    def ask(self, request: list[Any], *, answer: bool = True) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline()) if answer else None

    def close(self) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(10)
        self.process.stdout.close()
        return code


def device_of(path: Path) -> str:
    device = os.stat(path).st_dev
    return f"{os.major(device) << 20 | os.minor(device):x}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("x")
    return tmp_path


@pytest.fixture
def inotify() -> Iterator[int]:
    fd = ctypes.CDLL(None).inotify_init1(os.O_NONBLOCK)
    yield fd
    os.close(fd)


def test_who_watches_what(root: Path, inotify: int) -> None:
    helper = Helper(root)
    number = os.stat(root / "d").st_ino
    assert str(number) not in helper.ask([])
    ctypes.CDLL(None).inotify_add_watch(inotify, os.fsencode(root / "d"), IN_CREATE | IN_MODIFY)
    assert helper.ask([])[str(number)] & (IN_CREATE | IN_MODIFY) == IN_CREATE | IN_MODIFY
    assert helper.close() == 0


def test_what_is_on_another_device_is_left_out(root: Path, inotify: int) -> None:
    helper = Helper(root, device="fffff")
    ctypes.CDLL(None).inotify_add_watch(inotify, os.fsencode(root / "d"), IN_CREATE)
    assert helper.ask([]) == {}
    helper.close()


def test_nothing_is_done_elsewhere(root: Path) -> None:
    """Not on another file system that stands there now, and not when the mount is dead."""
    for helper in (Helper(root, device="fffff"), Helper(root, mount_pid=1)):
        for request in (
            [0, "remove", "d", "a", "", "", 1, 0],
            [1, "create", "d", "new", "", "", 1, 0o644],
            [2, "move", "d", "a", "d", "b", 1, 0],
            [3, "chmod", "d", "a", "", "", 1, 0],
            [4, "rewrite", "d", "a", "", "", 1, 0],
            [5, "end", "d", "a", "", "", 0, 0],
        ):
            assert helper.ask(request) == [request[0], errno.ENOTCONN]
        helper.close()
    assert os.listdir(root / "d") == ["a"]


def test_each_call_is_the_one_that_watchers_hear(root: Path) -> None:
    helper = Helper(root)
    before = os.stat(root / "d/a")
    assert helper.ask([0, "touch", "d", "a", "", "", 1, 0]) == [0, 0]
    after = os.stat(root / "d/a")
    assert (after.st_atime_ns, after.st_mtime_ns > before.st_mtime_ns) == (before.st_atime_ns, True)
    assert helper.ask([1, "rewrite", "d", "a", "", "", 1, 0]) == [1, 0]
    assert (root / "d/a").read_text() == "x"
    assert helper.ask([2, "chmod", "d", "a", "", "", 1, 0o600]) == [2, 0]
    assert os.stat(root / "d/a").st_mode & 0o777 == 0o600
    assert helper.ask([3, "create", "d", "f", "", "", 1, 0o640]) == [3, 0]
    assert helper.ask([4, "create", "d", "g", "", "", 2, 0o750]) == [4, 0]
    assert helper.ask([5, "create", "d", "l", "", "", 3, 0o777]) == [5, 0]
    assert (root / "d/f").is_file() and (root / "d/g").is_dir() and (root / "d/l").is_symlink()
    assert helper.ask([6, "create", "d", "f", "", "", 1, 0o640]) == [6, errno.EEXIST]
    assert helper.ask([7, "move", "d", "f", "", "moved", 1, 0]) == [7, 0]
    assert helper.ask([8, "remove", "d", "g", "", "", 2, 0]) == [8, 0]
    assert helper.ask([9, "remove", "d", "l", "", "", 3, 0]) == [9, 0]
    assert helper.ask([10, "remove", "d", "l", "", "", 3, 0]) == [10, errno.ENOENT]
    assert helper.ask([11, "end", "d", "l", "", "", 0, 0]) == [11, errno.ENOENT]
    assert helper.ask([12, "end", "d", "a", "", "", 0, 0]) == [12, errno.EAGAIN]  # the kernel believes that it is there
    assert sorted(os.listdir(root)) == ["d", "moved"] and os.listdir(root / "d") == ["a"]
    helper.close()


@pytest.mark.parametrize("said", [b"", b'["/", "1:2"', b'["/", "1:2", 0]\n[1, "cre'])
def test_a_mount_that_is_killed_while_it_speaks(said: bytes) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", str(HELPER)], input=said, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
