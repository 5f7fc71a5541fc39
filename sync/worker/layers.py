"""Layers over a base: read and cut only around what changed, with the cuts of the whole content."""

import os
from collections.abc import Iterator, Sequence
from itertools import accumulate

from blake3 import blake3

from sync.core.chunking import ChunkParams, Fresh, ReadAt, Reuse, recut
from sync.core.codec import Keys, chunk_id
from sync.core.errors import Integrity
from sync.core.manifest import ChunkId
from sync.core.ranges import RangeSet
from sync.env import Env
from sync.worker.change import Content, LayerSource
from sync.worker.content import GROUP_BYTES, GROUP_FILES, BaseReader, Chunks, ContentBuilder, Sink, open_file
from sync.worker.threads import run_to_end


class LayerIngest:
    """Reads layers and hands the chunks that are new to a sink."""

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
            for chunks, content in await self._env.run(_read_small_layers, self._keys, group, self._params.min_size):
                await sink.add(chunks)
                results.append(content)
            if len(results) < len(sources) and not _is_small(sources[len(results)], self._params.min_size):
                results.append(await self._layer(sources[len(results)], sink))
        return results

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
        position = 0
        while position < source.size:
            steps = await run_to_end(self._env, self._recut_steps, source, composite, sizes, position, hasher)
            for step in steps:
                if isinstance(step, int):
                    hasher = None
                    builder.add(ids[step], sizes[step])
                    position += sizes[step]
                else:
                    builder.add(step[0], len(step[1]))
                    position += len(step[1])
            await sink.add([step for step in steps if not isinstance(step, int)])
            await self._bring_base(composite, source.base or "", len(ids), position)
        return await builder.finish_into(sink, "" if hasher is None else hasher.hexdigest())

    def _recut_steps(
        self, source: LayerSource, composite: "_Composite", sizes: list[int], position: int, hasher: blake3 | None
    ) -> list[int | tuple[ChunkId, bytes]]:
        """The next chunks from a cut at `position` on: old chunk numbers and fresh chunks, a group of them at most.

        Stops early, perhaps with nothing, where bytes of the base are missing (composite.missing tells which).
        """
        problem = _Suffix(source, sizes, position)
        steps: list[int | tuple[ChunkId, bytes]] = []
        taken = 0
        try:
            for step in problem.recut(composite.read_at, self._params):
                if isinstance(step, Fresh):
                    data = bytes(step.data)
                    if hasher is not None:
                        hasher.update(data)
                    steps.append((chunk_id(self._keys, data), data))
                    taken += len(data)
                else:
                    hasher = None
                    steps.append(step.index + problem.skipped)
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


class _Suffix:
    """The re-chunking problem from a cut on: cuts never depend on what came before, so the solutions fit together."""

    def __init__(self, source: LayerSource, sizes: list[int], position: int) -> None:
        ends = list(accumulate(sizes))
        self.skipped = next((index for index, end in enumerate(ends) if end > position), len(ends))
        self._position = position
        self._sizes = sizes[self.skipped :]
        self._size = source.size - position
        self._limit = max(0, source.limit_below - position)
        self._changed = RangeSet(
            (max(0, start - position), end - position) for start, end in source.spans if end > position
        )
        if self._sizes and (inside := position - (ends[self.skipped] - sizes[self.skipped])) > 0:
            # The cut lies inside an old chunk: what is left of that one is no old chunk to keep.
            self._sizes[0] -= inside
            self._changed.add(0, self._sizes[0])

    def recut(self, read_at: ReadAt, params: ChunkParams) -> Iterator[Fresh | Reuse]:
        position = self._position

        def shifted(offset: int, buffer: memoryview) -> int:
            return read_at(position + offset, buffer)

        return recut(shifted, self._sizes, self._changed, self._limit, self._size, params)


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
        self.held: dict[int, bytes] = {}  # chunk number of the base -> its bytes
        self.missing: int | None = None

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
        index = next(number for number, end in enumerate(self._ends) if end > position)
        data = self.held.get(index)
        if data is None:
            self.missing = index
            return 0
        inside = position - (self._ends[index] - self._sizes[index])
        piece = data[inside : inside + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)


def _is_small(source: LayerSource, small_max: int) -> bool:
    """True if it is one chunk at most and needs nothing of its base."""
    return source.size <= small_max and (source.base is None or source.limit_below == 0)


def _read_small_layers(keys: Keys, sources: Sequence[LayerSource], small_max: int) -> list[tuple[Chunks, Content]]:
    """The layers from the front on that are small, until a group is full."""
    found: list[tuple[Chunks, Content]] = []
    taken = 0
    for source in sources:
        if not _is_small(source, small_max) or taken >= GROUP_BYTES:
            break
        data = bytearray(source.size)
        descriptor = open_file(source.layer) if source.layer is not None else None
        try:
            _Composite(descriptor, source, []).read_at(0, memoryview(data))
        finally:
            if descriptor is not None:
                os.close(descriptor)
        builder = ContentBuilder(keys)
        chunks: Chunks = [(chunk_id(keys, data), bytes(data))] if data else []
        for chunk, piece in chunks:
            builder.add(chunk, len(piece))
        found.append((chunks, builder.finish(blake3(data).hexdigest())))
        taken += source.size
    return found
