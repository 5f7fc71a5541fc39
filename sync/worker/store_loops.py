"""What goes on between this machine and the store while an engine runs: learn, publish, pack, drain."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from sync.core.errors import NoSpace, ReadOnly
from sync.state import ballast
from sync.worker.attempts import Attempts
from sync.worker.context import Context
from sync.worker.learn import Learner
from sync.worker.prune import Pruner
from sync.worker.publish import Publisher
from sync.worker.seals import SealWorker

TICK_S: Final = 1.0  # between two looks at tree.db and the outbox without a hint
REFUSED_S: Final = 8.0  # the longest pause between two attempts to publish into a store that takes nothing


class StoreLoops:
    """What the mount sealed goes out, what other journals have comes in, and what was queued is confirmed."""

    def __init__(
        self,
        context: Context,
        attempts: Attempts,
        reserve: Path,
        *,
        learner: Learner,
        publisher: Publisher,
        sealer: SealWorker,
        pruner: Pruner,
        restore: Callable[[], Awaitable[None]],
    ) -> None:
        """reserve: the ballast of the state folder. restore: puts content again into a store that was set back."""
        self._context = context
        self._env = context.env
        self._attempts = attempts
        self._reserve = reserve
        self._learner = learner
        self._publisher = publisher
        self._sealer = sealer
        self._pruner = pruner
        self._restore = restore
        self._is_restored = False
        self.unlearned: set[str] = set()  # machines whose journal has grown and could not be read yet
        self._tree_moved = asyncio.Event()
        self._packable = asyncio.Event()  # there may be large files to pack

    def tree_moved(self) -> None:
        """The mount has sealed something, or may have."""
        self._tree_moved.set()

    async def learn_loop(self) -> None:
        async for grown in self._context.events.subscribe():
            self.unlearned |= grown
            await self._attempts.attempt("learn", self._learn)

    async def publish_loop(self) -> None:
        await self._repeat("publish", self._publish, self._tree_moved)

    async def pack_loop(self) -> None:
        await self._repeat("pack", self._pack, self._packable)

    async def drain_loop(self) -> None:
        attempt = self._attempts.attempt
        while True:
            if self._context.db.queued_seqs():
                await attempt("drain", self._publisher.drain)
            if self.unlearned or self._context.db.holes():
                await attempt("learn", self._learn)
            if self._publisher.was_refilled and not self._is_restored:
                await attempt("restore", self._restore_once)
            if self._pruner.has_work():
                await attempt("prune", self._pruner.run)
            await self._env.sleep(TICK_S)

    async def _learn(self) -> None:
        """Read the journals that have grown. Not on a full disk: what is left of it is for what goes out, and goes."""
        if not ballast.keep(self._reserve):
            raise ballast.no_space(self._reserve)
        grown, self.unlearned = self.unlearned, set()
        try:
            await self._learner.poll(grown)
        except BaseException:
            self.unlearned |= grown
            raise

    async def _publish(self) -> None:
        if await self._env.run_io(self._sealer.has_work):
            await self._sealer.run_once()
            self._packable.set()

    async def _pack(self) -> None:
        while await self._sealer.pack_large():
            self._tree_moved.set()

    async def _restore_once(self) -> None:
        await self._restore()
        self._is_restored = True

    async def _repeat(self, name: str, job: Callable[[], Awaitable[object]], moved: asyncio.Event) -> None:
        """Do a job that writes into the store whenever there may be something to do."""
        pause = TICK_S
        while True:
            moved.clear()
            await self._attempts.attempt(name, job)
            if isinstance(self._attempts.trouble.get(name), NoSpace | ReadOnly):
                pause = min(2 * pause, REFUSED_S)  # all of it is read and packed anew at each attempt
                await self._env.sleep(pause)
                continue
            pause = TICK_S
            with contextlib.suppress(TimeoutError):
                async with self._env.timeout(TICK_S):
                    await moved.wait()
