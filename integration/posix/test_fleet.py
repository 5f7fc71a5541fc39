"""Whole machines, by the commands that people use: what stays on one of them, what is one step for the other."""

import ctypes
import os
import shutil
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll

pytestmark = [
    pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened"),
    pytest.mark.skipif(os.geteuid() != 0, reason="owners are changed: run it as root"),
]

RENAME_EXCHANGE = 2
AT_FDCWD = -100


def exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def is_answered_by_the_kernel(machine: Machine, path: Path) -> bool:
    """True if stat of a path that was looked at just now needs no mount process."""
    os.stat(path)
    (mount,) = machine.pids("mount")
    os.kill(mount, signal.SIGSTOP)
    try:
        return subprocess.run(["timeout", "-s", "KILL", "2", "test", "-e", path], capture_output=True).returncode == 0
    finally:
        os.kill(mount, signal.SIGCONT)


def remembered(machine: Machine) -> bool:
    (file,) = machine.home.rglob("fleet.toml")
    return bool(tomllib.loads(file.read_text()).get("no_kernel_cache", False))


def test_no_kernel_cache_is_for_one_mount(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga") as (yoga,):
        file = yoga.mountpoint / "f"
        file.write_bytes(b"x")
        poll(lambda: is_answered_by_the_kernel(yoga, file), 20, "cached, once nothing changes any more")
        assert not remembered(yoga)
        assert "kernel's cache" in yoga.run("mount", "--no-kernel-cache", expect=7).stderr
        yoga.run("down")
        yoga.run("up", "--no-kernel-cache")
        assert not is_answered_by_the_kernel(yoga, file) and remembered(yoga)
        yoga.run("up")
        yoga.kill("mount")
        poll(lambda: len(yoga.pids("mount")) == 1 and os.path.exists(file), 20, "mounted again")
        assert not is_answered_by_the_kernel(yoga, file)
        assert file.read_bytes() == b"x"
        yoga.run("unmount")
        yoga.run("mount")
        poll(lambda: is_answered_by_the_kernel(yoga, file), 20, "cached again")
        assert not remembered(yoga)


def test_an_exchange_reaches_the_other_machine(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        here, there = yoga.mountpoint, bates.mountpoint
        (here / "current").write_bytes(b"old")
        (here / "next").write_bytes(b"new")
        yoga.run("wait")
        poll(lambda: (there / "next").exists(), 20, "learned")
        numbers = os.stat(here / "current").st_ino, os.stat(here / "next").st_ino
        exchange(here / "current", here / "next")
        assert (os.stat(here / "next").st_ino, os.stat(here / "current").st_ino) == numbers
        yoga.run("wait")
        poll(lambda: (there / "current").read_bytes() == b"new", 20, "learned")
        assert (there / "next").read_bytes() == b"old"
        assert sorted(os.listdir(there)) == ["current", "next"]
        assert (os.stat(here / "next").st_ino, os.stat(here / "current").st_ino) == numbers


def test_a_published_folder_changes_places_with_a_symlink(tmp_path: Path) -> None:
    """As deployments do it."""
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        here, there = yoga.mountpoint, bates.mountpoint
        (here / "current").mkdir()
        (here / "current/f").write_bytes(b"old")
        (here / "next").symlink_to("release")
        (here / "release").mkdir()
        yoga.run("wait")
        poll(lambda: (there / "next").is_symlink(), 20, "learned")
        numbers = os.lstat(here / "current").st_ino, os.lstat(here / "next").st_ino
        with open(here / "current/f", "rb") as held:
            exchange(here / "next", here / "current")
            assert (os.lstat(here / "next").st_ino, os.lstat(here / "current").st_ino) == numbers
            assert held.read() == (here / "next/f").read_bytes() == b"old"
        yoga.run("wait")
        poll(lambda: (there / "current").is_symlink(), 20, "learned")
        assert (there / "next/f").read_bytes() == b"old" and os.readlink(there / "current") == "release"
        assert sorted(os.listdir(there)) == sorted(os.listdir(here)) == ["current", "next", "release"]
        assert (os.lstat(here / "next").st_ino, os.lstat(here / "current").st_ino) == numbers
        for machine in (yoga, bates):
            machine.fsck()


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="setfacl is not installed (package acl)")
def test_owners_and_acls_stay_on_their_machine(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        here, there = yoga.mountpoint / "f", bates.mountpoint / "f"
        here.write_bytes(b"1")
        os.chown(here, 33, 44)
        subprocess.run(["setfacl", "-m", "u:65534:rw", str(here)], check=True)
        os.setxattr(here, "trusted.note", b"local")
        os.setxattr(here, "user.note", b"told")

        def is_kept() -> bool:
            acl = subprocess.run(["getfacl", "-ncp", str(here)], capture_output=True, text=True, check=True).stdout
            st = os.stat(here)
            return (
                "user:65534:rw-" in acl
                and (st.st_uid, st.st_gid) == (33, 44)
                and os.getxattr(here, "trusted.note") == b"local"
            )

        assert is_kept()
        yoga.run("wait")
        poll(there.exists, 20, "learned")
        assert (os.stat(there).st_uid, os.listxattr(there)) == (0, ["user.note"])
        assert is_kept()
        there.write_bytes(b"22")
        bates.run("wait")
        poll(lambda: here.read_bytes() == b"22", 20, "learned")
        assert is_kept()
        yoga.run("down")
        yoga.run("up")
        assert here.read_bytes() == b"22" and is_kept()


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="setfacl is not installed (package acl)")
def test_a_chmod_elsewhere_counts_beside_an_acl(tmp_path: Path) -> None:
    """For who checks it, too: the kernel, which keeps ACLs in mind."""
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        os.chmod(yoga.mountpoint, 0o755)
        here, there = yoga.mountpoint / "f", bates.mountpoint / "f"
        here.write_bytes(b"1")
        subprocess.run(["setfacl", "-m", "u:1002:rw", str(here)], check=True)

        def is_done(user: int, *command: str) -> bool:
            """There, so that the folders above need not let everybody in."""
            done = subprocess.run(command, cwd=yoga.mountpoint, user=user, group=user, extra_groups=[], check=False)
            return done.returncode == 0

        def can(user: int, what: str) -> bool:
            return is_done(user, "test", what, "f")

        yoga.run("wait")
        poll(there.exists, 20, "learned")
        assert can(1002, "-w") and can(1003, "-r")
        os.chmod(there, 0o640)
        bates.run("wait")
        poll(lambda: os.stat(here).st_mode & 0o777 == 0o640, 20, "learned")
        assert can(1002, "-r") and not can(1002, "-w") and not can(1003, "-r")
        assert not is_done(1002, "sh", "-c", "echo 2 >> f") and here.read_bytes() == b"1"
        acl = subprocess.run(["getfacl", "-ncp", here], capture_output=True, text=True, check=True).stdout
        assert "mask::r--" in acl and "other::---" in acl


@pytest.mark.parametrize("is_exchange", [True, False])
def test_two_published_folders_swap_their_names(tmp_path: Path, is_exchange: bool) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        here, there = yoga.mountpoint, bates.mountpoint
        for name in ("current", "next"):
            (here / name).mkdir()
            (here / name / "was").write_text(name)
        yoga.run("wait")
        poll(lambda: (there / "next/was").exists(), 20, "learned")
        numbers = os.stat(here / "current").st_ino, os.stat(here / "next").st_ino
        with open(here / "current/was") as held, open(there / "current/was") as held_there:
            if is_exchange:
                exchange(here / "current", here / "next")
            else:
                for old, new in (("current", "old"), ("next", "current"), ("old", "next")):
                    os.rename(here / old, here / new)
            (here / "next/more").write_text("more")
            yoga.run("wait")
            poll(lambda: (there / "next/more").exists(), 20, "learned")
            assert held.read() == held_there.read() == "current"
        for root in (here, there):
            assert sorted(os.listdir(root)) == ["current", "next"]
            assert (root / "current/was").read_text() == "next" and (root / "next/was").read_text() == "current"
        assert (os.stat(here / "next").st_ino, os.stat(here / "current").st_ino) == numbers
        for machine in (yoga, bates):
            machine.fsck()
