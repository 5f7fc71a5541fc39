"""What comes here, when and for whom: pins, policies, programs that may not, walks; copies by reference."""

import contextlib
import errno
import os
import random
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fleetkit import FUSE, Machine, fleet, poll

pytestmark = pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")


def content(number: int, size: int = 40_000) -> bytes:
    return random.Random(number).randbytes(size)


def learned(machine: Machine, path: str) -> None:
    poll(lambda: (machine.mountpoint / path).exists(), 20, f"{machine.name} learns {path}")


def local(machine: Machine) -> dict[str, dict[str, Any]]:
    """What is in the cache, by path."""
    return {file["path"]: file for file in machine.data("cache", "ls")["files"]}


def test_what_was_changed_here_stays_here(tmp_path: Path) -> None:
    """In place, appended, cut, with holes, a database: once it is published it is read with the store away."""
    with fleet(tmp_path, "yoga") as (yoga,):
        root = yoga.mountpoint
        expected = {"place": content(1, 3_000_000), "append": content(2), "small": b"one", "cut": content(3, 3_000_000)}
        for name, data in expected.items():
            (root / name).write_bytes(data)
        with contextlib.closing(sqlite3.connect(root / "db")) as db:
            db.execute("CREATE TABLE t (x)")
            db.executemany("INSERT INTO t VALUES (?)", [(content(n, 1000),) for n in range(500)])
            db.commit()
        yoga.run("wait")
        for name, data, at in (("place", b"!", 1_500_000), ("append", b"more", 40_000), ("small", b"two", 3)):
            with open(root / name, "r+b") as file:
                file.seek(at)
                file.write(data)
            expected[name] = expected[name][:at] + data + expected[name][at + len(data) :]
        os.truncate(root / "cut", 1_234_567)
        expected["cut"] = expected["cut"][:1_234_567]
        with open(root / "holes", "wb") as file:
            file.truncate(1_000_000)
            file.seek(500_000)
            file.write(content(4))
        expected["holes"] = bytes(500_000) + content(4) + bytes(460_000)
        with contextlib.closing(sqlite3.connect(root / "db")) as db:
            db.execute("UPDATE t SET x = 'changed' WHERE rowid = 250")
            db.commit()
        yoga.run("wait")
        states = {name: os.getxattr(root / name, "user.tcfs.state") for name in (*expected, "db")}
        assert states == dict.fromkeys(states, b"local")
        (tmp_path / "store").rename(tmp_path / "away")
        for name in (*expected, "db"):
            with open(root / name, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # what the kernel has of it
        assert {name: (root / name).read_bytes() for name in expected} == expected
        with contextlib.closing(sqlite3.connect(root / "db")) as db:
            assert db.execute("SELECT x FROM t WHERE rowid = 250").fetchone() == ("changed",)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (tmp_path / "away").rename(tmp_path / "store")
        yoga.fsck()


def test_what_is_pinned_is_there_without_a_store(tmp_path: Path) -> None:
    """New versions, new files and what is renamed into the folder too; all of it is read with the store away."""
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        work = yoga.mountpoint / "work"
        work.mkdir()
        (work / "a").write_bytes(content(1))
        (yoga.mountpoint / "b").write_bytes(content(2))
        (yoga.mountpoint / "other").write_bytes(content(3))
        yoga.run("wait")
        learned(bates, "other")
        data = bates.data("pin", str(bates.mountpoint / "work"))
        assert (data["paths"], data["is_daemon"]) == (["work"], True)
        poll(lambda: "work/a" in local(bates), 20, "pinned")
        (work / "a").write_bytes(content(4, 500_000))
        (work / "deep/er").mkdir(parents=True)
        (work / "deep/er/c").write_bytes(content(5))
        os.rename(yoga.mountpoint / "b", work / "b")
        yoga.run("wait")
        poll(lambda: local(bates).keys() >= {"work/a", "work/b", "work/deep/er/c"}, 30, "followed")
        poll(lambda: local(bates)["work/a"]["local"] == 500_000, 30, "the new version")
        assert all(file["pinned"] for file in local(bates).values()) and "other" not in local(bates)
        (tmp_path / "store").rename(tmp_path / "away")
        found = {path: (bates.mountpoint / "work" / path).read_bytes() for path in ("a", "b", "deep/er/c")}
        assert found == {"a": content(4, 500_000), "b": content(2), "deep/er/c": content(5)}
        (tmp_path / "away").rename(tmp_path / "store")
        refused = bates.run("dehydrate", "work", expect=7)
        assert "is pinned" in refused.stderr and "unpin" in refused.stderr
        assert bates.data("dehydrate", "--unpin", "work")["files"] == 3
        assert local(bates) == {}
        status = bates.data("status")
        assert status["engine"]["pins"]["files"] == 0


def test_who_may_not_fetch_gets_eagain(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        source = yoga.home / "d"
        source.mkdir()
        for number in range(3):
            (source / f"f{number}").write_bytes(content(number, 300_000))
        (source / "x").write_bytes(content(9, 300_000))
        yoga.run("push", str(source))
        bates.up()
        indexer = shutil.copy(shutil.which("cat") or "/bin/cat", tmp_path / "tumblerd")
        folder = bates.mountpoint / "d"
        poll(lambda: (folder / "x").exists(), 20, "the folder on bates")

        def read_by(program: str, name: str) -> "subprocess.CompletedProcess[bytes]":
            return subprocess.run([program, str(folder / name)], capture_output=True, timeout=60)

        refused = read_by(indexer, "f0")
        assert refused.returncode == 1 and os.strerror(errno.EAGAIN).encode() in refused.stderr
        assert local(bates) == {}
        assert read_by("cat", "f0").stdout == content(0, 300_000)  # nothing of the refusal is left behind
        assert read_by(indexer, "f0").stdout == content(0, 300_000)  # local now
        bates.run("policy", "d/x", "never")
        with pytest.raises(OSError) as caught:
            (folder / "x").read_bytes()
        assert caught.value.errno == errno.ENODATA
        assert (folder / "f1").read_bytes() == content(1, 300_000)
        bates.run("hydrate", "d/x")
        assert (folder / "x").read_bytes() == content(9, 300_000)
        said = [
            item["message"] for item in bates.data("doctor", expect=None)["findings"] if item["subject"] == "refused"
        ]
        assert any("tumblerd was refused" in text and "d/f0" in text and "no_hydrate" in text for text in said), said
        assert any("d/x" in text and "'never'" in text for text in said), said


def test_who_only_looks_brings_nothing_and_who_reads_a_folder_brings_it(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        names = [f"f{number}" for number in range(6)]
        for number, name in enumerate(names):  # the small files of d far from each other, between the large ones of e
            for folder, size in (("d", 20_000), ("e", 5_000_000)):
                (yoga.home / folder).mkdir(exist_ok=True)
                (yoga.home / folder / name).write_bytes(content(100 * (folder == "e") + number, size))
                yoga.run("push", str(yoga.home / folder))
        bates.up()
        place = bates.mountpoint
        for command in (["find", place, "-printf", "%s"], ["ls", "-lR", place], ["du", "-s", place]):
            subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=60)
        assert local(bates) == {}
        with open(place / "d/f0", "rb") as one, open(place / "d/f1", "rb") as two:
            one.read(10), two.read(10)  # by one process
        poll(lambda: {f"d/{name}" for name in names} <= local(bates).keys(), 20, "the folder")
        bates.run("policy", "e", "on-open")
        with open(place / "e/f5", "rb"):
            poll(lambda: local(bates).get("e/f5", {}).get("local") == 5_000_000, 20, "opened")
        assert not {f"e/{name}" for name in names[:5]} & local(bates).keys()


def test_a_copy_by_reference(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        folder = yoga.mountpoint / "d"
        folder.mkdir()
        (folder / "a").write_bytes(content(1, 3_000_000))
        (folder / "a").chmod(0o640)
        yoga.run("cp", "d/a", str(folder / "b"), cwd=yoga.mountpoint)  # published first
        poll(lambda: (folder / "b").exists(), 10, "the copy")
        assert (folder / "b").read_bytes() == content(1, 3_000_000)
        learned(bates, "d/b")
        bates.run("cp", "-r", "d", "copy")
        poll(lambda: (bates.mountpoint / "copy/b").exists(), 10, "the copy")
        assert local(bates) == {}
        (folder / "a").write_bytes(b"changed")
        yoga.run("wait")
        learned(yoga, "copy/a")
        assert (yoga.mountpoint / "copy/a").read_bytes() == content(1, 3_000_000)
        assert (bates.mountpoint / "copy/a").stat().st_mode & 0o777 == 0o640
        assert bates.run("cp", "d/b", "copy/a", expect=6).returncode == 6
        with open(folder / "open", "wb") as busy:
            busy.write(b"as it is now")
            busy.flush()
            yoga.run("cp", "d/open", "d/open2", expect=None)
            busy.write(b", and more")
        yoga.run("wait")
        assert (folder / "open").read_bytes() == b"as it is now, and more"
        os.mkfifo(folder / "pipe")
        (folder / "n.swp").write_bytes(b"of an editor")
        said = yoga.run("cp", "-r", "d", "kept-here-is-told").stderr
        assert "left out: 2 paths: d/n.swp stays on this machine by its name; d/pipe is a socket, pipe" in said
        for machine in (yoga, bates):
            assert "Traceback" not in machine.whole_logs()
        yoga.run("down")
        yoga.run("cp", "copy/b", "without-a-mount")
        learned(bates, "without-a-mount")
        bates.fsck()


def test_many_small_files_read_one_after_the_other_are_right(tmp_path: Path) -> None:
    """Their pages come with the open; also while they change, here and elsewhere."""
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        count = 150
        folder = yoga.mountpoint / "d"
        folder.mkdir()

        def write(generation: int, numbers: range) -> None:
            for number in numbers:
                (folder / f"f{number:03}").write_bytes(content(1000 * generation + number, 1 + 97 * number))
            yoga.run("wait")

        def read_all() -> list[bytes]:
            return [(bates.mountpoint / "d" / f"f{number:03}").read_bytes() for number in range(count)]

        def wanted(*generations: int) -> list[bytes]:
            return [content(1000 * generations[n % len(generations)] + n, 1 + 97 * n) for n in range(count)]

        write(1, range(count))
        learned(bates, f"d/f{count - 1:03}")
        for _ in range(3):
            assert read_all() == wanted(1)
        write(2, range(1, count, 2))
        poll(lambda: read_all()[count - 1] == wanted(1, 2)[count - 1], 20, "learned")
        poll(lambda: read_all() == wanted(1, 2), 20, "all of it")
        bates.run("dehydrate", "d")
        assert read_all() == wanted(1, 2)
        Path("/proc/sys/vm/drop_caches").write_text("1") if os.geteuid() == 0 else None
        assert read_all() == wanted(1, 2)
        (bates.mountpoint / "d/f010").write_bytes(b"mine")
        with open(bates.mountpoint / "d/f011", "ab") as file:
            file.write(b" and more")
        changed = read_all()
        assert (changed[10], changed[11]) == (b"mine", wanted(1, 2)[11] + b" and more")
        assert "Traceback" not in bates.whole_logs()
