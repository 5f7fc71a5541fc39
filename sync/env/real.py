"""RealEnv: the machine we run on."""

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sync.env.base import Env

if TYPE_CHECKING:
    import asyncio

    from sync.env.beside import Beside

T = TypeVar("T")

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

    def now_ns(self) -> int:
        return time.time_ns()

    def file_time_ns(self) -> int:
        if sys.platform == "linux":
            return time.clock_gettime_ns(_REALTIME_COARSE)
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._beside.sleep(seconds)

    def timeout(self, seconds: float | None) -> "asyncio.Timeout":
        return self._beside.timeout(seconds)

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
        return await self._beside.run(fn, *args)

    async def run_io(self, fn: Callable[..., T], *args: object) -> T:
        return await self._beside.run_io(fn, *args)

    async def run_store(self, fn: Callable[..., T], *args: object) -> T:
        return await self._beside.run_store(fn, *args)

    async def run_named(self, fn: Callable[..., T], *args: object) -> T:
        return await self._beside.run_named(fn, *args)

    def close(self) -> None:
        if "_beside" in self.__dict__:
            self._beside.close()

    @functools.cached_property
    def _beside(self) -> "Beside":
        """Made by who first waits for something: the mount never does, nor what starts it."""
        from sync.env.beside import Beside

        return Beside(self._niceness)


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
