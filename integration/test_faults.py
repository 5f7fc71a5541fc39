"""Wrong key, store away or read-only, full disks: clear errors, right exit codes, nothing lost, and work goes on."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll

needs_fuse = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting tmpfs and loop devices needs root")


@contextmanager
def tmpfs(where: Path, size: str) -> Iterator[Path]:
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], capture_output=True)  # the machine's end may have done it


def test_wrong_key_is_refused(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", up=False):
        stranger = Machine(tmp_path / "stranger", "stranger")
        (stranger.home / "wrong.key").write_text("ab" * 32 + "\n")
        result = stranger.run("init", "--store", str(tmp_path / "store"), "--key-file", "wrong.key", expect=3)
        assert len(result.stderr.strip().splitlines()) <= 2
        assert "key" in result.stderr
        assert "ab" * 8 not in result.stderr


def test_a_store_that_is_away(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", up=False) as (yoga,):
        (tmp_path / "store").rename(tmp_path / "away")
        (yoga.home / "f").write_text("x")
        yoga.run("push", "f", expect=2)
        assert not (tmp_path / "store").exists(), "a store that is away must not be made anew"
        (tmp_path / "away").rename(tmp_path / "store")
        yoga.run("push", "f")
        yoga.fsck()


@needs_fuse
def test_the_mount_works_while_the_store_is_away(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (yoga.mountpoint / "before").write_text("before\n")
        yoga.run("wait")
        poll(lambda: (bates.mountpoint / "before").exists(), 10, "the placeholder")
        (tmp_path / "store").rename(tmp_path / "away")
        assert "before" in os.listdir(bates.mountpoint)
        with pytest.raises(OSError) as error:
            (bates.mountpoint / "before").read_bytes()
        assert error.value.errno in (101, 110)
        (bates.mountpoint / "offline").write_text("written offline\n")
        assert (bates.mountpoint / "offline").read_text() == "written offline\n"
        bates.run("wait", "--timeout", "1", expect=7)
        status = bates.run("status", expect=None)
        assert "offline" in status.stdout
        (tmp_path / "away").rename(tmp_path / "store")
        bates.run("wait", "--timeout", "20")
        poll(lambda: (yoga.mountpoint / "offline").exists(), 10, "the offline file")
        assert (yoga.mountpoint / "offline").read_text() == "written offline\n"
        assert (bates.mountpoint / "before").read_text() == "before\n"
        yoga.fsck()
        bates.fsck()


@needs_root
def test_a_read_only_store(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", up=False) as (yoga,):
        (yoga.home / "f").write_text("x")
        store = tmp_path / "store"
        subprocess.run(["mount", "--bind", str(store), str(store)], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(store)], check=True)
            result = yoga.run("push", "f", expect=3)
            assert "read-only" in result.stderr.lower()
        finally:
            subprocess.run(["umount", "-l", str(store)], check=True)
        yoga.run("push", "f")
        yoga.fsck()


@needs_root
@needs_fuse
@pytest.mark.parametrize("folder", ["cache", "state"])
def test_a_full_disk(tmp_path: Path, folder: str) -> None:
    """A file too large for the disk is refused with ENOSPC; what was written before is kept and published."""
    yoga_home = tmp_path / "yoga"
    with tmpfs(yoga_home / folder, "48m"), fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (yoga.mountpoint / "small").write_text("kept\n")
        yoga.run("wait")
        body = os.urandom(1 << 20)
        if folder == "state":
            with pytest.raises(OSError) as error, (yoga.mountpoint / "huge").open("wb") as out:
                for _ in range(64):
                    out.write(body)
                    out.flush()
            assert error.value.errno == 28
            assert "small" in os.listdir(yoga.mountpoint)
            yoga.run("status", expect=None)
            (yoga.mountpoint / "huge").unlink()
        else:
            big = os.urandom(64 << 20)
            (bates.mountpoint / "huge").write_bytes(big)
            bates.run("wait", timeout=120)
            poll(lambda: (yoga.mountpoint / "huge").exists(), 20, "the placeholder")
            assert (yoga.mountpoint / "huge").read_bytes() == big
        (yoga.mountpoint / "after").write_text("goes on\n")
        yoga.run("wait")
        poll(lambda: (bates.mountpoint / "after").exists(), 10, "the file after")
        assert (bates.mountpoint / "small").read_text() == "kept\n"
        yoga.fsck()
        bates.fsck()


@contextmanager
def loop_ext4(where: Path, image: Path) -> Iterator[Path]:
    where.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], capture_output=True)


@needs_root
@needs_fuse
@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_power_cut_under_the_state_folder(tmp_path: Path) -> None:
    state = tmp_path / "yoga" / "state"
    with loop_ext4(state, tmp_path / "disk.img"), fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (tmp_path / "store").rename(tmp_path / "away")  # so that nothing but the disk keeps the files
        for n in range(20):
            with (yoga.mountpoint / f"synced{n}").open("wb") as out:
                out.write(b"%d " % n * 5000)
                out.flush()
                os.fsync(out.fileno())
        (yoga.mountpoint / "unsynced").write_text("may go\n")
        subprocess.run(["xfs_io", "-x", "-c", "shutdown", str(state)], check=True)
        yoga.destroy()
        subprocess.run(["umount", "-l", str(state)], check=True)
        subprocess.run(["mount", "-o", "loop", str(tmp_path / "disk.img"), str(state)], check=True)
        (tmp_path / "away").rename(tmp_path / "store")
        yoga.up()
        for n in range(20):
            assert (yoga.mountpoint / f"synced{n}").read_bytes() == b"%d " % n * 5000
        yoga.run("wait")
        poll(lambda: (bates.mountpoint / "synced19").exists(), 10, "the synced files")
        for n in range(20):
            assert (bates.mountpoint / f"synced{n}").read_bytes() == b"%d " % n * 5000
        yoga.fsck()
        bates.fsck()
