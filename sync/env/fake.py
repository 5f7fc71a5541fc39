"""FakeEnv: a machine in a test. A clock that the test moves, seeded randomness, crashes on demand.

Work is done in the caller's thread. Several FakeEnvs may share one FakeClock: a fleet in one process.
"""

import asyncio
import contextlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sync.core.errors import TimedOut
from sync.env.base import Env

T = TypeVar("T")


class Crash(BaseException):
    """A FakeEnv died here, as by SIGKILL. Not an Exception: nothing may handle it."""


class FakeClock:
    """Virtual time, moved by the test only. The monotonic clock starts at 0, the wall clock at a fixed date."""

    START = 1_700_000_000  # wall clock at 0, seconds since the epoch

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, moment: float, ring: Callable[[], None]) -> None:
        """Call ring() when the clock reaches `moment` (monotonic seconds). It must not mind being late or unneeded."""
        heapq.heappush(self._alarms, (moment, next(self._order), ring))

    async def advance(self, seconds: float) -> None:
        """Move the clock; whoever sleeps wakes in order, and everything runs until it waits again."""
        end = self.elapsed + seconds
        await settle()
        while self._alarms and self._alarms[0][0] <= end:
            self._ring_next()
            await settle()
        self.elapsed = end

    async def drive(self, awaitable: Awaitable[T], limit: float = 3600.0) -> T:
        """The result of `awaitable`, moving the clock as far as it takes; TimedOut after `limit` virtual seconds."""
        task = asyncio.ensure_future(awaitable)
        end = self.elapsed + limit
        try:
            while not task.done():
                await settle()
                if task.done():
                    break
                if not self._alarms or self._alarms[0][0] > end:
                    raise TimedOut(f"not done after {limit} virtual seconds")
                self._ring_next()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        return task.result()

    def _ring_next(self) -> None:
        moment, _, ring = heapq.heappop(self._alarms)
        self.elapsed = max(self.elapsed, moment)
        ring()


class FakeEnv(Env):
    """One machine of a test. Threads are the caller's own; the same seed gives the same ids and random bytes.

    After a Crash the machine is dead: every later use of this env raises Crash. Go on with `FakeEnv(clock=env.clock)`.
    """

    def __init__(self, seed: int = 0, clock: FakeClock | None = None, boot: str = "boot-1") -> None:
        self.clock = clock if clock is not None else FakeClock()
        self.wall_offset = 0.0  # seconds this machine's wall clock is ahead
        self.boot = boot
        self.passed: Counter[str] = Counter()
        self.is_dead = False
        self._armed: dict[str, int] = {}
        self._random = random.Random(seed)

    def now_ns(self) -> int:
        return FakeClock.START * 10**9 + round((self.clock.elapsed + self.wall_offset) * 1e9)

    def monotonic(self) -> float:
        return self.clock.elapsed

    async def sleep(self, seconds: float) -> None:
        self._check_alive()
        if seconds <= 0:
            await asyncio.sleep(0)
        else:
            waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.clock.at(self.clock.elapsed + seconds, lambda: None if waker.done() else waker.set_result(None))
            await waker
        self._check_alive()

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        limit = asyncio.timeout(None)
        if seconds is not None:
            loop = asyncio.get_running_loop()

            def ring() -> None:
                with contextlib.suppress(RuntimeError):  # the block is over, or was never entered
                    limit.reschedule(loop.time())

            self.clock.at(self.clock.elapsed + seconds, ring)
        return limit

    def random_bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    def boot_id(self) -> str:
        return self.boot

    def arm(self, name: str, n: int = 1) -> None:
        """Crash at the n-th passing of this point from now on."""
        self._armed[name] = self.passed[name] + n

    def fault(self, name: str) -> None:
        self._check_alive()
        self.passed[name] += 1
        if self.passed[name] == self._armed.get(name):
            self.is_dead = True
            raise Crash(name)

    async def run(self, fn: Callable[..., T], *args: object) -> T:
        await asyncio.sleep(0)  # others may get in between, as they do with threads
        self._check_alive()
        return fn(*args)

    async def run_io(self, fn: Callable[..., T], *args: object) -> T:
        return await self.run(fn, *args)

    async def run_store(self, fn: Callable[..., T], *args: object) -> T:
        return await self.run(fn, *args)

    async def run_named(self, fn: Callable[..., T], *args: object) -> T:
        return await self.run(fn, *args)

    def close(self) -> None:
        self.is_dead = True

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    async def drive(self, awaitable: Awaitable[T], limit: float = 3600.0) -> T:
        return await self.clock.drive(awaitable, limit)

    def _check_alive(self) -> None:
        if self.is_dead:
            raise Crash("this machine is dead")


async def settle(turns: int = 10_000) -> None:
    """Let every task of the loop run until all of them wait for something (test helper; at most `turns` rounds)."""
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    for _ in range(turns):
        await asyncio.sleep(0)
        if ready is not None and not ready:
            return
