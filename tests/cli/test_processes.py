"""tcfsd as a process of its own, without a mount."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from cli.init import become_member
from sync.ipc import client
from sync.ipc.frames import PROTOCOL
from sync.ipc.stream import check_hello
from sync.machines import fuse
from sync.machines.identity import host_machine_name, host_name
from sync.state.lock import FileLock, is_held

TCFSD = str(Path(sys.executable).parent / "tcfsd")


class Daemon:
    def __init__(self, shell):
        self.shell = shell
        self.lock = next(shell.home.glob("state/*")) / "engine.lock"
        self.log = self.lock.parent / "log" / "tcfsd.log"

    def start(self, *args):
        return subprocess.run(
            [TCFSD, "--background", *args], env=self.shell.environ(), capture_output=True, text=True, check=False
        )

    @property
    def pid(self):
        return int(self.lock.read_text())

    def stop(self, number=signal.SIGTERM):
        if is_held(self.lock):
            os.kill(self.pid, number)
            until = time.monotonic() + 10
            while is_held(self.lock):
                assert time.monotonic() < until, "tcfsd does not end"
                time.sleep(0.005)


@pytest.fixture
def daemon(fleet):
    daemon = Daemon(fleet[0])
    yield daemon
    daemon.stop(signal.SIGKILL)


def test_a_daemon_serves_in_the_background(fleet, daemon):
    yoga, bates = fleet
    assert daemon.start().returncode == 0
    command = Path(f"/proc/{daemon.pid}/cmdline").read_bytes()
    assert b"tcfsd" in command
    assert f"TCFS_HOME={yoga.home}".encode() in Path(f"/proc/{daemon.pid}/environ").read_bytes().split(b"\0")
    assert os.getsid(daemon.pid) != os.getsid(0)
    assert os.readlink(f"/proc/{daemon.pid}/cwd") == "/"
    assert os.readlink(f"/proc/{daemon.pid}/fd/0") == os.devnull
    for fd in (1, 2):
        assert str(yoga.home) in os.readlink(f"/proc/{daemon.pid}/fd/{fd}")

    yoga.write("f", "through the daemon")
    yoga.ok("push", "f")
    bates.ok("pull", "f")
    assert bates.read("f") == "through the daemon"
    said = yoga("status", "--json").json["data"]
    assert said["running"]["engine"] is True
    assert said["engine"]["pid"] == daemon.pid
    assert said["engine"]["store"]["packs"]["puts"] == 1
    refused = yoga("pull", "nothing")
    assert (refused.code, refused.err.count("\n")) == (5, 1)

    pid = daemon.pid
    assert daemon.start().returncode == 0
    assert daemon.pid == pid
    daemon.stop()
    assert "stops" in daemon.log.read_text()
    assert "Traceback" not in daemon.log.read_text()
    assert not list(yoga.home.glob("run/*/socket"))


def test_a_daemon_that_was_killed_leaves_nothing_in_the_way(fleet, daemon):
    yoga, _ = fleet
    daemon.start()
    daemon.stop(signal.SIGKILL)
    assert list(yoga.home.glob("run/*/sock*"))  # the socket, or the name of its short folder where the path is too long
    yoga.write("f", "without it")
    yoga.ok("push", "f")
    assert daemon.start().returncode == 0
    yoga.write("g", "with it")
    yoga.ok("push", "g")
    assert yoga.ok("ls").split() == ["f", "g"]


def test_up_and_down_without_fuse(fleet, daemon, monkeypatch):
    yoga, _ = fleet
    monkeypatch.setattr(fuse, "why_no_fuse", lambda: "there is no FUSE here")
    up = yoga("up")
    assert up.code == 0
    assert "push" in up.err and "pull" in up.err and "there is no FUSE here" in up.err
    assert up.err.count("\n") == 1
    assert is_held(daemon.lock)
    assert yoga("mount").code == 1
    assert yoga("up").code == 0
    assert yoga("down").code == 0
    assert not is_held(daemon.lock)
    assert yoga("down").code == 0


def test_up_makes_a_fleet_if_there_is_none(yoga, monkeypatch):
    monkeypatch.setattr(fuse, "why_no_fuse", lambda: "there is no FUSE here")
    up = yoga("up", "--json")
    daemon = Daemon(yoga)
    try:
        assert up.json["data"]["store"] == (yoga.home / "store").as_uri()
        assert (yoga.home / "store" / "fleet.json").exists()
        assert yoga("up").code == 0
    finally:
        assert yoga("down").code == 0
        daemon.stop(signal.SIGKILL)


def test_up_while_another_makes_the_fleet(yoga, monkeypatch):
    monkeypatch.setattr(fuse, "why_no_fuse", lambda: "there is no FUSE here")

    def second(*args):
        become_member(*args)
        return become_member(*args)

    monkeypatch.setattr("cli.init.become_member", second)
    try:
        up = yoga("up")
        assert (up.code, "created" in up.err) == (0, False)
        assert up.out == f"fleet default is not mounted, this machine is {host_machine_name(host_name())}\n"
    finally:
        assert yoga("down").code == 0


def test_a_mount_point_that_holds_something_is_refused(fleet, daemon, monkeypatch):
    yoga, _ = fleet
    monkeypatch.setattr(fuse, "why_no_fuse", lambda: "")
    (yoga.home / "fleet").mkdir()
    (yoga.home / "fleet" / "photo.jpg").touch()
    up = yoga("up")
    assert up.code == 1
    assert "not empty" in up.err
    assert not is_held(daemon.lock)


def test_a_daemon_that_cannot_start_says_why(fleet, daemon):
    yoga, _ = fleet
    yoga.key_file.write_text("nonsense\n")
    done = daemon.start()
    assert done.returncode == 1
    assert "fleet.key" in done.stderr
    assert yoga("up").code == 1


def test_a_daemon_of_no_fleet(yoga):
    done = subprocess.run([TCFSD, "--background"], env=yoga.environ(), capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("tcfsd: this machine is in no fleet")


def test_in_the_foreground_it_logs_to_stderr_and_ends_on_sigterm(fleet, daemon):
    yoga, _ = fleet
    process = subprocess.Popen([TCFSD], env=yoga.environ(), stderr=subprocess.PIPE, text=True)
    assert "serves fleet default" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert "stops" in process.stderr.read()
    assert process.wait(10) == 0
    process.stderr.close()


def test_nothing_that_names_paths_can_be_read_by_others(fleet, daemon):
    """Files of the state and cache folders, whoever made them: verbs, and a daemon in the foreground."""
    yoga, _ = fleet
    was = os.umask(0o022)
    try:
        yoga.write("f", "content")
        yoga.ok("push", "f")
        process = subprocess.Popen([TCFSD], env=yoga.environ(), stderr=subprocess.PIPE, text=True)
    finally:
        os.umask(was)
    assert "serves fleet default" in process.stderr.readline()
    modes = {path: path.stat().st_mode & 0o777 for path in yoga.home.rglob("*")}
    process.terminate()
    process.communicate()
    assert {path.name for path in modes} >= {"fleet.db", "fleet.db-wal", "tcfsd.log", "fleet.key"}
    assert {} == {path: oct(mode) for path, mode in modes.items() if mode & 0o077}


def test_doctor(fleet, daemon, tmp_path, caplog):
    yoga, _ = fleet
    found = {one["subject"]: one for one in yoga("doctor", "--json").json["data"]["findings"]}
    assert found["store"]["ok"] and found["key"]["ok"] and found["packages"]["ok"]
    assert not found["daemon"]["ok"]
    assert "tcfs up" in found["daemon"]["remedy"]
    daemon.start()
    (tmp_path / "store").rename(tmp_path / "gone")
    yoga.key_file.chmod(0o644)
    done = yoga("doctor", "--json")
    assert (done.code, done.json["ok"]) == (1, False)
    assert done.json["error"]["code"] == "error"
    found = {one["subject"]: one for one in done.json["data"]["findings"]}
    assert found["daemon"]["ok"]
    for subject in ("store", "key"):
        assert not found[subject]["ok"]
        assert found[subject]["remedy"]
    in_words = yoga("doctor")
    assert in_words.code == 1
    assert "!!  store: " in in_words.out
    assert in_words.err.startswith("tcfs: ") and in_words.err.count("\n") == 1


def test_a_daemon_that_stands_still_is_not_called_down(fleet, daemon):
    yoga, _ = fleet
    daemon.start()
    pid = daemon.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        said = yoga("status")
        assert f"tcfsd runs as process {pid}, but does not answer, mount is down" in said.out
        assert f"kill -9 {pid}" in said.out
        data = yoga("status", "--json").json["data"]
        assert data["running"]["engine"] is True and data["engine"] is None
        found = {one["subject"]: one for one in yoga("doctor", "--json").json["data"]["findings"]}
        assert found["daemon"]["message"] == f"runs as process {pid}, but does not answer"
        assert f"kill -9 {pid}" in found["daemon"]["remedy"]
    finally:
        os.kill(pid, signal.SIGCONT)
    daemon.stop()
    assert "tcfsd is down" in yoga.ok("status")
    found = {one["subject"]: one for one in yoga("doctor", "--json").json["data"]["findings"]}
    assert found["daemon"]["message"] == "does not run"


@pytest.fixture
def is_other_version(monkeypatch):
    """Each tcfsd, as seen by this program."""

    def check(ours, peer):
        check_hello(ours, msgspec.structs.replace(peer, protocol=PROTOCOL + 1))

    monkeypatch.setattr(client, "check_hello", check)


@pytest.mark.usefixtures("is_other_version")
def test_a_daemon_of_another_version_is_called_that(fleet, daemon):
    yoga, _ = fleet
    daemon.start()
    message = f"the engine is of another version of tcfs: protocol {PROTOCOL + 1}, this cli has {PROTOCOL}"
    remedy = "'tcfs down', then 'tcfs up'"
    assert f"tcfsd runs, but {message}, mount is down\n{remedy}\n" in yoga.ok("status")
    data = yoga("status", "--json").json["data"]
    assert data["running"]["engine"] is True and data["engine"] is None
    assert data["engine_silence"] == {"message": f"runs, but {message}", "next": remedy}
    short = yoga("status", "-s")
    assert (short.out, short.err) == ("", f"tcfsd runs, but {message} ({remedy})\n")
    assert yoga("status", "-s", "--json").json["data"]["engine_silence"] == data["engine_silence"]
    found = {one["subject"]: one for one in yoga("doctor", "--json").json["data"]["findings"]}
    assert (found["daemon"]["message"], found["daemon"]["remedy"]) == (f"runs, but {message}", remedy)
    for verb in (["wait"], ["up"], ["unmount"]):
        assert yoga(*verb).err == f"tcfs: {message} ({remedy})\n"


@pytest.mark.usefixtures("is_other_version")
def test_down_ends_a_daemon_of_another_version(fleet, daemon):
    yoga, _ = fleet
    daemon.start()
    assert yoga("down").code == 0
    assert not is_held(daemon.lock)
    assert "stops" in daemon.log.read_text()


@pytest.mark.usefixtures("is_other_version")
def test_down_says_that_the_mount_is_of_another_installation(fleet, daemon, monkeypatch):
    """It starts its own tcfsd again."""
    yoga, _ = fleet
    daemon.start()
    kill, killed = os.kill, []

    def again(pid, number):
        killed.append((pid, number))
        with monkeypatch.context() as patched:
            patched.setattr(os, "kill", kill)
            daemon.stop()
        daemon.start()

    pid, mount_lock = daemon.pid, FileLock(daemon.lock.parent / "mount.lock")
    assert mount_lock.try_acquire()
    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", again)
        said = yoga("down")
    mount_lock.release()
    assert said.code == 8 and "the mount is of another installation" in said.err
    assert killed == [(pid, signal.SIGTERM)]


TCFSD_OF_ANOTHER_VERSION = """
import msgspec, sync.daemon
from sync.ipc import client
from sync.ipc.stream import check_hello
client.check_hello = lambda ours, peer: check_hello(ours, msgspec.structs.replace(peer, protocol=99))
sync.daemon.main([])
"""


def test_a_daemon_does_not_wait_for_one_of_another_version(fleet, daemon):
    yoga, _ = fleet
    daemon.start()
    command = [sys.executable, "-P", "-c", TCFSD_OF_ANOTHER_VERSION]
    done = subprocess.run(command, env=yoga.environ(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 8
    assert "another version of tcfs: protocol 99" in done.stderr


def test_doctor_with_nothing_wrong(fleet, daemon, monkeypatch):
    yoga, _ = fleet
    monkeypatch.setattr(fuse, "why_no_fuse", lambda: "")
    daemon.start()
    done = yoga("doctor", "--json")
    assert (done.code, done.json["ok"]) == (0, True), done
    assert all(one["ok"] for one in done.json["data"]["findings"])


def test_a_mount_point_is_looked_at_before_a_fleet_is_made(yoga, monkeypatch):
    monkeypatch.setattr(fuse, "why_no_fuse", lambda: "")
    (yoga.home / "fleet").mkdir(parents=True)
    (yoga.home / "fleet" / "photo.jpg").touch()
    assert "not empty" in yoga("up").err
    assert sorted(os.listdir(yoga.home)) == ["fleet"]


@pytest.mark.parametrize(
    "folder", ["../../store/m", "../home/state/m", "../home/cache/a/m", "../home/config", "link/m"]
)
def test_no_mount_point_in_the_store_or_in_a_folder_of_tcfs(fleet, monkeypatch, folder):
    yoga, _ = fleet
    monkeypatch.setattr(fuse, "why_no_fuse", lambda: "")
    (yoga.folder / "link").symlink_to(yoga.home / "run")
    place = yoga.folder / folder
    is_there = place.exists()
    for verb in ("up", "mount"):
        done = yoga(verb, folder)
        assert (done.code, "is inside of" in done.err) == (1, True), done
    assert place.exists() == is_there
    assert not is_held(next(yoga.home.glob("state/*")) / "engine.lock")


def test_no_mount_point_in_the_store_of_a_fleet_that_is_about_to_be_made(yoga, monkeypatch):
    monkeypatch.setattr(fuse, "why_no_fuse", lambda: "")
    assert "is inside of" in yoga("up", str(yoga.home / "store" / "m")).err
    assert not yoga.home.exists()
