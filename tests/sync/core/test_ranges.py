import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sync.core.ranges import RangeSet

LIMIT = 24
RANGES = st.tuples(st.integers(0, LIMIT), st.integers(0, LIMIT)).map(lambda pair: (min(pair), max(pair)))


def _runs(members: set[int]) -> list[tuple[int, int]]:
    """A set of ints as the fewest ranges."""
    starts = sorted(n for n in members if n - 1 not in members)
    ends = sorted(n + 1 for n in members if n + 1 not in members)
    return list(zip(starts, ends, strict=True))


class LikeASetOfInts(RuleBasedStateMachine):
    @initialize(ranges=st.lists(RANGES, max_size=4))
    def start(self, ranges: list[tuple[int, int]]) -> None:
        self.ranges = RangeSet(ranges)
        self.members = {n for start, end in ranges for n in range(start, end)}

    @rule(part=RANGES)
    def add(self, part: tuple[int, int]) -> None:
        self.ranges.add(*part)
        self.members |= set(range(*part))

    @rule(part=RANGES)
    def remove(self, part: tuple[int, int]) -> None:
        self.ranges.remove(*part)
        self.members -= set(range(*part))

    @rule(length=st.integers(0, 4))
    def append(self, length: int) -> None:
        end = self.ranges.end
        self.ranges.add(end, end + length)
        self.members |= set(range(end, end + length))

    @rule(size=st.integers(0, LIMIT))
    def truncate(self, size: int) -> None:
        self.ranges.truncate(size)
        self.members = {n for n in self.members if n < size}

    @rule()
    def clear_a_copy(self) -> None:
        copy = self.ranges.copy()
        assert copy == self.ranges
        copy.clear()
        assert not copy
        assert list(copy) == []

    @rule(part=RANGES)
    def ask(self, part: tuple[int, int]) -> None:
        asked = set(range(*part))
        assert self.ranges.intersect(*part) == _runs(self.members & asked)
        assert self.ranges.gaps(*part) == _runs(asked - self.members)
        assert self.ranges.covers(*part) == (asked <= self.members)
        assert self.ranges.intersects(*part) == bool(asked & self.members)

    @invariant()
    def is_the_same_set(self) -> None:
        if not hasattr(self, "ranges"):
            return
        runs = _runs(self.members)
        assert list(self.ranges) == runs
        assert self.ranges == RangeSet(runs)
        assert len(self.ranges) == len(runs)
        assert self.ranges.total == len(self.members)
        assert self.ranges.end == max(self.members, default=-1) + 1
        assert {n for n in range(-1, LIMIT + 1) if n in self.ranges} == {n for n in self.members if n <= LIMIT}


TestLikeASetOfInts = LikeASetOfInts.TestCase


@given(st.lists(RANGES))
def test_the_order_of_adding_does_not_matter(ranges: list[tuple[int, int]]) -> None:
    assert RangeSet(ranges) == RangeSet(reversed(ranges))


def test_a_copy_is_independent() -> None:
    ranges = RangeSet([(0, 4)])
    copy = ranges.copy()
    copy.add(8, 9)
    assert list(ranges) == [(0, 4)]
    assert ranges != copy


def test_iterating_survives_changes() -> None:
    ranges = RangeSet([(0, 1), (2, 3), (4, 5)])
    for start, end in ranges:
        ranges.remove(start, end)
    assert not ranges


def test_sequential_writes_stay_one_range() -> None:
    ranges = RangeSet()
    for start in range(0, 1 << 20, 4096):
        ranges.add(start, start + 4096)
    assert list(ranges) == [(0, 1 << 20)]


@pytest.mark.parametrize("bad", [(-1, 2), (3, 2)])
def test_what_is_no_range_is_refused(bad: tuple[int, int]) -> None:
    ranges = RangeSet([(0, 9)])
    for method in (ranges.add, ranges.remove, ranges.covers, ranges.intersects, ranges.intersect, ranges.gaps):
        with pytest.raises(ValueError, match="not a range"):
            method(*bad)
    assert list(ranges) == [(0, 9)]


def test_it_is_equal_to_nothing_else_and_has_no_hash() -> None:
    assert RangeSet() != []
    assert repr(RangeSet([(1, 2)])) == "RangeSet([(1, 2)])"
    with pytest.raises(TypeError):
        hash(RangeSet())


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10)), max_size=6), st.integers(0, 80))
def test_run_end(pieces: list[tuple[int, int]], offset: int) -> None:
    ranges = RangeSet((start, start + size) for start, size in pieces)
    end = offset
    while end in ranges:
        end += 1
    assert ranges.run_end(offset) == end
