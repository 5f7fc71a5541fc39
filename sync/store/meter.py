"""Meter: how many requests went to the store, and how many bytes, by area (the first part of the key)."""

from collections.abc import AsyncIterator

import msgspec

from sync.store.base import Data, ObjectInfo, Store, size_of


class Usage(msgspec.Struct, frozen=True):
    """Requests that were made and bytes that were moved, since the start; failed requests count, their bytes do not."""

    gets: int = 0
    puts: int = 0
    lists: int = 0
    others: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class Meter:
    """The counters; one Meter may serve several stores."""

    def __init__(self) -> None:
        self._areas: dict[str, Usage] = {}

    def statistics(self) -> dict[str, Usage]:
        """Area ('packs', 'journal', 'heads', ...) -> usage."""
        return dict(self._areas)

    def count(
        self,
        key: str,
        *,
        gets: int = 0,
        puts: int = 0,
        lists: int = 0,
        others: int = 0,
        read: int = 0,
        written: int = 0,
    ) -> None:
        area = key.partition("/")[0]
        old = self._areas.get(area, Usage())
        self._areas[area] = Usage(
            gets=old.gets + gets,
            puts=old.puts + puts,
            lists=old.lists + lists,
            others=old.others + others,
            bytes_read=old.bytes_read + read,
            bytes_written=old.bytes_written + written,
        )


class MeteredStore:
    def __init__(self, inner: Store, meter: Meter) -> None:
        self.inner = inner
        self.meter = meter

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def is_exclusive(self) -> bool:
        return self.inner.is_exclusive

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self.meter.count(key, gets=1)
        found = await self.inner.get(key, start, length)
        self.meter.count(key, read=len(found))
        return found

    async def put(self, key: str, data: Data) -> None:
        self.meter.count(key, puts=1)
        await self.inner.put(key, data)
        self.meter.count(key, written=size_of(data))

    async def put_if_absent(self, key: str, data: Data) -> bool:
        self.meter.count(key, puts=1)
        made = await self.inner.put_if_absent(key, data)
        self.meter.count(key, written=size_of(data) if made else 0)
        return made

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[ObjectInfo]:
        self.meter.count(prefix, lists=1)
        async for info in self.inner.list(prefix, start_after):
            yield info

    async def delete(self, key: str) -> None:
        self.meter.count(key, others=1)
        await self.inner.delete(key)

    async def stat(self, key: str) -> ObjectInfo:
        self.meter.count(key, others=1)
        return await self.inner.stat(key)

    async def check(self) -> None:
        await self.inner.check()

    async def aclose(self) -> None:
        await self.inner.aclose()
