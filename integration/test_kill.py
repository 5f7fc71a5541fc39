"""kill -9 at bad moments: what was closed or fsynced is there, whole, and reaches the other machine."""

import os
import random
import re
import subprocess
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")
ROOT = Path(__file__).parent.parent

# Writes files one after the other and says which close (or fsync, for every third) has returned.
WRITER = """
import os, sys, time
root, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
import random
rnd = random.Random(seed)
for n in range(count):
    name = f"{root}/d{n % 7}/f{n}"
    try:
        os.makedirs(os.path.dirname(name), exist_ok=True)
        body = (b"%d:" % n) * rnd.randint(1, 3000)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            for at in range(0, len(body), 4096):
                os.write(fd, body[at:at + 4096])
            if n % 3 == 0:
                os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        print("error", n, error.errno, flush=True)
        time.sleep(0.05)
        continue
    print("done", n, len(body), flush=True)
"""


def bodies(seed: int, count: int) -> dict[int, bytes]:
    rnd = random.Random(seed)
    return {n: (b"%d:" % n) * rnd.randint(1, 3000) for n in range(count)}


def start_writer(machine: Machine, root: Path, count: int, seed: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["python3", "-c", WRITER, str(root), str(count), str(seed)], stdout=subprocess.PIPE, text=True, cwd="/"
    )


def check_written(out: str, expected: dict[int, bytes], here: Path, there: Path) -> None:
    done = [int(line.split()[1]) for line in out.splitlines() if line.startswith("done")]
    assert done, f"the writer never finished a file: {out[-500:]}"
    for n in done:
        name = f"d{n % 7}/f{n}"
        assert (here / name).read_bytes() == expected[n], f"{name} lost or torn here"
    for n in done:
        name = f"d{n % 7}/f{n}"
        assert (there / name).read_bytes() == expected[n], f"{name} lost or torn on the other machine"
    for path in there.rglob("f*"):
        n = int(path.name[1:])
        body = path.read_bytes()
        assert expected[n].startswith(body), f"{path.name}: bytes that the file never had"


def revive(machine: Machine) -> None:
    """Start again whatever died; the mount point answers when this returns."""
    machine.run("up", timeout=60)
    poll(lambda: os.path.ismount(machine.mountpoint) and os.listdir(machine.mountpoint) is not None, 10, "the mount answers")


def drill(yoga: Machine, bates: Machine, name: str, kinds: list[str], seed: int, count: int = 60) -> None:
    here, there = yoga.mountpoint / name, bates.mountpoint / name
    writer = start_writer(yoga, here, count, seed)
    rnd = random.Random(seed)
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(rnd.randint(1, count // 2))]
    for kind in kinds:
        yoga.kill(kind)
    poll(lambda: not set(kinds) & {k for k in kinds if yoga.pids(k)} or "mount" not in kinds, 5, "killed")
    revive(yoga)
    rest, _ = writer.communicate(timeout=120)
    yoga.run("wait", timeout=120)
    finish(yoga, bates)
    check_written("".join(lines) + rest, bodies(seed, count), here, there)


def finish(yoga: Machine, bates: Machine) -> None:
    """Everything that yoga has published is known to bates, and both are sound."""
    yoga.run("wait", timeout=120)
    (yoga.mountpoint / "mark").write_text(os.urandom(8).hex())
    yoga.run("wait")
    text = (yoga.mountpoint / "mark").read_text()
    poll(lambda: (bates.mountpoint / "mark").exists() and (bates.mountpoint / "mark").read_text() == text, 20, "the mark")
    yoga.fsck()
    bates.fsck()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kinds", [["tcfsd"], ["mount"], ["tcfsd", "mount"]], ids="+".join)
def test_kill_at_a_random_moment(tmp_path: Path, kinds: list[str]) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        for seed in (1, 2):
            drill(yoga, bates, f"run{seed}", kinds, seed)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kinds", [["tcfsd"], ["mount"], ["tcfsd", "mount"]], ids="+".join)
def test_kill_at_50_random_moments(tmp_path: Path, kinds: list[str]) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        for seed in range(100, 150):
            drill(yoga, bates, f"run{seed}", kinds, seed)


def fault_points() -> list[str]:
    """Every named fault point of the product, found in its source."""
    names = set()
    for package in ("sync", "fs"):
        for source in (ROOT / package).rglob("*.py"):
            names |= set(re.findall(r"\.fault\(\s*[\"']([a-z0-9_.]+)[\"']", source.read_text()))
    return sorted(names)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", fault_points())
def test_kill_at_each_fault_point(tmp_path: Path, point: str) -> None:
    """Both processes of yoga run with the fault armed, so the one that passes the point first dies there."""
    with fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        bates.up()
        yoga.run("up", environ={"TCFS_FAULT": f"{point}:3"}, expect=None)
        here, there = yoga.mountpoint / "run", bates.mountpoint / "run"
        writer = start_writer(yoga, here, 60, 7)
        out, _ = writer.communicate(timeout=120)
        yoga.kill()
        poll(lambda: not yoga.pids(), 5, "all of yoga is dead")
        revive(yoga)
        finish(yoga, bates)
        expected = bodies(7, 60)
        if any(line.startswith("done") for line in out.splitlines()):
            check_written(out, expected, here, there)
