"""Large files: a read in the middle fetches a few chunks, one byte costs a few chunks, memory does not grow."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll

MIB = 1 << 20
BUDGET = 8 * MIB
HUGE = 4096 * MIB
MEMORY = 300 * MIB


def random_file(path: Path, size: int) -> None:
    with path.open("wb") as out:
        for _ in range(size // (4 * MIB)):
            out.write(os.urandom(4 * MIB))


def store_bytes(store: Path) -> int:
    return sum(p.stat().st_size for p in store.rglob("*") if p.is_file())


def bytes_read_below_packs(machine: Machine, act, log: Path) -> int:  # type: ignore[no-untyped-def]
    """What tcfsd reads below packs/ during act(), counted by strace."""
    (pid,) = machine.pids("tcfsd")
    calls = "trace=read,pread64,readv,preadv,preadv2,mmap,sendfile,copy_file_range"
    tracer = subprocess.Popen(["strace", "-f", "-y", "-qq", "-e", calls, "-o", str(log), "-p", str(pid)])
    try:
        poll(lambda: "TracerPid:\t0" not in Path(f"/proc/{pid}/status").read_text(), 10, "strace attached")
        act()
    finally:
        tracer.terminate()
        tracer.wait()
    total = 0
    for line in log.read_text(errors="replace").splitlines():
        if "/packs/" in line:
            assert "mmap" not in line, "packs are read, not mapped"
            match = re.search(r"= (\d+)$", line)
            total += int(match.group(1)) if match else 0
    return total


def packs_bytes_read(machine: Machine) -> int:
    """What tcfsd says it has read below packs/ since it started."""
    areas = machine.data("status")["engine"]["store"]
    return int(areas["packs"]["bytes_read"]) if "packs" in areas else 0


@pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")
@pytest.mark.parametrize(
    "size", [64 * MIB, pytest.param(1024 * MIB, marks=[pytest.mark.long, pytest.mark.timeout(900)])], ids=["64M", "1G"]
)
def test_a_read_in_the_middle_and_one_changed_byte(tmp_path: Path, size: int) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        source = tmp_path / "big"
        random_file(source, size)
        yoga.run("push", str(source), timeout=300)
        there = bates.mountpoint / "big"
        poll(lambda: there.exists() and there.stat().st_size == size, 10, "the placeholder")

        def read_middle() -> None:
            with there.open("rb") as file:
                assert os.pread(file.fileno(), 4096, size // 2) == expected

        with source.open("rb") as file:
            expected = os.pread(file.fileno(), 4096, size // 2)
        before = packs_bytes_read(bates)
        counted = bytes_read_below_packs(bates, read_middle, tmp_path / "strace.log")
        assert 0 < counted <= BUDGET
        assert packs_bytes_read(bates) - before == counted

        stored = store_bytes(tmp_path / "store")
        with there.open("r+b") as file:
            os.pwrite(file.fileno(), bytes([expected[0] ^ 1]), size // 2)
        bates.run("wait", timeout=120)
        assert store_bytes(tmp_path / "store") - stored <= BUDGET
        here = yoga.mountpoint / "big"

        def changed() -> bool:
            with here.open("rb") as file:
                return os.pread(file.fileno(), 2, size // 2) == bytes([expected[0] ^ 1, expected[1]])

        poll(changed, 10, "the changed byte on yoga")
        yoga.fsck()
        bates.fsck()


@pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_large_file_that_is_changed_here_stays_here(tmp_path: Path) -> None:
    """Its publishing waits for no copy; it is read with the store away at once, and soon without the old whole file."""
    with fleet(tmp_path, "yoga") as (yoga,):
        source, here = tmp_path / "big", yoga.mountpoint / "big"
        random_file(source, 512 * MIB)
        shutil.copyfile(source, here)
        yoga.run("wait", timeout=300)
        for path in (source, here):
            with path.open("r+b") as file:
                os.pwrite(file.fileno(), b"changed" * 600, 100 * MIB)
                os.pwrite(file.fileno(), b"end", 512 * MIB)
        yoga.run("wait", timeout=60)
        (tmp_path / "store").rename(tmp_path / "away")
        with here.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(400 * MIB)
            with source.open("rb") as expected:
                expected.seek(400 * MIB)
                assert file.read(4096) == expected.read(4096)
        poll(lambda: os.getxattr(here, "user.tcfs.state") == b"local", 60, "all of it is here")
        assert here.stat().st_blocks * 512 >= 512 * MIB
        (whole,) = yoga.home.glob("cache/*/whole/*")
        poll(lambda: not whole.exists(), 90, "the old whole file goes")
        with here.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        subprocess.run(["cmp", source, here], check=True)
        assert yoga.memory_peak("tcfsd") < MEMORY
        (tmp_path / "away").rename(tmp_path / "store")
        yoga.fsck()


@pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")
def test_huge_holes_hold_nothing_up(tmp_path: Path) -> None:
    """One is published at once, one cannot be and says so, one cannot even be made; all else goes on."""
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (yoga.mountpoint / "never").touch()
        with pytest.raises(OSError, match="too large"):
            os.truncate(yoga.mountpoint / "never", 4 << 60)
        for name, size in (("hole", 300 << 30), ("local", 2 << 40)):
            with (yoga.mountpoint / name).open("wb") as file:
                file.truncate(size)
                file.seek(size - 3)
                file.write(b"end")
        (yoga.mountpoint / "small").write_text("v\n")
        yoga.run("wait", "small", "--timeout", "10")
        yoga.run("wait", "hole", "--timeout", "10")
        assert "1 TiB" in yoga.run("wait", expect=7).stderr
        (unsafe,) = yoga.data("status")["unsafe"]
        assert (unsafe["path"], unsafe["next"]) == ("local", "make it smaller, or remove it")
        poll(lambda: (bates.mountpoint / "hole").exists(), 10, "the hole")
        with (bates.mountpoint / "hole").open("rb") as file:
            file.seek(-10, os.SEEK_END)
            assert file.read() == bytes(7) + b"end"
        os.truncate(yoga.mountpoint / "local", 3)
        yoga.run("wait", "--timeout", "10")
        poll(lambda: (bates.mountpoint / "local").exists(), 10, "the small one")
        assert (bates.mountpoint / "local").read_bytes() == bytes(3)
        assert store_bytes(tmp_path / "store") < 4 * MIB


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_push_and_pull_of_4_gib_in_little_memory(tmp_path: Path) -> None:
    """Without a daemon: the process of the verb is the engine."""
    with fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        source, copy = tmp_path / "huge", tmp_path / "copy"
        random_file(source, HUGE)
        assert memory_peak_of(yoga, "push", str(source)) < MEMORY
        assert memory_peak_of(bates, "pull", "huge", str(copy)) < MEMORY
        subprocess.run(["cmp", source, copy], check=True)


@pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_4_gib_through_the_mounts_in_little_memory(tmp_path: Path) -> None:
    """Copied into one mount, published, read cold through the other one: neither process of either machine grows."""
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        source = tmp_path / "huge"
        random_file(source, HUGE)
        shutil.copyfile(source, yoga.mountpoint / "huge")
        yoga.run("wait", timeout=600)
        there = bates.mountpoint / "huge"
        poll(lambda: there.exists() and there.stat().st_size == HUGE, 10, "the placeholder")
        subprocess.run(["cmp", source, there], check=True)
        for machine in (yoga, bates):
            for process in ("tcfsd", "mount"):
                assert 0 < machine.memory_peak(process) < MEMORY, (machine.name, process)


def memory_peak_of(machine: Machine, *args: str) -> int:
    """The largest VmHWM, in bytes, of a verb that must succeed."""
    timed = subprocess.run(
        [sys.executable, "-c", PEAK, "tcfs", *args],
        env=machine.environ, cwd=machine.home, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert timed.returncode == 0, timed.stderr
    return int(timed.stdout) * 1024


# A process of its own, because the largest child ever counts.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
