"""When a wait looks at what is left: soon after an answer, however long a look takes, and rarely otherwise."""

import asyncio
import math
from collections.abc import Sequence
from types import SimpleNamespace

from sync.state.rows import Taken
from sync.state.tree.reader import Dirty, DirtyState
from sync.verbs.goal import Goal

LOOK_S = 0.3


class Fleet:
    """An engine whose every look takes LOOK_S of a clock of its own; its one seal is answered at `answered_s`."""

    def __init__(self, answered_s: float) -> None:
        self.now = 0.0
        self.looked_at: list[float] = []
        self._answered_s = answered_s
        self.env = SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep)
        view = SimpleNamespace(last_taken=self._last_taken)
        self.context = SimpleNamespace(
            db=SimpleNamespace(view=view, next_seq=1, queued_seqs=list, query=lambda sql: [])
        )

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    def _taken(self) -> list[Taken]:
        return [Taken(1, b"s", "queued", "v", None)] if self.now >= self._answered_s else []

    def _last_taken(self) -> int:
        return max((taken.n for taken in self._taken()), default=0)

    async def answers(self, seal_ids: Sequence[bytes]) -> list[Taken]:
        return [taken for taken in self._taken() if taken.seal_id in seal_ids]

    async def dirty(self) -> list[Dirty]:
        self.looked_at.append(self.now)
        await self._sleep(LOOK_S)
        return [Dirty("a", DirtyState.SEALED, False, b"s")]

    def store_error(self) -> None: ...

    def unpublishable(self) -> dict[str, tuple[str, str]]:
        return {}


def reach(fleet: Fleet, then: Dirty) -> None:
    goal = Goal(fleet, [], [then], {}, False, math.inf)  # type: ignore[arg-type]
    asyncio.run(goal.reached(lambda data: None))


UNSEALED = Dirty("a", DirtyState.UNSEALED, False, None)
SEALED = Dirty("a", DirtyState.SEALED, False, b"s")


def test_an_answer_is_noticed_at_once() -> None:
    fleet = Fleet(answered_s=0.7)
    reach(fleet, UNSEALED)
    assert len(fleet.looked_at) == 2
    assert fleet.looked_at[-1] < 0.7 + 0.1


def test_without_an_answer_a_look_that_takes_long_is_rare() -> None:
    fleet = Fleet(answered_s=20 * LOOK_S)
    reach(fleet, UNSEALED)
    assert len(fleet.looked_at) <= 5


def test_what_was_sealed_arrives_with_its_answer_and_tree_db_is_not_read_again() -> None:
    fleet = Fleet(answered_s=0.0)
    reach(fleet, SEALED)
    assert fleet.looked_at == []


def test_what_was_sealed_is_looked_at_when_its_answer_is_late() -> None:
    fleet = Fleet(answered_s=0.7)
    reach(fleet, SEALED)
    assert fleet.now < 0.7 + LOOK_S + 0.1
