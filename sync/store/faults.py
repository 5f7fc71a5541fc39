"""A store that goes wrong on purpose: fails the n-th call, loses an answer, cuts or alters bytes, stalls."""

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sync.core.errors import RequestFailed, TcfsError
from sync.env import Env
from sync.store.base import Data, ObjectInfo, Store, parts_of, size_of

T = TypeVar("T")


class Harm(enum.Enum):
    FAIL = "fail"  # nothing is asked of the store, `error` is raised
    LOSE = "lose"  # it is done, and `error` raised all the same
    CUT = "cut"  # get: the first half of the bytes; put: the first half is stored, as by a store that lies
    FLIP = "flip"  # get and put: one bit in the middle is another
    STALL = "stall"  # it takes `seconds` longer


@dataclass
class Fault:
    """What happens to some calls. operation: 'get', 'put', 'put_if_absent', 'list', 'delete', 'stat', 'check' or '*'.

    Only calls whose key (of list: prefix) begins with `prefix` count. It hits the nth of them and, of those that
    follow, as many as make `times`; times 0 = all.
    """

    operation: str = "*"
    prefix: str = ""
    nth: int = 1
    times: int = 1
    harm: Harm = Harm.FAIL
    seconds: float = 0.0
    error: Callable[[str], TcfsError] = RequestFailed
    seen: int = field(default=0, init=False)

    def hits(self, operation: str, key: str) -> bool:
        """Count this call; True if it is to go wrong."""
        if self.operation not in ("*", operation) or not key.startswith(self.prefix):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times == 0 or self.seen < self.nth + self.times)


class FaultyStore:
    """`faults` may be changed at any time; `calls` tells what was asked, in order, as (operation, key)."""

    def __init__(self, env: Env, inner: Store, *faults: Fault) -> None:
        self.inner = inner
        self.faults = list(faults)
        self.calls: list[tuple[str, str]] = []
        self._env = env

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def is_exclusive(self) -> bool:
        return self.inner.is_exclusive

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        harms = self._harms("get", key)
        found = await self._suffer(harms, "get", key, lambda: self.inner.get(key, start, length))
        return _altered(harms, found)

    async def put(self, key: str, data: Data) -> None:
        harms = self._harms("put", key)
        await self._suffer(harms, "put", key, lambda: self.inner.put(key, _to_store(harms, data)))

    async def put_if_absent(self, key: str, data: Data) -> bool:
        harms = self._harms("put_if_absent", key)
        put = lambda: self.inner.put_if_absent(key, _to_store(harms, data))  # noqa: E731
        return await self._suffer(harms, "put_if_absent", key, put)

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """LOSE and CUT fail after the first object."""
        harms = self._harms("list", prefix)
        await self._suffer(
            [fault for fault in harms if fault.harm in (Harm.FAIL, Harm.STALL)], "list", prefix, _nothing
        )
        async for info in self.inner.list(prefix, start_after):
            yield info
            for fault in harms:
                if fault.harm in (Harm.LOSE, Harm.CUT):
                    raise fault.error(f"injected: list {prefix} was cut")

    async def delete(self, key: str) -> None:
        await self._suffer(self._harms("delete", key), "delete", key, lambda: self.inner.delete(key))

    async def stat(self, key: str) -> ObjectInfo:
        return await self._suffer(self._harms("stat", key), "stat", key, lambda: self.inner.stat(key))

    async def check(self) -> None:
        await self._suffer(self._harms("check", ""), "check", "", self.inner.check)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _harms(self, operation: str, key: str) -> Sequence[Fault]:
        self.calls.append((operation, key))
        return [fault for fault in self.faults if fault.hits(operation, key)]

    async def _suffer(self, harms: Sequence[Fault], operation: str, key: str, ask: Callable[[], Awaitable[T]]) -> T:
        for fault in harms:
            if fault.harm is Harm.STALL:
                await self._env.sleep(fault.seconds)
            elif fault.harm is Harm.FAIL:
                raise fault.error(f"injected: {operation} {key}")
        answer = await ask()
        for fault in harms:
            if fault.harm is Harm.LOSE:
                raise fault.error(f"injected: the answer to {operation} {key} is lost")
        return answer


async def _nothing() -> None:
    return


def _altered(harms: Sequence[Fault], data: bytes) -> bytes:
    for fault in harms:
        if fault.harm is Harm.CUT:
            data = data[: len(data) // 2]
        elif fault.harm is Harm.FLIP and data:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    return data


def _to_store(harms: Sequence[Fault], data: Data) -> Data:
    if not size_of(data) or not any(fault.harm in (Harm.CUT, Harm.FLIP) for fault in harms):
        return data
    return _altered(harms, b"".join(parts_of(data)))
