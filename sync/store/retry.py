"""Retry: a request that failed on the way is tried again, a few times; one that gets no answer is given up.

Only RequestFailed is worth another try: a store that is away, full or closed to us is so for longer than that.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from sync.core.errors import RequestFailed, StoreAway
from sync.env import Env
from sync.store.base import Data, ObjectInfo, Store

T = TypeVar("T")

ATTEMPTS = 4
FIRST_WAIT = 0.1  # seconds; doubled each time
LONGEST_WAIT = 2.0
DEADLINE = 60.0  # seconds for one attempt
FIRST_PAGE = 100  # keys that one attempt lists at first ...
PAGE = 1000  # ... and then
PAGE_S = 1.0  # seconds after which a page ends, so that the deadline is for what hangs, not for many keys


class RetryStore:
    def __init__(self, env: Env, inner: Store, *, attempts: int = ATTEMPTS, deadline: float = DEADLINE) -> None:
        self.inner = inner
        self._env = env
        self._attempts = attempts
        self._deadline = deadline

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def is_exclusive(self) -> bool:
        return self.inner.is_exclusive

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        return await self._try(lambda: self.inner.get(key, start, length))

    async def put(self, key: str, data: Data) -> None:
        await self._try(lambda: self.inner.put(key, data))

    async def put_if_absent(self, key: str, data: Data) -> bool:
        return await self._try(lambda: self.inner.put_if_absent(key, data))

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Goes on behind the last key that was listed. An attempt is for a page of keys: by the key it would cost more
        than the key does. A page is small while few were asked for, and ends where the store is slow.
        """
        listing, last, size = self.inner.list(prefix, start_after), start_after, FIRST_PAGE

        async def ask() -> list[ObjectInfo]:
            nonlocal listing, last
            page: list[ObjectInfo] = []
            late = self._env.monotonic() + PAGE_S
            try:
                async for info in listing:
                    page.append(info)
                    last = info.key
                    if len(page) >= size or self._env.monotonic() >= late:
                        break
            except RequestFailed:
                listing = self.inner.list(prefix, last)
                if not page:
                    raise
            return page

        while page := await self._try(ask):
            size = PAGE
            for info in page:
                yield info

    async def delete(self, key: str) -> None:
        await self._try(lambda: self.inner.delete(key))

    async def stat(self, key: str) -> ObjectInfo:
        return await self._try(lambda: self.inner.stat(key))

    async def check(self) -> None:
        await self._try(self.inner.check)

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _try(self, request: Callable[[], Awaitable[T]]) -> T:
        """What succeeds at once, nearly all, does without the machinery: it costs as much as a read of a near store."""
        try:
            return await self._bounded(request)
        except RequestFailed:
            if self._attempts == 1:
                raise
        await self._env.sleep(FIRST_WAIT)
        retrying = AsyncRetrying(
            sleep=self._env.sleep,
            stop=stop_after_attempt(self._attempts - 1),
            wait=wait_exponential(multiplier=2 * FIRST_WAIT, max=LONGEST_WAIT),
            retry=retry_if_exception_type(RequestFailed),
            reraise=True,
        )
        return await retrying(self._bounded, request)

    async def _bounded(self, request: Callable[[], Awaitable[T]]) -> T:
        try:
            async with self._env.timeout(self._deadline):
                return await request()
        except TimeoutError as error:
            raise StoreAway(f"the store did not answer within {self._deadline:.0f} s", path=self.url) from error
