"""Small helpers around reading chunks."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import cast

from sync.cas.reader import ChunkReader, Keep
from sync.core.manifest import ChunkId
from sync.worker.context import Context
from sync.worker.lost import note_damaged, note_read

Pairs = AsyncGenerator[tuple[ChunkId, bytes], None]
Ranges = AsyncGenerator[list[tuple[ChunkId, bytes]], None]


def chunk_reader(context: Context) -> ChunkReader:
    """Reads the chunks of the fleet; what is found lost on the way is remembered."""
    db = context.db
    return ChunkReader(
        context.env,
        context.keys,
        context.store,
        db.packs.locate,
        lambda key, error: note_damaged(db, key, error),
        lambda key: note_read(db, key),
    )


def reading(reader: ChunkReader, ids: Sequence[ChunkId]) -> "aclosing[Pairs]":
    """`async with reading(reader, ids) as found:` reads chunks, and stops what is under way when the block is left."""
    return aclosing(cast(Pairs, reader.read(ids)))


def reading_ranges(
    reader: ChunkReader, ids: Sequence[ChunkId], keep: Keep, first: Collection[ChunkId]
) -> "aclosing[Ranges]":
    """As reading, with all that one request has brought at a time; keep and first as of ChunkReader.read_ranges."""
    return aclosing(cast(Ranges, reader.read_ranges(ids, keep, first)))
