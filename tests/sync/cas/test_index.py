from hypothesis import given
from hypothesis import strategies as st

from sync.cas.index import (
    GAP_MAX,
    RANGE_MAX,
    RANGE_RAW_MAX,
    ChunkPlace,
    PackRange,
    plan_ranges,
)
from sync.core.manifest import ChunkId


def name(number: int) -> ChunkId:
    return ChunkId(number.to_bytes(32, "big"))


def place(pack: str, offset: int, length: int, raw_length: int | None = None) -> ChunkPlace:
    return ChunkPlace(pack, "m", offset, length, length if raw_length is None else raw_length, 0)


def spans(ranges: list[PackRange]) -> list[tuple[str, int, int]]:
    return [(each.key.rpartition("/")[2], each.start, each.end) for each in ranges]


def test_chunks_in_a_row_are_one_request() -> None:
    places = {name(i): [place("aa", 6 + 100 * i, 100)] for i in range(10)}
    assert spans(plan_ranges([name(i) for i in (7, 3, 4, 5, 6)], places)) == [("aa", 306, 806)]


def test_a_gap_splits_where_reading_it_costs_more_than_a_request() -> None:
    places = {name(0): [place("aa", 6, 10)], name(1): [place("aa", 16 + GAP_MAX, 10)]}
    assert len(plan_ranges(places, places)) == 1
    places[name(1)] = [place("aa", 17 + GAP_MAX, 10)]
    assert len(plan_ranges(places, places)) == 2


def test_requests_come_in_the_order_asked_for() -> None:
    places = {name(0): [place("aa", 6, 10)], name(1): [place("bb", 6, 10)], name(2): [place("aa", 1 << 20, 10)]}
    assert spans(plan_ranges([name(2), name(1), name(0)], places)) == [
        ("aa", 1 << 20, (1 << 20) + 10),
        ("bb", 6, 16),
        ("aa", 6, 16),
    ]


def test_a_pack_that_is_read_anyway_is_preferred() -> None:
    places = {name(0): [place("aa", 6, 10)], name(1): [place("bb", 6, 10), place("aa", 16, 10)]}
    assert spans(plan_ranges([name(0), name(1)], places)) == [("aa", 6, 26)]


def test_long_runs_of_zeros_are_bounded_by_what_they_turn_into() -> None:
    places = {name(i): [place("aa", 6 + 200 * i, 200, 4 << 20)] for i in range(9)}
    assert [len(each.chunks) for each in plan_ranges(places, places)] == [4, 4, 1]


@given(st.lists(st.tuples(st.integers(1, 3 << 20), st.booleans()), max_size=30), st.randoms())
def test_every_chunk_is_covered_once_and_requests_stay_bounded(layout: list, random) -> None:
    offset, places = 6, {}
    for number, (length, is_wanted) in enumerate(layout):
        if is_wanted:
            places[name(number)] = [place("aa", offset, length)]
        offset += length
    ids = list(places)
    random.shuffle(ids)
    ranges = plan_ranges(ids + ids, places)
    assert sorted(chunk for each in ranges for chunk, _ in each.chunks) == sorted(ids)
    for each in ranges:
        assert all(each.start <= where.offset and where.end <= each.end for _, where in each.chunks)
        assert each.end - each.start <= RANGE_MAX
        assert sum(where.raw_length for _, where in each.chunks) <= RANGE_RAW_MAX
        assert each.end - each.start <= sum(where.length for _, where in each.chunks) + GAP_MAX * (len(each.chunks) - 1)
