"""When rounds give way to programs that keep the mount busy."""

import pytest

from fs.pace import BUSY_CHANGES, HOLD_S, MANY, Pace


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
