"""A mount that does not answer any more: whoever waits for it is freed, and it comes back with everything."""

import os
import signal
import subprocess
import sys

import pytest
from fleetkit import FUSE, fleet, poll

from sync.machines import fuse

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")

ASK = "import os, sys; os.statvfs(sys.argv[1])"


@pytest.mark.long
def test_a_stopped_mount_is_aborted_and_started_again(tmp_path):
    with fleet(tmp_path, "yoga") as (yoga,):
        (yoga.mountpoint / "f").write_text("x")
        yoga.run("wait")
        (before,) = yoga.pids("mount")
        os.kill(before, signal.SIGSTOP)
        waiting = subprocess.Popen([sys.executable, "-c", ASK, str(yoga.mountpoint)], stderr=subprocess.DEVNULL)
        assert 0 != waiting.wait(20)  # not for ever; tcfsd asks for a sign of life every few seconds

        def is_back() -> bool:
            try:
                return (yoga.mountpoint / "f").read_text() == "x"
            except OSError:
                return False

        poll(is_back, 20, "the mount")
        assert [before] != yoga.pids("mount")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_aborting_frees_who_waits_without_the_folder_of_connections(tmp_path):
    """A container has no /sys/fs/fuse/connections."""
    with fleet(tmp_path, "yoga") as (yoga,):
        (pid,) = yoga.pids("mount")
        os.kill(pid, signal.SIGSTOP)
        waiting = subprocess.Popen([sys.executable, "-c", ASK, str(yoga.mountpoint)], stderr=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1)
        assert fuse.abort(str(yoga.mountpoint), connections=tmp_path / "none")
        assert 0 != waiting.wait(5)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_bare_folder_does_not_show_when_a_mount_is_aborted(tmp_path):
    """Or else programs would miss their files, and write beside the fleet, until the next mount takes its place."""
    with fleet(tmp_path, "yoga") as (yoga,):
        (yoga.mountpoint / "f").write_text("x")
        yoga.run("wait")
        yoga.kill("tcfsd")
        (pid,) = yoga.pids("mount")
        os.kill(pid, signal.SIGSTOP)
        assert fuse.abort(str(yoga.mountpoint), connections=tmp_path / "none")
        assert fuse.is_mounted(str(yoga.mountpoint))
        with pytest.raises(OSError, match=r"not connected|aborted"):
            (yoga.mountpoint / "new").write_text("to the fleet or nowhere")
        os.kill(pid, signal.SIGKILL)
        yoga.run("up", timeout=60)
        assert os.listdir(yoga.mountpoint) == ["f"]
