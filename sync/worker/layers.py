"""Layers over a base: read and cut only around what changed, with the cuts of the whole content."""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from blake3 import blake3

from sync.core.chunking import ChunkParams, Fresh, Reuse, Zeros, recut
from sync.core.codec import chunk_id, content_id
from sync.core.errors import Integrity
from sync.core.keys import Keys
from sync.core.manifest import ChunkId
from sync.core.ranges import RangeSet
from sync.env import Env
from sync.worker.change import Content, LayerSource
from sync.worker.content import GROUP_BYTES, GROUP_FILES, BaseReader, Chunks, ContentBuilder, Sink, open_file
from sync.worker.threads import run_to_end


class LayerIngest:
    """Reads layers and hands the chunks that are new to a sink.

    What was on this machine before stays on it: once such a layer is published it goes, and nothing here is the whole
    of the new version. So what was read of it, and what the base has here, is kept as chunks of the cache. The mount
    itself keeps a layer that is the whole content.
    """

    def __init__(self, env: Env, keys: Keys, params: ChunkParams, base: BaseReader) -> None:
        self._env = env
        self._keys = keys
        self._params = params
        self._base = base

    async def layers(self, sources: Sequence[LayerSource], sink: Sink) -> list[Content]:
        """The content of each layer over its base: read and cut only around what changed.

        Integrity or Unavailable if bytes of a base are needed and cannot be had; OSError if a layer cannot be read.
        """
        results: list[Content] = []
        while len(results) < len(sources):
            group = sources[len(results) : len(results) + GROUP_FILES]
            chunks, contents = await self._env.run(_read_small_layers, self._keys, group, self._params.min_size)
            await sink.add(chunks)
            await self._keep_small(group, contents, chunks)
            results += contents
            if len(results) < len(sources) and not _is_small(sources[len(results)], self._params.min_size):
                results.append(await self._layer(sources[len(results)], sink))
        return results

    async def _keep_small(
        self, sources: Sequence[LayerSource], contents: Sequence[Content], chunks: Sequence[tuple[ChunkId, bytes]]
    ) -> None:
        kept = {
            name
            for source, content in zip(sources, contents, strict=False)
            if not _is_complete(source)
            for name in content.chunks
        }
        if kept:
            await self._base.keep([item for item in chunks if item[0].hex() in kept])

    async def _layer(self, source: LayerSource, sink: Sink) -> Content:
        ids: list[ChunkId] = []
        sizes: list[int] = []
        if source.base is not None and source.limit_below > 0:
            ids, sizes = await self._base.chunk_list(source.base)
        descriptor = open_file(source.layer) if source.layer is not None else None
        try:
            return await self._recut(source, _Composite(descriptor, source, sizes), ids, sizes, sink)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    async def _recut(
        self, source: LayerSource, composite: "_Composite", ids: list[ChunkId], sizes: list[int], sink: Sink
    ) -> Content:
        builder = ContentBuilder(self._keys)
        hasher: blake3 | None = blake3()  # None once a chunk was not read
        keeps = not _is_complete(source)
        reused = RangeSet()  # numbers of chunks of the base
        position = 0
        while position < source.size:
            steps = await run_to_end(self._env, self._recut_steps, source, composite, position, hasher)
            for step in steps:
                match step:
                    case Reuse(index):
                        builder.add(ids[index], sizes[index])
                        reused.add(index, index + 1)
                        position += sizes[index]
                    case _Run(chunk, data, 1):
                        builder.add(chunk, len(data))
                        position += len(data)
                    case _Run(chunk, data, times):
                        await run_to_end(self._env, builder.add_run, chunk, len(data), times)
                        position += len(data) * times
                if isinstance(step, Reuse) or step.times > 1:
                    hasher = None
            fresh = [(step.chunk, step.data) for step in steps if isinstance(step, _Run)]
            await sink.add(fresh)
            if keeps:
                await self._base.keep(fresh)
            await self._bring_base(composite, source.base or "", len(ids), position)
        content = await builder.finish_into(sink, "" if hasher is None else hasher.hexdigest())
        if keeps and source.base is not None:
            await self._base.keep_base(source.base, reused, content.content_id)
        return content

    def _recut_steps(
        self, source: LayerSource, composite: "_Composite", position: int, hasher: blake3 | None
    ) -> "list[Reuse | _Run]":
        """The next chunks from a cut at `position` on, a group of them at most.

        Stops early, perhaps with nothing, where bytes of the base are missing (composite.missing tells which).
        """
        steps: list[Reuse | _Run] = []
        taken = 0
        try:
            for step in composite.recut(self._params, position):
                if isinstance(step, Reuse):
                    steps.append(step)
                    hasher = None
                    continue
                data, times = (bytes(step.size), step.count) if isinstance(step, Zeros) else (bytes(step.data), 1)
                steps.append(_Run(chunk_id(self._keys, data), data, times))
                taken += len(data)
                if times > 1:
                    hasher = None  # the hash of a hole would take as long as to read it
                elif hasher is not None:
                    hasher.update(data)
                if taken >= GROUP_BYTES:
                    break
        except _BaseMissing:
            pass  # composite.missing says what; the caller brings it and goes on from the last cut
        return steps

    async def _bring_base(self, composite: "_Composite", base: str, count: int, position: int) -> None:
        composite.forget_below(position)
        if composite.missing is not None:
            # The chunk behind it too: a fresh cut nearly always looks into that one.
            wanted = range(composite.missing, min(composite.missing + 2, count))
            composite.held |= await self._base.base_bytes(base, wanted)
            composite.missing = None


class _Run(NamedTuple):
    """A chunk that is no old one, so many times."""

    chunk: ChunkId
    data: bytes
    times: int


class _BaseMissing(Exception):
    """Bytes of the base are needed that are not held."""


class _Composite:
    """The bytes of a layer over its base, as far as chunks of the base are held."""

    def __init__(self, descriptor: int | None, source: LayerSource, base_sizes: list[int]) -> None:
        self._descriptor = descriptor
        self._source = source
        self._ends = list(accumulate(base_sizes))
        self._sizes = base_sizes
        self._limit = min(source.limit_below, self._ends[-1] if self._ends else 0)
        self._zeros = RangeSet(source.spans.gaps(self._limit, max(self._limit, source.size)))
        self.held: dict[int, bytes] = {}  # chunk number of the base -> its bytes
        self.missing: int | None = None

    def recut(self, params: ChunkParams, start: int) -> Iterator[Fresh | Reuse | Zeros]:
        """The chunks from a cut on."""
        source = self._source
        return recut(
            self.read_at,
            self._ends,
            source.spans,
            source.limit_below,
            source.size,
            params,
            zeros=self._zeros,
            start=start,
        )

    def forget_below(self, position: int) -> None:
        for index in [index for index in self.held if self._ends[index] <= position]:
            del self.held[index]

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Fill the buffer up to the file's end; _BaseMissing if the very first byte is of a chunk that is not held."""
        end = min(offset + len(buffer), self._source.size)
        if end <= offset:
            return 0
        position = offset
        while position < end:
            got = self._read_piece(position, buffer[position - offset : end - offset])
            if got == 0:
                break
            position += got
        if position == offset:
            raise _BaseMissing
        return position - offset

    def _read_piece(self, position: int, buffer: memoryview) -> int:
        """Bytes from one source; 0 if a chunk of the base is missing there."""
        end = position + len(buffer)
        layered = self._source.spans.intersect(position, end)
        if layered and layered[0][0] == position:
            stop = layered[0][1]
            piece = buffer[: stop - position]
            got = os.preadv(self._descriptor, [piece], position) if self._descriptor is not None else 0
            if got < len(piece):
                raise Integrity(f"{self._source.layer}: the layer ends at {position + got}, not at {stop}")
            return got
        stop = layered[0][0] if layered else end
        if position < self._limit:
            return self._read_base(position, buffer[: min(stop, self._limit) - position])
        buffer[: stop - position] = bytes(stop - position)
        return stop - position

    def _read_base(self, position: int, buffer: memoryview) -> int:
        index = bisect_right(self._ends, position)
        data = self.held.get(index)
        if data is None:
            self.missing = index
            return 0
        inside = position - (self._ends[index] - self._sizes[index])
        piece = data[inside : inside + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)


def _is_complete(source: LayerSource) -> bool:
    """True if the layer is the whole content."""
    return source.spans.covers(0, source.size)


def _is_small(source: LayerSource, small_max: int) -> bool:
    """True if it is one chunk at most and needs nothing of its base."""
    return source.size <= small_max and (source.base is None or source.limit_below == 0)


def _read_small_layers(keys: Keys, sources: Sequence[LayerSource], small_max: int) -> tuple[Chunks, list[Content]]:
    """The layers from the front on that are small, until a group is full: all their chunks, and what each holds."""
    chunks: Chunks = []
    contents: list[Content] = []
    taken = 0
    for source in sources:
        if not _is_small(source, small_max) or taken >= GROUP_BYTES:
            break
        data = _read_small(source)
        ids, sizes = ([chunk_id(keys, data)], [len(data)]) if data else ([], [])
        chunks += [(chunk, data) for chunk in ids]
        names = [chunk.hex() for chunk in ids]
        contents.append(Content(len(data), content_id(keys, ids, sizes), blake3(data).hexdigest(), names, sizes))
        taken += source.size
    return chunks, contents


def _read_small(source: LayerSource) -> bytes:
    """All bytes of a small layer. Integrity if the file ends before its spans."""
    descriptor = open_file(source.layer) if source.layer is not None else None
    try:
        if descriptor is not None and _is_complete(source):  # as nearly every file that is new
            data = os.pread(descriptor, source.size, 0)
            if len(data) < source.size:
                raise Integrity(f"{source.layer}: the layer ends at {len(data)}, not at {source.size}")
            return data
        buffer = bytearray(source.size)
        _Composite(descriptor, source, []).read_at(0, memoryview(buffer))
        return bytes(buffer)
    finally:
        if descriptor is not None:
            os.close(descriptor)
