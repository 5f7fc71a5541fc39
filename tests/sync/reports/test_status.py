import pytest

from sync.reports.status import Running, is_among, topmost, unsafe_paths
from sync.state.tree.reader import Dirty, DirtyState

ALL = Running(engine=True, mount=True)


def one(state, *, seal_id=None, answers=(), queued=(), running=ALL):
    found = unsafe_paths([Dirty("a", state, False, seal_id)], dict(answers), queued, running)
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize(
    ("state", "running", "expected", "next_step"),
    [
        (DirtyState.WRITING, ALL, "writing", "close it, or 'tcfs push a'"),
        (DirtyState.WRITING, Running(engine=True, mount=False), "interrupted", "tcfs push a"),
        (DirtyState.UNSEALED, ALL, "unsealed", "by itself"),
        (DirtyState.UNSEALED, Running(engine=True, mount=False), "unsealed", "tcfs up"),
        (DirtyState.SEALED, ALL, "sealed", "by itself"),
        (DirtyState.SEALED, Running(engine=False, mount=True), "sealed", "tcfs up"),
        (DirtyState.SEALED, Running(True, True, "the store is away"), "sealed", "put that right"),
        (DirtyState.SEALED, Running(True, True, silence=("does not answer", "wait")), "sealed", "wait"),
    ],
)
def test_every_state_has_a_reason_and_a_next_step(state, running, expected, next_step):
    found = one(state, running=running)
    assert (found.path, found.state) == ("a", expected)
    assert found.reason
    assert next_step in found.next_step


@pytest.mark.parametrize("mount", [True, False])
def test_what_is_to_be_pushed_is_named_as_push_takes_it(mount):
    found = one(DirtyState.WRITING, running=Running(True, mount, mountpoint="/mnt/fleet"))
    assert "'tcfs push /mnt/fleet/a'" in found.next_step


def test_a_store_that_is_away_is_the_reason():
    assert one(DirtyState.SEALED, running=Running(True, True, "the store is away")).reason == "the store is away"


def test_an_answered_seal_is_safe_once_it_is_not_queued():
    answers = {b"s": ("queued", "")}
    assert one(DirtyState.SEALED, seal_id=b"s", answers=answers, queued=["a"]).state == "queued"
    assert one(DirtyState.SEALED, seal_id=b"s", answers=answers) is None
    assert one(DirtyState.UNSEALED, seal_id=b"s", answers=answers).state == "unsealed"


def test_a_refused_seal_says_why():
    found = one(DirtyState.SEALED, seal_id=b"s", answers={b"s": ("refused", "no such base")})
    assert (found.state, found.reason) == ("refused", "cannot be published: no such base")


@pytest.mark.parametrize("state", [DirtyState.SEALED, DirtyState.UNSEALED])
def test_what_the_engine_could_not_publish_does_not_go_out_by_itself(state):
    refused = {"a": ("packs/x is missing", "bring it back")}
    (found,) = unsafe_paths([Dirty("a", state, False, b"s")], {}, [], ALL, refused)
    assert found == ("a", "refused", "cannot be published: packs/x is missing", "bring it back")


def test_what_came_after_a_refused_seal_goes_out():
    assert one(DirtyState.UNSEALED, seal_id=b"s", answers={b"s": ("refused", "no base")}).state == "unsealed"


def test_each_path_once():
    dirty = [Dirty("a", DirtyState.UNSEALED, False, None), Dirty("a", DirtyState.SEALED, False, None)]
    found = unsafe_paths(dirty, {}, ["a", "b"], ALL)
    assert [("a", "unsealed"), ("b", "queued")] == [(item.path, item.state) for item in found]


def test_among():
    assert is_among("d/a", [])
    assert is_among("d/a", ["d"])
    assert is_among("d", ["d"])
    assert not is_among("da", ["d"])
    assert is_among("x", [""])


def test_a_folder_that_stays_here_is_one_line():
    assert topmost(["a/.git", "a/.git-x", "a/.git/HEAD", "a/.git/refs/heads", "b.swp"]) == [
        "a/.git",
        "a/.git-x",
        "b.swp",
    ]
    assert topmost(["a/.git/HEAD"]) == ["a/.git/HEAD"]
