"""A tree of a million files: published by one machine, learned and mounted by another. What that costs.

The quick run has 5,000. Times are the best of a few tries, and may be longer by as much as a program that
only computes takes longer: there may be other work on the machine.
"""

import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll

pytestmark = pytest.mark.skipif(not FUSE, reason="no FUSE")

FILES = 1000  # in each folder
TRIES = 5
UP_S, LISTING_S = 2.0, 0.05
COMPUTE_S = 0.3
MIB = 1 << 20
MOUNT_MAX = 200 * MIB  # behind a `find` of 100,000
INODE_MAX = 500  # bytes of the mount process for each inode that the kernel holds
PROCESS_MAX = 700 * MIB  # whoever publishes or learns it, however much it is


def made(top: Path, folders: int) -> Path:
    """Folders of FILES small files each; of their contents no two are the same."""
    for number in range(folders):
        folder = top / f"{number // 100:02}" / f"{number:04}"
        folder.mkdir(parents=True)
        for file in range(FILES):
            (folder / f"file{file:03}.txt").write_bytes(b"file %d of folder %d\n" % (file, number) * (1 + file % 4))
    return top


def rss_anon(machine: Machine) -> int:
    (mount,) = machine.pids("mount")
    lines = Path(f"/proc/{mount}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def best(tries: Iterator[Callable[[], object]]) -> float:
    """The least time that one of them takes, in seconds."""
    found = []
    for attempt in tries:
        began = time.monotonic()
        attempt()
        found.append(time.monotonic() - began)
    return min(found)


def slowdown() -> float:
    """How many times as long as alone a program takes just now."""
    began, ran = time.monotonic(), time.process_time()
    while time.process_time() - ran < COMPUTE_S:
        pass
    return max(1.0, (time.monotonic() - began) / COMPUTE_S)


def find(top: Path) -> int:
    """How many names a `find` with a stat of each meets."""
    return subprocess.run(["find", top, "-printf", "%s\\n"], capture_output=True, check=True).stdout.count(b"\n")


def started_anew(machine: Machine) -> Iterator[Callable[[], object]]:
    """A start up to the first listing; between two all is stopped."""
    for _ in range(TRIES):
        machine.run("down", timeout=600)
        yield lambda: (machine.up(), os.listdir(machine.mountpoint))


def never_visited(folders: list[Path]) -> Iterator[Callable[[], object]]:
    for folder in folders:
        yield lambda folder=folder: len(os.listdir(folder)) == FILES or pytest.fail(f"{folder} is not whole")


@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("folders", [5, pytest.param(1000, marks=pytest.mark.long)])
def test_a_tree_of_many_small_files(tmp_path: Path, folders: int) -> None:
    source = made(tmp_path / "tree", folders)
    with fleet(tmp_path / "fleet", "yoga", "bates", up=False) as (yoga, bates):
        began = time.monotonic()
        pushed = yoga.data("push", str(source), timeout=3 * 3600)
        figures = {"push, s": time.monotonic() - began}
        assert pushed["files"] == folders * FILES
        figures["push, peak, MiB"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MIB
        assert figures["push, peak, MiB"] < PROCESS_MAX / MIB
        began = time.monotonic()
        bates.up()
        last = bates.mountpoint / "tree" / f"{(folders - 1) // 100:02}" / f"{folders - 1:04}"
        poll(lambda: last.exists() and len(os.listdir(last)) == FILES, 3 * 3600, "all is learned")
        figures["learn, s"] = time.monotonic() - began
        figures["tcfsd, peak, MiB"] = bates.memory_peak("tcfsd") / MIB
        assert bates.memory_peak("tcfsd") < PROCESS_MAX

        slow = slowdown()
        figures["up to the first listing, s"] = best(started_anew(bates))
        tree = bates.mountpoint / "tree"
        held = rss_anon(bates)
        visited = [tree / "00" / f"{number:04}" for number in range(TRIES)]
        figures["ls of 1,000, ms"] = 1000 * best(never_visited(visited))
        figures["other work, times"] = slow = max(slow, slowdown())
        seen = find(tree / "00")
        figures["bytes an inode"] = (rss_anon(bates) - held) / seen
        figures["mount, peak, MiB"] = bates.memory_peak("mount") / MIB
        print("\n".join(f"{name:>28} {value:10.1f}" for name, value in figures.items()))
        assert seen == FILES * min(folders, 100) + min(folders, 100) + 1
        assert bates.memory_peak("mount") < MOUNT_MAX
        assert figures["bytes an inode"] < (INODE_MAX if folders >= 100 else 4 * INODE_MAX)
        assert figures["ls of 1,000, ms"] < 1000 * LISTING_S * slow
        assert figures["up to the first listing, s"] < UP_S * slow
        name = f"00/{min(folders, 100) - 1:04}/file007.txt"
        assert (tree / name).read_bytes() == (source / name).read_bytes()
        works_at_that_size(bates, tree, source, min(folders // 2, 10))


def works_at_that_size(machine: Machine, tree: Path, source: Path, some: int) -> None:
    """A folder with much below is renamed, much is removed and copied in, and everybody is sure of it."""
    (tree / "00").rename(tree / "renamed")
    assert (tree / "renamed/0003/file001.txt").read_bytes() == (source / "00/0003/file001.txt").read_bytes()
    subprocess.run(["rm", "-rf", *(tree / "renamed" / f"{number:04}" for number in range(some))], check=True)
    subprocess.run(["cp", "-a", *(source / "00" / f"{number:04}" for number in range(some)), tree], check=True)
    machine.run("wait", timeout=3600)
    assert sorted(os.listdir(tree / "renamed"))[0] == f"{some:04}"
    assert len(os.listdir(tree / f"{some - 1:04}")) == FILES
    machine.run("fsck", timeout=3 * 3600)
