"""The rename of a shown directory: numbers stay, and what is shown is what the heads say."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_versions import Journal, Line, names, put, tree
from shown_mirror import Mirror, shown_rows

from sync.core.errors import BadInput
from sync.core.manifest import Version
from sync.env import FakeEnv
from sync.state.check import check
from sync.state.fleet import FleetDb
from sync.state.rows import NodePlace, ShownRow


def row_at(db: FleetDb, path: str) -> ShownRow:
    row = db.view.resolve_path(path)
    assert row is not None, path
    return row


def rename(
    db: FleetDb, journal: Journal, old: str, new: str, moved: list[Version], recorded: Version | None = None
) -> None:
    """What the publisher does with a movedir: `moved` are the versions shown below `old`."""
    dir_id = row_at(db, old).id
    with db.transaction() as txn:
        txn.move_dir(dir_id, old, new)
        txn.insert_version(*journal.mkdir(new), NodePlace(dir_id, ctime_ns=9))
        for version in moved:
            path = new + version.path.removeprefix(old)
            content = version.manifest.content_id.removeprefix("c-")
            txn.insert_version(*journal.write(path, content))
        for version in [*moved, *([recorded] if recorded else [])]:
            txn.insert_version(*journal.remove(version.path, seen=[version]))


def test_numbers_and_ctimes_stay(db: FleetDb, env: FakeEnv, yoga: Journal) -> None:
    folder, file, deep = yoga.mkdir("d"), yoga.write("d/f", "text"), yoga.write("d/e/g", "deep")
    put(db, folder, file, deep)
    before = {path: row_at(db, path) for path in ("d", "d/e", "d/f", "d/e/g")}
    env.wall_offset = 100
    rename(db, yoga, "d", "to/n", [file[1], deep[1]], folder[1])
    assert names(db) == ["to/", "to/n/", "to/n/e/", "to/n/e/g", "to/n/f"]
    for path, row in before.items():
        after = row_at(db, "to/n" + path[1:])
        assert after.id == row.id
        assert path == "d" or (after.mtime_ns, after.ctime_ns) == (row.mtime_ns, row.ctime_ns)


def test_a_file_that_takes_a_folders_name_beside_a_rename_keeps_its_number(db: FleetDb, yoga: Journal) -> None:
    """The rename is derived before the removal is there that lets the file have its name."""
    below, other = yoga.write("e/x", "below"), yoga.mkdir("d")
    put(db, below, other)
    dir_id = row_at(db, "d").id
    with db.transaction() as txn:
        txn.insert_version(*yoga.write("e", "instead"), NodePlace(1001, ctime_ns=5))
        txn.move_dir(dir_id, "d", "n")
        txn.insert_version(*yoga.mkdir("n"), NodePlace(dir_id, ctime_ns=5))
        txn.insert_version(*yoga.remove("d", seen=[other[1]]), NodePlace(None, ctime_ns=5))
        txn.insert_version(*yoga.remove("e/x", seen=[below[1]]), NodePlace(None, ctime_ns=5))
    assert names(db) == ["e", "n/"]
    assert (row_at(db, "e").id, row_at(db, "e").ctime_ns, row_at(db, "n").id) == (1001, 5, dir_id)


def test_the_feed_names_both_places(db: FleetDb, yoga: Journal) -> None:
    file = yoga.write("d/f", "text")
    put(db, file)
    number, last = row_at(db, "d").id, db.view.feed_last()
    rename(db, yoga, "d", "n", [file[1]])
    items = {(item.path, item.parent, item.name, item.id) for item in db.view.feed_after(last)}
    assert {("d", 1, "d", number), ("n", 1, "n", number)} <= items


def test_a_version_the_mover_did_not_know_stays_behind(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    file, unknown = yoga.write("d/f", "text"), bates.write("d/x", "unknown")
    put(db, file, unknown)
    number = row_at(db, "d").id
    rename(db, yoga, "d", "n", [file[1]])
    assert names(db) == ["d/", "d/x", "n/", "n/f"]
    assert row_at(db, "n").id == number != row_at(db, "d").id


def test_siblings_stay_at_their_path(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    mine = yoga.write("d/f", "mine")
    put(db, mine, bates.write("d/f", "theirs"))
    rename(db, yoga, "d", "n", [mine[1]])
    assert names(db) == ["d/", "d/f.bates.conflict", "n/", "n/f"]


def test_a_folder_in_the_way_is_merged(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    file, same = yoga.write("d/f", "text"), yoga.write("d/e/s", "same")
    put(db, file, same)
    put(db, bates.mkdir("n"), bates.write("n/other"), bates.write("n/e/t"), bates.write("n/f", "theirs"))
    number, inside = row_at(db, "d").id, row_at(db, "n/other").id
    rename(db, yoga, "d", "n", [file[1], same[1]])
    assert names(db) == ["n/", "n/e/", "n/e/s", "n/e/t", "n/f", "n/f.bates.conflict", "n/other"]
    assert (row_at(db, "n").id, row_at(db, "n/other").id) == (number, inside)


def test_folders_as_deep_as_a_path_can_be(db: FleetDb, yoga: Journal) -> None:
    """Deeper than Python calls functions."""
    folder = "/a" * 1000
    file, there = yoga.write(f"d{folder}/f"), yoga.write(f"e{folder}/g")
    put(db, file, there)
    rename(db, yoga, "d", "e", [file[1]])
    assert [row_at(db, f"e{folder}/{name}").kind for name in "fg"] == [1, 1]


def test_a_file_in_the_way_becomes_a_sibling(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    file = yoga.write("d/f", "text")
    put(db, file, bates.write("n", "theirs"))
    rename(db, yoga, "d", "n", [file[1]])
    assert names(db) == ["n.bates.conflict", "n/", "n/f"]


def test_a_folder_moves_over_its_own_parent(db: FleetDb, yoga: Journal) -> None:
    file, beside = yoga.write("d/e/f", "text"), yoga.write("d/g", "beside")
    put(db, file, beside)
    number = row_at(db, "d/e").id
    rename(db, yoga, "d/e", "d", [file[1]])
    assert names(db) == ["d/", "d/f", "d/g"]
    assert row_at(db, "d").id == number


def test_two_moves_before_their_versions(db: FleetDb, yoga: Journal) -> None:
    one, two = yoga.write("a/f", "one"), yoga.write("b/g", "two")
    put(db, one, two)
    numbers = [row_at(db, "a").id, row_at(db, "b").id]
    with db.transaction() as txn:
        txn.move_dir(numbers[0], "a", "c")
        txn.move_dir(numbers[1], "b", "a")
        for line in [yoga.write("c/f", "one"), yoga.write("a/g", "two")]:
            txn.insert_version(*line)
        for old in (one, two):
            txn.insert_version(*yoga.remove(old[1].path, seen=[old[1]]))
    assert names(db) == ["a/", "a/g", "c/", "c/f"]
    assert [row_at(db, "c").id, row_at(db, "a").id] == numbers


def test_a_move_of_what_was_inserted_just_before(db: FleetDb, yoga: Journal) -> None:
    first = yoga.write("d/f", "text")
    with db.transaction() as txn:
        txn.insert_version(*first, NodePlace(11, dir_ids=(7,)))
        txn.move_dir(7, "d", "n")
        txn.insert_version(*yoga.write("n/f", "text"))
        txn.insert_version(*yoga.remove("d/f", seen=[first[1]]))
    assert (names(db), row_at(db, "n").id, row_at(db, "n/f").id) == (["n/", "n/f"], 7, 11)


def test_nothing_shown_there_is_nothing_to_move(db: FleetDb) -> None:
    with db.transaction() as txn:
        txn.move_dir(7, "d", "n")
    assert names(db) == []


def test_the_nodes_number_counts(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    file = yoga.write("d/f", "text")
    put(db, file)
    with db.transaction() as txn:
        txn.move_dir(7, "d", "n")
        txn.insert_version(*yoga.write("n/f", "text"))
        txn.insert_version(*yoga.remove("d/f", seen=[file[1]]))
    assert row_at(db, "n").id == 7


def test_a_folder_does_not_move_into_itself(db: FleetDb, yoga: Journal) -> None:
    put(db, yoga.write("d/f"))
    number = row_at(db, "d").id
    with pytest.raises(BadInput), db.transaction() as txn:
        txn.move_dir(number, "d", "d/e")


def test_nothing_takes_the_roots_number(db: FleetDb, yoga: Journal) -> None:
    put(db, yoga.write("d/f"))
    with pytest.raises(BadInput), db.transaction() as txn:
        txn.move_dir(1, "d", "e")
    with pytest.raises(BadInput), db.transaction() as txn:
        txn.insert_version(*yoga.write("g"), NodePlace(1))


PATHS = ("a", "a/x", "a/b/y", "b", "b/x", "b/y", "b/b/y", "c/a/x", "b.bates.conflict/x")
FOLDERS = ("a", "b", "c", "a/b", "c/a", "b/b")


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(PATHS), st.booleans()), max_size=8),
    st.lists(
        st.tuples(st.sampled_from(FOLDERS), st.sampled_from(FOLDERS), st.booleans(), st.integers(2, 9)), max_size=4
    ),
)
def test_after_any_moves_the_tree_is_what_the_heads_say(writes, moves) -> None:  # type: ignore[no-untyped-def]
    yoga, bates = Journal("yoga"), Journal("bates")
    db = FleetDb.create(FakeEnv(), ":memory:", "fleet", yoga.machine_id, "yoga")
    plain = FleetDb.create(FakeEnv(), ":memory:", "fleet", yoga.machine_id, "yoga")
    mirror = Mirror(db)
    lines: list[Line] = []
    try:
        for is_own, path, is_dir in writes:
            journal = yoga if is_own else bates
            lines.append(journal.mkdir(path) if is_dir else journal.write(path, journal.name))
            put(db, lines[-1])
        for old, new, with_versions, number in moves:
            if new == old or new.startswith(old + "/"):
                continue
            mirror.follow()
            with db.transaction() as txn:
                txn.move_dir(number, old, new)
                for path in db.live_paths(old) if with_versions else []:
                    heads = [head for head in db.heads(path) if head.is_live]
                    for line in [
                        yoga.write(new + path.removeprefix(old), "yoga"),
                        yoga.remove(path, seen=heads),
                    ]:
                        lines.append(line)
                        txn.insert_version(*line)
        for line in lines:
            put(plain, line)
        assert check(db) == []
        assert tree(db) == tree(plain)
        mirror.follow()
        assert mirror.tree() == shown_rows(db)
    finally:
        db.close()
        plain.close()
