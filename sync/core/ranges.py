"""Sets of bytes of a file, as ranges [start, end) with start < end. They behave like a set of ints."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]  # [start, end), bytes


class RangeSet:
    """A mutable set of non-negative ints, held as the fewest disjoint ranges, sorted: ranges that touch are one.

    Arguments (start, end) are half-open; an empty one (start == end) changes and finds nothing; a negative start or an
    end before the start is a ValueError. Adding at or behind the last range, as sequential writing does, is O(1);
    everything else finds its place by bisection.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        _check(start, end)
        if start == end:
            return
        starts, ends = self._starts, self._ends
        if not ends or start > ends[-1]:
            starts.append(start)
            ends.append(end)
        elif start >= starts[-1]:
            if end > ends[-1]:
                ends[-1] = end
        else:
            first = bisect_left(ends, start)  # the first range that reaches or touches start
            after = bisect_right(starts, end)  # one behind the last that begins at end or before
            if first < after:
                start = min(start, starts[first])
                end = max(end, ends[after - 1])
            starts[first:after] = [start]
            ends[first:after] = [end]

    def remove(self, start: int, end: int) -> None:
        _check(start, end)
        if start == end:
            return
        starts, ends = self._starts, self._ends
        first = bisect_right(ends, start)
        after = bisect_left(starts, end)
        if first >= after:
            return
        left, right = starts[first], ends[after - 1]
        kept = [(s, e) for s, e in ((left, start), (end, right)) if s < e]
        starts[first:after] = [s for s, _ in kept]
        ends[first:after] = [e for _, e in kept]

    def truncate(self, size: int) -> None:
        """Remove everything from `size` on."""
        if self._ends and self._ends[-1] > size:
            self.remove(size, self._ends[-1])

    def clear(self) -> None:
        self._starts.clear()
        self._ends.clear()

    def covers(self, start: int, end: int) -> bool:
        """True if all of [start, end) is in the set; an empty range always is."""
        _check(start, end)
        if start == end:
            return True
        index = bisect_right(self._starts, start) - 1
        return index >= 0 and self._ends[index] >= end

    def intersects(self, start: int, end: int) -> bool:
        """True if any of [start, end) is in the set."""
        _check(start, end)
        index = bisect_right(self._ends, start)
        return start < end and index < len(self._starts) and self._starts[index] < end

    def intersect(self, start: int, end: int) -> list[Range]:
        """The parts of [start, end) that are in the set, in order."""
        _check(start, end)
        if start == end:
            return []
        first = bisect_right(self._ends, start)
        after = bisect_left(self._starts, end)
        return [(max(start, self._starts[i]), min(end, self._ends[i])) for i in range(first, after)]

    def gaps(self, start: int, end: int) -> list[Range]:
        """The parts of [start, end) that are not in the set, in order."""
        gaps = []
        position = start
        for first, last in self.intersect(start, end):
            if position < first:
                gaps.append((position, first))
            position = last
        if position < end:
            gaps.append((position, end))
        return gaps

    def run_end(self, offset: int) -> int:
        """One behind the last byte of the range that holds `offset`; offset itself if none does."""
        index = bisect_right(self._starts, offset) - 1
        return max(offset, self._ends[index]) if index >= 0 else offset

    def copy(self) -> "RangeSet":
        other = RangeSet()
        other._starts = self._starts.copy()
        other._ends = self._ends.copy()
        return other

    @property
    def total(self) -> int:
        """How many bytes are in the set."""
        return sum(self._ends) - sum(self._starts)

    @property
    def end(self) -> int:
        """One behind the greatest byte in the set; 0 if it is empty."""
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Range]:
        return zip(tuple(self._starts), tuple(self._ends), strict=True)

    def __len__(self) -> int:
        """How many ranges, not how many bytes."""
        return len(self._starts)

    def __contains__(self, offset: int) -> bool:
        index = bisect_right(self._starts, offset) - 1
        return index >= 0 and offset < self._ends[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"


def _check(start: int, end: int) -> None:
    if not 0 <= start <= end:
        raise ValueError(f"not a range: [{start}, {end})")
