"""ShownView: what another process reads of fleet.db while the engine writes it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_versions import Journal, put

from sync.core.errors import NotFound, NotYet
from sync.core.manifest import Kind
from sync.env import FakeEnv
from sync.state.check import check
from sync.state.fleet import FleetDb
from sync.state.rows import FILE, ROOT_ID, NodePlace, decode_was, was_of
from sync.state.view import ShownView


@pytest.fixture
def db(tmp_path: Path, env: FakeEnv, yoga: Journal) -> Iterator[FleetDb]:
    database = FleetDb.create(env, tmp_path / "fleet.db", "fleet", yoga.machine_id, "yoga")
    yield database
    problems = check(database)
    database.close()
    assert problems == []


@pytest.fixture
def view(tmp_path: Path, env: FakeEnv, db: FleetDb) -> Iterator[ShownView]:
    opened = ShownView(env, tmp_path / "fleet.db")
    yield opened
    opened.close()


def test_it_sees_each_commit_and_nothing_before_it(db: FleetDb, view: ShownView, yoga: Journal) -> None:
    before = view.data_version()
    with db.transaction() as txn:
        txn.insert_version(*yoga.write("f"))
        assert view.lookup(ROOT_ID, "f") is None
        assert view.data_version() == before
    assert view.lookup(ROOT_ID, "f") is not None
    assert view.data_version() != before
    assert view.epoch == db.epoch


def test_a_machine_that_is_new_since_the_view_was_opened(db: FleetDb, view: ShownView, bates: Journal) -> None:
    line = bates.write("f")
    put(db, line)
    row = view.lookup(ROOT_ID, "f")
    assert row is not None and row.version is not None
    assert view.identity(row.version) == line[1].id
    assert view.number(line[1].id) == row.version
    assert view.manifest(line[1].id) == line[1].manifest


def test_it_never_writes(view: ShownView) -> None:
    with pytest.raises(sqlite3.OperationalError):
        view._connection.execute("DELETE FROM shown")


def test_a_missing_or_unfinished_database(tmp_path: Path, env: FakeEnv) -> None:
    with pytest.raises(NotFound):
        ShownView(env, tmp_path / "none.db")
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    with pytest.raises(NotYet):
        ShownView(env, tmp_path / "empty.db")


def test_pages_of_a_directory_are_in_the_order_of_bytes(db: FleetDb, view: ShownView, yoga: Journal) -> None:
    put(db, *[yoga.write(name) for name in ("b", "B", "a", "\u00e9", "\U0001f600", "\uffee", "a.b", "ab")])
    names: list[str] = []
    after = ""
    while page := view.children(ROOT_ID, after, limit=3):
        names += [row.name for row in page]
        after = names[-1]
    assert names == sorted(["b", "B", "a", "\u00e9", "\U0001f600", "\uffee", "a.b", "ab"], key=str.encode)


def test_paths_and_rows_answer_each_other(db: FleetDb, view: ShownView, yoga: Journal, bates: Journal) -> None:
    put(db, yoga.write("a/b/f", "mine"), bates.write("a/b/f", "theirs"))
    for path in ("", "a", "a/b", "a/b/f", "a/b/f.bates.conflict"):
        row = view.resolve_path(path)
        assert row is not None
        assert view.path_of(row.id) == path
        assert view.row(row.id) == row
    sibling = view.resolve_path("a/b/f.bates.conflict")
    assert sibling is not None
    assert view.sibling_path(sibling) == "a/b/f"
    assert view.resolve_path("a/b/f/x") is None
    assert view.resolve_path("nothing") is None
    assert view.count() == 4
    with pytest.raises(NotFound):
        view.path_of(999)


def test_what_name_shows_has_been_seen(db: FleetDb, view: ShownView, yoga: Journal, bates: Journal) -> None:
    one, two, other = yoga.write("f", "same"), bates.write("f", "same"), Journal("carl").write("f", "other")
    put(db, one, two, other)
    row, sibling = view.resolve_path("f"), view.resolve_path("f.carl.conflict")
    assert row is not None and sibling is not None
    assert sorted(view.seen_of(row)) == sorted([one[1].id, two[1].id])
    assert view.seen_of(sibling) == [other[1].id]


def test_an_absent_name_has_seen_its_dead_heads(db: FleetDb, view: ShownView, yoga: Journal, bates: Journal) -> None:
    first = bates.write("d/f")
    put(db, first)
    dead = [bates.remove("d/f", seen=[first[1]]), yoga.remove("d/f", seen=[first[1]])]
    put(db, *dead)
    assert view.dead_heads("d/f") == sorted(version.id for _, version in dead)
    assert view.dead_heads("never") == []


def test_an_implied_folder_has_seen_its_dead_heads(db: FleetDb, view: ShownView, bates: Journal) -> None:
    folder = bates.mkdir("d")
    gone = bates.remove("d", seen=[folder[1]])
    put(db, folder, gone, bates.write("d/f"))
    row = view.resolve_path("d")
    assert row is not None
    assert view.seen_of(row) == [gone[1].id]


def test_chunks_and_xattrs_of_a_row(db: FleetDb, view: ShownView, yoga: Journal) -> None:
    line = yoga.write("f", "12345", xattrs={"user.b": "Yg==", "user.a": "YQ=="})
    put(db, line)
    row = view.resolve_path("f")
    assert row is not None
    assert view.xattrs(row) == {"user.a": "YQ==", "user.b": "Yg=="}
    assert view.chunk_list(line[1].id) == ([b"\xab" * 32], [5])
    assert view.is_readable(line[1].id)


def test_a_version_with_unknown_requirements_is_shown_but_not_readable(
    db: FleetDb, view: ShownView, bates: Journal
) -> None:
    line = bates.write("f", requires=["magic"])
    put(db, line)
    assert view.resolve_path("f") is not None
    assert not view.is_readable(line[1].id)


def test_equal_bytes_have_equal_value_numbers(db: FleetDb, view: ShownView, yoga: Journal) -> None:
    put(db, yoga.write("a", "x", mode=0o600), yoga.write("b", "x"), yoga.write("c", "y"), yoga.mkdir("d"))
    put(db, yoga.write("l", "x", kind=Kind.SYMLINK))
    values = {name: row.value for name in "abcdl" if (row := view.resolve_path(name))}
    assert values["a"] == values["b"] != values["c"]
    assert values["d"] == 0
    assert len(set(values.values())) == 4


def test_the_feed_is_read_from_a_cursor(db: FleetDb, view: ShownView, yoga: Journal) -> None:
    assert (view.feed_last(), view.feed_after(0)) == (0, [])
    put(db, yoga.write("d/f"), place=NodePlace(7))
    first = view.feed_after(0)
    row = view.resolve_path("d/f")
    assert row is not None
    assert ("d/f", row.parent, "f", 7, None) in [item[1:] for item in first]
    assert view.feed_last() == first[-1].n
    assert view.feed_after(first[-1].n) == []
    assert view.feed_after(0, limit=1) == first[:1]


def test_the_feed_tells_what_stood_there(db: FleetDb, view: ShownView, yoga: Journal) -> None:
    one = yoga.write("f", "one", mode=0o640)
    put(db, one)
    first = view.resolve_path("f")
    assert first is not None
    last = view.feed_last()
    two = yoga.write("f", "two", seen=[one[1]])
    put(db, two)
    changed = {item.path: decode_was(item.was) for item in view.feed_after(last)}
    assert changed["f"] == was_of(first)
    assert was_of(first)[:4] == (first.id, FILE, first.size, 0o640)
    second = view.resolve_path("f")
    last = view.feed_last()
    put(db, yoga.remove("f", seen=[two[1]]))
    assert second is not None
    assert {item.path: decode_was(item.was) for item in view.feed_after(last)}["f"] == was_of(second)


def test_what_came_and_changed_in_one_transaction_was_nothing_before(
    db: FleetDb, view: ShownView, yoga: Journal
) -> None:
    one = yoga.write("d/f", "one")
    put(db, one, yoga.write("d/f", "two", seen=[one[1]]))
    assert {item.path: item.was for item in view.feed_after(0)} == {"d/f": None, "d": None}


def test_a_change_that_shows_nothing_is_in_the_feed_too(db: FleetDb, view: ShownView, bates: Journal) -> None:
    put(db, bates.remove("never/shown"))
    assert [item.path for item in view.feed_after(0)] == ["never/shown"]


def test_tcfsignore_is_empty_until_it_is_set(db: FleetDb, view: ShownView) -> None:
    assert view.tcfsignore() == ""
    with db.transaction() as txn:
        txn.set_meta("tcfsignore", "*.o\n")
    assert view.tcfsignore() == "*.o\n"
