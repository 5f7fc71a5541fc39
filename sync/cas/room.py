"""The room that a cache takes: how much of its quota is used, and what goes when it is full.

All of this is in memory only: what lies in the folders is counted once, what comes and goes is added up, and each
eviction counts anew. While one thread counts for the first time, whoever writes meanwhile does not wait for it.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from sync.core.errors import TcfsError
from sync.env import Env

DEFAULT_QUOTA: Final = 10 << 30  # bytes
GRACE_NS: Final = 30 * 10**9  # what was written or used in this time is never evicted
EVICT_AHEAD: Final = 16  # an eviction frees a 16th of the quota, so that not every write needs one
DISK_SPARE: Final = 512 << 20  # bytes that stay free on the disk for what programs write
RECOUNT_SHARE: Final = 20  # whole files are counted again for one part in so many of the time
RETRY_AFTER: Final = 5.0  # seconds: how long a full cache that could free nothing stays as it is
TEMP_NAME: Final = 16  # digits of a chunk's name in that of its temporary file

_BLOCK: Final = 4096


class _File(msgspec.Struct, frozen=True):
    """path: as text, there may be millions."""

    used_ns: int
    size: int
    path: str

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Counted(NamedTuple):
    """What lies there now: bytes of disk, and files."""

    used: int
    chunks: int
    whole: int


class Room:
    """Of one cache: folders with chunks in `chunks`, whole files in `whole`. Thread-safe; blocks on the disk.

    protected(), asked once an eviction, names what must stay: chunk_ids and content_ids in hex. If it raises a
    TcfsError nothing is evicted.
    """

    def __init__(
        self, env: Env, chunks: Path, whole: Path, quota: int, protected: Callable[[], Collection[str]]
    ) -> None:
        self._env = env
        self._chunks = chunks
        self._whole = whole
        self.quota = quota  # bytes
        self._protected = protected
        self._lock = threading.Lock()
        self._used: int | None = None  # bytes; None: not counted yet. An estimate between scans
        self._is_counting = False
        self._uncounted = 0  # bytes that came while it was not known what there is
        self._whole_used = 0  # bytes of whole files in `used`, as of the last look
        self._whole_changed_ns = -1
        self._recount_at = float("-inf")  # monotonic
        self._writing: dict[str, int] = {}  # path -> bytes reserved for it
        self._retry_at = float("-inf")  # monotonic: until then a full cache is not searched again
        self.evictions = 0  # files that were evicted since the start
        self.failed_writes = 0  # since the start
        self.last_error = ""

    def reserve(self, path: str, size: int) -> bool:
        """Room for a file of so many bytes, which is about to be written; False if there is none. Evicts."""
        size = _on_disk(size)
        if size > self.quota:
            return False
        self._count_all()
        with self._lock:
            if self._used is None:  # somebody counts: whoever reads does not wait for the end of that
                self._uncounted += size
                self._writing[path] = size
                return True
            if self._used + size > self.quota:
                if self._env.monotonic() < self._retry_at:
                    return False
                self._evict(free=0, keep=self.quota - size - self.quota // EVICT_AHEAD)
                if self._used + size > self.quota:
                    self._retry_at = self._env.monotonic() + RETRY_AFTER
                    return False
            self._used += size
            self._writing[path] = size
            return True

    def has_spare(self, size: int, *, evicting: bool) -> bool:
        """True if so many bytes, which nobody waits for, may come: the disk stays far from full, and (unless evicting)
        nothing else has to go for them: what an eviction frees ahead stays free, too.
        """
        with contextlib.suppress(FileNotFoundError):  # nothing was ever cached
            disk = os.statvfs(self._chunks.parent)
            if disk.f_bavail * disk.f_frsize < size + DISK_SPARE:
                return False
        self._count_all()
        with self._lock:
            return evicting or (self._used is not None and self._used + size <= self.quota - self.quota // EVICT_AHEAD)

    def written(self, path: str) -> None:
        """The write that this path's room was reserved for is over, well or not."""
        with self._lock:
            self._writing.pop(path, None)

    def give_back(self, size: int, error: OSError) -> None:
        """A write for which so many bytes were reserved has failed."""
        with self._lock:
            if self._used is None:
                self._uncounted = max(0, self._uncounted - _on_disk(size))
            else:
                self._used = max(0, self._used - _on_disk(size))
            self.failed_writes += 1
            self.last_error = str(error)

    def removed(self, path: Path, size: int) -> None:
        """A file of so many bytes is gone."""
        with self._lock:
            if self._used is not None:
                self._used = max(0, self._used - _on_disk(size))
                if path.parent == self._whole:
                    self._whole_used = max(0, self._whole_used - _on_disk(size))

    def not_removed(self, error: OSError) -> None:
        """A file stays, although it should go."""
        with self._lock:
            self.last_error = str(error)

    def evict(self, size: int) -> int:
        """Free `size` bytes, and what is over the quota, least recently used first; returns how many were freed.

        They may be fewer: what was written or used in the last 30 s stays, and what is protected.
        """
        self._count_all()
        with self._lock:
            if size <= 0 and self._used is not None and self._used <= self.quota:
                return 0
            return self._evict(free=size, keep=self.quota)

    def recount_whole(self) -> None:
        """The mount moves whole files in by itself: what lies there now counts. One stat if it was quiet."""
        try:
            changed_ns = self._whole.stat().st_mtime_ns
        except OSError:
            changed_ns = 0
        with self._lock:
            if changed_ns == self._whole_changed_ns or self._env.monotonic() < self._recount_at:
                return
            began, before = self._env.monotonic(), self._whole_used
        _, now = _count([self._whole])  # there may be very many: nobody waits for that
        with self._lock:
            if self._used is not None:
                self._used = max(0, self._used + now - before)
            self._whole_changed_ns, self._whole_used = changed_ns, now
            self._recount_at = began + RECOUNT_SHARE * (self._env.monotonic() - began)

    def recount(self) -> Counted:
        """Counted anew, file by file."""
        chunks, chunks_used = _count(self._chunk_folders())
        whole, whole_used = _count([self._whole])
        with self._lock:
            self._whole_used = whole_used
            self._used = chunks_used + whole_used
            return Counted(self._used, chunks, whole)

    def _count_all(self) -> None:
        """Find out what there is, once; returns at once if another thread is at it. What comes meanwhile may count
        twice, until the next eviction.
        """
        with self._lock:
            if self._used is not None or self._is_counting:
                return
            self._is_counting = True
        whole, chunks = _count([self._whole])[1], _count(self._chunk_folders())[1]
        with self._lock:
            self._is_counting = False
            if self._used is None:
                self._whole_used, self._used = whole, whole + chunks + self._uncounted
            self._uncounted = 0

    def _evict(self, *, free: int, keep: int) -> int:
        """Free this much at least, and leave no more than `keep`. The caller holds the lock. Counts anew on the way."""
        # What is being written counts by its reservation, whatever of it can be seen already.
        unfinished = {path.rpartition("/")[2][:TEMP_NAME] for path in self._writing}
        found = [file for file in self._scan() if file.name.lstrip(".")[:TEMP_NAME] not in unfinished]
        files = sorted(found, key=lambda file: file.used_ns)
        total = sum(_on_disk(file.size) for file in files) + sum(self._writing.values())
        whole_root = str(self._whole)
        before, whole = total, sum(_on_disk(file.size) for file in files if file.folder == whole_root)
        try:
            protected = frozenset(self._protected())
        except TcfsError as error:  # nobody knows what must stay: then all of it does
            self.last_error, files = str(error), []
            protected = frozenset()
        now = self._env.now_ns()
        for file in files:
            if before - total >= free and total <= keep:
                break
            # Far in the future is long ago, too: the clock was set back.
            if abs(now - file.used_ns) > GRACE_NS and file.name not in protected:
                try:
                    Path(file.path).unlink(missing_ok=True)
                except OSError as error:
                    self.last_error = str(error)
                    continue
                self.evictions += 1
                total -= _on_disk(file.size)
                whole -= _on_disk(file.size) if file.folder == whole_root else 0
        self._used, self._whole_used = total, whole
        return before - total

    def _scan(self) -> Iterator[_File]:
        yield from _files([*self._chunk_folders(), self._whole])

    def _chunk_folders(self) -> list[Path]:
        try:
            with os.scandir(self._chunks) as entries:
                return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            return []


def default_quota(folder: Path) -> int:
    """10 GiB or a tenth of the disk that holds `folder` (or will), whichever is less."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = os.statvfs(folder)
    return min(DEFAULT_QUOTA, disk.f_blocks * disk.f_frsize // 10)


def _files(folders: Iterable[Path]) -> Iterator[_File]:
    """What lies in the folders, leftovers of killed writers too; what vanishes meanwhile is skipped."""
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                names = list(entries)
        except OSError:
            continue
        for entry in names:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            yield _File(max(found.st_atime_ns, found.st_mtime_ns), found.st_size, entry.path)


def _count(folders: Iterable[Path]) -> tuple[int, int]:
    """(files, bytes of disk) in the folders."""
    files = size = 0
    for file in _files(folders):
        files += 1
        size += _on_disk(file.size)
    return files, size


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
