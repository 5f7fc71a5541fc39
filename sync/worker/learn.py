"""Learns what other machines have published: by poll, or by events that say whose journal grew."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from sync.core.errors import StoreAway
from sync.worker.context import Context, Problem, ProblemKind
from sync.worker.journals import JournalReader

HOLES_EVERY: Final = 1.0  # seconds between two tries to fill holes
SURVEY_EVERY: Final = 30.0  # seconds between two looks for journals without heads
LEARN_DEADLINE: Final = 10.0  # seconds that a push or pull waits for

_UNREADABLE: Final = frozenset(
    {ProblemKind.HOLE, ProblemKind.HEAD, ProblemKind.MACHINE, ProblemKind.ROLLBACK, ProblemKind.RECORD}
)


class Learner:
    """Polls one fleet. `check_own` looks for a fork of our own journal; it is awaited before every poll."""

    def __init__(self, context: Context, journals: JournalReader, check_own: Callable[[], Awaitable[None]]) -> None:
        self._context = context
        self._journals = journals
        self._check_own = check_own
        self._lock = asyncio.Lock()
        self._holes_at = self._survey_at = float("-inf")  # monotonic

    async def poll(self, machine_ids: Collection[str] | None = None, *, thorough: bool = False) -> int:
        """Apply what is new in these journals, or in all; how many versions came. StoreAway.

        All are looked at the first time, and every SURVEY_EVERY. thorough: holes are tried, and journals without heads
        looked for, even if that was done a moment ago. What cannot be read is reported (context.problems), not raised.
        """
        async with self._lock:
            await self._check_own()
            wanted = set(machine_ids or ())
            if machine_ids is None or thorough or self._is_survey_due():
                wanted |= await self._all(thorough)
            versions = 0
            for machine_id in sorted(wanted - {self._context.db.machine_id}):
                versions += await self._journals.read(machine_id)
            now = self._context.env.monotonic()
            if thorough or now - self._holes_at >= HOLES_EVERY:
                self._holes_at = now
                versions += await self._journals.retry_holes()
            return versions

    async def learn(self, grown: Collection[str] | None = None, deadline: float = LEARN_DEADLINE) -> int:
        """A poll of the journals that have grown, or a thorough one of all, within `deadline` s, else StoreAway."""
        try:
            async with self._context.env.timeout(deadline):
                return await self.poll(grown, thorough=grown is None)
        except TimeoutError as error:
            raise StoreAway(f"the store did not answer within {deadline:.0f} s") from error

    def unreadable(self) -> tuple[Problem, ...]:
        """Why what is known may not be all there is: holes, heads and machine objects that are missing or broken."""
        return tuple(problem for problem in self._context.problems.current() if problem.kind in _UNREADABLE)

    async def _all(self, thorough: bool) -> set[str]:
        """Every machine with a journal head; now and then also those that have only a journal or a machine object."""
        found = await self._names("heads/")
        if thorough or self._is_survey_due():
            self._survey_at = self._context.env.monotonic()
            found |= await self._names("machines/") | await self._journal_owners()
        return found | {machine.machine_id for machine in self._context.db.machines()}

    def _is_survey_due(self) -> bool:
        return self._context.env.monotonic() - self._survey_at >= SURVEY_EVERY

    async def _names(self, prefix: str) -> set[str]:
        return {item.key.removeprefix(prefix) async for item in self._context.store.list(prefix)}

    async def _journal_owners(self) -> set[str]:
        """One listing a journal: each begins behind all keys of the one before."""
        found: set[str] = set()
        start_after = ""
        while True:
            key = ""
            async for item in self._context.store.list("journal/", start_after):
                key = item.key
                break
            if not key:
                return found
            machine_id = key.split("/")[1]
            found.add(machine_id)
            start_after = f"journal/{machine_id}/~"
