"""Files that are filled through a write-only handle: beside readers and mappings nothing is old or lost."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mountkit import HAS_FUSE, fleet

pytestmark = pytest.mark.skipif(not HAS_FUSE, reason="/dev/fuse cannot be opened")

PAGE = 4096
USER = 1000

READER = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print("reads", flush=True)
while True:
    os.pread(fd, 3 * 4096, 0)
"""
MAPPER = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
mapped = mmap.mmap(fd, 3 * 4096)
print("maps", flush=True)
value = 0
while True:
    value = (value + 1) % 256
    for place in range(0, 3 * 4096, 512):
        mapped[place] = value
"""
WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
os.write(fd, bytes(3 * 4096))
print("writes", flush=True)
while True:
    os.pwrite(fd, bytes(3 * 4096), 0)
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    with fleet(tmp_path) as made:
        yield made.mount()


@contextmanager
def beside(program: str, path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that works on the file meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def write_only(path: Path, more: int = 0) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | more, 0o644)


def test_who_reads_behind_a_write_reads_what_was_written(root: Path) -> None:
    fd = write_only(root / "a")
    os.write(fd, bytes(3 * PAGE))
    with beside(READER, root / "a") as reader, open(root / "a", "rb", buffering=0) as looking:
        for turn in range(500):
            written = (turn + 1).to_bytes(4, "little") * 1024
            os.pwrite(fd, written, turn % 3 * PAGE)
            assert os.pread(looking.fileno(), PAGE, turn % 3 * PAGE) == written, turn
        assert reader.poll() is None
    os.close(fd)


def test_a_mapping_that_is_written_to_takes_nothing_back(root: Path) -> None:
    """Bytes of the very same pages: one process stores every 512th, the other writes those behind it."""
    fd = write_only(root / "a")
    os.write(fd, bytes(3 * PAGE))
    with beside(MAPPER, root / "a") as mapper, open(root / "a", "rb", buffering=0) as looking:
        for turn in range(500):
            start = turn % 24 * 512 + 1
            written = (turn + 1).to_bytes(4, "little") * 100
            assert os.pwrite(fd, written, start) == len(written)
            assert os.pread(looking.fileno(), len(written), start) == written, turn
        assert mapper.poll() is None
    os.close(fd)


def as_user(action: str, *arguments: str | Path) -> None:
    """Run Python code without privileges; its arguments are in `args`."""
    code = f"import os, sys; args = sys.argv[1:]; os.setgid({USER}); os.setuid({USER}); {action}"
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_write_takes_privileges_as_on_ext4(root: Path, tmp_path: Path) -> None:
    """Set-user-ID, and set-group-ID with group execution, when somebody else writes."""
    for folder in (root, tmp_path / "ext4"):
        folder.mkdir(exist_ok=True)
        os.chmod(folder, 0o777)
        for above in folder.parents:
            os.chmod(above, os.stat(above).st_mode | 0o111)
        (folder / "a").touch()
        os.chmod(folder / "a", 0o6777)
        opened = "fd = os.open(args[0], os.O_WRONLY); "
        as_user(opened + "os.write(fd, b'by a user'); assert os.stat(args[0]).st_mode & 0o7777 == 0o777", folder / "a")
        assert stat.S_IMODE(os.stat(folder / "a").st_mode) == 0o777


def test_whatever_moves_the_bytes(root: Path, tmp_path: Path) -> None:
    """sendfile, splice, appending through two handles by turns, buffers at odd places: the content is right."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_001))
    content = source.read_bytes()
    reading, inlet, outlet = os.open(source, os.O_RDONLY), *reversed(os.pipe())
    fd = write_only(root / "sendfile")
    while os.sendfile(fd, reading, None, len(content)):
        pass
    os.close(fd)
    fd, at = write_only(root / "splice"), 0
    while moved := os.splice(reading, inlet, 65536, at):
        at += moved
        while moved:
            moved -= os.splice(outlet, fd, moved)
    os.close(fd)
    fd = write_only(root / "odd")
    for start in range(0, len(content), 1_234_567):
        assert os.write(fd, memoryview(content)[start : start + 1_234_567])
    os.close(fd)
    one, other = write_only(root / "append", os.O_APPEND), write_only(root / "append", os.O_APPEND)
    for start in range(0, len(content), 100_000):
        os.write(one if start % 200_000 else other, content[start : start + 100_000])
    for end in (one, other, reading, inlet, outlet):
        os.close(end)
    for name in ("sendfile", "splice", "odd", "append"):
        assert (root / name).read_bytes() == content, name


@pytest.mark.parametrize("other", [READER, MAPPER], ids=["reader", "mapper"])
def test_the_mount_ends_while_pages_are_dropped(tmp_path: Path, other: str) -> None:
    """The kernel waits for answers of a process that is about to end."""
    with fleet(tmp_path) as made:
        for _ in range(3):
            path = made.mount() / "a"
            with beside(WRITER, path), beside(other, path):
                made.unmount()
