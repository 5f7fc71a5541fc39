"""kill -9 at bad moments: what was closed or fsynced is there, whole, and reaches the other machine; nothing is half.

A writer changes yoga's mount in every way (support/chaos.py), and a watcher reads all of it on bates. Both processes
come back by themselves; where both were killed, `tcfs up` brings them.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleetkit import BIN, FUSE, Machine, fleet, poll
from killkit import check_sound, drill, kill, revive, runs

from sync.env import fault_names

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")

ROOT = Path(__file__).parent.parent
BOTH = ("tcfsd", "mount")
BY_ITSELF_S = 15.0

POINTS = sorted(fault_names([ROOT / "sync", ROOT / "fs", ROOT / "cli"]))
OF_INIT = [point for point in POINTS if point.startswith("init.")]
OF_FORK = [point for point in POINTS if point.startswith("fork.")]
NOWHERE = ["store.after_delete"]  # no part of the product deletes objects yet
OF_COPY = [point for point in POINTS if point not in (*OF_INIT, *OF_FORK, *NOWHERE)]
QUICK = ["publish.after_outbox", "note.after_rename", "tree.before_seal_commit"]

Pair = tuple[Machine, Machine]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """yoga and bates for all quick drills: each of them has a folder of its own."""
    with fleet(tmp_path_factory.mktemp("fleet"), "yoga", "bates") as (yoga, bates):
        yield yoga, bates


@pytest.mark.parametrize(("kind", "seed"), [("tcfsd", 1), ("mount", 2)])
def test_what_is_killed_comes_back_by_itself(pair: Pair, kind: str, seed: int) -> None:
    yoga, bates = pair
    with drill(yoga, bates, seed) as run:
        run.may_fail = kind == "mount"
        run.begin()
        run.await_changes(20)
        kill(yoga, kind)
        poll(lambda: runs(yoga), BY_ITSELF_S, f"{kind} comes back by itself")
        run.await_changes(10)
        run.finish()
    check_sound(yoga, bates)


def test_both_are_killed_and_up_brings_them_back(pair: Pair) -> None:
    """A file that was being written is kept and named, and goes out only when somebody says so."""
    yoga, bates = pair
    half = yoga.mountpoint / "half"
    with drill(yoga, bates, 3) as run:
        run.may_fail = True
        run.begin()
        with being_written(half):
            run.await_changes(20)
            kill(yoga, *BOTH)
        revive(yoga)
        run.await_changes(10)
        run.finish()
    assert half.read_bytes() == b"half"
    assert [item["path"] for item in yoga.data("status")["unsafe"]] == ["half"]
    assert "half" in yoga.run("wait", "half", expect=7).stderr
    assert not (bates.mountpoint / "half").exists()
    yoga.run("push", str(half))
    poll(lambda: (bates.mountpoint / "half").exists(), 10, "the file that was pushed")
    check_sound(yoga, bates)


@contextlib.contextmanager
def being_written(file: Path) -> Iterator[None]:
    """Another process has written b"half" and holds the file open. (If we did, each fork would close it once.)"""
    code = "import os, sys; os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), b'half'); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE):
        poll(lambda: file.exists() and file.stat().st_size == 4, 10, "the file is begun")
        yield


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount without a gap")
def test_nothing_is_written_beside_the_fleet_while_the_mount_is_dead(pair: Pair) -> None:
    """The folder below the mount point never shows: who writes gets an error, or has written to the fleet."""
    yoga, bates = pair
    (yoga.mountpoint / "before").touch()
    yoga.run("wait")
    kill(yoga, "mount")
    written: list[Path] = []
    refused = 0

    def write() -> bool:
        nonlocal refused
        stray = yoga.mountpoint / f"stray{refused}"
        try:
            stray.write_text("to the fleet or nowhere")
        except OSError:
            refused += 1
        else:
            written.append(stray)
        return bool(written)

    poll(write, BY_ITSELF_S, "the mount takes files again", pause=0.0005)
    assert refused
    assert {"before", written[0].name} <= set(os.listdir(yoga.mountpoint))
    yoga.run("wait")
    assert written[0].read_text() == "to the fleet or nowhere"
    check_sound(yoga, bates)


@pytest.mark.parametrize("point", QUICK)
def test_kill_at_a_fault_point(pair: Pair, point: str) -> None:
    yoga, bates = pair
    yoga.run("down")
    die_at(yoga, bates, f"{point}:2", 100 + QUICK.index(point))


# ---- long


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("point", OF_COPY)
def test_kill_at_each_fault_point(tmp_path: Path, point: str, count: int) -> None:
    with fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        bates.up()
        die_at(yoga, bates, f"{point}:{count}", 7)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kinds", [("tcfsd",), ("mount",), BOTH], ids="+".join)
def test_kill_at_50_random_moments(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    """bates writes as well, and yoga reads that; the CLI pushes a folder on yoga meanwhile."""
    for seed in range(1, 11):
        with (
            fleet(tmp_path / str(seed), "yoga", "bates") as (yoga, bates),
            drill(yoga, bates, seed) as run,
            drill(bates, yoga, 1000 + seed, pause_ms=60) as back,
        ):
            run.may_fail, back.may_not_read = "mount" in kinds, True
            run.begin()
            back.begin()
            die_at_random(yoga, kinds, random.Random(seed), 5)
            run.await_changes(10)
            run.finish()
            back.finish()
            pushed(yoga, bates)
            check_sound(yoga, bates)
        shutil.rmtree(tmp_path / str(seed))


def die_at_random(yoga: Machine, kinds: tuple[str, ...], rnd: random.Random, times: int) -> None:
    folder = yoga.home / "pushed"
    folder.mkdir()
    for n in range(times):
        (folder / f"f{n}").write_bytes(rnd.randbytes(rnd.randint(1, 300_000)))
        with push(yoga):
            time.sleep(rnd.uniform(0.02, 1.5))
            kill(yoga, *kinds)
        if n:  # again and again within seconds: then they take their time to come back by themselves
            revive(yoga)
        else:
            poll(lambda: kinds == BOTH or runs(yoga), BY_ITSELF_S, f"{kinds} comes back by itself")
            revive(yoga)


@contextlib.contextmanager
def push(machine: Machine) -> Iterator[None]:
    """A push of the folder, under way in the body; it may fail."""
    process = subprocess.Popen(
        [str(BIN / "tcfs"), "push", "pushed"],
        env=machine.environ,
        cwd=machine.home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()


def pushed(yoga: Machine, bates: Machine) -> None:
    """What was pushed under fire is there, after one more push without."""
    yoga.run("push", "pushed")
    bates.run("pull", "pushed", "copy")
    for path in sorted((yoga.home / "pushed").iterdir()):
        assert (bates.home / "copy" / path.name).read_bytes() == path.read_bytes()


INIT_PASSES = [*OF_INIT, "store.before_rename", "store.before_dir_sync", "store.after_put", "fleet.before_commit"]
JOIN_PASSES = [point for point in INIT_PASSES if point not in ("init.after_key", "init.after_fleet_put")]


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "point"), [*(("yoga", point) for point in INIT_PASSES), *(("bates", point) for point in JOIN_PASSES)]
)
def test_kill_during_init(tmp_path: Path, name: str, point: str) -> None:
    """init is done again: one fleet, one machine of each name."""
    yoga, bates = (Machine(tmp_path / name, name) for name in ("yoga", "bates"))
    store, log = tmp_path / "store", tmp_path / "faults"
    try:
        for machine in (yoga, bates):
            args = ["init", "--store", str(store), "--name", machine.name]
            if machine is bates:
                fleet_id = json.loads((store / "fleet.json").read_bytes())["fleet_id"]
                args += ["--key-file", str(yoga.home / "config" / "fleets" / fleet_id / "fleet.key")]
            if machine.name == name:
                machine.run(*args, environ=armed(point, log), expect=None)
                assert has_killed(log, point)
            assert machine.run(*args, expect=None).returncode in (0, 4)
            machine.up()
        with drill(yoga, bates, 1) as run:
            run.begin()
            run.await_changes(20)
            run.finish()
        check_sound(yoga, bates)
        assert len(list((store / "machines").iterdir())) == 2
    finally:
        yoga.destroy()
        bates.destroy()


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", OF_FORK)
def test_kill_while_a_new_identity_is_taken(tmp_path: Path, point: str) -> None:
    """yoga's state folder comes from a backup, and the store has gone on since."""
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (yoga.mountpoint / "kept").write_text("one")
        yoga.run("down")
        shutil.copytree(yoga.home / "state", tmp_path / "backup")
        yoga.up()
        (yoga.mountpoint / "kept").write_text("two")
        yoga.run("down")
        shutil.rmtree(yoga.home / "state")
        (tmp_path / "backup").rename(yoga.home / "state")
        die_at(yoga, bates, point, 7)
        for machine in (yoga, bates):
            assert (machine.mountpoint / "kept").read_text() == "two"


def test_every_fault_point_has_a_drill() -> None:
    assert {*OF_COPY, *OF_INIT, *OF_FORK} == set(POINTS) - set(NOWHERE)
    assert set(QUICK) < set(OF_COPY)
    assert len(OF_INIT) == 3 and len(OF_FORK) == 3


# ---- fault points


def armed(point: str, log: Path) -> dict[str, str]:
    return {"TCFS_FAULT": point, "TCFS_FAULT_LOG": str(log)}


def has_killed(log: Path, point: str) -> bool:
    return log.exists() and f"killed {point}" in log.read_text().splitlines()


def die_at(yoga: Machine, bates: Machine, fault: str, seed: int) -> None:
    """A drill on yoga, of which nothing runs yet: the process that is the n-th to pass the point dies there, once."""
    point, log = fault.partition(":")[0], yoga.home / f"faults{seed}"
    yoga.run("up", environ=armed(fault, log), expect=None)
    if not runs(yoga):
        revive(yoga)
    with drill(yoga, bates, seed) as run, drill(bates, yoga, seed + 1000, pause_ms=60) as back:
        run.may_fail = back.may_not_read = True
        run.begin()
        back.begin()
        for _ in range(10):
            run.await_changes(20)
            if has_killed(log, point):
                break
        passed = log.read_text().splitlines().count(point) if log.exists() else 0
        assert has_killed(log, point), f"{point} was passed {passed} times: the writer does not get there"
        poll(lambda: runs(yoga), BY_ITSELF_S, "what has died comes back by itself")
        run.await_changes(10)
        run.finish()
        back.finish()
    check_sound(yoga, bates)
