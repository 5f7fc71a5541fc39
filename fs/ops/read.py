"""Reading: local bytes at once, others after the engine has brought their chunks."""

import os
from typing import NamedTuple

from fs.hydrate.plan import ChunkMap
from fs.ops.volume import OpenHandle, Volume
from fs.tree.model import Invalidation
from fs.work.stack import BasePiece, LocalPiece
from sync.core.errors import Integrity

ATTEMPTS = 4  # a chunk may be evicted between its fetch and the read; a cache that loses it again and again is broken


class _Missing(NamedTuple):
    version: str
    indexes: list[int]


async def read(volume: Volume, handle: int, offset: int, size: int) -> bytes:
    """Up to `size` bytes at `offset`; fewer only at the end of the file.

    NoDaemon, StoreAway, TimedOut or Integrity if they are not local and cannot be brought.
    """
    open_handle = volume.handles[handle]
    inline: dict[int, bytes] = {}
    for _ in range(ATTEMPTS):
        # Looked up anew each time: while a fetch was under way the file may have been written to.
        found = _read_local(volume, open_handle, offset, size, inline)
        if not isinstance(found, _Missing):
            return found
        with volume.invalidations.request(open_handle.ino):
            inline |= await volume.client.fetch(found.version, found.indexes)
        if not open_handle.has_fetched:
            open_handle.has_fetched = True
            volume.invalidations.add([Invalidation(0, "", open_handle.ino, "attr")])  # st_blocks: it is local now
    raise Integrity("what was fetched is not in the cache", hint="is something else emptying the cache folder?")


def _read_local(
    volume: Volume, open_handle: OpenHandle, offset: int, size: int, inline: dict[int, bytes]
) -> "bytes | _Missing":
    parts: list[bytes] = []
    missing: _Missing | None = None
    for piece in open_handle.file.pieces(offset, size):
        if isinstance(piece, LocalPiece):
            parts.append(_pread(piece))
        elif isinstance(piece, BasePiece):
            _read_ahead(volume, open_handle, piece)
            found = volume.reader.read(piece.version, piece.offset, piece.length, inline)
            if found.data is not None:
                parts.append(found.data)
            else:
                known = missing.indexes if missing else []
                missing = _Missing(piece.version, [*known, *(n for n in found.missing if n not in known)])
        else:
            parts.append(bytes(piece.length))
    if missing is not None:
        return missing
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _pread(piece: LocalPiece) -> bytes:
    data = os.pread(piece.fd, piece.length, piece.offset)
    if len(data) < piece.length:
        # The ranges say that the bytes are there; a file cut behind our back must not read as zeros.
        raise Integrity("a work file is shorter than its ranges", hint="see `tcfs fsck`")
    return data


def _read_ahead(volume: Volume, open_handle: OpenHandle, piece: BasePiece) -> None:
    chunks: ChunkMap | None = volume.reader.chunks(piece.version)
    if chunks is None or len(chunks) < 2 or piece.offset >= chunks.size:
        return
    end = min(piece.offset + piece.length, chunks.size)
    first, last = chunks.index_at(piece.offset), chunks.index_at(end - 1)
    ahead = open_handle.readahead.advance(piece.offset, end - piece.offset, first, last, len(chunks))
    if ahead:
        volume.client.prefetch(piece.version, volume.reader.absent(piece.version, ahead))
