"""Chunks on their way into the cache: written in the thread that has just checked them, and told to who waits."""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

from sync.cas.cache import ChunkCache
from sync.core.filekey import FileKey
from sync.core.manifest import ChunkId

SMALL_MAX: Final = 256 << 10  # bytes; nobody waits for the telling of a larger chunk
TOLD_AT_ONCE: Final = 16  # small chunks that land before the loop is woken; it is woken for what somebody waits for

Landed = FileKey | bytes  # the file that was written, b"" where there was one, else the bytes: the cache took them not


class Landing:
    """Of the chunks of one load. `keep` is for any thread, the rest for the loop's."""

    def __init__(
        self, cache: ChunkCache, urgent: Collection[ChunkId], settle: Callable[[ChunkId, Landed], None]
    ) -> None:
        """urgent: what somebody waits for. settle(chunk, what became of it), in the loop, soon after it has landed."""
        self._cache = cache
        self._urgent = urgent
        self._settle = settle
        self._landed: dict[ChunkId, Landed] = {}
        self._loop = asyncio.get_running_loop()

    def keep(self, chunk: ChunkId, data: bytes) -> bytes:
        """Write a chunk that is right. Returns what is to be kept of it in memory: nothing."""
        kept = self._cache.put_checked([(chunk, data)])
        self._landed[chunk] = data if chunk in kept.refused else kept.written.get(chunk, b"")
        if len(data) > SMALL_MAX or chunk in self._urgent or len(self._landed) % TOLD_AT_ONCE == 0:
            self._loop.call_soon_threadsafe(self.tell)
        return b""

    def tell(self) -> None:
        """Settle what has landed by now."""
        while self._landed:
            self._settle(*self._landed.popitem())
