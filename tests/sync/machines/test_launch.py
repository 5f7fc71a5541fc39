"""The mount process is started early only where the daemon need not be there first."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sync.machines import launch
from sync.state.home import FleetConfig, FleetPaths, Home
from sync.state.lock import FileLock


@pytest.fixture
def paths(tmp_path: Path) -> FleetPaths:
    paths = Home.from_environ({"TCFS_HOME": str(tmp_path)}).new_fleet("0123456789")
    paths.make_dirs()
    config = FleetConfig(fleet_id="0123456789", name="home", store_url="file:///s", machine_id="m", machine_name="yoga")
    paths.save(msgspec.structs.replace(config, mountpoint="/m"))
    paths.fleet_db.touch()
    return paths


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: commands.append(command))
    monkeypatch.setattr(launch, "why_no_fuse", lambda: "")
    return commands


def test_a_mount_that_is_wanted_is_started(paths: FleetPaths, started: list[list[str]]) -> None:
    launch.start_mount_early(paths, {})
    assert [command[1:] for command in started] == [["-P", "-m", "fs.mount"]]


def test_nothing_is_started_where_no_mount_is_wanted(paths: FleetPaths, started: list[list[str]]) -> None:
    paths.save(msgspec.structs.replace(paths.load(), mountpoint=""))
    assert launch.start_mount_early(paths, {}) is None
    assert started == []


def test_nothing_is_started_before_there_is_a_fleet_db(paths: FleetPaths, started: list[list[str]]) -> None:
    paths.fleet_db.unlink()
    assert launch.start_mount_early(paths, {}) is None
    assert started == []


@pytest.mark.parametrize("lock", ["engine_lock", "mount_lock"])
def test_nothing_is_started_beside_another_process(paths: FleetPaths, started: list[list[str]], lock: str) -> None:
    with FileLock(getattr(paths, lock)) as held:
        assert held.try_acquire()
        assert launch.start_mount_early(paths, {}) is None
    assert started == []


def test_nothing_is_started_over_a_mount_that_stands(
    paths: FleetPaths, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "is_mounted", lambda place: place == "/m")
    assert launch.start_mount_early(paths, {}) is None
    assert started == []


def test_nothing_is_started_without_fuse(
    paths: FleetPaths, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "why_no_fuse", lambda: "there is no FUSE")
    assert launch.start_mount_early(paths, {}) is None
    assert started == []


@pytest.mark.skipif(sys.platform != "linux", reason="pidfds are of Linux")
def test_a_mount_that_is_handed_over_is_known_by_whoever_has_it() -> None:
    process = subprocess.Popen(["sleep", "60"])
    fd = launch.hand_over(process)
    assert fd is not None
    handed = launch.Handed(fd)
    try:
        assert (handed.pid, handed.poll()) == (process.pid, None)
        handed.terminate()
        assert process.wait(10) == -signal.SIGTERM
        assert handed.poll() == launch.UNKNOWN
        handed.terminate()  # of one that has ended nothing comes, and nobody else is met
    finally:
        process.kill()
        process.wait()
        os.close(fd)


@pytest.mark.skipif(sys.platform != "linux", reason="pidfds are of Linux")
def test_where_there_is_no_pidfd_the_daemon_starts_the_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int) -> int:
        raise PermissionError

    process = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr(os, "pidfd_open", refused)
    assert launch.hand_over(process) is None
    assert process.poll() == -signal.SIGKILL
