"""What of RealEnv needs asyncio: waiting, and threads beside the event loop. Imported when it is first needed."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

WORK_THREADS = 2  # for what computes
IO_THREADS = 4  # for what waits, never nice: a program's read does not queue behind encoding, nor behind a busy machine
STORE_THREADS = 4  # for a store's disk, which may hang: nothing of this machine waits behind it
NAMED_THREADS = 64  # for the disk of a path that somebody named: each that hangs keeps its thread until it answers


class Beside:
    """The threads are made when they are first needed. See Env for what each is for."""

    def __init__(self, niceness: int) -> None:
        """niceness: of the threads that compute."""
        self._niceness = niceness
        self._workers: ThreadPoolExecutor | None = None
        self._io_threads: ThreadPoolExecutor | None = None
        self._store_threads: ThreadPoolExecutor | None = None
        self._named_threads: ThreadPoolExecutor | None = None

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        return asyncio.timeout(seconds)

    async def run(self, fn: Callable[..., T], *args: object) -> T:
        if self._workers is None:
            self._workers = ThreadPoolExecutor(WORK_THREADS, "work", _be_nice, (self._niceness,))
        return await asyncio.get_running_loop().run_in_executor(self._workers, fn, *args)

    async def run_io(self, fn: Callable[..., T], *args: object) -> T:
        if self._io_threads is None:
            self._io_threads = ThreadPoolExecutor(IO_THREADS, "io")
        return await asyncio.get_running_loop().run_in_executor(self._io_threads, fn, *args)

    async def run_store(self, fn: Callable[..., T], *args: object) -> T:
        if self._store_threads is None:
            self._store_threads = ThreadPoolExecutor(STORE_THREADS, "store")
        return await asyncio.get_running_loop().run_in_executor(self._store_threads, fn, *args)

    async def run_named(self, fn: Callable[..., T], *args: object) -> T:
        if self._named_threads is None:
            self._named_threads = ThreadPoolExecutor(NAMED_THREADS, "named")
        return await asyncio.get_running_loop().run_in_executor(self._named_threads, fn, *args)

    def close(self) -> None:
        for pool in (self._workers, self._io_threads, self._store_threads, self._named_threads):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)


def _be_nice(niceness: int) -> None:
    if niceness and sys.platform == "linux":  # elsewhere priorities belong to whole processes
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))
