"""Reading: local bytes at once, others after the engine has brought their chunks."""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import trio

from fs.hydrate import eager
from fs.hydrate.cache import Unchecked
from fs.hydrate.plan import ChunkMap
from fs.ops import consent
from fs.ops.volume import OpenHandle, Volume
from fs.tree.model import Invalidation
from fs.work.stack import BasePiece, LocalPiece
from sync.core.errors import Integrity
from sync.ipc import frames

ATTEMPTS = 4  # a chunk may be evicted between its fetch and the read; a cache that loses it again and again is broken
SMALL_MAX = 256 * 1024  # bytes of files that are brought with their whole folder
LOOKS = 16  # chunk files may be damaged, and the whole file too; more than that and somebody is writing to them

_NOTHING: Mapping[int, bytes] = MappingProxyType({})


class _Wanted(NamedTuple):
    """What has to be done before the bytes can be read: local chunks to be looked at, else chunks to be fetched."""

    version: str
    indexes: list[int]
    unchecked: list[Unchecked]


async def read(volume: Volume, handle: int, offset: int, size: int) -> bytes:
    """Up to `size` bytes at `offset`; fewer only at the end of the file.

    NoDaemon, StoreAway, TimedOut or Integrity if they are not local and cannot be brought, Refused if they may not be.
    """
    open_handle = volume.handles[handle]
    inline: dict[str, dict[int, bytes]] = {}  # by version: the file's may become another one meanwhile
    fetches = looks = 0
    _read_ahead(volume, open_handle, offset, size)
    while fetches < ATTEMPTS and looks < LOOKS:
        # Looked up anew each time: while this waited the file may have been written to.
        found = _read_local(volume, open_handle, offset, size, inline)
        if isinstance(found, bytes):
            volume.tree.state.inodes.gave_pages(open_handle.ino)
            if not open_handle.flags & os.O_NOATIME:
                open_handle.file.was_read()
            if offset == 0 and len(found) <= eager.SMALL_MAX:
                volume.eager.has_read(open_handle.pid, open_handle.ino)
            return found
        with volume.invalidations.request(open_handle.ino):
            if found.unchecked:
                looks += 1
                await _check(volume, found.unchecked)
                continue
            fetches += 1
            consent.require(volume, open_handle)
            _bring_folder(volume, open_handle, found)
            inline.setdefault(found.version, {}).update(await volume.client.fetch(found.version, found.indexes))
            volume.recent.forget()
        if not open_handle.has_fetched:
            open_handle.has_fetched = True
            volume.invalidations.add([Invalidation(0, "", open_handle.ino, "attr")])  # st_blocks: it is local now
    raise Integrity("what was fetched is not in the cache", hint="is something else emptying the cache folder?")


async def _check(volume: Volume, unchecked: list[Unchecked]) -> None:
    """Look at chunks in a thread. Reads ahead of one file look at the same ones: the second waits for the first."""
    for chunk in unchecked:
        name = (chunk.path, chunk.offset)
        running = volume.checking.get(name)
        if running is not None:
            os.close(chunk.fd)
            await running.wait()
            continue
        volume.checking[name] = done = trio.Event()
        try:
            is_right = await trio.to_thread.run_sync(chunk.is_right, limiter=volume.disk_threads)
            volume.reader.cached.settle(chunk, is_right)
        finally:
            del volume.checking[name]
            done.set()


def _read_local(
    volume: Volume, open_handle: OpenHandle, offset: int, size: int, inline: Mapping[str, Mapping[int, bytes]]
) -> bytes | _Wanted:
    parts: list[bytes] = []
    wanted: _Wanted | None = None
    for piece in open_handle.file.pieces(offset, size):
        if isinstance(piece, LocalPiece):
            parts.append(_pread(piece))
        elif isinstance(piece, BasePiece):
            given = inline.get(piece.version, _NOTHING)
            found = volume.reader.read(piece.version, piece.offset, piece.length, given)
            if found.data is not None:
                parts.append(found.data)
            else:
                wanted = wanted or _Wanted(piece.version, [], [])
                wanted.indexes.extend(index for index in found.missing if index not in wanted.indexes)
                wanted.unchecked.extend(found.unchecked)
        else:
            parts.append(bytes(piece.length))
    if wanted is not None:
        return wanted
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _pread(piece: LocalPiece) -> bytes:
    data = os.pread(piece.fd, piece.length, piece.offset)
    if len(data) < piece.length:
        # The ranges say that the bytes are there; a file cut behind our back must not read as zeros.
        raise Integrity("a work file is shorter than its ranges", hint="see `tcfs fsck`")
    return data


def _read_ahead(volume: Volume, open_handle: OpenHandle, offset: int, size: int) -> None:
    """Ask for what a straight reader will want next. Once a read: asked twice it would look like going straight on."""
    base = open_handle.file.node.base
    chunks: ChunkMap | None = volume.reader.chunks(base) if base is not None else None
    if base is None or chunks is None or len(chunks) < 2 or offset >= chunks.size:
        return
    end = min(offset + size, chunks.size)
    first, last = chunks.index_at(offset), chunks.index_at(end - 1)
    ahead = open_handle.readahead.advance(offset, end - offset, first, last, len(chunks))
    absent = volume.reader.absent(base, ahead) if ahead else []
    if absent and consent.may_fetch(volume, open_handle):
        volume.client.prefetch(base, absent)


def _bring_folder(volume: Volume, open_handle: OpenHandle, wanted: _Wanted) -> None:
    """A program that goes through a folder reading is spared the wait for each of its small files."""
    chunks = volume.reader.chunks(wanted.version)
    if chunks is None or len(chunks) != 1 or chunks.size > SMALL_MAX:
        return
    folder = volume.tree.parent_of(open_handle.ino)
    if folder != open_handle.ino and volume.walks.note(open_handle.pid, folder, open_handle.ino):
        volume.client.hint(frames.FetchFolder(folder))
