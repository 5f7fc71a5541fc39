"""Where files are cut into chunks: FastCDC v2020 (Xia et al., IEEE TPDS 31(9)), as pyfastcdc implements it.

Where a chunk ends depends only on its own bytes, on the one byte that follows it and, within max_size of the end of
the file, on where that end is: never on what came before. So after a change it is enough to cut from the start of the
chunk that the change touches until a cut falls on an old one: recut does that. And far inside a hole all chunks are the
same one: recut does not read it, however large it is.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pyfastcdc import FastCDC

from sync.core.codec import CHUNK_RAW_MAX
from sync.core.ranges import RangeSet

MIN_SIZE = 256 << 10
AVG_SIZE = 1 << 20
MAX_SIZE = 4 << 20

# How far beyond a chunk the cut at its end may look: the hash includes the byte that follows, and positions are tried
# in pairs, so that an end of file one byte behind the cut hides it.
_LOOKAHEAD = 2

Read = Callable[[memoryview], int]  # fills the start of the buffer, returns how many bytes; 0 = end of file
ReadAt = Callable[[int, memoryview], int]  # the same from an offset


@dataclass(frozen=True, slots=True)
class ChunkParams:
    """How a fleet cuts. Sizes in bytes; min <= avg <= max. ValueError for what the chunker or the formats cannot do."""

    seed: int
    min_size: int = MIN_SIZE
    avg_size: int = AVG_SIZE
    max_size: int = MAX_SIZE

    def __post_init__(self) -> None:
        if self.max_size > CHUNK_RAW_MAX:
            raise ValueError(f"chunks of {self.max_size} bytes are too large, the most is {CHUNK_RAW_MAX}")
        if not 0 < self.seed < 1 << 63:
            raise ValueError("the chunker's seed is 1 to 2**63 - 1")
        self.cutter()

    def cutter(self) -> FastCDC:
        """A new chunker; not to be shared by threads."""
        return FastCDC(self.avg_size, min_size=self.min_size, max_size=self.max_size, seed=self.seed)


@dataclass(frozen=True, slots=True)
class Reuse:
    """A chunk of the new content that is the old content's chunk number `index`, unread."""

    index: int


@dataclass(frozen=True, slots=True)
class Fresh:
    """A chunk of the new content from `offset` on. data is valid until the next step of the iterator."""

    offset: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class Zeros:
    """`count` chunks of `size` zeros each, from `offset` on, unread."""

    offset: int
    size: int
    count: int


def zero_chunk(params: ChunkParams) -> int:
    """The size of a chunk in the midst of zeros: it begins with 2 * max_size of them, or more."""
    return len(next(cut(len, 2 * params.max_size, params)))  # a buffer is made of zeros, and this leaves it so


def cut(read: Read, size_hint: int, params: ChunkParams) -> Iterator[memoryview]:
    """The chunks of everything `read` gives; each is valid until the next step. Nothing at all for an empty file.

    size_hint, in bytes, is what the file is believed to hold: it sizes the buffer and is not relied on. Memory is
    2 * max_size at most.
    """
    window = _Window(lambda _, buffer: read(buffer), 0, params, size_hint)
    while (data := window.next_chunk(params.max_size)) is not None:
        yield data


def recut(
    read_at: ReadAt,
    old_ends: Sequence[int],
    changed: RangeSet,
    base_limit: int,
    new_size: int,
    params: ChunkParams,
    *,
    zeros: RangeSet | None = None,
    start: int = 0,
) -> Iterator[Reuse | Fresh | Zeros]:
    """The chunks of a changed file, equal to cutting it from byte 0, but reading only around the changes.

    old_ends are the ends of the old content's chunks, cut with the same params. Byte i of the new content equals the
    old one's unless it is in `changed` or i >= base_limit. read_at reads the new content; only chunks that a change may
    have touched are read, up to the first cut that falls on an old one. zeros: where the new content is known to be
    zeros. start: a cut to go on from. EOFError if read_at ends before new_size.
    """
    old_size = old_ends[-1] if old_ends else 0
    limit = min(base_limit, old_size, new_size)
    same_end = limit == old_size == new_size
    zero_size = 0  # not asked for yet

    def start_of(index: int) -> int:
        return old_ends[index - 1] if index else 0

    def is_untouched(index: int) -> bool:
        end = old_ends[index] + _LOOKAHEAD
        return (end <= limit or same_end) and not changed.intersects(start_of(index), end)

    position = start
    index = bisect_right(old_ends, position)  # the first old chunk that ends behind position
    window: _Window | None = None
    while position < new_size:
        run = min(zeros.run_end(position), new_size) - position if zeros is not None else 0
        if index < len(old_ends) and start_of(index) == position and is_untouched(index):
            window = None
            yield Reuse(index)
            position = old_ends[index]
        elif run >= 2 * params.max_size:
            window = None
            zero_size = zero_size or zero_chunk(params)
            found = Zeros(position, zero_size, (run - 2 * params.max_size) // zero_size + 1)
            yield found
            position += found.size * found.count
        else:
            if window is None:
                window = _Window(_bounded(read_at, new_size), position, params, new_size - position)
            data = window.next_chunk(_first_look(old_ends, index, position, limit, changed, params))
            if data is None:
                raise EOFError(f"the file ends at {position}, not at {new_size}")
            yield Fresh(position, data)
            position += len(data)
        index = bisect_right(old_ends, position, index)


def _first_look(
    ends: Sequence[int], index: int, position: int, limit: int, changed: RangeSet, params: ChunkParams
) -> int:
    """How many bytes to read before the first try to cut: to just behind the next old cut that may stand again."""
    for end in ends[index : index + 1 + params.max_size // params.min_size]:
        behind = end + _LOOKAHEAD
        if params.min_size <= end - position and behind <= limit and not changed.intersects(end - 1, behind):
            return min(behind - position, params.max_size)
    return params.max_size


def _bounded(read_at: ReadAt, size: int) -> ReadAt:
    def read(offset: int, buffer: memoryview) -> int:
        wanted = min(len(buffer), size - offset)
        return read_at(offset, buffer[:wanted]) if wanted > 0 else 0

    return read


class _Window:
    """A sliding buffer over a file from `start` on, cut chunk by chunk."""

    def __init__(self, read_at: ReadAt, start: int, params: ChunkParams, size_hint: int) -> None:
        self._read_at = read_at
        self._params = params
        self._cutter: FastCDC | None = None  # small files never need one
        # One byte more than the file: room to see its end.
        self._buffer = memoryview(bytearray(min(2 * params.max_size, size_hint + 1)))
        self._begin = 0  # buffer[begin:end] is read and not yet cut
        self._end = 0
        self._offset = start  # of buffer[end] in the file
        self._at_eof = False

    def next_chunk(self, first_look: int) -> memoryview | None:
        """The next chunk, None at the end; it tries with first_look bytes, and reads on as long as that does not do.

        A cut in front of the end of what is read does not depend on what follows; one at that end may, unless it is
        the file's end or the chunk is of max_size.
        """
        maximum = self._params.max_size
        look = max(first_look, self._params.min_size + _LOOKAHEAD)
        while True:
            self._fill(min(look, maximum))
            available = self._end - self._begin
            if available == 0:
                return None
            view = self._buffer[self._begin : self._end]
            length = self._cut(view)
            if length < available or available >= maximum or self._at_eof:
                self._begin += length
                return view[:length]
            look = available + self._params.avg_size

    def _cut(self, view: memoryview) -> int:
        if len(view) <= self._params.min_size:
            return len(view)
        if self._cutter is None:
            self._cutter = self._params.cutter()
        return int(next(iter(self._cutter.cut_buf(view))).length)

    def _fill(self, wanted: int) -> None:
        """Have at least `wanted` bytes uncut in the buffer, or all up to the end of the file."""
        while not self._at_eof and (missing := wanted - (self._end - self._begin)) > 0:
            if self._end == len(self._buffer):
                self._make_room()
            got = self._read_at(self._offset, self._buffer[self._end : self._end + missing])
            self._end += got
            self._offset += got
            self._at_eof = got == 0

    def _make_room(self) -> None:
        """Move what is uncut to the front; a larger buffer if it is there already (the size hint was too small)."""
        kept = self._end - self._begin
        target = self._buffer if self._begin else memoryview(bytearray(2 * self._params.max_size))
        target[:kept] = self._buffer[self._begin : self._end]
        self._buffer, self._begin, self._end = target, 0, kept
