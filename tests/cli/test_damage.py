"""A damaged fleet.db: every verb says which file it is and what helps, and that helps."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest


def database(shell, name="fleet.db"):
    return next(shell.home.glob("state/*")) / name


def damage(path, how):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        if how == "header":
            file.write(b"no database " * 40)
        elif how == "pages":
            for place in range(8192, size, 8192):
                file.seek(place)
                file.write(os.urandom(4000))
        else:
            file.truncate(size // 2)


def move_away(path):
    """As the hint says: fleet.db and what lies beside it."""
    away = path.parent.parent / "damaged"
    away.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        file.rename(away / file.name)


@pytest.mark.parametrize("how", ["header", "pages", "cut"])
def test_what_helps_is_said_and_helps(fleet, how):
    yoga, bates = fleet
    for number in range(40):
        yoga.write(f"d/f{number}", f"content {number}")
    bates.write("theirs", "from bates")
    yoga.ok("push", "d")
    bates.ok("push", "theirs")
    path = database(yoga)
    damage(path, how)
    for verb in (["ls"], ["push", "d"], ["fsck"], ["status"], ["log", "d/f1"]):
        done = yoga(*verb)
        assert done.code == 8, (verb, done)
        assert f"{path} is damaged" in done.err and f"move {path}* away" in done.err
        assert "fsck" not in done.err
        error = yoga(*verb, "--json").json["error"]
        assert (error["code"], f"move {path}* away" in error["hint"]) == ("integrity", True)
    databases = next(one for one in yoga("doctor", "--json").json["data"]["findings"] if one["subject"] == "databases")
    assert not databases["ok"] and f"move {path}* away" in databases["remedy"]
    move_away(path)
    yoga.write("d/f1", "changed meanwhile")
    yoga.write("d/new", "new")
    assert yoga("push", "d").code == 6  # nobody remembers what that folder was: both versions of f1 are kept
    yoga.ok("push", "--force", "d/f1", "--to", "d")
    assert yoga.ok("ls").split() == ["d", "theirs"]
    bates.ok("pull", "d")
    assert (bates.read("d/f1"), bates.read("d/f7"), bates.read("d/new")) == ("changed meanwhile", "content 7", "new")
    assert yoga("fsck").code == bates("fsck").code == 0


def test_only_fleet_db_itself_was_moved_away(fleet):
    """The log beside it is of the old one, and does no harm."""
    yoga, _ = fleet
    yoga.write("f", "one")
    yoga.ok("push", "f")
    path = database(yoga)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = 99 WHERE key = 'next_seq'")
    connection.commit()
    log = path.with_name("fleet.db-wal").read_bytes()
    connection.close()
    path.rename(path.with_name("old"))
    path.with_name("fleet.db-wal").write_bytes(log)
    yoga.write("g", "two")
    yoga.ok("push", "g")
    assert yoga.ok("ls").split() == ["f", "g"]
    assert yoga("fsck").code == 0


def test_a_push_that_was_queued_in_it_is_pushed_again(fleet):
    yoga, bates = fleet
    yoga.write("f", "one")
    killed = subprocess.run(
        [sys.executable, "-P", "-m", "cli.main", "push", "f"],
        env={**yoga.environ(), "TCFS_FAULT": "publish.after_outbox"},
        cwd=yoga.folder,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    damage(database(yoga), "pages")
    assert yoga("push", "f").code == 8
    move_away(database(yoga))
    yoga.ok("push", "f")
    bates.ok("pull", "f")
    assert bates.read("f") == "one"
    assert yoga("fsck").code == 0


def test_a_daemon_does_not_start_and_says_why(fleet):
    yoga, _ = fleet
    damage(database(yoga), "header")
    tcfsd = str(Path(sys.executable).parent / "tcfsd")
    done = subprocess.run([tcfsd, "--background"], env=yoga.environ(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (8, 1)
    assert f"{database(yoga)} is damaged" in done.stderr and "move" in done.stderr
