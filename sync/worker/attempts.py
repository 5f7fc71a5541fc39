"""Jobs that are tried again anyway: what keeps each of them from working, and the damage that ends an engine."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable

from sync.core.errors import TcfsError
from sync.env import Env
from sync.state import ballast
from sync.state.damage import is_broken
from sync.state.home import FleetPaths
from sync.state.trouble import expected, explained


class Attempts:
    """Of one engine. trouble: the name of a job -> why it failed when it was last tried."""

    def __init__(self, env: Env, paths: FleetPaths, log: logging.Logger, after: Callable[[], None]) -> None:
        """after: called behind each attempt, whatever came of it."""
        self.trouble: dict[str, TcfsError] = {}
        self._env = env
        self._paths = paths
        self._log = log
        self._after = after
        self._damage: TcfsError | None = None
        self._is_damaged = asyncio.Event()

    async def attempt(self, name: str, job: Callable[[], Awaitable[object]]) -> None:
        """Do a job. What fails is logged once, and stands in `trouble` until it works."""
        try:
            await job()
        except (TcfsError, OSError, sqlite3.Error) as error:
            known = await self._explained(error)
            trouble = known if known is not None else TcfsError(str(error))
            if not _says_the_same(self.trouble.get(name), trouble):
                self._log.warning("%s: %s", name, trouble, exc_info=error if known is None else None)
            self.trouble[name] = trouble
            if ballast.is_full(error):  # not that of the store, which is a NoSpace
                ballast.give_up(self._paths.ballast)
        else:
            if self.trouble.pop(name, None) is not None:
                self._log.info("%s works again", name)
        self._after()

    async def end_if_damaged(self) -> None:
        """Raises once fleet.db is damaged. Without it an engine is none: the mount goes on alone, and says so."""
        await self._is_damaged.wait()
        if self._damage is not None:
            raise self._damage

    @contextlib.asynccontextmanager
    async def telling_damage(self) -> AsyncIterator[None]:
        """The error of a damaged database leaves it as one that tells which it is, and what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            known = await self._explained(error) if is_broken(error) else None
            if known is None:
                raise
            raise known from error

    async def _explained(self, error: BaseException) -> TcfsError | None:
        """What an error means, None for a bug; a damaged fleet.db ends the engine in a moment."""
        if not is_broken(error):
            return expected(error)
        if self._damage is None:
            self._damage = await self._env.run_io(explained, self._env, self._paths, error)
            if self._damage is not None and self._damage.path == str(self._paths.fleet_db):
                self._is_damaged.set()
        return self._damage


def _says_the_same(one: TcfsError | None, other: TcfsError) -> bool:
    """True if only the object differs that it happened to."""
    if type(one) is not type(other) or one is None:
        return False
    return one.message.replace(one.path or "\0", "") == other.message.replace(other.path or "\0", "")
