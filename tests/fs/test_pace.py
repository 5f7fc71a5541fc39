"""When rounds give way to programs that keep the mount busy."""

import pytest

from fs.pace import BUSY_CHANGES, HOLD_S, MANY, SHARE, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(clock)


def copy(pace: Pace, clock: Clock, seconds: float) -> None:
    """Many changes for so long, looked at as often as the tasks do."""
    for _ in range(round(seconds / 0.02)):
        clock.now += 0.02
        pace.changes += BUSY_CHANGES
        assert pace.is_busy


def test_a_calm_mount_holds_nothing(pace: Pace, clock: Clock) -> None:
    for _ in range(100):
        clock.now += 0.02
        pace.changes += 1
        assert not pace.is_held(clock.now, 1)


def test_a_busy_one_holds_rounds_for_a_while_only(pace: Pace, clock: Clock) -> None:
    last_round = clock.now
    copy(pace, clock, HOLD_S / 2)
    assert pace.is_held(last_round, 1)
    copy(pace, clock, HOLD_S / 2 + 0.02)
    assert not pace.is_held(last_round, 1)


def test_many_changes_are_not_held(pace: Pace, clock: Clock) -> None:
    copy(pace, clock, 0.1)
    assert pace.is_held(clock.now, MANY - 1)
    assert not pace.is_held(clock.now, MANY)


def test_somebody_who_waits_is_not_held_up(pace: Pace, clock: Clock) -> None:
    copy(pace, clock, 0.1)
    pace.asked()
    pace.asked()
    pace.answered()
    assert not pace.is_held(clock.now, 1)
    pace.answered()
    assert pace.is_held(clock.now, 1)


def test_a_pause_ends_it(pace: Pace, clock: Clock) -> None:
    copy(pace, clock, 0.5)
    last_round = clock.now
    for _ in range(10):
        clock.now += 0.03
        pace.is_held(last_round, 1)
    assert clock.now - last_round < HOLD_S
    assert not pace.is_held(last_round, 1)


def test_a_burst_after_a_long_calm_counts_at_once(pace: Pace, clock: Clock) -> None:
    clock.now += 1000
    pace.changes += BUSY_CHANGES
    pace.is_held(clock.now, 1)
    pace.changes += BUSY_CHANGES
    assert pace.is_held(clock.now, 1)


def test_rounds_follow_one_another_when_programs_have_stopped(pace: Pace, clock: Clock) -> None:
    """A long round that a copy left behind is no reason to wait for the next one."""
    copy(pace, clock, 1.0)
    assert pace.must_rest(clock.now - 0.5, clock.now)
    ended = clock.now
    for _ in range(2):
        clock.now += 0.11
        calm = not pace.is_busy
    assert calm
    assert not pace.must_rest(ended - 0.5, ended)


def test_a_busy_mount_has_one_part_of_the_time_for_rounds(pace: Pace, clock: Clock) -> None:
    started, ended = clock.now, clock.now + 0.2
    clock.now = ended
    copy(pace, clock, 0.2 * (SHARE - 1) - 0.1)
    assert pace.must_rest(started, ended)
    pace.asked()
    assert not pace.must_rest(started, ended)
    pace.answered()
    copy(pace, clock, 0.2)
    assert not pace.must_rest(started, ended)
