"""How long the process that wakes watchers is waited for, and what the kernel is told only behind its work."""

from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fs.replay.plan import Poke
from fs.tree.changes import Change, What
from fs.tree.model import DIR, FILE, ROOT_ID, Invalidation
from fs.waker import ANSWER_MAX_S, ANSWER_S, LOOK_S, _Helper, _unconcerned


class Pipe:
    """Says one line after so long."""

    def __init__(self, after_s: float) -> None:
        self._at = trio.current_time() + after_s

    async def receive_some(self) -> bytes:
        await trio.sleep_until(self._at)
        return b"[0, 0]\n"


class Process:
    pid = -1

    def __init__(self, after_s: float) -> None:
        self.stdout = Pipe(after_s)


class Helper(_Helper):
    def __init__(self, after_s: float, is_starved: bool) -> None:
        super().__init__(Process(after_s))  # type: ignore[arg-type]
        self._is_starved = is_starved

    def _wants_processor(self) -> bool:
        return self._is_starved


async def took(after_s: float, *, is_starved: bool) -> tuple[Any, float]:
    began = trio.current_time()
    try:
        answer = await Helper(after_s, is_starved).answer()
    except trio.TooSlowError:
        answer = None
    return answer, trio.current_time() - began


def run(after_s: float, *, is_starved: bool) -> tuple[Any, float]:
    return trio.run(partial(took, after_s, is_starved=is_starved), clock=MockClock(autojump_threshold=0))


def test_who_hangs_is_given_up_and_who_gets_no_processor_is_waited_for() -> None:
    assert run(0.5, is_starved=False) == ([0, 0], 0.5)
    assert run(5.0, is_starved=True) == ([0, 0], 5.0)
    for after_s, is_starved, limit_s in ((5.0, False, ANSWER_S), (60.0, True, ANSWER_MAX_S)):
        answer, seconds = run(after_s, is_starved=is_starved)
        assert answer is None and seconds == pytest.approx(limit_s, abs=2 * LOOK_S)


def test_a_folder_is_not_told_to_be_gone_before_what_was_in_it() -> None:
    folder, sub, file = 2, 4, 6
    poke = Poke(Change(What.REMOVED, FILE, sub, "d/sub", "f", 0o644), "remove", "d/sub", "f")
    left = {folder: (ROOT_ID, "d"), sub: (folder, "sub"), file: (sub, "f"), 8: (ROOT_ID, "e")}
    gone = [Invalidation(*key, ino, "gone") for ino, key in left.items()]
    other = Invalidation(ROOT_ID, "", ROOT_ID, "attr")
    items = dict.fromkeys([*gone, other])
    assert _unconcerned(items, [poke], left) == [gone[3], other]
    assert _unconcerned(items, [], left) == [*gone, other]
    made = Poke(Change(What.CREATED, DIR, ROOT_ID, "", "n", 0o755), "create", "", "n")
    assert _unconcerned(items, [made], left) == [*gone, other]
