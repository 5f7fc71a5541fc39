"""Locks of open file descriptions (F_OFD_SETLK) between two processes on one mount."""

import errno
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mountkit import HAS_FUSE, fleet

pytestmark = pytest.mark.skipif(not HAS_FUSE, reason="/dev/fuse cannot be opened")

# Locks what it is told to, line by line: "lock KIND START LENGTH", "close"; answers with an errno each time.
HOLDER = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
for line in sys.stdin:
    match line.split():
        case ["lock", *numbers]:
            kind, start, length = map(int, numbers)
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))
                print(0, flush=True)
            except OSError as error:
                print(error.errno, flush=True)
        case ["close"]:
            os.close(fd)
            print(0, flush=True)
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    with fleet(tmp_path) as made:
        path = made.mount() / "a"
        path.write_bytes(bytes(100))
        yield path


def lock(fd: int, kind: int, start: int, length: int) -> int:
    """0, or the errno."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))
    except OSError as error:
        return error.errno or -1
    return 0


def test_they_conflict_and_go_with_the_last_descriptor(file: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, file], stdin=-1, stdout=-1, text=True, bufsize=1)
    assert holder.stdin is not None and holder.stdout is not None

    def tell(line: str) -> int:
        holder.stdin.write(f"{line}\n")  # type: ignore[union-attr]
        return int(holder.stdout.readline())  # type: ignore[union-attr]

    one, two = os.open(file, os.O_RDWR), os.open(file, os.O_RDWR)
    try:
        assert tell(f"lock {fcntl.F_WRLCK} 0 10") == 0
        for kind in (fcntl.F_WRLCK, fcntl.F_RDLCK):
            assert lock(one, kind, 5, 1) == errno.EAGAIN
        assert lock(one, fcntl.F_WRLCK, 10, 10) == 0
        assert lock(two, fcntl.F_WRLCK, 10, 10) == errno.EAGAIN  # of one process, and yet another holder
        assert tell(f"lock {fcntl.F_RDLCK} 15 1") == errno.EAGAIN
        again = os.dup(one)
        os.close(one)
        assert tell(f"lock {fcntl.F_RDLCK} 15 1") == errno.EAGAIN  # the same description is still open
        os.close(again)
        assert tell(f"lock {fcntl.F_RDLCK} 15 1") == 0
        assert lock(two, fcntl.F_RDLCK, 15, 1) == 0
        assert tell("close") == 0
        assert lock(two, fcntl.F_WRLCK, 0, 0) == 0
    finally:
        os.close(two)
        holder.kill()
        holder.communicate()
