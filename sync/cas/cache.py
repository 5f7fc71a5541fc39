"""Plain chunks and whole files on this machine's disk, to be read in place. All of it may be deleted at any time.

    <root>/chunks/<first 2 hex>/<chunk_id, 64 hex>     the plain bytes of a chunk
    <root>/whole/<content_id, 64 hex>                  all bytes of a content

The folder itself is the index: a file was last used at its atime, or its mtime if that is later, and nothing else is
kept; both are ours alone, who reads leaves them (O_NOATIME). The mtime stays that of the writing: who has looked into
the file knows by it that it is still the same. The mount reads these files by their paths and moves complete layers
into whole/; it compares sizes before it trusts one.
"""

import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from sync.core.codec import Buffer, chunk_id
from sync.core.errors import TcfsError
from sync.core.filekey import FileKey
from sync.core.keys import Keys
from sync.core.manifest import ChunkId
from sync.env import Env

DEFAULT_QUOTA: Final = 10 << 30  # bytes
GRACE_NS: Final = 30 * 10**9  # what was written or used in this time is never evicted
EVICT_AHEAD: Final = 16  # an eviction frees a 16th of the quota, so that not every write needs one
RECOUNT_SHARE: Final = 20  # whole files are counted again for one part in so many of the time
RETRY_AFTER: Final = 5.0  # seconds: how long a full cache that could free nothing stays as it is

_BLOCK: Final = 4096
_TEMP_NAME: Final = 16  # digits of a chunk's name in that of its temporary file


class CacheUsage(msgspec.Struct, frozen=True):
    """What lies in the cache now, in bytes of disk and files; and since the start: bad files found, failed writes."""

    used: int
    quota: int
    chunks: int
    whole: int
    bad: int
    failed_writes: int
    last_error: str


class Kept(NamedTuple):
    """What became of checked chunks; in neither: a file of that name and size was there, and was not looked into."""

    written: dict[ChunkId, FileKey]
    refused: set[ChunkId]


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


class ChunkCache:
    """One fleet's cache below `root`. Thread-safe; blocks on the disk: call it in a thread where that matters.

    protected(), asked once an eviction, names what must stay: chunk_ids and content_ids in hex. If it raises a
    TcfsError nothing is evicted.
    """

    def __init__(
        self, env: Env, root: Path, quota: int, keys: Keys, protected: Callable[[], Collection[str]] = frozenset
    ) -> None:
        self._env = env
        self._chunks = root / "chunks"
        self._chunk_root = str(self._chunks)  # paths of chunks are made by the thousand
        self._whole = root / "whole"
        self._quota = quota
        self._keys = keys
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
        self._bad = 0
        self._failed_writes = 0
        self._last_error = ""

    def path(self, chunk: ChunkId) -> Path:
        """Where this chunk is, if it is here."""
        name = chunk.hex()
        return self._chunks / name[:2] / name

    def whole_path(self, content_id: str) -> Path:
        """Where all bytes of this content (64 hex digits) are, if they are here."""
        return self._whole / content_id

    def has(self, chunk: ChunkId) -> bool:
        """True if there is a file that is not empty; get tells whether it is right."""
        name = chunk.hex()
        return _size(f"{self._chunk_root}/{name[:2]}/{name}") > 0

    def has_whole(self, content_id: str) -> bool:
        return self.whole_path(content_id).exists()

    def get(self, chunk: ChunkId) -> bytes | None:
        """The chunk's bytes, checked against its name. None if it is not here; a file that is wrong is removed."""
        path = self.path(chunk)
        try:
            with open_quietly(path) as file:
                data = file.read()
        except OSError:
            return None
        if chunk_id(self._keys, data) == chunk:
            return data
        with self._lock:
            self._bad += 1
        self._remove(path)
        return None

    def put(self, chunk: ChunkId, data: Buffer) -> bool:
        """Keep this chunk. False if the cache cannot take it: no room by the quota or on the disk, or the disk fails.

        ValueError if data is not what its name says. Does nothing for a chunk that is here. Room is reserved first.
        """
        if chunk_id(self._keys, data) != chunk:
            raise ValueError(f"not the bytes of chunk {chunk.hex()}")
        return self._keep(chunk, data) is not False

    def put_checked(self, chunks: Iterable[tuple[ChunkId, Buffer]]) -> Kept:
        """As put, for chunks just compared with their names, which is not done again."""
        kept = Kept({}, set())
        for chunk, data in chunks:
            file = self._keep(chunk, data)
            if isinstance(file, FileKey):
                kept.written[chunk] = file
            elif not file:
                kept.refused.add(chunk)
        return kept

    def _keep(self, chunk: ChunkId, data: Buffer) -> FileKey | bool:
        """The file just written; True if there was one, False if the cache cannot take it."""
        name = chunk.hex()
        path = f"{self._chunk_root}/{name[:2]}/{name}"
        if _size(path) == len(data):
            return True
        if not self._reserve(path, _on_disk(len(data))):
            return False
        try:
            return self._write(path, data)
        except OSError as error:
            with self._lock:
                if self._used is None:
                    self._uncounted = max(0, self._uncounted - _on_disk(len(data)))
                else:
                    self._used = max(0, self._used - _on_disk(len(data)))
                self._failed_writes += 1
                self._last_error = str(error)
            return False
        finally:
            with self._lock:
                self._writing.pop(path, None)

    def drop(self, chunk: ChunkId) -> None:
        """Forget this chunk. Whoever has its file open keeps reading it."""
        self._remove(self.path(chunk))

    def drop_whole(self, content_id: str) -> None:
        self._remove(self.whole_path(content_id))

    def used(self, ids: Iterable[bytes]) -> None:
        """These were read just now: chunk_ids, or content_ids as 32 bytes. What is not here is passed over."""
        now = self._env.now_ns()
        for each in ids:
            for path in (self.path(ChunkId(each)), self.whole_path(each.hex())):
                try:
                    os.utime(path, ns=(now, min(path.stat().st_mtime_ns, now)))  # later: the clock was set back
                    break
                except OSError:
                    continue  # the other kind, or gone: the next reader asks for it

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

    def usage(self) -> CacheUsage:
        """Counted anew, file by file."""
        chunks, chunks_used = _count(self._chunk_folders())
        whole, whole_used = _count([self._whole])
        with self._lock:
            self._whole_used = whole_used
            self._used = chunks_used + whole_used
            return CacheUsage(
                used=self._used,
                quota=self._quota,
                chunks=chunks,
                whole=whole,
                bad=self._bad,
                failed_writes=self._failed_writes,
                last_error=self._last_error,
            )

    def evict(self, size: int) -> int:
        """Free `size` bytes, and what is over the quota, least recently used first; returns how many were freed.

        They may be fewer: what was written or used in the last 30 s stays, and what is protected.
        """
        self._count_all()
        with self._lock:
            if size <= 0 and self._used is not None and self._used <= self._quota:
                return 0
            return self._evict(free=size, keep=self._quota)

    def _reserve(self, path: str, size: int) -> bool:
        if size > self._quota:
            return False
        self._count_all()
        with self._lock:
            if self._used is None:  # somebody counts: whoever reads does not wait for the end of that
                self._uncounted += size
                self._writing[path] = size
                return True
            if self._used + size > self._quota:
                if self._env.monotonic() < self._retry_at:
                    return False
                self._evict(free=0, keep=self._quota - size - self._quota // EVICT_AHEAD)
                if self._used + size > self._quota:
                    self._retry_at = self._env.monotonic() + RETRY_AFTER
                    return False
            self._used += size
            self._writing[path] = size
            return True

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
        unfinished = {path.rpartition("/")[2][:_TEMP_NAME] for path in self._writing}
        found = [file for file in self._scan() if file.name.lstrip(".")[:_TEMP_NAME] not in unfinished]
        files = sorted(found, key=lambda file: file.used_ns)
        total = sum(_on_disk(file.size) for file in files) + sum(self._writing.values())
        whole_root = str(self._whole)
        before, whole = total, sum(_on_disk(file.size) for file in files if file.folder == whole_root)
        try:
            protected = frozenset(self._protected())
        except TcfsError as error:  # nobody knows what must stay: then all of it does
            self._last_error, files = str(error), []
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
                    self._last_error = str(error)
                    continue
                self.evictions += 1
                total -= _on_disk(file.size)
                whole -= _on_disk(file.size) if file.folder == whole_root else 0
        self._used, self._whole_used = total, whole
        return before - total

    def _write(self, path: str, data: Buffer) -> FileKey:
        folder, _, name = path.rpartition("/")
        temp = f"{folder}/.{name[:_TEMP_NAME]}.{self._env.random_bytes(8).hex()}.tmp"
        try:
            descriptor = _create(temp)
        except FileNotFoundError:  # the first of its folder, or somebody deleted the cache
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = _create(temp)
        try:
            try:
                _write_all(descriptor, memoryview(data).cast("B"))
                now = self._env.now_ns()
                os.utime(descriptor, ns=(now, now))
                written = FileKey.of(os.fstat(descriptor))
            finally:
                os.close(descriptor)
            self._env.fault("cache.before_rename")
            os.rename(temp, path)  # noqa: PTH104  (no Path for each of thousands)
            return written
        except OSError:
            Path(temp).unlink(missing_ok=True)
            raise

    def _remove(self, path: Path) -> None:
        size = _size(path)
        try:
            path.unlink()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                with self._lock:
                    self._last_error = str(error)
            return
        with self._lock:
            if self._used is not None:
                self._used = max(0, self._used - _on_disk(size))
                if path.parent == self._whole:
                    self._whole_used = max(0, self._whole_used - _on_disk(size))

    def _scan(self) -> Iterator[_File]:
        yield from _files([*self._chunk_folders(), self._whole])

    def _chunk_folders(self) -> list[Path]:
        try:
            with os.scandir(self._chunks) as entries:
                return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            return []

    @staticmethod
    def _is_chunk_name(name: str) -> bool:
        return len(name) == 64 and all(digit in "0123456789abcdef" for digit in name)


def default_quota(folder: Path) -> int:
    """10 GiB or a tenth of the disk that holds `folder` (or will), whichever is less."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = os.statvfs(folder)
    return min(DEFAULT_QUOTA, disk.f_blocks * disk.f_frsize // 10)


def open_quietly(path: Path) -> BinaryIO:
    """A file of a cache, to be read without that counting as a use of it. OSError."""
    return open(path, "rb", opener=_without_atime)


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


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _without_atime(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:  # a share, or a folder of another machine, whose files seem to be somebody else's
        return os.open(path, flags)


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _size(path: Path | str) -> int:
    """Bytes of the file, 0 if there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return 0


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
