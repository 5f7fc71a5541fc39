"""How long the process that wakes watchers is waited for, and what the kernel is told only behind its work."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fs.replay.plan import Poke
from fs.replay.waiting import Replay
from fs.tree.change import Change
from fs.tree.inodes import Inodes
from fs.tree.model import DIR, FILE, ROOT_ID, Invalidation
from fs.waker import ANSWER_MAX_S, ANSWER_S, LOOK_S, Waker, _Helper, _Lost, _unconcerned
from sync.state.changes import What


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


class Mortal(_Helper):
    """Does so much, and is killed then by somebody. `done`: by all of them."""

    def __init__(self, replay: Replay, done: list[str], lives_for: int) -> None:
        super().__init__(Process(0.0))  # type: ignore[arg-type]
        self._replay, self._done, self._left = replay, done, lives_for

    async def ask(self, request: list[Any]) -> None: ...

    async def answer(self, patience_s: float = 0.0) -> Any:
        return {str(ROOT_ID): 0xFFF}

    async def poke(self, todo: list[Poke]) -> list[int]:
        for poke in todo:
            if self._left == 0:
                self.buried.set()
                raise _Lost("killed")
            self._left -= 1
            self._replay.remove(poke.change.key)
            self._done.append(poke.name)
        return [0] * len(todo)

    def kill(self) -> None: ...


class Tree:
    def __init__(self) -> None:
        self.state = self
        self.inodes = Inodes()  # the kernel has none
        self.overlay = self

    def node(self, ino: int) -> None:
        return None


class Everything:
    """What a waker needs of a volume."""

    def __init__(self) -> None:
        self.replay = Replay()
        self.tree = Tree()
        self.invalidations = self

    def is_busy(self, ino: int) -> bool:
        return False


class WakerOfMortals(Waker):
    def __init__(self, lives: list[int]) -> None:
        volume, self.told, self.done = Everything(), list[Invalidation](), list[str]()
        super().__init__(volume, Path("/"), "0:1", self.told.extend, self._tell_all)  # type: ignore[arg-type]
        self._lives = lives

    async def _tell_all(self, items: list[Invalidation]) -> None:
        self.told += items

    async def _living(self) -> _Helper | None:
        if self._helper is None or self._helper.buried.is_set():
            self._helper = Mortal(self._volume.replay, self.done, self._lives.pop(0))
        return self._helper


@pytest.mark.parametrize(("lives", "expected"), [([0, 100], 5), ([3, 100], 5), ([3, 1, 100], 4)])
def test_who_is_killed_at_work_is_replaced_once_and_nothing_is_left_out(lives: list[int], expected: int) -> None:
    names = [f"f{n}" for n in range(5)]
    changes = [Change(What.REMOVED, FILE, ROOT_ID, "", name, 0o644) for name in names]
    items = [Invalidation(ROOT_ID, name, 0, "entry") for name in names]

    async def main() -> WakerOfMortals:
        waker = WakerOfMortals(lives)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waker.run)
            waker.add(changes, {}, items)
            while set(waker.told) != set(items):
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        return waker

    waker = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert waker.done == names[:expected]
