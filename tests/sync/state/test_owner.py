"""Owner and group of a version in shown."""

import sqlite3
from pathlib import Path

import pytest
from made_versions import Journal, put

from sync.env import Crash, FakeEnv
from sync.state.books import OWNERS_TO_DERIVE
from sync.state.check import check
from sync.state.fleet import FleetDb
from sync.state.migrate import _migrations, _statements

SHOWN = 'SELECT name, owner, "group" FROM shown ORDER BY id'


def learned(db: FleetDb, bates: Journal) -> None:
    put(
        db,
        bates.mkdir("d", owner="ada", group="staff"),
        bates.write("d/f", "one", owner="ada"),
        bates.write("g", "one"),
    )
    put(db, bates.write("h", "one", group='staff"'), bates.write('"owner":"ada"', "one"))
    put(db, bates.write("d/f", "two", group="100"))  # beside the other


def test_they_are_those_of_the_version(db: FleetDb, bates: Journal) -> None:
    learned(db, bates)
    found = {name: (owner, group) for name, owner, group in db.query(SHOWN)}
    assert found["d"] == ("ada", "staff") and found["h"] == ("", 'staff"') and found["g"] == ("", "")
    assert {found["f"], found["f.bates.conflict"]} == {("ada", ""), ("", "100")}


def test_what_was_learned_by_an_older_program(db: FleetDb, bates: Journal) -> None:
    """Its rows know nothing of owners: the migration reads them out of the versions."""
    learned(db, bates)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in db.query("SELECT sql FROM sqlite_master WHERE name IN ('version', 'shown') AND type = 'table'"):
        connection.execute(statement[0])
    for table in ("version", "shown"):
        rows = db.query(f"SELECT * FROM {table}")
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    for column in ("owner", '"group"'):
        connection.execute(f"ALTER TABLE shown DROP COLUMN {column}")
    for statement in _statements(dict(_migrations("sync.state"))[16]):
        connection.execute(statement)
    assert connection.execute(SHOWN).fetchall() == db.query(SHOWN)
    connection.close()


NAMES = 'SELECT name, owner, "group", link IS NULL, nlink FROM shown ORDER BY name'


def made_by_an_older_program(path: Path, env: FakeEnv, yoga: Journal, bates: Journal) -> list[tuple[object, ...]]:
    """A database with heads that are merged, and names of one file, which say different things of owners. What it is to
    show.
    """
    db = FleetDb.create(env, path, "fleet", yoga.machine_id, "yoga")
    base = bates.write("f", "one")
    put(db, base, bates.mkdir("d", owner="ada"), yoga.mkdir("d", group="staff"))
    put(db, yoga.write("f", "one", seen=[base[1]], owner="ada"), bates.write("f", "one", seen=[base[1]], group="staff"))
    owners = {"a": "ada", "b": "", "c": "ada"}
    put(db, *(bates.write(name, "one", link_id="L", owner=owner) for name, owner in owners.items()))
    expected = db.query(NAMES)
    db.close()
    raw = env.connect(path)
    for column in ("owner", '"group"'):
        raw.execute(f"ALTER TABLE shown DROP COLUMN {column}")
    raw.execute(
        "UPDATE shown SET nlink = 3, link = (SELECT min(id) FROM shown WHERE link_id = 'L') WHERE link_id = 'L'"
    )
    raw.execute("UPDATE meta SET value = 15 WHERE key = 'schema'")
    raw.close()
    return expected


def test_what_is_merged_is_derived_again(tmp_path: Path, env: FakeEnv, yoga: Journal, bates: Journal) -> None:
    """The migration knows one version of a row, and nothing of the other names of a file."""
    path = tmp_path / "fleet.db"
    expected = made_by_an_older_program(path, env, yoga, bates)
    assert ("f", "ada", "staff", 1, 1) in expected and ("b", "", "", 1, 1) in expected
    raw = env.connect(path)
    told = raw.execute("SELECT max(n) FROM feed").fetchone()[0]
    raw.close()
    env.arm("fleet.before_commit")
    with pytest.raises(Crash):
        FleetDb.open(env, path)
    db = FleetDb.open(FakeEnv(clock=env.clock), path)
    assert (db.query(NAMES), check(db)) == (expected, [])
    assert {"f", "d", "b"} <= {item.path for item in db.view.feed_after(told)}
    assert db.meta(OWNERS_TO_DERIVE) is None
    db.close()


def test_who_says_nothing_of_owners_has_nothing_to_derive(db: FleetDb) -> None:
    assert db.meta(OWNERS_TO_DERIVE) is None
