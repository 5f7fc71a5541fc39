from hypothesis import given
from hypothesis import strategies as st

from sync.core.clock import Order, compare, strictly_less
from sync.core.heads import common_ancestor, equal_clocks, heads_of, insert, is_prunable
from sync.core.manifest import Version
from tests.sync.core.made import GONE, Fields, History, Machine, histories, version


@st.composite
def _any_versions(draw: st.DrawFn) -> list[Version]:
    """Versions whose clocks need not come from any history: clones and bugs of peers too. Each has its own identity."""
    clocks = draw(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2), max_size=3), max_size=6))
    return [version("abc"[n % 3], n + 1, clock) for n, clock in enumerate(clocks)]


@given(_any_versions(), st.data())
def test_insert_is_commutative(versions: list[Version], data: st.DataObject) -> None:
    assert heads_of(versions) == heads_of(data.draw(st.permutations(versions)))


@given(_any_versions(), st.data())
def test_insert_is_idempotent(versions: list[Version], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(versions), max_size=4)) if versions else []
    heads = heads_of(versions)
    for each in again:
        assert insert(heads, each) is heads


@given(_any_versions(), st.integers(0, 6))
def test_insert_is_associative(versions: list[Version], cut: int) -> None:
    """Two sets of heads merge to the heads of all versions, whichever way they are grouped."""
    left, right = versions[:cut], versions[cut:]
    assert heads_of([*heads_of(left), *heads_of(right)]) == heads_of(versions)
    assert heads_of([*left, *heads_of(right)]) == heads_of([*heads_of(left), *right])


@given(_any_versions())
def test_heads_are_the_versions_that_no_other_supersedes(versions: list[Version]) -> None:
    expected = [v for v in versions if not any(strictly_less(v.clock, other.clock) for other in versions)]
    assert list(heads_of(versions)) == sorted(expected, key=lambda v: v.id)


@given(_any_versions())
def test_only_what_changed_nothing_returns_the_same_tuple(versions: list[Version]) -> None:
    heads = heads_of(versions[:-1])
    for new in versions[-1:]:
        after = insert(heads, new)
        assert (after is heads) == (after == heads)


def test_equal_clocks_are_both_kept_and_reported() -> None:
    original = version("ada", 5, {"id-ada": 5}, Fields(content="x"))
    clone = version("ada", 5, {"id-ada": 5}, Fields(content="y"))
    assert original.id != clone.id
    heads = insert((original,), clone)
    assert {v.id for v in heads} == {original.id, clone.id}
    assert equal_clocks((original,), clone) == (original,)
    assert equal_clocks(heads, original) == (clone,)
    assert equal_clocks((original,), version("ada", 6, {"id-ada": 6})) == ()


@given(histories())
def test_clock_order_is_what_was_seen(history: History) -> None:
    for a in history.versions:
        for b in history.versions:
            order = compare(a.clock, b.clock)
            if a is b:
                assert order is Order.EQUAL
            elif a.id in history.saw[b.id]:
                assert order is Order.BEFORE
            elif b.id in history.saw[a.id]:
                assert order is Order.AFTER
            else:
                assert order is Order.CONCURRENT


@given(histories(max_size=10), st.data())
def test_the_common_ancestor_is_the_newest_that_all_had_seen(history: History, data: st.DataObject) -> None:
    heads = heads_of(history.versions)
    seen_by_all = [v for v in history.versions if all(v.id in history.saw[head.id] for head in heads)]
    newest = heads_of(seen_by_all) if len(heads) > 1 else ()
    expected = newest[-1] if newest else None
    assert common_ancestor(data.draw(st.permutations(heads)), history.find) == expected


def test_the_common_ancestor_behind_a_hole_is_unknown() -> None:
    ada, bea = Machine("ada"), Machine("bea")
    first = ada.write([], Fields(content="u"))
    second = ada.write([first], Fields(content="v"))
    theirs = bea.write([first], Fields(content="w"))
    known = {first.id: first}
    assert common_ancestor((second, theirs), known.get) == first
    assert common_ancestor((second, theirs), {}.get) is None
    assert common_ancestor((second,), known.get) is None
    assert common_ancestor((), known.get) is None


def test_the_common_ancestor_of_a_long_history_is_found() -> None:
    ada, bea = Machine("ada"), Machine("bea")
    line = [ada.write([], Fields())]
    for _ in range(3000):
        line.append(ada.write([line[-1]], Fields()))
    asked = []

    def find(identity: str) -> Version | None:
        asked.append(identity)
        return next(v for v in reversed(line) if v.id == identity)

    theirs = bea.write([line[-3]], Fields())
    assert common_ancestor((line[-1], theirs), find) == line[-3]
    assert len(asked) <= 2  # only what lies between, not the history below


def test_a_tombstone_may_go_when_every_member_has_all_that_it_covers() -> None:
    tomb = version("bea", 7, {"id-ada": 4, "id-ada~1": 6, "id-bea": 7}, GONE)
    everything = {"id-ada": 6, "id-bea": 7}
    members = ("id-ada", "id-bea", "id-cy")
    acks = {member: dict(everything) for member in members}
    assert is_prunable(tomb, acks, members)
    for member in members:
        for journal in everything:
            assert not is_prunable(tomb, {**acks, member: {**everything, journal: everything[journal] - 1}}, members)
        without = {other: ack for other, ack in acks.items() if other != member}
        assert not is_prunable(tomb, without, members)
        assert is_prunable(tomb, without, [other for other in members if other != member])


def test_a_live_version_is_never_pruned() -> None:
    assert not is_prunable(version("ada", 1, {"id-ada": 1}), {"id-ada": {"id-ada": 9}}, ["id-ada"])
