"""Env: everything that varies. Time, sleep, randomness, ids, threads, databases and fault points come from here only.

RealEnv is the machine we run on. FakeEnv is a machine in a test: a clock that the test moves, seeded randomness, work
done in the caller's thread, crashes on demand. Several FakeEnvs may share one FakeClock: a fleet in one process.
"""

import ast
import asyncio
import contextlib
import fcntl
import heapq
import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sync.core.errors import NotFound, TimedOut

T = TypeVar("T")

WORK_THREADS = 2  # for what computes
IO_THREADS = 4  # for what waits, never nice: a program's read does not queue behind encoding, nor behind a busy machine
STORE_THREADS = 4  # for a store's disk, which may hang: nothing of this machine waits behind it
NICENESS = 10  # of the threads of a process in the background
BUSY_TIMEOUT = 5.0  # seconds
MMAP_SIZE = 64 * 1024 * 1024
_REALTIME_COARSE = 5  # CLOCK_REALTIME_COARSE of Linux, for which Python has no name


class Crash(BaseException):
    """A FakeEnv died here, as by SIGKILL. Not an Exception: nothing may handle it."""


class Env(ABC):
    """What a component gets instead of the standard library's clocks, random sources, threads and sqlite3."""

    @abstractmethod
    def now_ns(self) -> int:
        """Wall clock, ns since the epoch. May jump."""

    def file_time_ns(self) -> int:
        """The wall clock as the kernel stamps files with it: some milliseconds behind, where there is such a clock."""
        return self.now_ns()

    def now(self) -> float:
        """Wall clock, seconds since the epoch."""
        return self.now_ns() / 1e9

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """asyncio only."""

    @abstractmethod
    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """`async with env.timeout(5):` raises TimeoutError after that time on this clock; None waits for ever."""

    @abstractmethod
    def random_bytes(self, n: int) -> bytes: ...

    def uuid4(self) -> str:
        """A new random id, lower case with dashes."""
        return str(uuid.UUID(bytes=self.random_bytes(16), version=4))

    @abstractmethod
    def boot_id(self) -> str:
        """Changes when the machine was started anew: what was not synced before may be lost."""

    @abstractmethod
    def fault(self, name: str) -> None:
        """Mark a point where a crash is worth a test. `name` is a literal 'part.what_happens'; see fault_names."""

    @abstractmethod
    async def run(self, fn: Callable[..., T], *args: object) -> T:
        """fn(*args) in a worker thread, for what computes. fn must not wait for another run."""

    @abstractmethod
    async def run_io(self, fn: Callable[..., T], *args: object) -> T:
        """fn(*args) in a thread, for what waits for a disk. fn must not wait for another run_io."""

    @abstractmethod
    async def run_store(self, fn: Callable[..., T], *args: object) -> T:
        """As run_io, in threads of its own: for a disk that is not this machine's, and may not answer for ever."""

    @abstractmethod
    def close(self) -> None:
        """Let the threads go. Nothing may be run afterwards."""

    def connect(
        self, path: Path | str, *, readonly: bool = False, page_size: int | None = None
    ) -> sqlite3.Connection:  # fmt: skip
        """A connection that leaves BEGIN and COMMIT to the caller; WAL, synchronous NORMAL, 5 s of patience.

        ':memory:' is allowed. readonly: NotFound if the file is not there; never creates or changes it. Else it, and
        its log, can be read by its owner only. It may be used from several threads, one at a time. page_size: bytes,
        of a database that is made by this.
        """
        if readonly and str(path) != ":memory:":
            if not Path(path).exists():
                raise NotFound(f"no such database: {path}", path=str(path))
            target, is_uri = f"{Path(path).absolute().as_uri()}?mode=ro", True
        else:
            target, is_uri = str(path), False
            if target != ":memory:":
                _make_private(Path(path))
        db = sqlite3.connect(
            target,
            timeout=BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            uri=is_uri,
        )
        try:
            if not readonly:
                if page_size is not None:
                    db.execute(f"PRAGMA page_size = {page_size}")
                db.execute("PRAGMA journal_mode = WAL").fetchone()
                db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA mmap_size = {MMAP_SIZE}").fetchone()
        except BaseException:
            db.close()
            raise
        return db


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


def fault_names(folders: Iterable[Path]) -> dict[str, str]:
    """Every fault point in the Python files below `folders`: name -> 'file:line' of its first use.

    ValueError for a call of .fault() whose only argument is no literal: a kill test could not know of it.
    """
    found: dict[str, str] = {}
    for source in sorted(file for folder in folders for file in folder.rglob("*.py")):
        for name, line in _fault_calls(source):
            found.setdefault(name, f"{source}:{line}")
    return found


def _fault_calls(source: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(source.read_text(), str(source))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fault":
            match node.args:
                case [ast.Constant(value=str(name))]:
                    yield name, node.lineno
                case _:
                    raise ValueError(f"{source}:{node.lineno}: a fault point's name must be a literal")


def atomic_write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the file at `path` as a whole, durably: after a crash it holds the old bytes or the new ones."""
    fd, temp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".tmp")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(fd, mode)
            sync_file(fd)
        Path(temp).replace(path)
    except BaseException:
        Path(temp).unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def _make_private(database: Path) -> None:
    """Give a database mode 0600, made empty if it is not there: SQLite makes its log and index like it.

    Where that cannot be done, SQLite itself says what is wrong with the place, or the file system knows no modes.
    """
    with contextlib.suppress(OSError):
        for path in (database, Path(f"{database}-wal"), Path(f"{database}-shm")):
            # By its name: closing a descriptor of ours would drop the locks of another connection of this process.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mode & 0o077:
                    path.chmod(0o600)
        if not database.exists():
            with contextlib.suppress(FileExistsError):
                os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def sync_file(fd: int) -> None:
    """The bytes and the size of this file are on the medium when it returns."""
    if sys.platform == "darwin":  # fsync leaves them in the drive's cache there
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def fsync_dir(path: Path) -> None:
    """The entries of this folder are on the medium when it returns."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
