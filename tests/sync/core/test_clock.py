from hypothesis import given
from hypothesis import strategies as st

from sync.core.clock import Order, compare, covers, join, machine_of, next_actor, strictly_less

CLOCKS = st.dictionaries(st.sampled_from("abc"), st.integers(-1, 3), max_size=3)


def _numbers(clock: dict[str, int]) -> tuple[int, ...]:
    return tuple(max(0, clock.get(actor, 0)) for actor in "abc")


@given(CLOCKS, CLOCKS)
def test_the_order_is_that_of_every_actors_number(a: dict[str, int], b: dict[str, int]) -> None:
    at_most = all(x <= y for x, y in zip(_numbers(a), _numbers(b), strict=True))
    at_least = all(x >= y for x, y in zip(_numbers(a), _numbers(b), strict=True))
    expected = {
        (True, True): Order.EQUAL,
        (True, False): Order.BEFORE,
        (False, True): Order.AFTER,
        (False, False): Order.CONCURRENT,
    }[at_most, at_least]
    assert compare(a, b) is expected
    assert covers(a, b) == at_least
    assert strictly_less(a, b) == (expected is Order.BEFORE)


@given(CLOCKS, CLOCKS, CLOCKS)
def test_strictly_less_is_a_strict_partial_order(a: dict[str, int], b: dict[str, int], c: dict[str, int]) -> None:
    assert not strictly_less(a, a)
    assert not (strictly_less(a, b) and strictly_less(b, a))
    if strictly_less(a, b) and strictly_less(b, c):
        assert strictly_less(a, c)


@given(st.lists(CLOCKS), CLOCKS)
def test_join_is_the_least_that_covers_all(clocks: list[dict[str, int]], other: dict[str, int]) -> None:
    joined = join(clocks)
    assert all(covers(joined, clock) for clock in clocks)
    assert covers(other, joined) == all(covers(other, clock) for clock in clocks)
    assert 0 not in joined.values()
    assert join(reversed(clocks)) == joined


def test_the_actor_is_the_machine_itself_while_it_sees_what_it_wrote() -> None:
    assert next_actor("m", {}, {}) == "m"
    assert next_actor("m", {"m": 3}, {"m": 3}) == "m"
    assert next_actor("m", {"m": 4, "z": 1}, {"m": 3}) == "m"


def test_the_actor_is_the_first_other_name_whose_newest_was_seen() -> None:
    assert next_actor("m", {}, {"m": 3}) == "m~1"
    assert next_actor("m", {"m": 2}, {"m": 3, "m~1": 5}) == "m~2"
    assert next_actor("m", {"m": 2, "m~1": 5}, {"m": 3, "m~1": 5, "m~2": 9}) == "m~1"


@given(CLOCKS, st.dictionaries(st.sampled_from(("m", "m~1", "m~2", "m~3")), st.integers(1, 9)))
def test_an_actors_numbers_were_always_seen(seen: dict[str, int], newest: dict[str, int]) -> None:
    actor = next_actor("m", seen, newest)
    assert seen.get(actor, 0) >= newest.get(actor, 0)
    assert machine_of(actor) == "m"
