"""Where chunks lie, and which bytes of packs to read for them. Pure: plans, no I/O."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from sync.core.manifest import ChunkId
from sync.core.packfile import pack_key

RANGE_MAX: Final = 4 << 20  # bytes of one request; a single chunk may be larger by its overhead
RANGE_RAW_MAX: Final = 16 << 20  # plain bytes that one request may turn into: chunks of zeros are short in a pack
GAP_MAX: Final = 16 << 10  # bytes read for nothing where that saves a request


class ChunkPlace(msgspec.Struct, frozen=True):
    """One place of a chunk. offset and length: of its encoded bytes in the pack; raw_length: plain; flags: 1 = zstd."""

    pack_id: str
    machine_id: str
    offset: int
    length: int
    raw_length: int
    flags: int

    @property
    def key(self) -> str:
        """The pack's object."""
        return pack_key(self.machine_id, self.pack_id)

    @property
    def end(self) -> int:
        return self.offset + self.length


class PackRange(msgspec.Struct, frozen=True):
    """Bytes [start, end) of one pack, and the chunks wanted in them, by offset."""

    key: str
    start: int
    end: int
    chunks: tuple[tuple[ChunkId, ChunkPlace], ...]


def plan_ranges(ids: Iterable[ChunkId], places: Mapping[ChunkId, Sequence[ChunkPlace]]) -> list[PackRange]:
    """The fewest requests that bring all of ids, ordered by the first of ids that each brings.

    Every id must have a place. Where there is a choice a pack that is read anyway is preferred, then the first place.
    """
    rank: dict[ChunkId, int] = {}
    packs: dict[str, list[tuple[ChunkId, ChunkPlace]]] = {}
    for chunk in ids:
        if chunk not in rank:
            rank[chunk] = len(rank)
            candidates = places[chunk]
            place = next((each for each in candidates if each.key in packs), candidates[0])
            packs.setdefault(place.key, []).append((chunk, place))
    ranges = [planned for chunks in packs.values() for planned in _split(chunks)]
    return sorted(ranges, key=lambda planned: min(rank[chunk] for chunk, _ in planned.chunks))


def _split(chunks: Sequence[tuple[ChunkId, ChunkPlace]]) -> list[PackRange]:
    ranges: list[PackRange] = []
    run: list[tuple[ChunkId, ChunkPlace]] = []
    raw = 0
    for chunk, place in sorted(chunks, key=lambda item: item[1].offset):
        is_near = bool(run) and place.offset - run[-1][1].end <= GAP_MAX
        if run and not (
            is_near and place.end - run[0][1].offset <= RANGE_MAX and raw + place.raw_length <= RANGE_RAW_MAX
        ):
            ranges.append(_range(run))
            run, raw = [], 0
        run.append((chunk, place))
        raw += place.raw_length
    if run:
        ranges.append(_range(run))
    return ranges


def _range(run: Sequence[tuple[ChunkId, ChunkPlace]]) -> PackRange:
    return PackRange(run[0][1].key, run[0][1].offset, max(place.end for _, place in run), tuple(run))
