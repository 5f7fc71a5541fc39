import subprocess

import pytest

from sync.core.errors import NotYet, TcfsError
from sync.machines import fuse
from sync.machines.mounts import Holder

MOUNTINFO = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
87 22 0:51 / /home/me/my\\040fleet rw,nosuid - fuse.tcfs tcfs rw,user_id=0
88 22 0:52 / /other rw,nosuid - fuse.sshfs sshfs rw,user_id=0
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTINFO)
    return path


def test_the_connection_of_a_mount(table):
    assert fuse.connection_number("/home/me/my fleet", table) == 51
    assert fuse.connection_number("/other", table) is None
    assert fuse.connection_number("/", table) is None


def test_abort_writes_to_that_connection_only(tmp_path, table):
    (tmp_path / "51").mkdir()
    assert fuse.abort("/home/me/my fleet", table, tmp_path)
    assert (tmp_path / "51" / "abort").read_text() == "1"
    assert not fuse.abort("/other", table, tmp_path)
    assert not fuse.abort("/home/me/my fleet", table, tmp_path / "none")


@pytest.mark.parametrize(("state", "expected"), [("S", False), ("D", False), ("Z", True)])
def test_a_process_that_was_killed_and_is_still_there(tmp_path, state, expected):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(f"7 (a) name) {state} 1 7 7 0 -1")
    assert fuse.has_died(7, tmp_path) is expected
    assert not fuse.has_died(8, tmp_path)


def test_no_device_is_said_with_its_remedy(tmp_path):
    assert "load the fuse module" in fuse.why_no_fuse(tmp_path / "fuse")


def unmounting(monkeypatch, stderr, *, still_there=True):
    there = iter([True, still_there])
    monkeypatch.setattr(fuse, "is_mounted", lambda _: next(there))
    monkeypatch.setattr(fuse, "holders", lambda _: [Holder(3, "vim", "notes", "is open")])
    done = subprocess.CompletedProcess([], 1 if stderr else 0, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)


def test_a_busy_mount_names_who_holds_it(monkeypatch):
    unmounting(monkeypatch, "fusermount3: failed to unmount /m: Device or resource busy")
    with pytest.raises(NotYet, match=r"in use by vim \(3\): notes is open") as caught:
        fuse.unmount("/m")
    assert "kill 3" in caught.value.hint
    assert "--force" in caught.value.hint


def test_a_mount_in_it_is_named(monkeypatch):
    unmounting(monkeypatch, "busy")
    monkeypatch.setattr(fuse, "mounted", lambda: {"/m": "fuse.tcfs", "/mm": "tmpfs", "/m/a b": "tmpfs", "/m/c": "ext4"})
    monkeypatch.setattr(fuse, "holders", lambda _: [])
    with pytest.raises(NotYet, match=r"in use by another mount in it, /m/a b; another mount in it, /m/c$") as caught:
        fuse.unmount("/m")
    assert caught.value.hint.startswith("umount /m/c '/m/a b', or take")


def test_many_who_hold_it_are_counted(monkeypatch):
    unmounting(monkeypatch, "busy")
    monkeypatch.setattr(fuse, "holders", lambda _: [Holder(pid, "sh", "", "is open") for pid in range(100, 113)])
    with pytest.raises(NotYet, match="and 3 more") as caught:
        fuse.unmount("/m")
    assert "112" in caught.value.hint
    assert "(112)" not in caught.value.message


def test_a_mount_that_went_meanwhile_is_no_error(monkeypatch):
    unmounting(monkeypatch, "not mounted", still_there=False)
    fuse.unmount("/m")


def test_another_failure_is_told(monkeypatch):
    unmounting(monkeypatch, "permission denied")
    with pytest.raises(TcfsError, match="permission denied"):
        fuse.unmount("/m")
