from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.core.clock import Order, compare, covers
from sync.core.heads import common_ancestor, heads_of
from sync.core.manifest import Kind, Manifest, PathVersion, Version, decode_record, split_version_id, version_id
from sync.core.plan import (
    Decision,
    Moving,
    State,
    batch_order,
    compare_three,
    new_clock,
    rename_folder,
    republish,
    seen_at,
    state_of,
)
from sync.core.show import Mode, NameShown, Shown, show
from tests.sync.core.made import GONE, Fields, History, Machine, histories, version

X = Fields(content="x", mtime_ns=3)


def _state(fields: Fields) -> State:
    whose = {"owner": fields.owner, "group": fields.group}
    return State(fields.kind, fields.content, fields.target, fields.mode, fields.xattrs, fields.mtime_ns, **whose)


def _shown(one: Version) -> NameShown:
    name = show((one,), lambda _: None, (), Mode.INTERACTIVE).name
    assert name is not None
    return name


# ---- compare_three


@pytest.mark.parametrize(
    "other",
    [
        Fields(content="y", mtime_ns=3),
        Fields(kind=Kind.SYMLINK, content="x", mtime_ns=3),
        Fields(content="x", target="t", mtime_ns=3),
        Fields(content="x", mode=0o600, mtime_ns=3),
        Fields(content="x", xattrs={"user.a": "MQ=="}, mtime_ns=3),
        Fields(content="x", mtime_ns=4),
        Fields(content="x", mtime_ns=3, owner="ada"),
        Fields(content="x", mtime_ns=3, group="staff"),
    ],
)
def test_whatever_differs_is_published(other: Fields) -> None:
    assert compare_three(_state(X), _state(other), False) is Decision.PUBLISH
    assert compare_three(_state(other), _state(other), False) is Decision.UNCHANGED


def test_coming_and_going_is_published_and_neither_is_not() -> None:
    assert compare_three(None, _state(X), False) is Decision.PUBLISH
    assert compare_three(_state(X), None, False) is Decision.PUBLISH
    assert compare_three(None, None, False) is Decision.UNCHANGED


def test_a_resolved_entry_is_always_published() -> None:
    assert compare_three(_state(X), _state(X), True) is Decision.PUBLISH
    assert compare_three(None, None, True) is Decision.PUBLISH


def test_the_state_of_a_version_and_of_a_name() -> None:
    live, tomb = Machine("ada").write([], X), Machine("ada").write([], GONE)
    assert state_of(live.manifest) == _state(X)
    assert state_of(tomb.manifest) is None
    assert state_of(None) is None
    merged = NameShown(live, (), 0o700, {"user.a": "MQ=="}, 8, "", "ada", "staff")
    assert state_of(merged) == State(Kind.FILE, "x", "", 0o700, {"user.a": "MQ=="}, 8, "", "ada", "staff")
    owned = Fields(content="x", mtime_ns=3, owner="ada", group="staff")
    assert state_of(Machine("ada").write([], owned).manifest) == _state(owned)


# ---- seen_at


def test_versions_of_other_paths_do_not_count() -> None:
    ada = Machine("ada")
    here, there = ada.write([], X, "f"), ada.write([], X, "g")
    assert seen_at("f", [there, here], [here]) == (here,)
    assert seen_at("f", [there], [here]) == ()


def test_a_head_that_was_moved_here_from_what_was_seen_counts_if_its_value_is_equal() -> None:
    ada = Machine("ada")
    origin = ada.write([], X, "d/f")
    moved = ada.write([], Fields(content="x", moved_from=PathVersion("d/f", origin.id)), "e/f")
    changed = ada.write([], Fields(content="y", moved_from=PathVersion("d/f", origin.id)), "e/f")
    unrelated = ada.write([], X, "e/f")
    heads = (moved, changed, unrelated)
    assert seen_at("e/f", [origin], heads) == (moved,)
    assert seen_at("e/f", [], heads) == ()
    assert seen_at("e/f", [unrelated], heads) == (unrelated,)
    assert [v.id for v in seen_at("e/f", [origin, changed], heads)] == sorted((moved.id, changed.id))


@given(histories(), st.data())
def test_the_answer_is_sorted_and_without_repetition(history: History, data: st.DataObject) -> None:
    seen = data.draw(st.lists(st.sampled_from(history.versions)))
    assert list(seen_at("f", seen, ())) == sorted({v.id: v for v in seen}.values(), key=lambda v: v.id)


# ---- new_clock


@given(histories(max_size=9), st.data())
def test_a_new_version_supersedes_what_was_seen_and_nothing_else(history: History, data: st.DataObject) -> None:
    seen = data.draw(st.lists(st.sampled_from(history.versions), unique_by=lambda v: v.id))
    stamp = new_clock("id-zoe", 1, seen, {})
    known = {v.id for v in seen}.union(*(history.saw[v.id] for v in seen))
    for other in history.versions:
        expected = Order.AFTER if other.id in known else Order.CONCURRENT
        assert compare(stamp.clock, other.clock) is expected
    assert stamp.parents == tuple(v.id for v in heads_of(seen))


@given(histories(max_size=9))
def test_each_actor_has_a_chain(history: History) -> None:
    by_actor: dict[str, list[Version]] = {}
    for each in history.versions:
        own = [
            (n, a) for a, n in each.clock.items() if n == each.manifest.seq and a.startswith(each.manifest.written_by)
        ]
        by_actor.setdefault(max(own)[1], []).append(each)
    for chain in by_actor.values():
        for before, after in pairwise(chain):
            assert covers(after.clock, before.clock)


def test_two_writes_of_one_machine_from_one_base_are_concurrent() -> None:
    ada = Machine("ada")
    base = ada.write([], X)
    one, two = ada.write([base], Fields(content="1")), ada.write([base], Fields(content="2"))
    assert one.clock == {"id-ada": 2}
    assert two.clock == {"id-ada": 1, "id-ada~1": 3}
    assert len(heads_of([base, one, two])) == 2
    both = ada.write([one, two], Fields(content="3"))
    assert both.clock == {"id-ada": 4, "id-ada~1": 3}
    assert heads_of([base, one, two, both]) == (both,)


def test_the_number_is_the_seq_and_a_claim_of_numbers_never_given_is_passed_over() -> None:
    """A clock from elsewhere may say anything of us; publishing goes on, and the new version has seen that one."""
    seen = version("ada", 5, {"id-ada": 5})
    assert new_clock("id-ada", 9, [seen], {"id-ada": 5}).clock == {"id-ada": 9}
    for seq in (4, 5):
        stamp = new_clock("id-ada", seq, [seen], {"id-ada": 5})
        assert (stamp.actor, stamp.clock) == ("id-ada~1", {"id-ada": 5, "id-ada~1": seq})


# ---- batches and renamed folders


@given(st.lists(st.tuples(st.booleans(), st.integers())))
def test_creations_come_before_tombstones_otherwise_as_they_came(changes: list[tuple[bool, int]]) -> None:
    ordered = batch_order(changes, lambda change: change[0])
    assert ordered == [c for c in changes if not c[0]] + [c for c in changes if c[0]]


def test_a_renamed_folder_moves_what_it_shows() -> None:
    ada, bea = Machine("ada"), Machine("bea")
    folder, file = ada.write([], Fields(kind=Kind.DIR), "d"), ada.write([], X, "d/s/f")
    twin = bea.write([], X, "d/s/f")
    tomb = bea.write([], GONE, "e/s/f")
    file_shown = NameShown(file, (twin.id,), 0o600, {}, 3)
    plan = rename_folder(
        "d", "e", [Moving("s/f", file_shown, Shown(dead=(tomb.id,))), Moving("", _shown(folder), Shown())]
    )
    assert [(c.path, c.source, c.seen, c.moved_from) for c in plan.creations] == [
        ("e", _shown(folder), (), PathVersion("d", folder.id)),
        ("e/s/f", file_shown, (tomb.id,), PathVersion("d/s/f", file.id)),
    ]
    assert [(r.path, r.seen, r.moved_to) for r in plan.removals] == [
        ("d/s/f", (file.id, twin.id), "e/s/f"),
        ("d", (folder.id,), "e"),
    ]


def test_what_goes_up_comes_to_where_something_else_of_it_was() -> None:
    ada = Machine("ada")
    shown = {path: _shown(ada.write([], X, path)) for path in ("d/d", "d/d/d", "d/d/d/d")}
    plan = rename_folder(
        "d/d", "d", [Moving(path[4:], name, Shown(shown.get(path[2:]))) for path, name in shown.items()]
    )
    ids = {path: name.version.id for path, name in shown.items()}
    assert [(c.path, c.seen, c.moved_from and c.moved_from.path) for c in plan.creations] == [
        ("d", (), "d/d"),
        ("d/d", (ids["d/d"],), "d/d/d"),
        ("d/d/d", (ids["d/d/d"],), "d/d/d/d"),
    ]
    assert [(r.path, r.seen) for r in plan.removals] == [("d/d/d/d", (ids["d/d/d/d"],))]


def test_an_implied_folder_gets_a_record_at_its_new_name_and_leaves_no_tombstone() -> None:
    plan = rename_folder("d", "x/e", [Moving("", None, Shown())])
    assert [(c.path, c.source, c.moved_from) for c in plan.creations] == [("x/e", None, None)]
    assert plan.removals == ()


def test_a_creation_has_never_seen_what_is_live_at_its_path() -> None:
    ada, bea = Machine("ada"), Machine("bea")
    file, theirs, tomb = ada.write([], X, "d/f"), bea.write([], X, "e/f"), bea.write([], GONE, "e/f")
    target = Shown(_shown(theirs), (), (tomb.id,))
    plan = rename_folder("d", "e", [Moving("f", _shown(file), target)])
    assert plan.creations[0].seen == ()


@given(st.sets(st.text("ab/-", min_size=1, max_size=5).filter(lambda p: "//" not in p and p.strip("/") == p)))
def test_folders_come_before_their_content_and_go_after_it(inner: set[str]) -> None:
    ada = Machine("ada")
    moving = [Moving(path, _shown(ada.write([], X, f"d/{path}")), Shown()) for path in {"", *inner}]
    plan = rename_folder("d", "e", moving)
    created, removed = [c.path for c in plan.creations], [r.path for r in plan.removals]
    assert sorted(created) == sorted(f"e/{p}" if p else "e" for p in {"", *inner})
    for above in created:
        for below in created:
            if below.startswith(above + "/"):
                assert created.index(above) < created.index(below)
                assert removed.index("d" + above[1:]) > removed.index("d" + below[1:])


# ---- a fork


@given(histories(max_size=8), st.data())
def test_republished_versions_have_the_history_of_the_lost_ones(history: History, data: st.DataObject) -> None:
    """ada's versions from some moment on were never stored, and nobody else has seen them."""
    written = history.versions
    own = [v for v in written if v.manifest.machine_name == "ada"]
    lost = own[data.draw(st.integers(0, len(own))) :]
    gone = {v.id for v in lost}
    stored = [v for v in written if v.id not in gone and not history.saw[v.id] & gone]
    lost = [v for v in lost if history.saw[v.id] <= {s.id for s in stored} | gone]
    known = {v.id: v for v in stored}
    done = republish(data.draw(st.permutations(lost)), "id-new", 100, known.get)
    anew = {r.old: r.version for r in done}
    assert list(anew) == [v.id for v in lost]
    after = [*stored, *anew.values()]
    for old in lost:
        new = anew[old.id]
        assert new.manifest.value == old.manifest.value
        saw = {anew[i].id if i in anew else i for i in history.saw[old.id]}
        assert {v.id for v in after if compare(v.clock, new.clock) is Order.BEFORE} == saw


def test_republished_versions_are_whole_records_of_the_new_machine() -> None:
    ada = Machine("ada")
    stored = ada.write([], X)
    lost = [ada.write([stored], Fields(content="y"))]
    lost.append(ada.write([lost[0]], Fields(content="z", xattrs={"user.a": "MQ=="})))
    done = republish(lost, "id-new", 7, {stored.id: stored}.get)
    for n, (old, new) in enumerate(zip(lost, done, strict=True)):
        record = decode_record(new.line)
        assert isinstance(record, Manifest)
        assert record == new.version.manifest
        assert new.version.id == version_id("id-new", 7 + n, new.line)
        assert (record.seq, record.written_by, record.machine_name) == (7 + n, "id-new", "ada")
        assert (record.value, record.xattrs) == (old.manifest.value, old.manifest.xattrs)
    assert done[0].version.clock == {"id-ada": 1, "id-new": 7}
    assert done[1].version.clock == {"id-ada": 1, "id-new": 8}
    assert done[1].version.manifest.parents == [done[0].version.id]


def test_what_named_a_lost_version_names_the_new_one() -> None:
    ada = Machine("ada")
    stored = ada.write([], X, "d/f")
    first = ada.write([stored], Fields(content="y"), "d/f")
    moved = ada.write([], Fields(content="y", moved_from=PathVersion("d/f", first.id), batch=(3, 4)), "e/f")
    tomb = ada.write(
        [first],
        Fields(kind=Kind.TOMBSTONE, mode=0, moved_to=PathVersion("e/f", moved.id), batch=(3, 4)),
        "d/f",
    )
    new_first, new_moved, new_tomb = republish([first, moved, tomb], "id-new", 50, {stored.id: stored}.get)
    assert new_moved.version.manifest.moved_from == PathVersion("d/f", new_first.version.id)
    assert new_tomb.version.manifest.moved_to == PathVersion("e/f", new_moved.version.id)
    assert new_first.version.manifest.batch is None
    assert new_moved.version.manifest.batch == new_tomb.version.manifest.batch == (51, 52)
    (alone,) = republish([tomb], "id-new", 50, {first.id: first, moved.id: moved}.get)
    assert alone.version.manifest.batch == (50, 50)
    assert alone.version.manifest.moved_to == PathVersion("e/f", moved.id)


def test_a_lost_version_whose_parents_are_unknown_stands_by_itself() -> None:
    lost = version("ada", 9, {"id-ada": 9, "id-bea": 3}, parents=["id-bea:3:00000000"])
    (new,) = republish([lost], "id-new", 1, {}.get)
    assert new.version.clock == {"id-new": 1}
    assert new.version.manifest.parents == []
    assert split_version_id(new.version.id)[:2] == ("id-new", 1)
    assert common_ancestor([new.version, lost], {}.get) is None
