"""Telling the kernel what it has to forget, behind whatever waits for it."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from fs.ops.recent import Recent
from fs.tasks.running import Signal
from fs.tree.kernel import Invalidations
from fs.tree.model import Invalidation

HELD_S: Final = 0.02  # until what is held back for a request under way is tried again
LOOK_S: Final = 1.0  # a signal that was missed is made good by then


class Teller:
    """A thread of its own: a kernel that keeps it waiting keeps nothing else."""

    def __init__(self, invalidations: Invalidations, recent: Recent) -> None:
        self._invalidations = invalidations
        self._recent = recent
        self._telling = Signal()
        self._thread = trio.CapacityLimiter(1)

    def tell(self, items: Sequence[Invalidation]) -> None:
        """Have the kernel told soon."""
        self._recent.forget()
        if items:
            self._invalidations.add(items)
            self._telling.set()

    async def tell_now(self, items: list[Invalidation]) -> None:
        """Returns when the kernel has been told, and of all that it was to be told before, but for what is held back
        for a request under way; not to be called by who keeps the kernel waiting.
        """
        self._invalidations.add(items)
        while await self._deliver():
            pass

    async def tell_kernel(self) -> None:
        """A task: deliver. What is held back for a request under way is tried again soon."""
        while True:
            while len(self._invalidations) and await self._deliver():
                pass
            await self._telling.wait(HELD_S if len(self._invalidations) else LOOK_S)

    async def _deliver(self) -> bool:
        """One batch, behind those that are on their way; False if there was nothing to be told."""
        batch = self._invalidations.take()
        deliver = partial(self._invalidations.deliver, batch)
        await trio.to_thread.run_sync(deliver, abandon_on_cancel=True, limiter=self._thread)
        return bool(batch)
