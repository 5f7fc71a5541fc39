"""Reading what is already local: chunks and whole files below cache/. Synchronous, never waits for the network.

A file of the cache is not believed because it is there: each chunk is compared with its id (keyed BLAKE3) the first
time this process reads it, and again when the file has changed. Only a file that the engine has written for this
process, from bytes it had just compared, and that is still the same one, is not read once more for that. What does not
match is unlinked, counted and treated as absent, so that it is fetched again: a damaged cache costs time, never wrong
bytes.
"""

import logging
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from fs.hydrate.plan import ChunkMap
from sync.core.errors import Integrity
from sync.core.filekey import FileKey
from sync.core.manifest import ChunkId

VERIFIED_MAX = 65_536  # chunks remembered as verified, about 24 MB
OPEN_MAX = 64  # descriptors kept open
USED_MAX = 4096  # uses kept for the next report
CHECK_AT_ONCE = 256 * 1024  # bytes; what is larger is read and hashed in a thread: 1 ms a MiB, or a slow disk

# A fifo that somebody has put there must not keep the mount.
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

log = logging.getLogger(__name__)


class _OpenFile(NamedTuple):
    fd: int
    key: FileKey


class Unchecked(NamedTuple):
    """A large chunk in a file, to be looked at before it is believed: `is_right`, once, in any thread, `settle`."""

    path: str
    fd: int
    key: FileKey
    offset: int
    size: int
    chunk_id: ChunkId
    hash_chunk: Callable[[bytes], bytes]

    def is_right(self) -> bool:
        """Whether the bytes are the chunk's. Closes the descriptor."""
        try:
            data = os.pread(self.fd, self.size, self.offset)
        except OSError:
            return False  # a disk that cannot give them back
        finally:
            os.close(self.fd)
        return len(data) == self.size and self.hash_chunk(data) == self.chunk_id


class CachedContent:
    """The reader of one cache folder. hash_chunk: bytes -> chunk id, with the fleet's key."""

    def __init__(self, root: Path, hash_chunk: Callable[[bytes], bytes]) -> None:
        # Text: a Path for each of the thousands of files that a program walks through takes longer than to open it.
        self._chunks = str(root / "chunks")
        self._whole = str(root / "whole")
        self._hash = hash_chunk
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()
        self._verified: OrderedDict[tuple[FileKey, int, int], ChunkId] = OrderedDict()  # key, offset, size
        self._used: OrderedDict[ChunkId, None] = OrderedDict()
        self.damaged = 0  # files found wrong since the start

    def read(self, chunk_id: ChunkId, start: int, end: int, size: int) -> bytes | Unchecked | None:
        """Bytes [start, end) of a chunk of `size` bytes; None if it is not in the cache as a chunk."""
        name = chunk_id.hex()
        path = f"{self._chunks}/{name[:2]}/{name}"
        file = self._file(path)
        if file is None:
            return None
        data = self._read_verified(path, file, 0, chunk_id, start, end, size)
        if data is None:
            self._discard(path)
        else:
            self._note_use(chunk_id)
        return data

    def read_whole(
        self, content_id: str, chunks: ChunkMap, index: int, start: int, end: int
    ) -> bytes | Unchecked | None:
        """Bytes [start, end) of chunk `index` out of the whole file of that content; None if there is no such file."""
        path = f"{self._whole}/{content_id}"
        file = self._file(path)
        if file is None:
            return None
        data = None
        if file.key.size == chunks.size:
            offset, size = chunks.chunk_start(index), chunks.chunk_size(index)
            data = self._read_verified(path, file, offset, chunks.ids[index], start, end, size)
        if data is None:
            self._discard(path)
        return data

    def settle(self, unchecked: Unchecked, is_right: bool) -> None:
        """What the look at a chunk has found: from now on it is believed, or its file is gone."""
        if is_right:
            self._believe((unchecked.key, unchecked.offset, unchecked.size), unchecked.chunk_id)
        else:
            self._discard(unchecked.path)

    def trust(self, written: Mapping[bytes, FileKey]) -> None:
        """The engine has compared these chunks with their ids and written them to these files, just now."""
        for chunk, file in written.items():
            self._believe((file, 0, file.size), ChunkId(chunk))

    def is_empty(self) -> bool:
        """True if nothing was ever cached here."""
        return not (_exists(self._chunks) or _exists(self._whole))

    def has_chunk(self, name: str) -> bool:
        """name: the chunk's id in hex."""
        return _exists(f"{self._chunks}/{name[:2]}/{name}")

    def has_whole(self, content_id: str) -> bool:
        return _exists(f"{self._whole}/{content_id}")

    def check(self, chunk_id: ChunkId, data: bytes) -> bytes:
        """The same bytes; Integrity if they are not the chunk's."""
        if self._hash(data) != chunk_id:
            raise Integrity(f"chunk {chunk_id.hex()} came with other bytes")
        return data

    def take_used(self) -> list[ChunkId]:
        """The chunks read since the last call, for the engine's LRU."""
        used = list(self._used)
        self._used.clear()
        return used

    def drop_descriptors(self) -> None:
        """Close what is kept open: freed content gives its disk space back, and replaced files are seen."""
        for fd in self.take_descriptors():
            os.close(fd)

    def take_descriptors(self) -> list[int]:
        """What is kept open, for the caller to close: the disk may take long to give back the space of a large file."""
        descriptors = [file.fd for file in self._open.values()]
        self._open.clear()
        return descriptors

    def _file(self, path: str) -> _OpenFile | None:
        kept = self._open.get(path)
        if kept is not None:
            self._open.move_to_end(path)
            key = FileKey.of(os.fstat(kept.fd))
            if key == kept.key:
                return kept
            file = _OpenFile(kept.fd, key)  # changed under us: believed only after another look
            self._open[path] = file
            return file
        try:
            fd = _open_quietly(path)
        except OSError:
            return None  # not there, or not readable: either way it must be fetched
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            os.close(fd)
            return None
        file = _OpenFile(fd, FileKey.of(info))
        self._open[path] = file
        if len(self._open) > OPEN_MAX:
            os.close(self._open.popitem(last=False)[1].fd)
        return file

    def _read_verified(
        self, path: str, file: _OpenFile, offset: int, chunk_id: ChunkId, start: int, end: int, size: int
    ) -> bytes | Unchecked | None:
        """The bytes, or None if those on disk are not the chunk's."""
        known = (file.key, offset, size)
        try:
            if self._verified.get(known) == chunk_id:
                data = os.pread(file.fd, end - start, offset + start)
                return data if len(data) == end - start else None
            if size > CHECK_AT_ONCE:
                return Unchecked(path, os.dup(file.fd), file.key, offset, size, chunk_id, self._hash)
            data = os.pread(file.fd, size, offset)
        except OSError as error:
            log.warning("cannot read %s: %s", path, error.strerror)
            return None
        if len(data) != size or self._hash(data) != chunk_id:
            return None
        self._believe(known, chunk_id)
        return data if end - start == size else data[start:end]

    def _believe(self, known: tuple[FileKey, int, int], chunk_id: ChunkId) -> None:
        self._verified[known] = chunk_id
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)

    def _discard(self, path: str) -> None:
        self.damaged += 1
        log.error("%s is damaged: removed from the cache, and fetched again when it is read", path)
        file = self._open.pop(path, None)
        if file is not None:
            os.close(file.fd)
        Path(path).unlink(missing_ok=True)

    def _note_use(self, chunk_id: ChunkId) -> None:
        self._used[chunk_id] = None
        self._used.move_to_end(chunk_id)
        if len(self._used) > USED_MAX:
            self._used.popitem(last=False)


def _open_quietly(path: str) -> int:
    """The times of a file belong to the engine, where the system says that it is ours."""
    try:
        return os.open(path, _OPEN | os.O_NOATIME)
    except PermissionError:  # a share, or a folder of another machine, whose files seem to be somebody else's
        return os.open(path, _OPEN)


_exists = os.path.exists
