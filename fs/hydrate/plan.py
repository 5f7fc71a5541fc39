"""Which chunks a read needs. Pure: chunk lists in, slices out."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from sync.core.errors import Integrity
from sync.core.manifest import ChunkId


class ChunkSlice(NamedTuple):
    """Bytes [start, end) of the chunk with the index `chunk`."""

    chunk: int
    start: int
    end: int


class ChunkMap:
    """The chunks of one version by offset. Immutable; `size` is the whole content's, in bytes."""

    __slots__ = ("_starts", "ids", "size")

    def __init__(self, ids: Sequence[ChunkId], sizes: Sequence[int]) -> None:
        """`ids`, `sizes` as ShownView.chunk_list gives them; Integrity if they cannot be right."""
        if len(ids) != len(sizes) or any(size <= 0 for size in sizes):
            raise Integrity("a chunk list that makes no sense")
        self.ids = tuple(ids)
        self._starts = [0, *accumulate(sizes)]
        self.size = self._starts[-1]

    def __len__(self) -> int:
        return len(self.ids)

    def chunk_size(self, index: int) -> int:
        return self._starts[index + 1] - self._starts[index]

    def chunk_start(self, index: int) -> int:
        return self._starts[index]

    def index_at(self, offset: int) -> int:
        """The chunk that holds the byte at `offset`, which must lie inside the content."""
        return bisect_right(self._starts, offset) - 1

    def slices(self, offset: int, length: int) -> list[ChunkSlice]:
        """What to read for [offset, offset + length), in order; cut at the end of the content, so perhaps nothing."""
        end = min(offset + length, self.size)
        found: list[ChunkSlice] = []
        if offset >= end:
            return found
        for index in range(self.index_at(offset), self.index_at(end - 1) + 1):
            start = self._starts[index]
            found.append(ChunkSlice(index, max(offset - start, 0), min(end, self._starts[index + 1]) - start))
        return found
