"""Damaged, cut or missing objects: a clear error that names path and object, or healing; never wrong bytes."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll

from sync.state.tree.redo import RedoLog, log_path

CONTENT = {f"docs/f{n}": os.urandom(3000 + 977 * n) for n in range(12)} | {"big": os.urandom(3 << 20)}
OBJECTS = ["packs", "journal", "heads", "machines", "fleet.json"]


def fill(machine: Machine) -> None:
    for name, body in CONTENT.items():
        path = machine.home / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    machine.run("push", "src/docs", "src/big")


def damage(path: Path, how: str) -> None:
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        os.truncate(path, path.stat().st_size // 2)
    else:
        body = bytearray(path.read_bytes())
        body[len(body) // 2] ^= 0x40
        path.chmod(0o644)
        path.write_bytes(body)


@pytest.mark.parametrize("how", ["corrupt", "truncate", "delete"])
@pytest.mark.parametrize("folder", OBJECTS)
def test_a_damaged_object_of_the_store(tmp_path: Path, folder: str, how: str) -> None:
    with fleet(tmp_path, "yoga", "bates", up=False) as (yoga, bates):
        fill(yoga)
        root = tmp_path / "store" / folder
        victims = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
        assert victims
        for victim in victims:
            damage(victim, how)
        result = bates.run("pull", "/", "out", expect=None)
        out = bates.home / "out"
        whole = True
        for name, body in CONTENT.items():
            path = out / name
            if path.exists():
                assert path.read_bytes() == body, f"wrong bytes in {name}"
            else:
                whole = False
        assert list(out.rglob("*.tmp*")) == [] if out.exists() else True
        if not whole:
            assert result.returncode in (2, 3, 5, 8), result.stderr
            names = [p.name for p in victims] + [folder]
            assert any(n in result.stderr for n in names), f"the object is not named: {result.stderr}"
        if folder != "fleet.json":
            found = bates.run("fsck", expect=None)
            assert found.returncode == 8 or whole, "fsck says nothing"


@pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")
@pytest.mark.parametrize("how", ["corrupt", "truncate", "delete"])
def test_a_damaged_cache_file_is_fetched_again(tmp_path: Path, how: str) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        fill(yoga)
        poll(lambda: (bates.mountpoint / "big").exists(), 10, "placeholders")
        bates.run("hydrate", "big", "docs")
        cached = [p for p in (bates.home / "cache").rglob("*") if p.is_file() and p.stat().st_size]
        assert cached
        for path in cached:
            damage(path, how)
        bates.run("unmount")
        bates.run("mount")
        for name, body in CONTENT.items():
            assert (bates.mountpoint / name).read_bytes() == body
        bates.fsck()


@pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")
def test_reading_through_the_mount_without_packs_is_an_error_and_heals(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        fill(yoga)
        poll(lambda: (bates.mountpoint / "big").exists(), 10, "placeholders")
        shutil.move(tmp_path / "store" / "packs", tmp_path / "packs.away")
        with pytest.raises(OSError) as error:
            (bates.mountpoint / "big").read_bytes()
        assert error.value.errno in (5, 101, 110)
        shutil.move(tmp_path / "packs.away", tmp_path / "store" / "packs")
        assert (bates.mountpoint / "big").read_bytes() == CONTENT["big"]


@pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")
@pytest.mark.parametrize("runs", ["nothing", "both"])
def test_a_damaged_fleet_db_under_a_mount(tmp_path: Path, runs: str) -> None:
    """What the hint says helps: nothing that was written in the mount, published or not, is lost."""
    with fleet(tmp_path, "yoga", "bates") as (yoga, bates):
        fill(yoga)
        (yoga.mountpoint / "kept").mkdir()
        (yoga.mountpoint / "kept" / "old").write_text("old")
        yoga.run("wait")
        poll(lambda: (bates.mountpoint / "kept" / "old").exists(), 10, "placeholders")
        (tmp_path / "store").rename(tmp_path / "away")
        (yoga.mountpoint / "kept" / "new").write_text("new")
        (yoga.mountpoint / "kept" / "old").write_text("older, and longer")
        (yoga.mountpoint / "docs" / "f3").unlink()
        (yoga.mountpoint / "docs").rename(yoga.mountpoint / "papers")
        with (yoga.mountpoint / "big").open("r+b") as file:
            file.write(b"changed")
        poll(lambda: not any(item["state"] == "unsealed" for item in yoga.data("status")["unsafe"]), 10, "sealed")
        if runs == "nothing":
            yoga.kill()
        database = next(yoga.home.glob("state/*/fleet.db"))
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        size = database.stat().st_size
        with database.open("r+b") as file:
            for place in range(4096, size, 4096):
                file.seek(place)
                file.write(os.urandom(4096))
        (tmp_path / "away").rename(tmp_path / "store")
        told = yoga.run("push", "src/docs", expect=8).stderr
        assert f"move {database}* away" in told
        if runs == "both":
            poll(lambda: not yoga.pids("tcfsd"), 20, "tcfsd ends by itself")
        for path in database.parent.glob("fleet.db*"):
            path.rename(yoga.home / path.name)
        yoga.run("up")
        yoga.run("wait", timeout=60)
        body = {name: data for name, data in CONTENT.items() if name != "docs/f3"}
        body = {name.replace("docs/", "papers/"): data for name, data in body.items()}
        body["big"] = b"changed" + CONTENT["big"][7:]
        body |= {"kept/new": b"new", "kept/old": b"older, and longer"}
        for machine in (yoga, bates):
            root = machine.mountpoint
            poll(lambda root=root: (root / "papers" / "f4").exists() and not (root / "docs").exists(), 20, "all of it")
            found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
            assert found == set(body)
            assert all((root / name).read_bytes() == data for name, data in body.items())
            assert machine.data("status")["conflicts"] == 0
            machine.fsck()


@pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")
def test_a_store_that_was_set_back_while_only_its_owner_is_left(tmp_path: Path) -> None:
    """The journal is put again, and the contents that are still in the cache; what was pushed is pushed again."""
    with fleet(tmp_path, "yoga") as (yoga,):
        store, older = tmp_path / "store", tmp_path / "older"
        (yoga.mountpoint / "kept").write_text("old")
        yoga.run("wait")
        shutil.copytree(store, older)
        (yoga.mountpoint / "kept").write_text("new")
        (yoga.mountpoint / "big").write_bytes(CONTENT["big"])
        (yoga.mountpoint / "gone").write_text("gone")
        yoga.run("wait")
        (yoga.mountpoint / "gone").unlink()
        yoga.run("wait")
        (yoga.home / "plain").mkdir()
        (yoga.home / "plain" / "f").write_text("pushed")
        yoga.run("push", "plain")
        yoga.run("down")
        shutil.rmtree(store)
        older.rename(store)
        yoga.up()
        poll(lambda: "was set back" in yoga.whole_logs(), 20, "contents from the cache")
        yoga.run("push", "plain")
        yoga.run("wait")
        yoga.fsck()
        assert "was put again" in yoga.run("status").stdout
        bates = Machine(tmp_path / "bates", "bates")
        try:
            bates.init(store, key_from=yoga)
            bates.run("pull", "/", "out")
            found = {
                str(path.relative_to(bates.home / "out")): path.read_bytes()
                for path in (bates.home / "out").rglob("*")
                if path.is_file()
            }
            assert found == {"kept": b"new", "big": CONTENT["big"], "plain/f": b"pushed"}
            bates.fsck()
        finally:
            bates.destroy()


@pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened here")
@pytest.mark.logs_trouble
def test_a_redo_log_that_cannot_be_read_under_a_mount(tmp_path: Path) -> None:
    """Damaged: it is set aside, and the mount starts. Not to be read: it is said what helps, and that helps."""
    with fleet(tmp_path, "yoga") as (yoga,):
        (yoga.mountpoint / "kept").write_text("one")
        yoga.run("wait")
        yoga.run("down")
        tree_db = next(yoga.home.glob("state/*/tree.db"))
        with contextlib.closing(sqlite3.connect(tree_db)) as db:
            (stamp,) = db.execute("SELECT value FROM meta WHERE key = 'redo'").fetchone()
        log = log_path(tree_db)
        with contextlib.closing(RedoLog(log)) as writer:
            writer.restart(stamp)
            for number in range(3):
                assert writer.append([("meta+", [("next_ino", 100_001 + 2 * number)])])
        with log.open("r+b") as file:
            file.seek(30)
            file.write(b"\xff\xff")
        assert "damaged" in yoga.run("status").stdout
        yoga.up()
        assert (yoga.mountpoint / "kept").read_text() == "one"
        (folder,) = tree_db.parent.glob("set-aside-*")
        assert str(folder) in yoga.run("status").stdout
        assert any(str(folder) in item["message"] for item in yoga.data("doctor", expect=None)["findings"])
        shutil.rmtree(folder)
        assert "everything is in the store" in yoga.run("status").stdout
        yoga.run("down")
        log.unlink()
        log.mkdir()
        failed = yoga.run("up", expect=None)
        assert failed.returncode != 0 and str(log) in failed.stderr and "move it away" in failed.stderr
        assert str(log) in yoga.run("status").stdout
        log.rmdir()
        poll(lambda: os.path.ismount(yoga.mountpoint), 30, "the mount comes by itself")
        assert (yoga.mountpoint / "kept").read_text() == "one"
        yoga.fsck()
