"""The request loop of pyfuse3, made quick: poll before parking.

pyfuse3 waits for each request in trio's epoll, under a trio.Lock: two trips through the scheduler a request. It finds
both by its module attribute `trio` (the seam that pyfuse3.asyncio.enable() uses). What stands there after `install`
serves up to BUDGET requests before it parks, as long as each comes within LINGER_S of the last answer, and has a lock
that costs nothing while it is free. Of that time it spins SPIN_NS, for a program on another processor; the rest it
waits in the kernel, for one that needs this very processor.

The FUSE descriptor becomes non-blocking: a request whose client is killed between the poll and the read would stall the
whole mount otherwise. pyfuse3 answers EAGAIN by raising; the loop of that worker is then simply started again.
"""

import errno
import logging
import math
import os
import select
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from types import TracebackType
from typing import Any

import pyfuse3
import trio

from sync.env import Env

BUDGET = 32  # requests served without letting other tasks run; above 64 timers come late
SPIN_NS = 20_000  # measured: more gains nothing, less loses the neighbour CPU's next request
LINGER_S = 0.0003  # a program that copies files asks again within that; parking costs as much as two requests
AT_ONCE_S = 0.004  # no longer without other tasks
SEAM = "trio"  # the module attribute of pyfuse3
PYFUSE3_VERSION = "3.5.0"  # whose loop this has been fitted to

_SELECT_MAX = 1024  # FD_SETSIZE

log = logging.getLogger(__name__)


class _Ready:
    """Something to await that is done already, without a coroutine made for it."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


_READY = _Ready()


class FreeLock:
    """A mutex for the workers that costs nothing while it is free. Unfair: whoever runs takes it.

    Releasing wakes nobody, because the worker that released it comes back for it at once, unless its request has to
    wait for something: then `hand_over` lets another one read the next request.
    """

    def __init__(self) -> None:
        self.is_held = False
        self._lot = trio.lowlevel.ParkingLot()

    def __aenter__(self) -> Awaitable[None]:
        if self.is_held:
            return self._wait()
        self.is_held = True
        return _READY

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Awaitable[None]:
        self.is_held = False
        return _READY

    def hand_over(self) -> None:
        """Wake one of those that wait, if it is free."""
        if not self.is_held and self._lot:
            self._lot.unpark()

    async def _wait(self) -> None:
        while self.is_held:
            await self._lot.park()
        self.is_held = True


class Workers:
    """The nursery in which pyfuse3 runs its workers: each a loop that reads a request and answers it.

    A worker that is suspended, or ends, without holding the lock hands it over. One whose read of the FUSE descriptor
    found nothing (EAGAIN) starts again.
    """

    def __init__(self, lock: FreeLock) -> None:
        self._lock = lock
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None

    async def __aenter__(self) -> "Workers":
        self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, trace)

    def start_soon(
        self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any, name: str | None = None
    ) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._work, function, args, name=name)

    async def _work(self, function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]) -> None:
        try:
            while not await _watched(function(*args), self._lock.hand_over):
                pass
        finally:
            self._lock.hand_over()


@types.coroutine
def _watched(worker: Coroutine[Any, Any, Any], suspended: Callable[[], None]) -> Generator[Any, Any, bool]:
    """Run `worker`, calling `suspended` whenever it waits for something. False if it ended by EAGAIN."""
    step: Callable[[], Any] = partial(worker.send, None)
    try:
        while True:
            waits_for = step()
            suspended()
            try:
                step = partial(worker.send, (yield waits_for))
            except BaseException as error:
                step = partial(worker.throw, error)
    except StopIteration:
        return True
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
        return False


class Lowlevel:
    """What pyfuse3 uses of trio.lowlevel, with a wait_readable that polls first."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._fd = -1
        self._poll: Callable[[int], list[tuple[int, int]]] = lambda timeout: []
        self._budget = BUDGET
        self._until = 0.0
        self._every = 0
        self._call: Callable[[], None] = lambda: None
        self._call_at = math.inf
        self.served_at_once = 0
        self.parked = 0

    current_task = staticmethod(trio.lowlevel.current_task)
    current_trio_token = staticmethod(trio.lowlevel.current_trio_token)
    notify_closing = staticmethod(trio.lowlevel.notify_closing)

    def call_every(self, requests: int, call: Callable[[], None]) -> None:
        """Call `call` each time that so many requests were served at once."""
        self._every, self._call = requests, call
        self._call_at = self.served_at_once + requests

    async def wait_readable(self, fd: int) -> None:
        if fd != self._fd:
            self._watch(fd)
        if self._budget > 0:
            self._budget -= 1
            if self._poll(0) or (self._env.monotonic() < self._until and self._linger(fd)):
                self.served_at_once += 1
                if self.served_at_once >= self._call_at:
                    self._call_at = self.served_at_once + self._every
                    self._call()
                return
        self._budget = BUDGET
        self.parked += 1
        await trio.lowlevel.wait_readable(fd)
        self._until = self._env.monotonic() + AT_ONCE_S

    def _watch(self, fd: int) -> None:
        os.set_blocking(fd, False)
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        self._fd, self._poll = fd, poller.poll

    def _linger(self, fd: int) -> bool:
        """Wait a moment, holding everything else up; poll(2) knows no times so short."""
        monotonic, poll = self._env.monotonic, self._poll
        until = monotonic() + SPIN_NS / 1e9
        while monotonic() < until:
            if poll(0):
                return True
        return fd < _SELECT_MAX and bool(select.select((fd,), (), (), LINGER_S)[0])


class QuickTrio:
    """Stands where pyfuse3 looks for the module trio; everything that it does not replace is trio's own."""

    def __init__(self, env: Env) -> None:
        self.lowlevel = Lowlevel(env)
        self._lock = FreeLock()

    def Lock(self) -> FreeLock:
        return self._lock

    def open_nursery(self) -> Workers:
        return Workers(self._lock)

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)

    @property
    def was_reached(self) -> bool:
        """True once pyfuse3 has waited through this object."""
        return self.lowlevel.parked + self.lowlevel.served_at_once > 0


def install(env: Env) -> QuickTrio | None:
    """Put the quick loop into pyfuse3, before pyfuse3.main(); None, and one warning, if this pyfuse3 is another one."""
    if pyfuse3.__version__ != PYFUSE3_VERSION or not hasattr(pyfuse3, SEAM):
        log.warning("pyfuse3 %s is not %s: the slower stock request loop runs", pyfuse3.__version__, PYFUSE3_VERSION)
        return None
    quick = QuickTrio(env)
    setattr(pyfuse3, SEAM, quick)
    return quick
