"""A long time of mixed load on a machine that suffers: nothing is lost or torn, and nothing is left behind.

On yoga editors, builds, git, SQLite, random writes and whole trees are at work in a mount whose cache is always full,
while its processes are killed, suspended, and left without an answer of the store; bates, whose processes live on,
writes files that yoga reads, and some that yoga writes as well. TCFS_HOUR_S says for how long,
TCFS_HOUR_EVERY_S how often something dies, TCFS_HOUR_SEED how it goes.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from far_store import FarStore
from fleetkit import FUSE, Machine, poll
from hourkit import (
    FOLDERS,
    LOADS_HERE,
    LOADS_THERE,
    QUOTA,
    Figures,
    Housekeeping,
    Running,
    Trouble,
    descriptors,
    lines_of,
    loads,
    prepare,
    sent,
    settle_siblings,
    sound,
    stored,
    within,
)
from killkit import KINDS, drill
from toolkit import difference, need, sh, tree

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")

HOUR_S = float(os.environ.get("TCFS_HOUR_S", "3600"))
EVERY_S = float(os.environ.get("TCFS_HOUR_EVERY_S", "60"))
SEED = int(os.environ.get("TCFS_HOUR_SEED", "1"))
STEADY_S = 300.0  # from then on nothing may grow
FSCK_S = 900.0  # on a machine that is busy all the time
GROWTH_FDS = 8
GROWTH_BYTES = 24 << 20
FILES_MAX = 64 + 64  # descriptors of cached chunks that a mount keeps, and of the work files made ahead

Place = tuple[FarStore, Machine, Machine]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """yoga's store may stop answering; bates has the same one on its own disk."""
    store = FarStore(tmp_path)
    yoga, bates = Machine(tmp_path / "yoga", "yoga"), Machine(tmp_path / "bates", "bates")
    try:
        prepare(yoga, store.place)
        prepare(bates, store.real, key_from=yoga)
        yield store, yoga, bates
    finally:
        store.close()  # first: nobody can be ended while the kernel waits for it
        for machine in (yoga, bates):
            machine.destroy()


@pytest.mark.long
@pytest.mark.logs_trouble
@pytest.mark.timeout(HOUR_S + 3000)
def test_an_hour_of_everything(place: Place) -> None:
    run(place, HOUR_S, every_s=EVERY_S, seed=SEED)


@pytest.mark.logs_trouble
@pytest.mark.timeout(900)
def test_half_a_minute_of_everything(place: Place) -> None:
    run(place, 30.0, every_s=8.0, seed=2)


def run(place: Place, seconds: float, *, every_s: float, seed: int) -> None:
    store, yoga, bates = place
    for tool in ("vim", "git", "make", "gcc", "rsync", "sqlite3"):
        need(tool, program=tool)
    trouble, figures = Trouble(yoga, store, seed), Figures([yoga, bates])
    with (
        loads(bates, LOADS_THERE, 100 * seed) as there,
        loads(yoga, LOADS_HERE, 1000 * seed) as here,
        drill(yoga, bates, seed, pause_ms=150) as forth,
        drill(bates, yoga, seed + 1000, pause_ms=400) as back,
    ):
        forth.may_fail = True
        for one in (forth, back):
            one.await_setup()
            one.go()
        try:
            with Housekeeping(yoga, seed, every_s / 10):
                suffer(trouble, figures, [*here, *there], seconds, every_s, bates)
        finally:
            print(figures.table())
        print(trouble.count, f"back after {sorted(trouble.back_s)[len(trouble.back_s) // 2]:.1f} s (median)")
        for load in (*here, *there):
            load.stop()
        for load in (*here, *there):
            load.ended()
            print(load.title, load.said("end"))
        for machine in (yoga, bates):
            sent(machine)
        for one in (forth, back):
            one.finish()
        check_contents(yoga, bates, [*here, *there])
    check_leaks(yoga, bates)
    check_growth(figures, yoga, bates, seconds)


def suffer(
    trouble: Trouble, figures: Figures, running: list[Running], seconds: float, every_s: float, other: Machine
) -> None:
    """Something dies every so often; once everything stands still, and once the store does not answer."""
    began = time.monotonic()
    next_s, looked_s, checked_s = every_s, 0.0, 0.0
    special = {
        0.4 * seconds: lambda: trouble.suspend(every_s / 2),
        0.6 * seconds: lambda: trouble.hang_store(every_s / 3),
    }
    while (at_s := time.monotonic() - began) < seconds:
        for moment in [moment for moment in special if moment <= at_s]:
            special.pop(moment)()
        if at_s >= next_s:
            trouble.kill()
            next_s = time.monotonic() - began + every_s
        if at_s >= looked_s:
            figures.take()
            looked_s = at_s + every_s / 4
            (other.home.parent / "scratch" / "figures").write_text(figures.table())
        if at_s >= checked_s + 600:
            began_s = time.monotonic()
            other.fsck(FSCK_S)
            checked_s = at_s
            print(f"fsck at {at_s:.0f} s took {time.monotonic() - began_s:.0f} s", flush=True)
        for load in running:
            load.check()
        time.sleep(0.5)
    figures.take()


def check_contents(yoga: Machine, bates: Machine, running: list[Running]) -> None:
    """Both machines show what was left on either, and every line that was written to what they share."""
    with within(1800, "what both show"):
        settle_siblings(yoga, bates, "both")
        for machine in (yoga, bates):
            stored(machine)
        for folder in (*FOLDERS, "both"):
            agree(yoga, bates, folder)
        written = {line for load in running if load.title.startswith("shared") for line in load.said("line")}
        for machine in (yoga, bates):
            missing = written - lines_of(machine.mountpoint / "both")
            assert not missing, f"{len(missing)} lines are lost on {machine.name}: {sorted(missing)[:10]}"
        repo = bates.mountpoint / "repo"
        sh('git fsck --strict; test -z "$(git status --porcelain)"', repo)
        sh("make -q; ./prog", bates.mountpoint / "build")
        assert sh("sqlite3 x.db 'PRAGMA integrity_check'", bates.mountpoint / "db") == "ok\n"
    for machine in (yoga, bates):
        stored(machine)
    sound(yoga)
    sound(bates, "--deep")
    for machine in (yoga, bates):
        check_descriptors(machine)
    yoga.run("down", timeout=120)
    yoga.up()
    with within(300, "what a new mount shows"):
        for folder in (*FOLDERS, "both"):
            agree(yoga, bates, folder)


def agree(yoga: Machine, bates: Machine, folder: str) -> None:
    found: list[str] = []

    def is_same() -> bool:
        found[:] = difference(tree(yoga.mountpoint / folder), tree(bates.mountpoint / folder))
        return not found

    try:
        poll(is_same, 60, f"the same in {folder}", pause=1.0)
    except AssertionError:
        raise AssertionError("\n".join([f"{folder}: {len(found)} differ: yoga / bates", *found[:20]])) from None


def check_leaks(yoga: Machine, bates: Machine) -> None:
    """No work file without a row, no temporary file of ours."""
    for machine in (yoga, bates):
        poll(lambda machine=machine: not strays(machine), 60, f"nothing is left: {strays(machine)[:10]}", pause=1.0)


def check_descriptors(machine: Machine) -> None:
    """Where nothing is open or dirty a mount holds the files that it keeps for the next reader and writer, no more, and
    tcfsd none.
    """
    for kind, most in (("mount", FILES_MAX), ("tcfsd", 0)):
        (pid,) = machine.pids(kind)
        held = partial(descriptors, machine, pid)
        poll(lambda held=held, most=most: held()[1] <= most, 60, f"{kind}: {held()} descriptors", pause=1)


def strays(machine: Machine) -> list[str]:
    (state,) = machine.home.glob("state/*/tree.db")
    with sqlite3.connect(f"file:{state}?mode=ro", uri=True) as db:
        known = {f"{number:016x}" for (number,) in db.execute("SELECT id FROM work")}
    db.close()
    work = [path.name for path in (state.parent / "work").rglob("*") if path.is_file() and path.name not in known]
    temps = [str(path) for path in machine.home.rglob("*.tmp") if not path.is_relative_to(machine.mountpoint)]
    return work + temps


def check_growth(figures: Figures, yoga: Machine, bates: Machine, seconds: float) -> None:
    """Late in the run processes hold what they held early in it: those that lived on, and those of equal age."""
    assert figures.chunks_max <= QUOTA, figures.chunks_max
    if seconds < 3 * STEADY_S:
        return
    for machine, kind, age_min_s in [(bates, kind, STEADY_S / 2) for kind in KINDS] + [
        (yoga, kind, 40.0) for kind in KINDS
    ]:
        fds, memory = figures.held(machine, kind, STEADY_S, STEADY_S + seconds / 5, age_min_s)
        fds_late, memory_late = figures.held(machine, kind, seconds * 4 / 5, seconds + 60, age_min_s)
        print(f"{machine.name} {kind}: {fds} -> {fds_late} fds, {memory / 2**20:.1f} -> {memory_late / 2**20:.1f} MiB")
        assert fds_late <= fds + GROWTH_FDS
        assert memory_late <= memory * 1.25 + GROWTH_BYTES
