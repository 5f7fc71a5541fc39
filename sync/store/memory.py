"""A store in this process's memory: for tests, shared by all machines that get the same MemoryStore."""

import bisect
from collections.abc import AsyncIterator

from sync.core.errors import ObjectMissing, StoreAway
from sync.env import Env
from sync.store.base import FLEET_OBJECT, Data, ObjectInfo, check_key, check_range, parts_of


class MemoryStore:
    """`objects` and `is_away` are for tests to look at and to change."""

    url = "memory:"
    is_exclusive = True

    def __init__(self, env: Env) -> None:
        self.objects: dict[str, bytes] = {}
        self.is_away = False
        self._env = env
        self._mtimes_ns: dict[str, int] = {}

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        check_key(key)
        check_range(start, length)
        await self._reach()
        if key not in self.objects:
            raise ObjectMissing(f"no such object: {key}", path=key)
        return self.objects[key][start : None if length is None else start + length]

    async def put(self, key: str, data: Data) -> None:
        check_key(key)
        await self._reach()
        self._store(key, data)

    async def put_if_absent(self, key: str, data: Data) -> bool:
        check_key(key)
        await self._reach()
        if key in self.objects:
            return False
        self._store(key, data)
        return True

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[ObjectInfo]:
        await self._reach()
        keys = sorted(self.objects)
        for key in keys[bisect.bisect_right(keys, start_after) :]:
            if key.startswith(prefix) and key in self.objects:
                yield self._info(key)

    async def delete(self, key: str) -> None:
        check_key(key)
        await self._reach()
        self.objects.pop(key, None)

    async def stat(self, key: str) -> ObjectInfo:
        check_key(key)
        await self._reach()
        if key not in self.objects:
            raise ObjectMissing(f"no such object: {key}", path=key)
        return self._info(key)

    async def check(self) -> None:
        await self._reach()
        if FLEET_OBJECT not in self.objects:
            raise StoreAway(f"no {FLEET_OBJECT} in this store", path=self.url)

    async def aclose(self) -> None:
        return

    async def _reach(self) -> None:
        await self._env.sleep(0)  # as with every real store, others may act in between
        if self.is_away:
            raise StoreAway("the store is away", path=self.url)

    def _store(self, key: str, data: Data) -> None:
        self.objects[key] = b"".join(parts_of(data))
        self._mtimes_ns[key] = self._env.now_ns()
        self._env.fault("store.after_put")

    def _info(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, len(self.objects[key]), self._mtimes_ns.get(key, 0))
