"""What newer versions have of an old whole file: its chunks stay here, without anybody waiting until they are copied.

Of a file that was changed in place only what was changed is kept as chunks by its publishing. The rest lies in the
whole file of the version before, which the newer one does not show. A small one is copied at once. The chunks of a
large one are lent: who asks for one gets it out of the whole file, and by and by all of them are copied, a piece at a
time, where there is room that nobody else needs, while anything shows a newer version. A minute later the whole file
goes, unless something else shows it. What is lent stands in fleet.db, so the next engine goes on with it.

The cache may evict such a file like any other that nothing needs, and there is nothing to be lent then. It counts as
used when something of it is lent or taken: its own time is that of its writing, perhaps long ago.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
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
PAUSES_S: Final = (1, 2, 4, 8, 16, 32, 64)  # before what could not be done is tried again, the last one for ever
TRIES: Final = 14  # of letting go, in ten minutes: what is needed longer is another file's own, and no business of ours
WRITTEN_S: Final = 60.0  # what was copied is on the disk by then: a machine that loses its power has one or the other
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
    place: _Place


Needed = Callable[[], Collection[str]]  # for a thread: what must stay, see ChunkCache. TcfsError: anything may have to
Moved = Callable[[list[int], bool], None]  # see CacheKeeper


@dataclass(slots=True)
class _Old:
    """A whole file of which something is lent. left: what of that is to be copied; newer: contents that have it, and of
    each the one that it was made of.
    """

    base: str
    lent: dict[ChunkId, _Place] = field(default_factory=dict)
    left: dict[ChunkId, _Place] = field(default_factory=dict)
    newer: dict[str, str] = field(default_factory=dict)
    not_before: float = 0.0  # monotonic
    tries: int = 0


class Reused:
    """For the event loop; `take` for any thread."""

    def __init__(self, context: Context, cache: ChunkCache) -> None:
        self._context = context
        self._cache = cache
        self._olds: dict[str, _Old] = {}  # by content_id
        self._copying = asyncio.Lock()
        self._saving = asyncio.Lock()
        found: list[_Kept] = []
        with contextlib.suppress(msgspec.DecodeError):  # of another version of tcfs: what is not copied is fetched
            found = _kept.decode(context.db.meta(REUSED) or "[]")
        for kept in found:
            with contextlib.suppress(TcfsError):  # its version, or the list of its chunks, is not known any more
                ids, sizes = context.db.view.chunk_list(kept.base)
                content_id = context.db.view.manifest(kept.base).content_id
                places = _places(ids, sizes, RangeSet(kept.chunks))
                self._olds[content_id] = _Old(kept.base, places, dict(places), dict.fromkeys(kept.newer, content_id))

    def has_work(self) -> bool:
        return bool(self._olds)

    async def keep(
        self, version: str, ids: Sequence[ChunkId], sizes: Sequence[int], indexes: RangeSet, newer: str
    ) -> None:
        """Of the chunks of a version (ids, sizes) a newer content has these. They stay here if its whole file has them.

        Those of a small file are copied when this returns, as far as there is room for all of them.
        """
        env, content_id = self._context.env, self._context.db.view.manifest(version).content_id
        if content_id == newer:
            return  # the same bytes were written again
        changed = [old for old in self._olds.values() if content_id in old.newer]
        if self._cache.has_whole(content_id):
            places = await env.run_io(_places, ids, sizes, indexes)
            if sum(sizes) <= KEEP_MAX:
                await run_to_end(env, self._copy, content_id, places, io=True)
            else:
                await env.run_io(self._cache.used, [bytes.fromhex(content_id)])
                old = self._olds.setdefault(content_id, _Old(version))
                changed.append(old)
                # What is lent is copied, or will be, whatever publishing fails and begins again.
                if fresh := {chunk: place for chunk, place in places.items() if chunk not in old.lent}:
                    old.lent |= fresh
                    old.left |= fresh
                    old.not_before, old.tries = 0.0, 0
        for old in changed:
            old.newer[newer] = content_id
        if changed:
            await self._save()

    def lenders(self, needed: Collection[str]) -> frozenset[str]:
        """The old contents without whose whole files some of these would not be here. For any thread."""
        olds = [(content_id, old.newer.keys()) for content_id, old in list(self._olds.items()) if old.left]
        return frozenset(content_id for content_id, newer in olds if not newer.isdisjoint(needed))

    # ---- who reads

    def lent(self, chunks: Collection[ChunkId]) -> dict[ChunkId, Lent]:
        """Those of these chunks that are to be had from a whole file."""
        found: dict[ChunkId, Lent] = {}
        for content_id, old in self._olds.items():
            lent = {chunk: Lent(content_id, old.lent[chunk]) for chunk in chunks if chunk in old.lent}
            if lent and self._cache.has_whole(content_id):
                found |= lent
        return found

    def take(self, lent: Mapping[ChunkId, Lent]) -> dict[ChunkId, bytes]:
        """Have these in the cache, as somebody reads them; the bytes of those that it cannot take."""
        inline: dict[ChunkId, bytes] = {}
        self._cache.used({bytes.fromhex(each.content_id) for each in lent.values()})  # or they would push it out
        for chunk, (content_id, place) in lent.items():
            with contextlib.suppress(OSError), open_quietly(self._cache.whole_path(content_id)) as file:
                data = self._read(file.fileno(), chunk, place)
                if data is not None and self._cache.put_checked([(chunk, data)]).refused:
                    inline[chunk] = data
        return inline

    async def forget(self, chunks: Collection[ChunkId]) -> None:
        """These were freed on purpose: they are lent no more, and not copied."""
        async with self._copying:
            for old in self._olds.values():
                lent = len(old.lent)
                for chunk in chunks:
                    old.left.pop(chunk, None)
                    old.lent.pop(chunk, None)
                if len(old.lent) < lent and not old.left:
                    self._rest(old)
        await self._save()

    # ---- by and by

    async def run_once(self, needed: Needed, moved: Moved) -> None:
        """Copy what is lent, one file after the other, and let go of the whole files that are not needed then. moved is
        called at once for the newer contents when they are all here, and for an old one that has gone.
        """
        await self._let_go_due(needed, moved)
        for content_id, old in self._due():
            if old.left:
                await self._copy_all(content_id, old, needed, moved)

    def _due(self) -> list[tuple[str, _Old]]:
        now = self._context.env.monotonic()
        return [(content_id, old) for content_id, old in self._olds.items() if old.not_before <= now]

    def _rest(self, old: _Old) -> None:
        """Nothing is left to be copied. What was freed on purpose need not be on the disk."""
        old.not_before, old.tries = self._context.env.monotonic() + WRITTEN_S if old.lent else 0.0, 0

    def _later(self, old: _Old) -> None:
        old.not_before = self._context.env.monotonic() + PAUSES_S[min(old.tries, len(PAUSES_S) - 1)]
        old.tries += 1

    async def _let_go_due(self, needed: Needed, moved: Moved) -> None:
        for content_id, old in [(content_id, old) for content_id, old in self._due() if not old.left]:
            await self._let_go(content_id, old, needed, moved)

    async def _let_go(self, content_id: str, old: _Old, needed: Needed, moved: Moved) -> None:
        """All of it is copied. What needs the whole file nevertheless may be the last moment of its publishing."""
        is_over = await self._context.env.run_io(self._is_over, content_id, needed)
        if is_over and not old.left:
            await self._context.env.run_io(self._cache.drop_whole, content_id)
            moved([file_value(content_id)], True)
        if old.left:
            return  # it was changed anew, just now
        if is_over or old.tries == TRIES:
            del self._olds[content_id]
            await self._save()
        else:
            self._later(old)

    async def _copy_all(self, content_id: str, old: _Old, needed: Needed, moved: Moved) -> None:
        """As far as there is room. What other files wait for does not wait for the end of it."""
        env, newer = self._context.env, dict(old.newer)
        for each in newer.keys() - await env.run_io(self._wanted, newer, needed):
            old.newer.pop(each, None)
        if not old.newer:
            old.lent, old.left = {}, {}
        while old.left:
            await self._let_go_due(needed, moved)
            began = env.monotonic()
            async with self._copying:
                piece = _piece(old.left)
                if not await run_to_end(env, self._copy, content_id, piece, io=True):
                    self._later(old)
                    return
                for chunk in piece:
                    old.left.pop(chunk, None)
            await env.sleep(env.monotonic() - began)  # half of the disk's time is for those who wait for it
        if old.lent:
            moved([file_value(each) for each in old.newer], False)
        self._rest(old)

    def _copy(self, content_id: str, places: Mapping[ChunkId, _Place]) -> bool:
        """Have these chunks in the cache, but for those that are damaged. False if there is no room for all of them."""
        try:
            file = open_quietly(self._cache.whole_path(content_id))
        except FileNotFoundError:
            return True  # evicted, with all that was lent
        except OSError:
            return False
        with file:
            missing = {chunk: place for chunk, place in places.items() if not self._cache.has(chunk, place.size)}
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

    def _is_over(self, content_id: str, needed: Needed) -> bool:
        """True if the whole file is gone, or nothing needs it. What was shown may become needed, not the other way."""
        if not self._cache.has_whole(content_id):
            return True
        try:
            return not (self._is_shown(content_id) or content_id in needed())
        except TcfsError:
            return False

    def _wanted(self, newer: Mapping[str, str], needed: Needed) -> Set[str]:
        """Those that something shows, needs, or is about to: what it is made of is needed until it is published."""
        try:
            now = needed()
            return {each for each, base in newer.items() if each in now or base in now or self._is_shown(each)}
        except TcfsError:
            return newer.keys()

    def _is_shown(self, content_id: str) -> bool:
        value, row_id = file_value(content_id), 0
        while row_id is not None:
            ((row_id, is_shown),) = self._context.db.query(_SHOWN, value, row_id, ROWS_AT_ONCE)
            if is_shown:
                return True
        return False

    async def _save(self) -> None:
        async with self._saving:
            olds = [(old.base, list(old.lent.values()), sorted(old.newer)) for old in self._olds.values()]
            with contextlib.suppress(NoSpace):  # the next engine does not know of it: what is not copied is fetched
                await run_to_end(self._context.env, self._write, olds)

    def _write(self, olds: Sequence[tuple[str, Sequence[_Place], list[str]]]) -> None:
        kept = [_Kept(base, list(_numbers(places)), newer) for base, places, newer in olds]
        with self._context.db.transaction() as txn:
            txn.set_meta(REUSED, msgspec.json.encode(kept).decode() if kept else None)


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
