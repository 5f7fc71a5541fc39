"""Names of one file in shown: counted, under one number, and files by themselves once they differ."""

import sqlite3
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_versions import MTIME_NS, Journal, put

from sync.core.manifest import Kind, Version
from sync.env import FakeEnv
from sync.state.check import check
from sync.state.fleet import FleetDb
from sync.state.migrate import _migrations, _statements
from sync.state.rows import NodePlace, ShownRow

YOGA, BATES = Journal("yoga").machine_id, Journal("bates").machine_id


def row(db: FleetDb, path: str) -> ShownRow:
    found = db.view.resolve_path(path)
    assert found is not None, path
    return found


def numbers(db: FleetDb, *paths: str) -> list[tuple[int, int]]:
    """(inode number, names) of each."""
    return [(row(db, path).number, row(db, path).nlink) for path in paths]


def write_all(db: FleetDb, journal: Journal, *paths: str, content: str = "one", **fields: Any) -> list[Version]:
    lines = [journal.write(path, content, link_id="L", **fields) for path in paths]
    put(db, *lines)
    return [version for _, version in lines]


def test_names_have_one_number(db: FleetDb, bates: Journal) -> None:
    write_all(db, bates, "a", "d/b", "d/e/c")
    first = row(db, "a").number
    assert numbers(db, "a", "d/b", "d/e/c") == [(first, 3)] * 3
    assert row(db, "a").id != row(db, "d/b").id and db.view.row(first) is not None
    assert len(db.view.linked("L")) == 3
    write_all(db, bates, "z")
    assert numbers(db, "a", "z") == [(first, 4)] * 2


@pytest.mark.parametrize(
    "fields",
    [{"mode": 0o600}, {"mtime_ns": MTIME_NS + 1}, {"xattrs": {"user.a": "YQ=="}}, {"link_id": ""}, {"owner": "ada"}],
)
def test_what_differs_is_a_file_by_itself(db: FleetDb, bates: Journal, fields: dict[str, Any]) -> None:
    a, _, _ = write_all(db, bates, "a", "b", "c")
    line = bates.write("a", "one", seen=[a], **{"link_id": "L", **fields})
    put(db, line)
    assert row(db, "a").nlink == 1 and row(db, "b").nlink == row(db, "c").nlink == 2
    assert row(db, "a").number != row(db, "b").number == row(db, "c").number
    assert check(db) == []
    put(db, bates.write("a", "one", seen=[line[1]], link_id="L"))
    assert len({*numbers(db, "a", "b", "c")}) == 1 and row(db, "a").nlink == 3


def test_a_write_under_all_names_keeps_the_number(db: FleetDb, bates: Journal) -> None:
    old = write_all(db, bates, "a", "b")
    number = row(db, "a").number
    put(db, *(bates.write(version.path, "two", seen=[version], link_id="L") for version in old))
    assert numbers(db, "a", "b") == [(number, 2)] * 2


@given(st.lists(st.lists(st.sampled_from("LMN"), min_size=6, max_size=6), min_size=2, max_size=5))
@example([["L", "M", "L"], ["M", "L", "L"]])
@settings(max_examples=60, deadline=None)
def test_names_that_go_from_file_to_file(steps: list[list[str]]) -> None:
    """Any names become those of any other file, many in one step: a number leads to a row of its own file only."""
    db = FleetDb.create(FakeEnv(), ":memory:", "fleet", YOGA, "yoga")
    bates = Journal("bates")
    last: dict[str, Version] = {}
    for link_ids in steps:
        lines = []
        for path, link_id in zip("abcdef", link_ids, strict=False):
            was = last.get(path)
            if was is None or was.manifest.link_id != link_id:
                lines.append(bates.write(path, link_id, seen=[was] if was is not None else [], link_id=link_id))
        put(db, *lines)
        last |= {version.path: version for _, version in lines}
        assert check(db) == []
    db.close()


@pytest.mark.parametrize("gone", ["a", "b"])
@pytest.mark.parametrize("others", [1, 2])
@pytest.mark.parametrize("is_renewed", [True, False])
def test_a_name_goes_and_the_number_stays(
    db: FleetDb, bates: Journal, gone: str, others: int, is_renewed: bool
) -> None:
    versions = write_all(db, bates, *"abc"[: others + 1])
    number = row(db, "a").number
    lines = [bates.remove(version.path, seen=[version]) for version in versions if version.path == gone]
    if is_renewed:
        link_id = "M" if others > 1 else ""
        kept = [version for version in versions if version.path != gone]
        lines = [*(bates.write(v.path, "one", seen=[v], link_id=link_id) for v in kept), *lines]
    put(db, *lines)
    rest = [version.path for version in versions if version.path != gone]
    assert numbers(db, *rest) == [(number, others)] * others


@pytest.mark.parametrize("replaced", ["a", "b"])
@pytest.mark.parametrize("others", [1, 2])
def test_a_name_is_replaced_and_the_others_keep_the_number(
    db: FleetDb, bates: Journal, replaced: str, others: int
) -> None:
    versions = write_all(db, bates, *"abc"[: others + 1])
    number = row(db, "a").number
    put(db, *(bates.write(v.path, "two", seen=[v]) for v in versions if v.path == replaced))
    rest = [version.path for version in versions if version.path != replaced]
    assert numbers(db, *rest) == [(number, others)] * others
    assert row(db, replaced).number != number and row(db, replaced).nlink == 1


def test_a_node_brings_its_number(db: FleetDb) -> None:
    yoga = Journal("yoga")
    lines = [yoga.write(path, "one", link_id="L") for path in "ab"]
    with db.transaction() as txn:
        txn.insert_version(*lines[0], NodePlace(None, ctime_ns=5))
        txn.insert_version(*lines[1], NodePlace(1001, ctime_ns=5))
    assert numbers(db, "a", "b") == [(1001, 2)] * 2
    # The name with the node's number goes, another one brings it.
    with db.transaction() as txn:
        txn.insert_version(*yoga.write("a", "one", seen=[lines[0][1]]), NodePlace(1001, ctime_ns=6))
        txn.insert_version(*yoga.remove("b", seen=[lines[1][1]]))
    assert numbers(db, "a") == [(1001, 1)]


def test_a_file_that_has_had_one_name_for_a_while_keeps_its_number(db: FleetDb) -> None:
    yoga = Journal("yoga")
    a, b = (yoga.write(path, "one", link_id="L") for path in "ab")
    with db.transaction() as txn:
        txn.insert_version(*a, NodePlace(1001, ctime_ns=5))
        txn.insert_version(*b, NodePlace(None, ctime_ns=5))
    put(db, yoga.remove("b", seen=[b[1]]))
    with db.transaction() as txn:  # as `ln a c`: of a there is nothing to be published, and so no node
        txn.insert_version(*yoga.write("c", "one", link_id="L"), NodePlace(None, ctime_ns=6))
    assert numbers(db, "a", "c") == [(1001, 2)] * 2


def test_folders_and_siblings_have_one_name(db: FleetDb, bates: Journal) -> None:
    put(db, bates.mkdir("d", link_id="L"), bates.mkdir("e", link_id="L"))
    write_all(db, bates, "a", "b")
    put(db, Journal("yoga").write("a", "mine", link_id="L"))
    sibling = next(found for found in db.view.children(1) if found.sibling)
    assert sibling.nlink == 1 and sibling.link is None
    assert [row(db, path).nlink for path in ("a", "b", "d", "e")] == [1] * 4


def test_symlinks_can_have_several(db: FleetDb, bates: Journal) -> None:
    put(db, *(bates.write(path, "target", kind=Kind.SYMLINK, link_id="L") for path in "ab"))
    assert [row(db, path).nlink for path in "ab"] == [2, 2]


def test_what_was_learned_by_an_older_program(db: FleetDb, bates: Journal) -> None:
    """Its rows know nothing of link_ids: the migration reads them out of the versions."""
    write_all(db, bates, "a", "b", "d/c")
    write_all(db, bates, "x", mode=0o600)
    put(db, bates.write('"link_id":"', "one"))
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in db.query("SELECT sql FROM sqlite_master WHERE name IN ('version', 'shown') AND type = 'table'"):
        connection.execute(statement[0])
    for table in ("version", "shown"):
        rows = db.query(f"SELECT * FROM {table}")
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    for column in ("link_id", "link", "nlink"):
        connection.execute(f"ALTER TABLE shown DROP COLUMN {column}")
    for statement in _statements(dict(_migrations("sync.state"))[12]):
        connection.execute(statement)
    want = db.query("SELECT name, link_id, link, nlink FROM shown ORDER BY id")
    assert connection.execute("SELECT name, link_id, link, nlink FROM shown ORDER BY id").fetchall() == want
    connection.close()
