"""Reading the content of versions: from the chunks and whole files that are local, or a list of what is missing."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from cachetools import LRUCache

from fs.hydrate.cache import CachedContent, Unchecked
from fs.hydrate.plan import ChunkMap, ChunkSlice
from sync.core.errors import Integrity, NotYet, Unsupported
from sync.core.manifest import ChunkId, VersionId
from sync.state.rows import Content, ShownRow

MAPS_KEPT = 100_000  # entries of chunk lists kept in memory, some 100 bytes each
MAP_ENTRIES = 6  # that a map costs by itself
LOCAL_KEPT = 200_000  # contents remembered to be local
PROBES = 4  # chunks of a large file that are looked for


_NOTHING: Mapping[int, bytes] = MappingProxyType({})


class Versions(Protocol):
    """What is used of ShownView."""

    def content(self, identity: str) -> Content: ...

    def content_of(self, number: int) -> Content: ...

    def chunk_list(self, identity: str) -> tuple[list[ChunkId], list[int]]: ...

    def identity(self, number: int) -> VersionId: ...


class Found(NamedTuple):
    """The bytes asked for, or None and what must be done first.

    unchecked: local chunks to be looked at; all of them, whatever else is wanted. Else missing: chunk indexes to be
    fetched; if that is empty too, the chunk list itself.
    """

    data: bytes | None
    missing: list[int]
    unchecked: list[Unchecked]


class _Content(NamedTuple):
    chunks: ChunkMap
    content_id: str


class VersionReader:
    """Synchronous; never fetches."""

    def __init__(self, versions: Versions, cached: CachedContent) -> None:
        self._versions = versions
        self.cached = cached
        self._contents: LRUCache[str, _Content] = LRUCache(
            MAPS_KEPT, lambda content: min(MAP_ENTRIES + len(content.chunks), MAPS_KEPT)
        )
        self._local: set[int] = set()

    def read(self, version: str, offset: int, length: int, inline: Mapping[int, bytes]) -> Found:
        """[offset, offset + length) of a version's content. inline: chunks that the cache could not take, by index.

        Unsupported for a version that needs what this program does not know, Integrity if it is shorter than that.
        """
        content = self._content(version)
        if content is None:
            return Found(None, [], [])
        if offset + length > content.chunks.size:
            raise Integrity(f"{version} has {content.chunks.size} bytes, {offset + length} were expected")
        parts: list[bytes] = []
        missing: list[int] = []
        unchecked: list[Unchecked] = []
        for part in content.chunks.slices(offset, length):
            data = self._slice(content, part, inline)
            if data is None:
                missing.append(part.chunk)
            elif isinstance(data, Unchecked):
                unchecked.append(data)
            else:
                parts.append(data)
        if missing or unchecked:
            return Found(None, missing, unchecked)
        return Found(parts[0] if len(parts) == 1 else b"".join(parts), [], [])

    def small(self, version: str, size: int) -> bytes | None:
        """All bytes of a file of at most CHECK_AT_ONCE bytes, if they are local."""
        try:
            return self.read(version, 0, size, _NOTHING).data
        except (Integrity, Unsupported):
            return None  # whoever reads it is told

    def chunks(self, version: str) -> ChunkMap | None:
        """The chunk list; None while its pages are not here, or if this program must not read the version."""
        try:
            content = self._content(version)
        except Unsupported:
            return None
        return None if content is None else content.chunks

    def absent(self, version: str, indexes: range) -> list[int]:
        """Those of these chunks that are not local."""
        content = self._content(version)
        if content is None or self.cached.has_whole(content.content_id):
            return []
        return [index for index in indexes if not self.cached.has_chunk(content.chunks.ids[index].hex())]

    def absent_from_whole(self, version: str) -> list[str] | None:
        """The chunks of a version (ids in hex) that are to be looked for one by one: none if the whole file is cached.
        None while the list of chunks is not here, or must not be read.
        """
        try:
            content = self._content(version)
        except Unsupported:
            return None
        if content is None or self.cached.has_whole(content.content_id):
            return None if content is None else []
        return [chunk.hex() for chunk in content.chunks.ids]

    def is_local(self, row: ShownRow) -> bool:
        """True if bytes of a shown file are in the cache, as far as a few looks tell (for st_blocks).

        What was found to be local is remembered until `forget_local`: eviction is not noticed.
        """
        if row.value in self._local:
            return True
        if row.version is None or self.cached.is_empty():
            return False
        content = self._versions.content_of(row.version)
        if not self.cached.has_whole(content.content_id) and not self._has_some(
            content.chunks or self._ids(row.version)
        ):
            return False
        if len(self._local) >= LOCAL_KEPT:
            self._local.clear()
        self._local.add(row.value)
        return True

    @property
    def seen_local(self) -> frozenset[int]:
        """The tokens (shown.value) of contents that is_local has found."""
        return frozenset(self._local)

    def forget_local(self) -> list[int]:
        """Content was freed: look again, and hold no freed file open. The descriptors are the caller's to close."""
        self._local.clear()
        return self.cached.take_descriptors()

    def _has_some(self, ids: Sequence[str]) -> bool:
        return any(self.cached.has_chunk(chunk) for chunk in ids[:: max(len(ids) // PROBES, 1)])

    def _ids(self, number: int) -> list[str]:
        """The chunk ids of a version with a long list, as far as it is here."""
        try:
            content = self._content(self._versions.identity(number))
        except Unsupported:
            return []
        return [] if content is None else [chunk.hex() for chunk in content.chunks.ids]

    def _content(self, version: str) -> _Content | None:
        content = self._contents.get(version)
        if content is not None:
            return content
        stored = self._versions.content(version)
        if not stored.is_readable:
            raise Unsupported(f"{version} needs a newer tcfs", hint="update tcfs on this machine")
        try:
            chunks = self._chunk_map(version, stored)
        except NotYet:
            return None
        content = _Content(chunks, stored.content_id)
        self._contents[version] = content
        return content

    def _chunk_map(self, version: str, stored: Content) -> ChunkMap:
        if stored.chunk_pages:
            return ChunkMap(*self._versions.chunk_list(version))
        return ChunkMap([ChunkId(bytes.fromhex(chunk)) for chunk in stored.chunks], stored.chunk_sizes)

    def _slice(self, content: _Content, part: ChunkSlice, inline: Mapping[int, bytes]) -> bytes | Unchecked | None:
        given = inline.get(part.chunk)
        if given is not None:
            return self.cached.check(content.chunks.ids[part.chunk], given)[part.start : part.end]
        chunks = content.chunks
        data = self.cached.read(chunks.ids[part.chunk], part.start, part.end, chunks.chunk_size(part.chunk))
        if data is None:
            data = self.cached.read_whole(content.content_id, chunks, part.chunk, part.start, part.end)
        return data
