"""Running tasks: what wakes one, and what becomes of one that fails."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from fs.errno import outcome_of

RETRY_S: Final = 1.0  # after a task has failed

log = logging.getLogger(__name__)


class Signal:
    """An event that can be set again and again; one task waits for it."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float = float("inf")) -> None:
        """Until it is set, or that long; it is not set afterwards."""
        with trio.move_on_after(timeout_s):
            await self._event.wait()
        self._event = trio.Event()


async def give_way(is_held: Callable[[], bool], tick_s: float) -> None:
    """Returns when it is not held any more."""
    while True:
        if not is_held():
            return
        await trio.sleep(tick_s)


class Complaints:
    """What is wrong with each task, said once."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}  # task -> what was said last

    async def keep_running(self, task: Callable[[], Awaitable[None]]) -> None:
        """A task that fails is logged and goes on: the mount outlives a full disk and a bug."""
        while True:
            try:
                await task()
            except Exception as error:
                self.complain(task.__name__, error)
            await trio.sleep(RETRY_S)

    def complain(self, task: str, error: Exception) -> None:
        """Log a failure once, not at every retry."""
        text = f"{task}: {error or type(error).__name__}"
        if text != self._said.get(task):
            self._said[task] = text
            outcome = outcome_of(error)
            log.log(max(outcome.level, logging.WARNING), "%s", text, exc_info=error if outcome.traceback else None)
