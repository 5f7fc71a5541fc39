"""Small helpers around reading chunks."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast

from sync.cas.reader import ChunkReader
from sync.core.manifest import ChunkId

Pairs = AsyncGenerator[tuple[ChunkId, bytes], None]
Ranges = AsyncGenerator[list[tuple[ChunkId, bytes]], None]


def reading(reader: ChunkReader, ids: Sequence[ChunkId]) -> "aclosing[Pairs]":
    """`async with reading(reader, ids) as found:` reads chunks, and stops what is under way when the block is left."""
    return aclosing(cast(Pairs, reader.read(ids)))


def reading_ranges(reader: ChunkReader, ids: Sequence[ChunkId]) -> "aclosing[Ranges]":
    """As reading, with all that one request has brought at a time."""
    return aclosing(cast(Ranges, reader.read_ranges(ids)))
