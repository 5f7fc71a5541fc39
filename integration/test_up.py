"""`tcfs up` starts the mount and the daemon at the same moment: whatever happens to one of the three."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleetkit import BIN, FUSE, Machine, fleet, poll

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")

# `up` that is killed before it has started the daemon.
HALF_UP = """
import os, signal
from sync.machines.launch import start_mount_early
from sync.state.home import Home

mount = start_mount_early(Home.from_environ(os.environ).fleet(None), os.environ)
print(mount.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Machine]:
    """Has been mounted, and is down."""
    with fleet(tmp_path, "yoga") as (machine,):
        (machine.mountpoint / "f").write_text("content\n")
        machine.run("down")
        yield machine


def is_whole(machine: Machine) -> bool:
    engine = machine.data("status")["engine"]
    if engine is None or len(machine.pids("tcfsd")) != 1:
        return False
    return bool(engine["mount"]["is_connected"]) and [engine["mount"]["pid"]] == machine.pids("mount")


def test_up_is_one_mount_that_the_daemon_keeps(yoga: Machine) -> None:
    yoga.up()
    assert os.listdir(yoga.mountpoint) == ["f"]
    poll(lambda: is_whole(yoga), 20, "a daemon that answers status in time")
    (pid,) = yoga.pids("mount")
    os.kill(pid, signal.SIGKILL)
    poll(lambda: is_whole(yoga) and yoga.pids("mount") != [pid], 20, "another mount")
    assert os.listdir(yoga.mountpoint) == ["f"]


@pytest.mark.logs_trouble
def test_up_that_is_killed_half_way_heals(yoga: Machine) -> None:
    """The mount that it has left behind starts the daemon, which finds it."""
    half = subprocess.run([sys.executable, "-c", HALF_UP], env=yoga.environ, stdout=subprocess.PIPE, text=True)
    assert half.returncode == -signal.SIGKILL
    poll(lambda: is_whole(yoga), 30, "a daemon")
    assert yoga.pids("mount") == [int(half.stdout)]
    yoga.up()
    assert os.listdir(yoga.mountpoint) == ["f"]


@pytest.mark.logs_trouble
def test_up_whose_daemon_cannot_serve_leaves_no_mount(yoga: Machine) -> None:
    (database,) = yoga.home.glob("state/*/fleet.db")
    content = database.read_bytes()
    database.write_bytes(b"no database" * 1000)
    failed = yoga.run("up", expect=None)
    assert failed.returncode != 0
    assert "fleet.db" in failed.stderr
    poll(lambda: not yoga.pids(), 20, "the end of all processes")
    assert not os.path.ismount(yoga.mountpoint)
    database.write_bytes(content)
    yoga.up()
    poll(lambda: is_whole(yoga), 20, "a daemon that answers status in time")
    assert os.listdir(yoga.mountpoint) == ["f"]


@pytest.mark.logs_trouble
def test_two_up_at_once_are_one_mount(yoga: Machine) -> None:
    both = [
        subprocess.Popen([BIN / "tcfs", "up"], env=yoga.environ, stderr=subprocess.PIPE, text=True, cwd=yoga.home)
        for _ in range(2)
    ]
    assert [(up.communicate(timeout=60)[1], up.returncode) for up in both] == [("", 0)] * 2
    poll(lambda: is_whole(yoga), 20, "one mount and one daemon")
    assert os.listdir(yoga.mountpoint) == ["f"]
