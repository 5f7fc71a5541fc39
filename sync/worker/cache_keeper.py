"""Keeping the cache within its quota, without what must stay: what is pinned, and what changed files still show."""

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from sync.cas.cache import ChunkCache
from sync.core.errors import TcfsError
from sync.core.manifest import Kind
from sync.state import ballast
from sync.state.home import FleetPaths
from sync.state.tree.reader import TreeReader
from sync.worker.attempts import Attempts
from sync.worker.context import Context
from sync.worker.pins import Pins
from sync.worker.reused import Reused

TICK_S: Final = 1.0  # between two looks
USED_MAX: Final = 100_000  # uses of chunks remembered between two of them


class CacheKeeper:
    """`needed` may be asked in any thread; all else is for the event loop."""

    def __init__(
        self,
        context: Context,
        paths: FleetPaths,
        cache: ChunkCache,
        pins: Pins,
        tree: TreeReader,
        attempts: Attempts,
        reused: Reused,
        moved: Callable[[list[int], bool], None],
    ) -> None:
        """moved(tokens of contents, dropped): called when they have come into the cache, or left it. None of them and
        dropped: some have left it, nobody knows which.
        """
        self._env = context.env
        self._db = context.db
        self._paths = paths
        self._cache = cache
        self._pins = pins
        self._tree = tree
        self._attempts = attempts
        self._reused = reused
        self._moved = moved
        self._used: list[bytes] = []

    def used(self, chunks: Sequence[bytes]) -> None:
        """The mount has read these."""
        self._used.extend(chunks[: max(0, USED_MAX - len(self._used))])

    def needed(self) -> frozenset[str]:
        """Chunks and contents that are never evicted. TcfsError if nobody can tell: then nothing may go."""
        try:
            return self._needed()
        except (sqlite3.Error, OSError) as error:
            raise TcfsError(f"what the cache must keep cannot be told: {error}") from error

    def _needed(self) -> frozenset[str]:
        needed, view = set(self._pins.protected()), self._db.view
        for base in self._tree.bases():
            with contextlib.suppress(TcfsError):  # a version not known (any more) needs nothing
                manifest = view.manifest(base)
                if manifest.kind is Kind.FILE:
                    needed.add(manifest.content_id)
                    needed.update(chunk.hex() for chunk in view.chunk_list(base)[0])
        needed.update(self._reused.lenders(needed))
        return frozenset(needed)

    async def loop(self) -> None:
        evictions = 0
        while True:
            used, self._used = self._used, []
            if used:
                await self._env.run_io(self._cache.used, used)
            await self._attempts.attempt("cache", self._keep_quota)
            if self._cache.room.evictions != evictions:
                evictions = self._cache.room.evictions
                self._moved([], True)
            await self._env.sleep(TICK_S)

    async def copy_loop(self) -> None:
        """What newer versions have of old whole files is copied. A short verb is over before the first look."""
        while True:
            await self._env.sleep(TICK_S)
            if self._reused.has_work():
                await self._attempts.attempt("copy", lambda: self._reused.run_once(self.needed, self._moved))

    async def _keep_quota(self) -> None:
        await self._env.run_io(self._cache.room.recount_whole)
        await self._env.run_io(self._cache.room.evict, self._missing_room())

    def _missing_room(self) -> int:
        """Bytes that the cache should give back to the disk of the state folder, if both are on one."""
        if ballast.keep(self._paths.ballast):
            return 0
        try:
            is_one_disk = self._paths.cache_dir.stat().st_dev == self._paths.state_dir.stat().st_dev
        except FileNotFoundError:  # the cache may be deleted at any time
            return 0
        return ballast.SIZE + ballast.SPARE if is_one_disk else 0
