"""From bytes on this machine to chunks in packs: whole files, many small files at a time, and layers over a base."""

import asyncio
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
from blake3 import blake3

from sync.core.chunking import ChunkParams, cut
from sync.core.codec import ContentHasher, chunk_id
from sync.core.errors import NotFound, NotYet, TooLarge
from sync.core.keys import Keys
from sync.core.manifest import CHUNKS_INLINE_MAX, ChunkId, within
from sync.core.ranges import RangeSet
from sync.env import Env
from sync.worker.change import Content
from sync.worker.threads import run_to_end

GROUP_BYTES: Final = 8 << 20  # plain bytes that one hop to a thread brings back
GROUP_FILES: Final = 256
PUBLISH_MAX: Final = 1 << 40  # bytes of a file: its list of chunks has to fit into memory wherever it is read
READ_ATTEMPTS: Final = 5  # a file that changes while it is read is read again this often

Chunks = list[tuple[ChunkId, bytes]]


class Sink(Protocol):
    """Takes plain chunks that are to lie in a pack."""

    async def add(self, chunks: Sequence[tuple[ChunkId, bytes]]) -> None:
        """Those that lie in no pack yet."""


class BaseReader(Protocol):
    """Gives the chunks of versions already published, and keeps chunks on this machine; a Fetcher."""

    async def chunk_list(self, version: str) -> tuple[list[ChunkId], list[int]]: ...

    async def base_bytes(self, version: str, indexes: Sequence[int]) -> dict[int, bytes]: ...

    async def keep(self, chunks: Sequence[tuple[ChunkId, bytes]]) -> None: ...

    async def keep_base(self, version: str, indexes: RangeSet, newer: str) -> None:
        """indexes: of the version's chunks, which the content `newer` (a content_id) has as well."""


class FileStat(msgspec.Struct, frozen=True):
    """What a file was like when its bytes were read. mode: 12 bits."""

    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    mode: int

    @staticmethod
    def of(found: os.stat_result) -> "FileStat":
        mtime_ns, ctime_ns = (within(time_ns) for time_ns in (found.st_mtime_ns, found.st_ctime_ns))
        return FileStat(found.st_size, mtime_ns, ctime_ns, found.st_ino, stat.S_IMODE(found.st_mode))


class Ingested(msgspec.Struct, frozen=True):
    """A file's content, all of it handed to the sink, and its stat at that moment."""

    content: Content
    stat: FileStat


class _Small(msgspec.Struct, frozen=True):
    """A file of one chunk at most, read at once."""

    content: Content
    stat: FileStat
    chunk: tuple[ChunkId, bytes] | None


class _Changed(Exception):
    """The file was written to while it was read."""


class ContentBuilder:
    """The manifest's view of a content, chunk by chunk. What it holds in memory is some 80 bytes a chunk at most."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._content = ContentHasher(keys)
        self._ids: list[str] = []  # not yet in pages
        self._sizes: list[int] = []
        self._pages: list[ChunkId] = []
        self._page_bytes: dict[ChunkId, bytes] = {}  # those of a hole are all the same
        self._size = 0

    def add(self, chunk: ChunkId, size: int) -> None:
        self._content.add(chunk, size)
        self._take(chunk.hex(), size, 1)

    def add_run(self, chunk: ChunkId, size: int, count: int) -> None:
        """The same chunk `count` times."""
        self._content.add_run(chunk, size, count)
        name = chunk.hex()
        while count:
            part = min(count, CHUNKS_INLINE_MAX)
            self._take(name, size, part)
            count -= part

    def _take(self, name: str, size: int, count: int) -> None:
        self._ids += [name] * count
        self._sizes += [size] * count
        self._size += size * count
        if len(self._ids) > 2 * CHUNKS_INLINE_MAX:
            self._turn_page()

    def _turn_page(self) -> None:
        entries = zip(self._ids[:CHUNKS_INLINE_MAX], self._sizes[:CHUNKS_INLINE_MAX], strict=True)
        page = msgspec.json.encode(list(entries))
        del self._ids[:CHUNKS_INLINE_MAX], self._sizes[:CHUNKS_INLINE_MAX]
        page_id = chunk_id(self._keys, page)
        self._pages.append(page_id)
        self._page_bytes[page_id] = page

    def finish(self, file_hash: str) -> Content:
        """The content; above CHUNKS_INLINE_MAX chunks with pages of its chunk list, which are stored as chunks."""
        content_id = self._content.content_id()
        if not self._pages and len(self._ids) <= CHUNKS_INLINE_MAX:
            return Content(self._size, content_id, file_hash, self._ids, self._sizes)
        while self._ids:
            self._turn_page()
        names, pages = [page.hex() for page in self._pages], list(self._page_bytes.items())
        return Content(self._size, content_id, file_hash, chunk_pages=names, pages=pages)

    async def finish_into(self, sink: Sink, file_hash: str) -> Content:
        """finish, with the pages handed to the sink."""
        content = self.finish(file_hash)
        await sink.add(content.pages)
        return content


def check_size(path: str, size: int) -> None:
    """TooLarge for a file that cannot be published."""
    if size > PUBLISH_MAX:
        raise TooLarge(
            f"{path} has {size} bytes, more than 1 TiB is not published",
            path=path,
            hint="make it smaller, or remove it",
        )


class FileIngest:
    """Reads files, cuts them and hands their chunks to a sink; memory does not grow with the size of a file."""

    def __init__(self, env: Env, keys: Keys, params: ChunkParams) -> None:
        self._env = env
        self._keys = keys
        self._params = params

    async def files(
        self, paths: Sequence[str], sink: Sink, progress: Callable[[int], None] | None = None
    ) -> list[Ingested | NotYet | NotFound | TooLarge | OSError]:
        """The content of each file; progress(bytes read) along the way.

        A file that keeps changing (NotYet), is gone (NotFound), is TooLarge or cannot be read (OSError) is an error in
        its place.
        """
        results: list[Ingested | NotYet | NotFound | TooLarge | OSError] = []
        for start in range(0, len(paths), GROUP_FILES):
            group = paths[start : start + GROUP_FILES]
            done = 0
            while done < len(group):
                found = await self._env.run(_read_small, self._keys, group[done:], self._params.min_size)
                await sink.add([item.chunk for item in found if isinstance(item, _Small) and item.chunk is not None])
                for path, item in zip(group[done:], found, strict=False):
                    results.append(await self._finish_file(path, item, sink, progress))
                done += len(found)
        return results

    async def _finish_file(
        self, path: str, item: "_Small | OSError | None", sink: Sink, progress: Callable[[int], None] | None
    ) -> Ingested | NotYet | NotFound | TooLarge | OSError:
        if isinstance(item, OSError):
            return _file_error(path, item)
        if isinstance(item, _Small):
            if progress is not None:
                progress(item.stat.size)
            return Ingested(item.content, item.stat)
        try:
            return await self._large_file(path, sink, progress)
        except (NotYet, TooLarge) as error:
            return error
        except OSError as error:
            return _file_error(path, error)

    async def _large_file(self, path: str, sink: Sink, progress: Callable[[int], None] | None) -> Ingested:
        for _ in range(READ_ATTEMPTS):
            descriptor = await self._env.run(open_file, path)
            try:
                before = FileStat.of(os.fstat(descriptor))
                check_size(path, before.size)
                content = await self._stream(
                    _file_chunks(descriptor, before.size, self._keys, self._params), sink, progress
                )
                if FileStat.of(os.fstat(descriptor)) == before and content.file_size == before.size:
                    return Ingested(content, before)
            finally:
                os.close(descriptor)
        raise _still_changing(path)

    async def _stream(
        self, groups: Iterator[tuple[Chunks, str]], sink: Sink, progress: Callable[[int], None] | None
    ) -> Content:
        builder = ContentBuilder(self._keys)
        file_hash = ""
        coming = asyncio.ensure_future(run_to_end(self._env, next, groups, None))
        try:
            while (group := await coming) is not None:
                coming = asyncio.ensure_future(run_to_end(self._env, next, groups, None))  # read while these are packed
                chunks, file_hash = group
                for chunk, data in chunks:
                    builder.add(chunk, len(data))
                await sink.add(chunks)
                if progress is not None:
                    progress(sum(len(data) for _, data in chunks))
        finally:
            await asyncio.gather(coming, return_exceptions=True)  # a thread may be reading, and the file is closed next
        return await builder.finish_into(sink, file_hash or blake3().hexdigest())


def open_file(path: str | Path) -> int:
    """A descriptor for reading; a symlink is not followed, a pipe not waited for."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def _read_small(keys: Keys, paths: Sequence[str], small_max: int) -> list[_Small | OSError | None]:
    """Files from the front of paths until a group is full, one at least. None: too large, or it changed meanwhile."""
    found: list[_Small | OSError | None] = []
    taken = 0
    for path in paths:
        item: _Small | OSError | None
        try:
            item = _read_one(keys, path, small_max)
        except _Changed:
            item = None
        except OSError as error:
            item = error
        found.append(item)
        taken += item.stat.size if isinstance(item, _Small) else 0
        if taken >= GROUP_BYTES:
            break
    return found


def _read_one(keys: Keys, path: str, small_max: int) -> _Small | None:
    descriptor = open_file(path)
    try:
        before = FileStat.of(os.fstat(descriptor))
        if before.size > small_max:
            return None
        data = os.read(descriptor, before.size + 1)
        after = FileStat.of(os.fstat(descriptor))
    finally:
        os.close(descriptor)
    if len(data) != before.size or after != before:
        raise _Changed
    builder = ContentBuilder(keys)
    chunk = (chunk_id(keys, data), data) if data else None
    if chunk is not None:
        builder.add(chunk[0], len(data))
    return _Small(builder.finish(blake3(data).hexdigest()), after, chunk)


def _file_chunks(descriptor: int, size: int, keys: Keys, params: ChunkParams) -> Iterator[tuple[Chunks, str]]:
    """Groups of chunks with their ids, and the hash of all bytes so far, in hex."""
    hasher = blake3()
    chunks: Chunks = []
    taken = 0
    for view in cut(lambda buffer: os.readv(descriptor, [buffer]), size, params):
        data = bytes(view)
        hasher.update(data)
        chunks.append((chunk_id(keys, data), data))
        taken += len(data)
        if taken >= GROUP_BYTES:
            yield chunks, hasher.hexdigest()
            chunks, taken = [], 0
    if chunks:
        yield chunks, hasher.hexdigest()


def _still_changing(path: str) -> NotYet:
    return NotYet(f"{path} is being written to", path=path, hint="push it again when it is quiet")


def _file_error(path: str, error: OSError) -> NotFound | OSError:
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{path} is gone", path=path)
    return error
