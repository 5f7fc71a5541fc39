"""Ownership that is synced, through real mounts of root: chown on one machine is chown on the others."""

import os
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll
from mountkit import Fleet
from mountkit import fleet as one_mount

pytestmark = [
    pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away"),
]

DAEMON, SYS = (1, 3)  # on every Linux
NOBODY_ID = 54321  # nobody has it


def ids(path: Path) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_uid, found.st_gid


def named(machine: Machine, path: str) -> tuple[str, str]:
    """owner and group of the head."""
    (head,) = (version for version in machine.data("log", path)["versions"] if version["is_head"])
    return head["owner"], head["group"]


def switch_on(machine: Machine) -> None:
    (machine.home / "config" / "config.toml").write_text("sync_ownership = true\n")


def test_a_chown_is_one_on_the_others_too(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates", "off", up=False) as (yoga, bates, off):
        switch_on(yoga)
        switch_on(bates)
        for machine in (yoga, bates, off):
            machine.up()
        names = ("file", "folder", "link")
        (yoga.mountpoint / "file").write_text("text")
        (yoga.mountpoint / "folder").mkdir()
        (yoga.mountpoint / "link").symlink_to("file")
        for name in names:
            os.chown(yoga.mountpoint / name, DAEMON, SYS, follow_symlinks=False)
        yoga.run("wait")
        for machine in (bates, off):
            poll(lambda at=machine.mountpoint: all(os.path.lexists(at / name) for name in names), 30, "they come")
        poll(lambda: [ids(bates.mountpoint / name) for name in names] == [(DAEMON, SYS)] * 3, 30, "owners come")
        assert [ids(off.mountpoint / name) for name in names] == [(os.geteuid(), os.getegid())] * 3
        os.chown(bates.mountpoint / "file", NOBODY_ID, -1)  # a chown alone, of what both have
        bates.run("wait")
        poll(lambda: ids(yoga.mountpoint / "file") == (NOBODY_ID, SYS), 30, "the chown comes back")
        assert named(yoga, "folder") == ("daemon", "sys")
        poll(lambda: named(off, "file") == (str(NOBODY_ID), "sys"), 30, "all know of it")
        before = off.data("log", "file")
        os.chown(off.mountpoint / "file", 7, 7)
        off.run("wait")
        assert ids(off.mountpoint / "file") == (7, 7)
        assert off.data("log", "file") == before
        (off.mountpoint / "file").write_text("edited")
        off.run("wait")
        poll(lambda: (yoga.mountpoint / "file").read_text() == "edited", 30, "the edit comes")
        assert ids(yoga.mountpoint / "file") == ids(bates.mountpoint / "file") == (NOBODY_ID, SYS)
        assert ids(off.mountpoint / "file") == (7, 7)
        for machine in (yoga, bates, off):
            machine.fsck()


def test_names_are_looked_up_here(tmp_path: Path) -> None:
    with one_mount(tmp_path) as made:
        files(made)
        mountpoint = made.mount(TCFS_SYNC_OWNERSHIP="true")
        assert ids(mountpoint / "known") == (DAEMON, SYS)
        assert ids(mountpoint / "unknown") == ids(mountpoint / "none") == (os.geteuid(), os.getegid())


def test_names_are_nothing_without_the_setting(tmp_path: Path) -> None:
    with one_mount(tmp_path) as made:
        files(made)
        mountpoint = made.mount()
        for name in ("known", "unknown", "none"):
            assert ids(mountpoint / name) == (os.geteuid(), os.getegid())


def files(made: Fleet) -> None:
    made.learn("known", b"text", owner="daemon", group="sys")
    made.learn("unknown", b"text", owner="no-such-user", group="no-such-group")
    made.learn("none", b"text")
