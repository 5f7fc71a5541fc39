"""Owner and group of a version in shown."""

import sqlite3

from made_versions import Journal, put

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
