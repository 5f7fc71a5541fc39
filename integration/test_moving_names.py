"""A name that changes all the time: programs that use it by path get one version or the next, never an error."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_versions import MTIME_NS
from mountkit import HAS_FUSE, Fleet, fleet

pytestmark = pytest.mark.skipif(not HAS_FUSE, reason="/dev/fuse cannot be opened here")

SECONDS = 4.0

PROGRAM = """
import collections, errno, json, os, sys, time
path, kind, end = sys.argv[1], sys.argv[2], time.time() + float(sys.argv[3])
found, count = collections.Counter(), 0

def read():
    fd = os.open(path, os.O_RDONLY)
    try:
        data = os.read(fd, 1 << 20)
        if len(data) != os.fstat(fd).st_size:
            found["another size"] += 1
        if len(set(data)) != 1:
            found["torn"] += 1
    finally:
        os.close(fd)

def xattr():
    try:
        os.getxattr(path, "user.none")
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise

calls = {"read": read, "xattr": xattr, "stat": lambda: os.stat(path), "chmod": lambda: os.chmod(path, 0o644),
         "write": lambda: os.close(os.open(path, os.O_RDWR)), "readlink": lambda: os.readlink(path)}
while time.time() < end:
    count += 1
    try:
        calls[kind]()
    except OSError as error:
        found[errno.errorcode[error.errno]] += 1
print(json.dumps([count, found]))
"""


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as made:
        yield made


def drive(path: Path, kind: str, change: Callable[[int], object]) -> None:
    """Two programs use the path while it is changed; nothing goes wrong for them."""
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(path), kind, str(SECONDS)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    changes = 0
    while any(program.poll() is None for program in programs):
        changes += 1
        change(changes)
        time.sleep(0.0003)
    for output in [program.communicate()[0] for program in programs]:
        count, found = json.loads(output)
        assert found == {}, f"{count} times {kind}, {changes} changes"
        assert count > 100 and changes > 100


@pytest.mark.parametrize("kind", ["read", "stat", "xattr"])
def test_changed_elsewhere(yoga: Fleet, kind: str) -> None:
    newest = [yoga.learn("f", b"a" * 1000)]
    yoga.serve()
    root = yoga.mount()

    def change(number: int) -> None:
        size = (1000, 1000, 2000, 5000)[number % 4]
        body = bytes([97 + number % 26]) * size
        newest.append(yoga.learn("f", body, seen=newest[-1:], mtime_ns=MTIME_NS + number // 2))

    drive(root / "f", kind, change)


@pytest.mark.parametrize("kind", ["read", "write", "stat", "xattr", "chmod"])
def test_replaced_here(yoga: Fleet, kind: str) -> None:
    yoga.learn("f", b"a" * 1000)
    root = yoga.mount()

    def change(number: int) -> None:
        (root / "new").write_bytes(bytes([97 + number % 26]) * (1000, 2000)[number % 2])
        (root / "new").rename(root / "f")

    drive(root / "f", kind, change)


def test_links_replaced_here(yoga: Fleet) -> None:
    root = yoga.mount()
    (root / "l").symlink_to("target")

    def change(number: int) -> None:
        (root / "new").symlink_to(f"target{number}")
        os.rename(root / "new", root / "l")

    drive(root / "l", "readlink", change)
