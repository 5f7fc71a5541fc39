"""What newer versions have of an old whole file: its chunks stay here, without anybody waiting until they are copied.

Of a file that was changed in place only what was changed is kept as chunks by its publishing. The rest lies in the
whole file of the version before, which the newer one does not show. A small one is copied at once. The chunks of a
large one are lent: who asks for one gets it out of the whole file, and by and by all of them are copied, a piece at a
time, where there is room that nobody else needs. A minute later the whole file goes, unless something else shows it.
What is lent stands in fleet.db, so the next engine goes on with it.

The cache may evict such a file like any other, and there is nothing to be lent then. It counts as used when it is first
lent: until then the time of its last use is that of its writing, perhaps long ago.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec

from sync.cas.cache import ChunkCache, open_quietly
from sync.core.codec import chunk_id
from sync.core.errors import NoSpace, TcfsError
from sync.core.manifest import ChunkId
from sync.core.ranges import RangeSet
from sync.state.rows import file_value
from sync.worker.context import Context
from sync.worker.threads import run_to_end

KEEP_MAX: Final = 256 << 20  # bytes of a file whose unchanged part is copied while its publishing waits: 0.5 s
PIECE: Final = 16 << 20  # bytes that one trip to a thread copies: some 40 ms
FIRST_S: Final = 1.0  # before what could not be done is tried again; twice as long each time
LAST_S: Final = 60.0  # the longest time before there may be room
WRITTEN_S: Final = 60.0  # what was copied is on the disk by then: a machine that loses its power has one or the other
SHOWN_S: Final = 600.0  # a whole file that is needed for so long is another file's own, and no business of ours
BLOCK: Final = 4096  # bytes of disk that a file may take beyond its size
ROWS_AT_ONCE: Final = 50_000  # of `shown`, some 5 ms: who reads fleet.db waits for a query

REUSED: Final = "reused"  # meta: JSON [_Kept]

_SHOWN: Final = "SELECT max(id), max(value = ?) FROM (SELECT id, value FROM shown WHERE id > ? ORDER BY id LIMIT ?)"


class _Kept(msgspec.Struct, frozen=True):
    """As it stands in fleet.db. base: the version; chunks: ranges of numbers of its chunks; newer: content_ids."""

    base: str
    chunks: list[tuple[int, int]]
    newer: list[str]


_kept = msgspec.json.Decoder(list[_Kept])


class _Place(NamedTuple):
    """Where a chunk lies in a whole file, bytes; and which of its chunks it is, from 0."""

    number: int
    start: int
    size: int


class Lent(NamedTuple):
    content_id: str
    chunk: ChunkId
    place: _Place


class Copied(NamedTuple):
    """Tokens (shown.value) of contents that are all here now, and of those whose whole file went."""

    came: list[int]
    gone: list[int]


@dataclass(slots=True)
class _Old:
    """A whole file of which something is lent. left: what of that is to be copied; newer: contents that have it."""

    base: str
    lent: dict[ChunkId, _Place] = field(default_factory=dict)
    left: dict[ChunkId, _Place] = field(default_factory=dict)
    newer: set[str] = field(default_factory=set)
    not_before: float = 0.0  # monotonic
    pause: float = FIRST_S


class Reused:
    """For the event loop; `take` for any thread."""

    def __init__(self, context: Context, cache: ChunkCache) -> None:
        self._context = context
        self._cache = cache
        self._olds: dict[str, _Old] = {}  # by content_id
        self._copying = asyncio.Lock()
        self._saving = asyncio.Lock()
        for kept in _kept.decode(context.db.meta(REUSED) or "[]"):
            with contextlib.suppress(TcfsError):  # its version, or the list of its chunks, is not known any more
                ids, sizes = context.db.view.chunk_list(kept.base)
                content_id = context.db.view.manifest(kept.base).content_id
                places = _places(ids, sizes, RangeSet(kept.chunks))
                self._olds[content_id] = _Old(kept.base, places, dict(places), set(kept.newer))

    def has_work(self) -> bool:
        return bool(self._olds)

    async def keep(
        self, version: str, ids: Sequence[ChunkId], sizes: Sequence[int], indexes: RangeSet, newer: str
    ) -> None:
        """Of the chunks of a version (ids, sizes) a newer content has these. They stay here if its whole file has them.

        Those of a small file are copied when this returns, as far as there is room for all of them.
        """
        content_id = self._context.db.view.manifest(version).content_id
        known = [old for old in self._olds.values() if content_id in old.newer]
        for old in known:
            old.newer = old.newer - {content_id} | {newer}
        is_here = self._cache.has_whole(content_id)
        if is_here and sum(sizes) <= KEEP_MAX:
            await run_to_end(self._context.env, self._copy, content_id, _places(ids, sizes, indexes), io=True)
        elif is_here:
            old = self._olds.setdefault(content_id, _Old(version))
            places = _places(ids, sizes, indexes)
            old.lent |= places
            old.left |= places
            old.newer.add(newer)
            old.not_before, old.pause = 0.0, FIRST_S
            await self._context.env.run_io(self._cache.used, [bytes.fromhex(content_id)])
            known.append(old)
        if known:
            await self._save()

    # ---- who reads

    def lent(self, chunks: Sequence[ChunkId]) -> list[Lent]:
        """Those of these chunks that are to be had from a whole file."""
        return [
            Lent(content_id, chunk, old.lent[chunk])
            for content_id, old in self._olds.items()
            for chunk in chunks
            if chunk in old.lent
        ]

    def take(self, lent: Sequence[Lent]) -> dict[ChunkId, bytes]:
        """Have these in the cache, as somebody reads them; the bytes of those that it cannot take."""
        inline: dict[ChunkId, bytes] = {}
        for content_id, chunk, place in lent:
            with contextlib.suppress(OSError), open_quietly(self._cache.whole_path(content_id)) as file:
                data = self._read(file.fileno(), chunk, place)
                if data is not None and self._cache.put_checked([(chunk, data)]).refused:
                    inline[chunk] = data
        return inline

    async def forget(self, chunks: Sequence[ChunkId]) -> None:
        """These were freed on purpose: they are lent no more, and not copied."""
        async with self._copying:
            for old in self._olds.values():
                for chunk in chunks:
                    old.left.pop(chunk, None)
                    if old.lent.pop(chunk, None) is not None:
                        old.not_before = 0.0
        await self._save()

    # ---- by and by

    async def run_once(self, is_needed: Callable[[str], bool]) -> Copied:
        """Copy what is lent, one file after the other, and let go of the whole files that are not needed then.

        is_needed: for a thread; whether something but a shown file wants a content to stay. TcfsError: it may.
        """
        env, done = self._context.env, Copied([], [])
        for content_id, old in list(self._olds.items()):
            if env.monotonic() < old.not_before:
                continue
            if old.left and await self._copy_all(content_id, old):
                done.came.extend(file_value(newer) for newer in old.newer)
                old.not_before, old.pause = env.monotonic() + WRITTEN_S, FIRST_S
            elif old.left:
                old.not_before, old.pause = env.monotonic() + old.pause, min(2 * old.pause, LAST_S)
            else:
                await self._let_go(content_id, old, is_needed, done.gone)
        return done

    async def _let_go(self, content_id: str, old: _Old, is_needed: Callable[[str], bool], gone: list[int]) -> None:
        """All of it is copied. What needs the whole file nevertheless may be the last moment of its publishing."""
        env = self._context.env
        is_over = await env.run_io(self._is_over, content_id, is_needed)
        if old.left:
            return  # it was changed anew, just now
        if is_over:
            await env.run_io(self._cache.drop_whole, content_id)
            gone.append(file_value(content_id))
        if is_over or old.pause > SHOWN_S:
            del self._olds[content_id]
            await self._save()
        else:
            old.not_before, old.pause = env.monotonic() + old.pause, 2 * old.pause

    async def _copy_all(self, content_id: str, old: _Old) -> bool:
        """False if there is no room for all of it."""
        env = self._context.env
        while old.left:
            began = env.monotonic()
            async with self._copying:
                piece = _piece(old.left)
                if not await run_to_end(env, self._copy, content_id, piece, io=True):
                    return False
                for chunk in piece:
                    old.left.pop(chunk, None)
            await env.sleep(env.monotonic() - began)  # half of the disk's time is for those who wait for it
        return True

    def _copy(self, content_id: str, places: Mapping[ChunkId, _Place]) -> bool:
        """Have these chunks in the cache, but for those that are damaged. False if there is no room for all of them."""
        try:
            file = open_quietly(self._cache.whole_path(content_id))
        except FileNotFoundError:
            return True  # evicted, with all that was lent
        except OSError:
            return False
        with file:
            missing = {chunk: place for chunk, place in places.items() if not self._cache.has(chunk)}
            size = sum(place.size + BLOCK for place in missing.values())
            if missing and not self._cache.room.has_spare(size, evicting=False):
                return False
            for chunk, place in missing.items():
                data = self._read(file.fileno(), chunk, place)
                if data is not None and self._cache.put_checked([(chunk, data)]).refused:
                    return False
        return True

    def _read(self, descriptor: int, chunk: ChunkId, place: _Place) -> bytes | None:
        """None if they are not the bytes of the chunk, or the disk cannot give them back."""
        try:
            data = os.pread(descriptor, place.size, place.start)
        except OSError:
            return None
        return data if chunk_id(self._context.keys, data) == chunk else None

    def _is_over(self, content_id: str, is_needed: Callable[[str], bool]) -> bool:
        """True if the whole file is gone, or nothing needs it."""
        if not self._cache.has_whole(content_id):
            return True
        try:
            return not (is_needed(content_id) or self._is_shown(content_id))
        except TcfsError:
            return False

    def _is_shown(self, content_id: str) -> bool:
        value, row_id = file_value(content_id), 0
        while row_id is not None:
            ((row_id, is_shown),) = self._context.db.query(_SHOWN, value, row_id, ROWS_AT_ONCE)
            if is_shown:
                return True
        return False

    async def _save(self) -> None:
        async with self._saving:
            kept = [
                _Kept(old.base, list(_numbers(old.lent.values())), sorted(old.newer)) for old in self._olds.values()
            ]
            with contextlib.suppress(
                NoSpace
            ):  # who starts anew then does not know of it: what is not copied is fetched
                await run_to_end(self._context.env, self._write, msgspec.json.encode(kept).decode() if kept else None)

    def _write(self, text: str | None) -> None:
        with self._context.db.transaction() as txn:
            txn.set_meta(REUSED, text)


def _places(ids: Sequence[ChunkId], sizes: Sequence[int], indexes: RangeSet) -> dict[ChunkId, _Place]:
    starts = [0, *accumulate(sizes)]
    return {
        ids[index]: _Place(index, starts[index], sizes[index]) for start, end in indexes for index in range(start, end)
    }


def _numbers(places: Iterable[_Place]) -> RangeSet:
    return RangeSet((index, index + 1) for index in sorted(place.number for place in places))


def _piece(left: Mapping[ChunkId, _Place]) -> dict[ChunkId, _Place]:
    """The first of them, one at least, up to PIECE bytes."""
    piece: dict[ChunkId, _Place] = {}
    size = 0
    for chunk, place in left.items():
        size += place.size
        if piece and size > PIECE:
            break
        piece[chunk] = place
    return piece
