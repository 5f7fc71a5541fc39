"""RealEnv: the machine we run on."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sync.env.base import Env

T = TypeVar("T")

WORK_THREADS = 2  # for what computes
IO_THREADS = 4  # for what waits, never nice: a program's read does not queue behind encoding, nor behind a busy machine
STORE_THREADS = 4  # for a store's disk, which may hang: nothing of this machine waits behind it
NICENESS = 10  # of the threads of a process in the background
_REALTIME_COARSE = 5  # CLOCK_REALTIME_COARSE of Linux, for which Python has no name


class RealEnv(Env):
    """This machine. TCFS_FAULT and TCFS_FAULT_LOG of `environ` (default: the process's) steer the fault points.

    TCFS_FAULT = "name" or "name:n": SIGKILL of this process at the n-th passing of that point.
    TCFS_FAULT_LOG = a file: every passing appends a line with the name. A kill appends "killed NAME" first, and a
    process that finds such a line at its start does not kill itself again: a program that is started anew with the same
    environment gets on.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, *, niceness: int = 0) -> None:
        """niceness: of the worker threads, where somebody's work goes on beside them: NICENESS."""
        environ = os.environ if environ is None else environ
        self._niceness = niceness
        self._log = environ.get("TCFS_FAULT_LOG", "")
        self._kill_at, _, count = environ.get("TCFS_FAULT", "").partition(":")
        self._passings_left = int(count or "1")
        if self._kill_at and self._log and _has_killed(Path(self._log)):
            self._kill_at = ""
        self._is_marked = bool(self._kill_at or self._log)
        self._lock = threading.Lock()
        self._workers: ThreadPoolExecutor | None = None
        self._io_threads: ThreadPoolExecutor | None = None
        self._store_threads: ThreadPoolExecutor | None = None

    def now_ns(self) -> int:
        return time.time_ns()

    def file_time_ns(self) -> int:
        if sys.platform == "linux":
            return time.clock_gettime_ns(_REALTIME_COARSE)
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        return asyncio.timeout(seconds)

    def random_bytes(self, n: int) -> bytes:
        return os.urandom(n)

    def boot_id(self) -> str:
        if sys.platform == "darwin":
            found = subprocess.run(["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, check=True)
            return found.stdout.decode().strip()
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def fault(self, name: str) -> None:
        if not self._is_marked:
            return
        with self._lock:
            _append_line(self._log, name)
            if name != self._kill_at:
                return
            self._passings_left -= 1
            if self._passings_left == 0:
                _append_line(self._log, f"killed {name}")
                os.kill(os.getpid(), signal.SIGKILL)

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

    def close(self) -> None:
        for pool in (self._workers, self._io_threads, self._store_threads):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)


def _be_nice(niceness: int) -> None:
    if niceness and sys.platform == "linux":  # elsewhere priorities belong to whole processes
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))


def _append_line(log: str, line: str) -> None:
    if log:
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, line.encode() + b"\n")
        finally:
            os.close(fd)


def _has_killed(log: Path) -> bool:
    try:
        return any(line.startswith("killed ") for line in log.read_text().splitlines())
    except FileNotFoundError:
        return False
