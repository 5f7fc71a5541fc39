"""Large files: a read in the middle fetches a few chunks, one byte costs a few chunks, memory does not grow."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll

MIB = 1 << 20
BUDGET = 8 * MIB


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
        before = bates.data("status")["store"]["bytes_read_packs"]
        counted = bytes_read_below_packs(bates, read_middle, tmp_path / "strace.log")
        assert 0 < counted <= BUDGET
        assert bates.data("status")["store"]["bytes_read_packs"] - before == counted

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


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_memory_stays_bounded_with_a_4_gib_file(tmp_path: Path) -> None:
    size, limit = 4096 * MIB, 300 * MIB
    with fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        random_file(yoga.home / "huge", size)
        for machine, args in ((yoga, ["push", "huge"]), (bates, ["pull", "huge", "copy"])):
            timed = subprocess.run(
                ["/usr/bin/env", "python3", "-c", PEAK, "tcfs", *args],
                env=machine.environ, cwd=machine.home, capture_output=True, text=True, timeout=900, check=True,
            )
            assert int(timed.stdout.splitlines()[-1]) * 1024 < limit
        subprocess.run(["cmp", yoga.home / "huge", bates.home / "copy"], check=True)


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
