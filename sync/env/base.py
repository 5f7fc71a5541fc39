"""Env, the interface: everything that varies comes through it, and databases are opened by it."""

import contextlib
import os
import sqlite3
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sync.core.errors import NotFound

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

BUSY_TIMEOUT = 5.0  # seconds
MMAP_SIZE = 64 * 1024 * 1024


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
    def timeout(self, seconds: float | None) -> "asyncio.Timeout":
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
    async def run_named(self, fn: Callable[..., T], *args: object) -> T:
        """As run_store, for whatever disk the path lies on that somebody has named."""

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
