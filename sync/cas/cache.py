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
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from sync.cas.room import TEMP_NAME, Room
from sync.core.codec import Buffer, chunk_id
from sync.core.filekey import FileKey
from sync.core.keys import Keys
from sync.core.manifest import ChunkId
from sync.env import Env


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


class ChunkCache:
    """One fleet's cache below `root`. Thread-safe; blocks on the disk: call it in a thread where that matters.

    room: what keeps it within its quota, and asks protected() what must stay.
    """

    def __init__(
        self, env: Env, root: Path, quota: int, keys: Keys, protected: Callable[[], Collection[str]] = frozenset
    ) -> None:
        self._env = env
        self._chunks = root / "chunks"
        self._chunk_root = str(self._chunks)  # paths of chunks are made by the thousand
        self._whole = root / "whole"
        self._keys = keys
        self.room = Room(env, self._chunks, self._whole, quota, protected)
        self._lock = threading.Lock()
        self._bad = 0

    def path(self, chunk: ChunkId) -> Path:
        """Where this chunk is, if it is here."""
        name = chunk.hex()
        return self._chunks / name[:2] / name

    def whole_path(self, content_id: str) -> Path:
        """Where all bytes of this content (64 hex digits) are, if they are here."""
        return self._whole / content_id

    def has(self, chunk: ChunkId, size: int | None = None) -> bool:
        """True if there is a file that is not empty, and of that size; get tells whether it is right."""
        name = chunk.hex()
        found = _size(f"{self._chunk_root}/{name[:2]}/{name}")
        return found > 0 if size is None else found == size

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
        if not self.room.reserve(path, len(data)):
            return False
        try:
            return self._write(path, data)
        except OSError as error:
            self.room.give_back(len(data), error)
            return False
        finally:
            self.room.written(path)

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

    def usage(self) -> CacheUsage:
        """Counted anew, file by file."""
        room = self.room
        counted = room.recount()
        return CacheUsage(
            used=counted.used,
            quota=room.quota,
            chunks=counted.chunks,
            whole=counted.whole,
            bad=self._bad,
            failed_writes=room.failed_writes,
            last_error=room.last_error,
        )

    def _write(self, path: str, data: Buffer) -> FileKey:
        folder, _, name = path.rpartition("/")
        temp = f"{folder}/.{name[:TEMP_NAME]}.{self._env.random_bytes(8).hex()}.tmp"
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
        except FileNotFoundError:
            return
        except OSError as error:
            self.room.not_removed(error)
            return
        self.room.removed(path, size)


def open_quietly(path: Path) -> BinaryIO:
    """A file of a cache, to be read without that counting as a use of it. OSError."""
    return open(path, "rb", opener=_without_atime)


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
