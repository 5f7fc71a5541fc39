"""Wrong key, store away or read-only, full disks: clear errors, right exit codes, nothing lost, and work goes on."""

import contextlib
import errno
import os
import random
import sqlite3
import subprocess
import threading
import time
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


def test_a_key_that_was_exchanged_is_refused(tmp_path: Path) -> None:
    """A fleet.key that is not the fleet's any more: nothing is written with it, and the right one makes all well."""
    with fleet(tmp_path, "yoga", up=False) as (yoga,):
        (yoga.home / "f").write_text("x")
        yoga.run("push", "f")
        right = yoga.key_file().read_text()
        stored = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
        yoga.key_file().write_text("ab" * 32 + "\n")
        for verb in (["up"], ["push", "f"], ["pull", "f", "out"]):
            result = yoga.run(*verb, expect=3)
            assert "fleet.key" in result.stderr
            assert len(result.stderr.strip().splitlines()) <= 2
        assert "fleet.key" in yoga.run("doctor", expect=None).stdout
        assert stored == {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
        yoga.key_file().write_text(right)
        yoga.run("pull", "f", "out")
        assert (yoga.home / "out").read_text() == "x"
        yoga.fsck()


def test_joining_a_store_that_is_away(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", up=False) as (yoga,):
        (tmp_path / "store").rename(tmp_path / "away")
        bates = Machine(tmp_path / "bates", "bates")
        joining = ("init", "--store", str(tmp_path / "store"), "--name", "bates", "--key-file", str(yoga.key_file()))
        result = bates.run(*joining, expect=2)
        assert "away" in result.stderr
        assert not (tmp_path / "store").exists()
        (tmp_path / "away").rename(tmp_path / "store")
        bates.run(*joining)
        bates.fsck()


@needs_fuse
def test_up_while_the_store_is_away(tmp_path: Path) -> None:
    """A machine starts without its store: it shows what it knows, takes what is written, and says what is wrong."""
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (yoga.mountpoint / "before").write_text("before\n")
        yoga.run("wait")
        yoga.run("down")
        (tmp_path / "store").rename(tmp_path / "away")
        yoga.up()
        assert os.listdir(yoga.mountpoint) == ["before"]
        (yoga.mountpoint / "offline").write_text("offline\n")
        assert (yoga.mountpoint / "offline").read_text() == "offline\n"
        status = yoga.run("status").stdout
        assert "away" in status
        assert "offline" in status
        assert "away" in yoga.run("doctor", expect=None).stdout
        (tmp_path / "away").rename(tmp_path / "store")
        yoga.run("wait", "--timeout", "20")
        poll(lambda: (bates.mountpoint / "offline").exists(), 10, "the offline file")
        assert (bates.mountpoint / "offline").read_text() == "offline\n"
        yoga.fsck()


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
def test_a_read_only_store_under_a_running_mount(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (yoga.mountpoint / "before").write_text("before\n")
        yoga.run("wait")
        subprocess.run(["mount", "--bind", str(store), str(store)], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(store)], check=True)
            yoga.run("down")
            yoga.up()  # so that its descriptors are of the read-only mount
            (yoga.mountpoint / "new").write_text("new\n")
            poll(lambda: "read-only" in unsafe(yoga).get("new", "").lower(), 10, "the reason in status")
            assert "read-only" in yoga.run("wait", "--timeout", "1", expect=7).stderr.lower()
            assert "read-only" in yoga.run("push", str(yoga.mountpoint / "new"), expect=3).stderr.lower()
            assert (yoga.mountpoint / "before").read_text() == "before\n"
        finally:
            subprocess.run(["umount", "-l", str(store)], check=True)
        yoga.run("wait", "--timeout", "20")
        poll(lambda: (bates.mountpoint / "new").exists(), 10, "the new file")
        assert (bates.mountpoint / "new").read_text() == "new\n"
        assert yoga.data("status")["safe"]
        yoga.fsck()
        bates.fsck()


def write_until_full(path: Path) -> tuple[int, OSError]:
    """Write 1 MiB blocks until an error; how many bytes were taken, and the error."""
    body = os.urandom(1 << 20)
    done = 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        while done < 1 << 30:
            done += os.write(fd, body)
    except OSError as error:
        return done, error
    finally:
        os.close(fd)
    raise AssertionError("it never was full")


def fill_up(where: Path, name: str = "filler") -> Path:
    """Take all that is left of the disk at `where`; the file that holds it."""
    _, error = write_until_full(where / name)
    assert error.errno == errno.ENOSPC
    return where / name


def unsafe(machine: Machine) -> dict[str, str]:
    """What `status` calls unsafe, and why."""
    return {item["path"]: item["reason"] for item in machine.data("status")["unsafe"]}


@needs_root
@needs_fuse
def test_a_full_disk_under_the_state_folder(tmp_path: Path) -> None:
    """A file too large for the disk is refused with ENOSPC; what was taken before is kept, shown and published."""
    with tmpfs(tmp_path / "yoga" / "state", "48m"), fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (yoga.mountpoint / "small").write_text("kept\n")
        (yoga.mountpoint / "edited").write_text("before\n")
        yoga.run("wait")
        taken, error = write_until_full(yoga.mountpoint / "huge")
        assert error.errno == errno.ENOSPC
        assert taken > 8 << 20
        assert (yoga.mountpoint / "huge").stat().st_size == taken
        assert sorted(os.listdir(yoga.mountpoint)) == ["edited", "huge", "small"]
        for change in (
            lambda: (yoga.mountpoint / "new").write_bytes(bytes(1 << 20)),
            lambda: (yoga.mountpoint / "edited").write_text("x" * 100_000),
        ):
            with pytest.raises(OSError) as caught:
                change()
            assert caught.value.errno == errno.ENOSPC
        assert (yoga.mountpoint / "edited").read_text() == "before\n"
        assert os.statvfs(yoga.mountpoint).f_bavail == 0
        yoga.run("status")
        yoga.run("wait", "small")
        (yoga.mountpoint / "huge").unlink()
        poll(lambda: can_write(yoga.mountpoint / "after", "goes on\n"), 10, "room after the removal")
        yoga.run("wait")
        assert yoga.data("status")["disk_trouble"] == ""
        poll(lambda: (bates.mountpoint / "after").exists(), 10, "the file after")
        assert (bates.mountpoint / "small").read_text() == "kept\n"
        assert not (bates.mountpoint / "huge").exists() or poll(
            lambda: not (bates.mountpoint / "huge").exists(), 10, "the removal"
        )
        yoga.fsck()
        bates.fsck()


class Hoarder(threading.Thread):
    """Writes until the disk is full, removes something, goes on. `kept`: what must be there, by name.

    In a folder of the mount: while that is dead, nothing can be written beside it.
    """

    def __init__(self, machine: Machine, seed: int) -> None:
        super().__init__(daemon=True)
        self._folder = machine.mountpoint / "hoard"
        self._folder.mkdir()
        self._random = random.Random(seed)
        self.kept: dict[str, bytes] = {}
        self.unsure: set[str] = set()  # what a call that failed has left
        self.full = 0
        self.stop = False

    def run(self) -> None:
        number = 0
        while not self.stop:
            number += 1
            try:
                self._write(f"f{number}")
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    self.full += 1
                    self._remove()
                else:
                    time.sleep(0.05)  # the mount was killed and comes again

    def _write(self, name: str) -> None:
        body = self._random.randbytes(self._random.choice((100, 50_000, 3_000_000)))
        self.unsure.add(name)
        (self._folder / name).write_bytes(body)
        self.kept[name] = body
        self.unsure.discard(name)

    def _remove(self) -> None:
        for name in [*self.unsure, *self._random.sample(sorted(self.kept), min(len(self.kept), 5))]:
            self.kept.pop(name, None)
            self.unsure.add(name)
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()


@needs_root
@needs_fuse
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_away", [True, False], ids=["store-away", "store-there"])
def test_kills_on_a_disk_that_is_full_again_and_again(tmp_path: Path, is_away: bool) -> None:
    with tmpfs(tmp_path / "yoga" / "state", "64m"), fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        if is_away:  # then nothing leaves the disk but by removal
            (tmp_path / "store").rename(tmp_path / "away")
        hoarder = Hoarder(yoga, 1)
        hoarder.start()
        chance = random.Random(2)
        try:
            for _ in range(12):
                time.sleep(chance.uniform(0.5, 2.5))
                yoga.kill(chance.choice(("mount", "tcfsd", None)))
                yoga.run("up", timeout=60)
            time.sleep(2)
        finally:
            hoarder.stop = True
            hoarder.join(60)
        assert not hoarder.is_alive()
        assert hoarder.full > 3
        here, there = yoga.mountpoint / "hoard", bates.mountpoint / "hoard"
        shown = set(os.listdir(here))
        assert hoarder.kept.keys() <= shown
        assert shown <= hoarder.kept.keys() | hoarder.unsure
        for name, body in hoarder.kept.items():
            assert (here / name).read_bytes() == body, name
        for name in hoarder.unsure & shown:
            (here / name).unlink()
        if is_away:
            (tmp_path / "away").rename(tmp_path / "store")
        yoga.run("wait", "--timeout", "60")
        poll(lambda: set(os.listdir(there)) == hoarder.kept.keys(), 20, "the same names")
        for name, body in hoarder.kept.items():
            assert (there / name).read_bytes() == body, name
        yoga.fsck()
        bates.fsck()


@needs_root
def test_plain_folders_with_a_full_disk_under_the_state_folder(tmp_path: Path) -> None:
    state = tmp_path / "yoga" / "state"
    with tmpfs(state, "64m"), fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        (yoga.home / "f").write_text("pushed\n")
        (bates.home / "g").write_text("pulled\n")
        bates.run("push", "g")
        yoga.run("pull", "g", "before")
        filler = fill_up(state)
        yoga.run("push", "f")
        yoga.run("pull", "g", "out")
        assert (yoga.home / "out").read_text() == "pulled\n"
        fill_up(state, "more")  # and the ballast's space, too
        (yoga.home / "f2").write_text("not yet\n")
        result = yoga.run("push", "f2", expect=1)
        assert "full" in result.stderr
        assert len(result.stderr.strip().splitlines()) <= 2
        filler.unlink()
        yoga.run("push", "f2")
        bates.run("pull", "f2", "f2")
        yoga.fsck()
        bates.fsck()


def can_write(path: Path, text: str) -> bool:
    try:
        path.write_text(text)
    except OSError as error:
        assert error.errno == errno.ENOSPC
        return False
    return True


@needs_root
@needs_fuse
def test_a_full_disk_of_others_under_the_state_folder(tmp_path: Path) -> None:
    """Somebody else fills the disk: removals work, what cannot be written is refused, nothing acknowledged is lost."""
    state = tmp_path / "yoga" / "state"
    with tmpfs(state, "64m"), fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        for n in range(20):
            (yoga.mountpoint / f"f{n}").write_text(f"content {n}\n")
        yoga.run("wait")
        filler = fill_up(state)
        shown = set(os.listdir(yoga.mountpoint))
        # Renames and removals are rows only: the ballast is for them.
        for n in range(5):
            (yoga.mountpoint / f"f{n}").unlink()
            (yoga.mountpoint / f"f{n + 5}").rename(yoga.mountpoint / f"g{n}")
        poll(lambda: yoga.data("status")["disk_trouble"], 10, "the shortage in status")
        with pytest.raises(OSError) as caught:
            (yoga.mountpoint / "new").write_bytes(os.urandom(1 << 20))
        assert caught.value.errno == errno.ENOSPC
        yoga.run("wait", "--timeout", "20")
        assert "full" in yoga.run("status").stdout
        poll(lambda: (bates.mountpoint / "g4").exists(), 10, "the renames")
        expected = (shown - {f"f{n}" for n in range(10)}) | {f"g{n}" for n in range(5)}
        poll(lambda: set(os.listdir(bates.mountpoint)) == expected, 10, "the removals")
        # Nothing is lost by a kill, and all of it starts again on the full disk.
        yoga.kill()
        poll(lambda: not yoga.pids(), 5, "the kill")
        yoga.up()
        assert set(os.listdir(yoga.mountpoint)) - {"new"} == expected
        assert (yoga.mountpoint / "g0").read_text() == "content 5\n"
        filler.unlink()
        poll(lambda: next(state.glob("*/ballast"), None), 10, "the ballast")
        yoga.run("down")
        filler = fill_up(state)
        assert "full" in yoga.run("status").stdout
        filler.unlink()
        yoga.up()
        poll(lambda: can_write(yoga.mountpoint / "after", "goes on\n"), 10, "room")
        yoga.run("wait")
        poll(lambda: (bates.mountpoint / "after").exists(), 10, "the file after")
        yoga.fsck()
        bates.fsck()


@needs_root
@needs_fuse
def test_a_disk_without_even_the_ballast(tmp_path: Path) -> None:
    """Nothing can be committed: every answer says so, nothing is dropped, and all is well once there is room."""
    state = tmp_path / "yoga" / "state"
    with tmpfs(state, "64m"), fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (yoga.mountpoint / "keep").write_text("published\n")
        yoga.run("wait")
        (yoga.mountpoint / "before").write_text("written before\n")
        fillers = [fill_up(state)]
        for ballast in state.glob("*/ballast"):  # unless a commit has needed it by now
            ballast.unlink()
        fillers.append(fill_up(state, "more"))
        (yoga.mountpoint / "keep").unlink()
        poll(lambda: yoga.data("status")["mount_trouble"], 10, "the trouble in status")
        status = yoga.data("status")
        assert not status["safe"]
        assert "full" in status["mount_trouble"]
        assert "full" in yoga.run("wait", expect=1).stderr
        assert "full" in yoga.run("down", expect=1).stderr
        assert os.path.ismount(yoga.mountpoint)
        assert not (yoga.mountpoint / "keep").exists()
        assert (yoga.mountpoint / "before").read_text() == "written before\n"
        for filler in fillers:
            filler.unlink()
        yoga.run("wait")
        assert yoga.data("status")["safe"]
        poll(lambda: not (bates.mountpoint / "keep").exists(), 10, "the removal")
        assert (bates.mountpoint / "before").read_text() == "written before\n"
        yoga.fsck()
        bates.fsck()


@needs_root
@needs_fuse
def test_a_state_folder_without_inodes(tmp_path: Path) -> None:
    state = tmp_path / "yoga" / "state"
    with tmpfs(state, "64m"), fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (yoga.mountpoint / "small").write_text("kept\n")
        yoga.run("wait")
        used = os.statvfs(state).f_files - os.statvfs(state).f_ffree
        subprocess.run(["mount", "-o", f"remount,nr_inodes={used + 2}", str(state)], check=True)
        failed = [n for n in range(20) if not can_write(yoga.mountpoint / f"f{n}", f"content {n}\n")]
        assert failed
        for n in range(20):
            text = (yoga.mountpoint / f"f{n}").read_text() if (yoga.mountpoint / f"f{n}").exists() else ""
            assert text == ("" if n in failed else f"content {n}\n")
        (yoga.mountpoint / "small").rename(yoga.mountpoint / "moved")
        yoga.run("wait", "--timeout", "20")
        subprocess.run(["mount", "-o", "remount,nr_inodes=0", str(state)], check=True)
        for n in failed:
            (yoga.mountpoint / f"f{n}").write_text(f"content {n}\n")
        yoga.run("wait", "--timeout", "20")
        poll(lambda: len(os.listdir(bates.mountpoint)) == 21, 10, "all of them")
        for n in range(20):
            poll(lambda n=n: (bates.mountpoint / f"f{n}").read_text() == f"content {n}\n", 10, f"f{n}")
        assert (bates.mountpoint / "moved").read_text() == "kept\n"
        yoga.fsck()
        bates.fsck()


@needs_root
@needs_fuse
def test_a_full_disk_under_the_cache(tmp_path: Path) -> None:
    """Reading needs no room: what the cache cannot take goes straight to the reader."""
    cache = tmp_path / "yoga" / "cache"
    with tmpfs(cache, "48m"), fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        body = os.urandom(24 << 20)
        (bates.mountpoint / "huge").write_bytes(body)
        (bates.mountpoint / "small").write_text("small\n")
        bates.run("wait", timeout=120)
        poll(lambda: (yoga.mountpoint / "small").exists(), 20, "the placeholders")
        fill_up(cache)
        assert (yoga.mountpoint / "huge").read_bytes() == body
        assert (yoga.mountpoint / "small").read_text() == "small\n"
        (yoga.home / "out").mkdir()
        yoga.run("pull", "huge", "out/huge")
        assert (yoga.home / "out" / "huge").read_bytes() == body
        assert "full" in yoga.run("hydrate", str(yoga.mountpoint / "huge"), expect=1).stderr
        with (yoga.mountpoint / "huge").open("r+b") as file:
            file.seek(12 << 20)
            file.write(b"edited")
        yoga.run("wait", timeout=60)
        body = body[: 12 << 20] + b"edited" + body[(12 << 20) + 6 :]
        poll(lambda: (bates.mountpoint / "huge").read_bytes() == body, 10, "the edit")
        assert (yoga.mountpoint / "huge").read_bytes() == body
        yoga.fsck()
        bates.fsck()


@needs_root
def test_a_full_store(tmp_path: Path) -> None:
    """A push says that the store is full, leaves nothing half and no rubbish there, and works once there is room."""
    store = tmp_path / "store"
    with tmpfs(store, "24m"), fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        (yoga.home / "small").write_text("small\n")
        yoga.run("push", "small")
        (yoga.home / "big").write_bytes(os.urandom(40 << 20))
        before = os.statvfs(store).f_bfree
        for _ in range(2):
            result = yoga.run("push", "big", expect=1)
            assert "full" in result.stderr
        assert os.statvfs(store).f_bfree >= before - 16, "packs that no journal names fill the store"
        bates.run("pull", "small", "out")
        assert (bates.home / "out").read_text() == "small\n"
        (yoga.home / "other").write_text("other\n")
        yoga.run("push", "other")
        subprocess.run(["mount", "-o", "remount,size=200m", str(store)], check=True)
        yoga.run("push", "big")
        bates.run("pull", "big", "big")
        assert (bates.home / "big").read_bytes() == (yoga.home / "big").read_bytes()
        yoga.fsck()
        bates.fsck()


@needs_root
@needs_fuse
def test_a_full_store_under_a_running_mount(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with tmpfs(store, "24m"), fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (yoga.mountpoint / "small").write_text("small\n")
        yoga.run("wait")
        body = os.urandom(40 << 20)
        (yoga.mountpoint / "big").write_bytes(body)
        poll(lambda: "full" in unsafe(yoga).get("big", ""), 20, "the reason in status")
        result = yoga.run("wait", "--timeout", "3", expect=7)
        assert "big" in result.stderr
        assert "full" in result.stderr
        assert (yoga.mountpoint / "big").read_bytes() == body
        subprocess.run(["mount", "-o", "remount,size=200m", str(store)], check=True)
        yoga.run("wait", "--timeout", "60")
        poll(lambda: (bates.mountpoint / "big").exists(), 10, "the placeholder")
        assert (bates.mountpoint / "big").read_bytes() == body
        assert yoga.data("status")["safe"]
        yoga.fsck()
        bates.fsck()


@needs_root
@needs_fuse
@pytest.mark.long
def test_going_down_and_up_with_a_full_store(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with tmpfs(store, "24m"), fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        body = os.urandom(40 << 20)
        (yoga.mountpoint / "big").write_bytes(body)
        assert "full" in yoga.run("push", str(yoga.mountpoint / "big"), expect=1).stderr
        assert "big" in yoga.run("down", expect=7).stdout
        assert unsafe(yoga).keys() == {"big"}
        yoga.up()
        assert (yoga.mountpoint / "big").read_bytes() == body
        subprocess.run(["mount", "-o", "remount,size=200m", str(store)], check=True)
        yoga.run("wait", "--timeout", "60")
        poll(lambda: (bates.mountpoint / "big").exists(), 10, "the placeholder")
        assert (bates.mountpoint / "big").read_bytes() == body
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


def cut_power(machine: Machine, state: Path, image: Path) -> None:
    """Nothing that was not synced is on the disk any more; the machine is started anew, but not yet up."""
    subprocess.run(["xfs_io", "-x", "-c", "shutdown", str(state)], check=True)
    machine.destroy()  # unmounts the state folder, too
    assert not os.path.ismount(state)
    # While anything holds it the kernel would give the same disk again, which is shut down.
    attached = ["losetup", "-n", "-O", "NAME", "-j", str(image)]
    poll(lambda: not subprocess.run(attached, capture_output=True, check=True).stdout, 30, "the disk let go")
    subprocess.run(["mount", "-o", "loop", str(image), str(state)], check=True)
    with contextlib.closing(sqlite3.connect(next(state.glob("*/tree.db")))) as db:
        db.execute("UPDATE meta SET value = 'the boot before' WHERE key = 'boot_id'")
        db.commit()


@needs_root
@needs_fuse
@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_power_cut_keeps_what_was_synced(tmp_path: Path) -> None:
    state, image = tmp_path / "yoga" / "state", tmp_path / "disk.img"
    with loop_ext4(state, image), fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        (tmp_path / "store").rename(tmp_path / "away")  # so that nothing but the disk keeps the files
        for n in range(20):
            with (yoga.mountpoint / f"synced{n}").open("wb") as out:
                out.write(b"%d " % n * 5000)
                out.flush()
                os.fsync(out.fileno())
        (yoga.mountpoint / "unsynced").write_text("may go\n")
        cut_power(yoga, state, image)
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


class Writer(threading.Thread):
    """Writes files, over and over, until the disk fails.

    synced: name -> number of the content that must be there; written: name -> all that it ever held.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._random = random.Random(seed)
        self.synced: dict[str, int] = {}
        self.written: dict[str, set[bytes]] = {}

    def run(self) -> None:
        number = 0
        with contextlib.suppress(OSError):
            while True:
                number += 1
                self._write(f"f{self._random.randrange(12)}", number)

    def _write(self, name: str, number: int) -> None:
        body = b"%s %d\n" % (name.encode(), number) * self._random.choice((1, 500, 60_000))
        self.written.setdefault(name, set()).add(body)
        self.synced.pop(name, None)  # from now on either of the two may be there
        is_replaced, is_synced = self._random.random() < 0.5, self._random.random() < 0.4
        path = self._folder / (f"{name}.new" if is_replaced else name)
        with path.open("wb") as out:
            out.write(body)
            out.flush()
            if is_synced:
                os.fsync(out.fileno())
        if is_replaced:
            path.rename(self._folder / name)
            if is_synced:
                sync_folder(self._folder)
        if is_synced:
            self.synced[name] = number


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@needs_root
@needs_fuse
@pytest.mark.long
@pytest.mark.timeout(600)
def test_power_cuts_while_files_are_written_and_published(tmp_path: Path) -> None:
    """Synced files are whole, nothing is published under NAME that no file ever held, and the machine stays the one it
    was.
    """
    state, image = tmp_path / "yoga" / "state", tmp_path / "disk.img"
    with loop_ext4(state, image), fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        written: dict[str, set[bytes]] = {}
        for seed in range(6):
            writer = Writer(yoga.mountpoint, seed)
            writer.written = written
            writer.start()
            time.sleep(0.3 + 0.5 * seed)
            cut_power(yoga, state, image)
            writer.join(30)
            assert not writer.is_alive()
            yoga.up()
            for name, number in writer.synced.items():
                assert (yoga.mountpoint / name).read_bytes().startswith(b"%s %d\n" % (name.encode(), number)), name
                assert (yoga.mountpoint / name).read_bytes() in written[name], name
            yoga.run("wait", "--timeout", "60")
            interrupted = unsafe(yoga)
            for path in yoga.mountpoint.glob("*.conflict"):
                path.unlink()  # what the cut has left of bytes that were not synced, beside what was published
            for path in bates.mountpoint.iterdir():
                if path.suffix == ".conflict":
                    continue
                name = path.name.removesuffix(".new")
                assert path.read_bytes() in written[name], f"{path.name} was never like this"
            for name in interrupted:
                (yoga.mountpoint / name).unlink(missing_ok=True)
            yoga.run("wait", "--timeout", "60")
            assert yoga.data("status")["safe"]
            poll(lambda: sorted(os.listdir(bates.mountpoint)) == sorted(os.listdir(yoga.mountpoint)), 10, "same names")
            for path in yoga.mountpoint.iterdir():
                assert path.read_bytes() == (bates.mountpoint / path.name).read_bytes(), path.name
            heads = list((tmp_path / "store" / "heads").glob("*"))  # none before anything was sent
            assert len(heads) <= 1, "the machine has lost its journal"
            yoga.fsck()
            bates.fsck()
