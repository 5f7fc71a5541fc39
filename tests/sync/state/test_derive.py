"""What is shown, from versions that come in any order; the invariant is sync.state.check."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_versions import MTIME_NS, WRITTEN_AT, Journal, Line, names, put, tree
from shown_mirror import Mirror, shown_rows

from sync.core.manifest import Kind, Version
from sync.core.show import Mode
from sync.env import FakeEnv
from sync.state.check import check
from sync.state.fleet import FleetDb
from sync.state.rows import DIR, FILE, SYMLINK, NodePlace, ShownRow

YOGA = Journal("yoga").machine_id


def new_db(env: FakeEnv | None = None, mode: Mode = Mode.INTERACTIVE) -> FleetDb:
    return FleetDb.create(env or FakeEnv(), ":memory:", "fleet", YOGA, "yoga", mode=mode)


def row_at(db: FleetDb, path: str) -> ShownRow:
    row = db.view.resolve_path(path)
    assert row is not None, path
    return row


# ---- plain cases


def test_a_file_shows_with_implied_folders(db: FleetDb, bates: Journal) -> None:
    put(db, bates.write("a/b/f", "hello"))
    assert names(db) == ["a/", "a/b/", "a/b/f"]
    folder, file = row_at(db, "a/b"), row_at(db, "a/b/f")
    assert (folder.kind, folder.mode, folder.version) == (DIR, 0o755, None)
    assert (file.kind, file.size, file.mode, file.mtime_ns) == (FILE, 5, 0o644, MTIME_NS)
    assert (folder.id % 2, file.id % 2) == (0, 0)


def test_implied_folders_go_with_the_last_below(db: FleetDb, bates: Journal) -> None:
    first, second = bates.write("a/b/f"), bates.write("a/c/g")
    put(db, first, second)
    put(db, bates.remove("a/b/f", seen=[first[1]]))
    assert names(db) == ["a/", "a/c/", "a/c/g"]
    put(db, bates.remove("a/c/g", seen=[second[1]]))
    assert names(db) == []


def test_a_recorded_folder_stays_when_it_is_empty(db: FleetDb, bates: Journal) -> None:
    file = bates.write("a/f")
    put(db, bates.mkdir("a", mode=0o700), file)
    put(db, bates.remove("a/f", seen=[file[1]]))
    assert row_at(db, "a").mode == 0o700


def test_a_removed_folder_with_content_is_implied(db: FleetDb, bates: Journal) -> None:
    folder = bates.mkdir("a", mode=0o700)
    put(db, folder, bates.write("a/f"))
    before = row_at(db, "a").id
    put(db, bates.remove("a", seen=[folder[1]]))
    assert (row_at(db, "a").id, row_at(db, "a").mode, row_at(db, "a").version) == (before, 0o755, None)


def test_a_symlink_shows_the_length_of_its_target(db: FleetDb, bates: Journal) -> None:
    put(db, bates.write("l", "zi\u00ebl", kind=Kind.SYMLINK))
    assert (row_at(db, "l").kind, row_at(db, "l").size) == (SYMLINK, 5)


def test_concurrent_files_show_as_name_and_sibling(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    put(db, yoga.write("f", "mine"), bates.write("f", "theirs"))
    assert names(db) == ["f", "f.bates.conflict"]
    sibling = row_at(db, "f.bates.conflict")
    assert (sibling.sibling, sibling.mode, sibling.size) == (1, 0o444, 6)
    assert db.view.sibling_path(sibling) == "f"


def test_a_sibling_keeps_its_number_while_name_changes(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    mine = yoga.write("f", "mine")
    put(db, mine, bates.write("f", "theirs"))
    before = row_at(db, "f.bates.conflict")
    put(db, yoga.write("f", "mine again", seen=[mine[1]]))
    assert row_at(db, "f.bates.conflict") == before


def test_a_resolved_conflict_leaves_no_sibling(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    both = [yoga.write("d/f", "mine"), bates.write("d/f", "theirs")]
    put(db, *both)
    put(db, yoga.write("d/f", "both", seen=[version for _, version in both]))
    assert names(db) == ["d/", "d/f"]


def test_beside_an_own_tombstone_there_are_only_siblings(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    base = bates.write("d/f", "base")
    put(db, base)
    put(db, yoga.remove("d/f", seen=[base[1]]), bates.write("d/f", "edited", seen=[base[1]]))
    assert names(db) == ["d/", "d/f.bates.conflict"]


def test_a_real_name_wins_over_a_siblings(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    theirs = bates.write("f", "theirs")
    put(db, yoga.write("f", "mine"), theirs)
    number = row_at(db, "f.bates.conflict").id
    real = yoga.write("f.bates.conflict", "real")
    put(db, real)
    renamed = f"f.bates-{theirs[1].id[-8:-2]}.conflict"
    assert names(db) == sorted(["f", "f.bates.conflict", renamed])
    assert row_at(db, renamed).id == number
    put(db, yoga.remove("f.bates.conflict", seen=[real[1]]))
    assert names(db) == ["f", "f.bates.conflict"]
    assert row_at(db, "f.bates.conflict").id == number


def test_a_folder_in_the_siblings_way_is_named_first(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    put(db, yoga.write("f", "mine"), bates.write("f", "theirs"))
    put(db, yoga.write("f.bates.conflict/deep/g"))
    assert len(names(db)) == 5
    assert row_at(db, "f.bates.conflict").kind == DIR


@pytest.mark.parametrize("file_first", [True, False])
def test_a_folder_keeps_the_name_a_file_has_too(db: FleetDb, yoga: Journal, bates: Journal, file_first: bool) -> None:
    lines = [yoga.write("x", "file"), bates.write("x/y", "below")]
    for line in lines if file_first else reversed(lines):
        put(db, line)
    assert names(db) == ["x.yoga.conflict", "x/", "x/y"]
    put(db, bates.remove("x/y", seen=[lines[1][1]]))
    assert names(db) == ["x"]
    assert row_at(db, "x").kind == FILE


def test_deep_below_a_file_all_folders_are_made(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    put(db, yoga.write("x", "file"), yoga.write("x/y/z", "file"))
    put(db, bates.write("x/y/z/q"))
    assert names(db) == ["x.yoga.conflict", "x/", "x/y/", "x/y/z.yoga.conflict", "x/y/z/", "x/y/z/q"]


def test_auto_shows_no_losers_and_the_mode_can_change(yoga: Journal, bates: Journal) -> None:
    db = new_db(mode=Mode.AUTO)
    put(db, yoga.write("f", "mine"), bates.write("f", "theirs"))
    assert names(db) == ["f"]
    with db.transaction() as txn:
        txn.set_mode(Mode.INTERACTIVE)
    assert names(db) == ["f", "f.bates.conflict"]
    assert check(db) == []
    db.close()


def test_a_new_machine_id_keeps_the_old_one_ours(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    mine = yoga.write("f", "mine")
    put(db, mine, bates.write("f", "theirs"))
    with db.transaction() as txn:
        txn.take_machine_id("new-id", "yoga")
    assert (db.machine_id, db.next_seq, db.own_ids) == ("new-id", 1, {"new-id", yoga.machine_id})
    assert tree(db)["f"][1] == mine[1].id


def test_a_forgotten_version_brings_back_what_it_superseded(db: FleetDb, yoga: Journal) -> None:
    first = yoga.write("f", "one")
    second = yoga.write("f", "two", seen=[first[1]])
    put(db, first, second)
    with db.transaction() as txn:
        txn.forget_versions([second[1].id])
        txn.rename_version(second[1].id, first[1].id)
    assert tree(db) == {"f": (FILE, first[1].id)}
    assert db.version(second[1].id) == first[1]


# ---- numbers, times, owners


def test_publishing_changes_nothing_that_stat_shows(db: FleetDb, yoga: Journal) -> None:
    put(db, yoga.write("a/f"), place=NodePlace(11, dir_ids=(7,), ctime_ns=123, uid=5, gid=6))
    folder, file = row_at(db, "a"), row_at(db, "a/f")
    assert (folder.id, file.id, file.ctime_ns, file.uid, file.gid) == (7, 11, 123, 5, 6)


def test_a_number_that_is_taken_makes_the_other_row_give_way(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    put(db, bates.write("d/x"), bates.write("d/y"))
    folder, inside = row_at(db, "d"), row_at(db, "d/x").id
    put(db, yoga.mkdir("e"), place=NodePlace(folder.id))
    assert row_at(db, "e").id == folder.id
    assert row_at(db, "d").id != folder.id
    assert row_at(db, "d/x").id == inside


def test_a_dir_id_in_use_is_not_taken(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    put(db, bates.write("other"))
    used = row_at(db, "other").id
    put(db, yoga.write("a/f"), place=NodePlace(11, dir_ids=(used,)))
    assert row_at(db, "other").id == used
    assert row_at(db, "a").id != used


def test_an_even_number_from_outside_is_not_given_again(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    put(db, yoga.write("f"), place=NodePlace(100))
    put(db, bates.write("g"))
    assert row_at(db, "g").id == 102


def test_the_rename_of_a_file_carries_its_number(db: FleetDb, yoga: Journal) -> None:
    old = yoga.write("a", "text")
    put(db, old, place=NodePlace(11, ctime_ns=1))
    new = yoga.write("b", "text")
    gone = yoga.remove("a", seen=[old[1]])
    with db.transaction() as txn:
        txn.insert_version(*new, NodePlace(11, ctime_ns=2))
        txn.insert_version(*gone, NodePlace(None))
    assert (names(db), row_at(db, "b").id, row_at(db, "b").ctime_ns) == (["b"], 11, 2)


def test_a_change_from_elsewhere_keeps_number_and_owner(
    db: FleetDb, env: FakeEnv, yoga: Journal, bates: Journal
) -> None:
    mine = yoga.write("f", "mine")
    put(db, mine, place=NodePlace(11, ctime_ns=123, uid=5, gid=6))
    put(db, bates.write("f", "longer", seen=[mine[1]]))
    row = row_at(db, "f")
    assert (row.id, row.uid, row.gid, row.ctime_ns, row.size) == (11, 5, 6, env.now_ns(), 6)


def test_a_version_that_looks_alike_keeps_the_ctime(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    mine = yoga.write("f", "same")
    put(db, mine, place=NodePlace(11, ctime_ns=123))
    put(db, bates.write("f", "same", seen=[mine[1]]))
    assert row_at(db, "f").ctime_ns == 123


def test_another_kind_is_another_number(db: FleetDb, bates: Journal) -> None:
    file = bates.write("f", "text")
    put(db, file)
    before = row_at(db, "f").id
    put(db, bates.write("f", "target", kind=Kind.SYMLINK, seen=[file[1]]))
    assert row_at(db, "f").id != before


def test_entries_from_elsewhere_move_the_folders_mtime(db: FleetDb, env: FakeEnv, bates: Journal) -> None:
    folder = bates.mkdir("d", written_at=WRITTEN_AT + 100)
    put(db, folder)
    put(db, bates.write("d/early", written_at=WRITTEN_AT + 50))
    assert row_at(db, "d").mtime_ns == MTIME_NS
    late = bates.write("d/late", written_at=WRITTEN_AT + 200)
    put(db, late)
    assert row_at(db, "d").mtime_ns == (WRITTEN_AT + 200) * 10**9
    put(db, bates.write("d/late", "more", seen=[late[1]], written_at=WRITTEN_AT + 300))
    assert row_at(db, "d").mtime_ns == (WRITTEN_AT + 200) * 10**9
    put(db, bates.mkdir("d", seen=[folder[1]], mtime_ns=7, written_at=WRITTEN_AT + 400))
    assert row_at(db, "d").mtime_ns == 7


def test_a_removal_of_the_mount_gives_no_folder_its_times(
    db: FleetDb, env: FakeEnv, yoga: Journal, bates: Journal
) -> None:
    base = bates.write("d/f", "base")
    with db.transaction() as txn:
        txn.insert_version(*yoga.remove("d/f", seen=[base[1]]), NodePlace(None))
        txn.insert_version(*bates.write("d/f", "edited", seen=[base[1]]))
    assert row_at(db, "d").ctime_ns == env.now_ns()


def test_entries_of_the_mount_leave_the_folders_mtime(db: FleetDb, yoga: Journal) -> None:
    put(db, yoga.mkdir("d"), place=NodePlace(3, ctime_ns=1))
    before = row_at(db, "d")
    put(db, yoga.write("d/f", written_at=WRITTEN_AT + 200), place=NodePlace(5, dir_ids=(3,)))
    assert row_at(db, "d") == before


# ---- any order

PATHS = ("a", "a/b", "a/b/c", "a/x", "a.yoga.conflict", "a.bates.conflict", "d/e")
JOURNALS = ("yoga", "bates", "carl")

write_steps = st.lists(
    st.tuples(
        st.sampled_from(JOURNALS),
        st.sampled_from(PATHS),
        st.sampled_from(["one", "two", None, "dir", "dir700", "link", "chmod", "names", "other names"]),
        st.integers(0, 7),
    ),
    min_size=1,
    max_size=14,
)


def history(steps: list[tuple[str, str, str | None, int]]) -> list[Line]:
    """What three machines write, each having seen some of the versions of the path (bits of the last number)."""
    journals = {name: Journal(name) for name in JOURNALS}
    lines: list[Line] = []
    for name, path, content, mask in steps:
        known = [version for _, version in lines if version.path == path]
        seen: list[Version] = [version for place, version in enumerate(known[-3:]) if mask >> place & 1]
        journal = journals[name]
        match content:
            case "dir" | "dir700":
                line = journal.mkdir(path, seen=seen, mode=0o755 if content == "dir" else 0o700)
            case "link":
                line = journal.write(path, "target", kind=Kind.SYMLINK, seen=seen)
            case "chmod":
                line = journal.write(path, "one", seen=seen, mode=0o600, xattrs={"user.a": "YQ=="})
            case "names" | "other names":
                line = journal.write(path, "one", seen=seen, link_id=content)
            case _:
                line = journal.write(path, content, seen=seen)
        lines.append(line)
    return lines


def linked(db: FleetDb) -> list[list[str]]:
    """The names of each file that has several."""
    found: dict[int, list[str]] = {}
    for path, row in sorted(shown_rows(db).items()):
        if row.link is not None:
            found.setdefault(row.number, []).append(path)
    return sorted(found.values())


def insert_all(db: FleetDb, lines: list[Line], cuts: list[int]) -> None:
    """Insert in transactions of these sizes, in turn."""
    rest, turn = list(lines), 0
    while rest:
        size = cuts[turn % len(cuts)]
        put(db, *rest[:size])
        rest, turn = rest[size:], turn + 1


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(write_steps, st.lists(st.integers(1, 4), min_size=1, max_size=3), st.randoms(use_true_random=False), st.data())
def test_shown_does_not_depend_on_the_order(steps, cuts, random, data) -> None:  # type: ignore[no-untyped-def]
    mode = data.draw(st.sampled_from(list(Mode)))
    lines = history(steps)
    shuffled = list(lines)
    random.shuffle(shuffled)
    first, second = new_db(mode=mode), new_db(mode=mode)
    mirror = Mirror(second)
    try:
        insert_all(first, lines, [len(lines)])
        insert_all(second, shuffled + shuffled[:2], cuts)
        mirror.follow()
        assert check(first) == []
        assert check(second) == []
        assert tree(first) == tree(second)
        assert linked(first) == linked(second)
        assert mirror.tree() == shown_rows(second)
    finally:
        first.close()
        second.close()


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(write_steps, st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=20), st.data())
def test_any_numbers_from_nodes_keep_shown_whole(steps, nodes, data) -> None:  # type: ignore[no-untyped-def]
    """Numbers come from a small set, so that they clash in every way; what is shown is the same as without nodes."""
    lines = history(steps)
    db, plain = new_db(), new_db()
    mirror = Mirror(db)
    try:
        for turn, line in enumerate(lines):
            number, own = nodes[turn % len(nodes)]
            place = NodePlace(number + 1, dir_ids=(number + 2, number + 3), ctime_ns=1) if own else None
            put(db, line, place=place)
            if data.draw(st.booleans()):
                mirror.follow()
        insert_all(plain, lines, [1])
        mirror.follow()
        assert check(db) == []
        assert tree(db) == tree(plain)
        assert mirror.tree() == shown_rows(db)
    finally:
        db.close()
        plain.close()
