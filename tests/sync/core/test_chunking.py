import random
from collections.abc import Callable, Iterable
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfastcdc import FastCDC

from sync.core.chunking import ChunkParams, Fresh, Reuse, Zeros, cut, recut, zero_chunk
from sync.core.ranges import RangeSet

SMALL = ChunkParams(seed=12345, min_size=64, avg_size=256, max_size=1024)
REAL = ChunkParams(seed=12345)


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def reader(data: bytes, step: int = 1 << 30) -> Callable[[memoryview], int]:
    """Gives at most `step` bytes a call, as a pipe may."""
    position = 0

    def read(buffer: memoryview) -> int:
        nonlocal position
        piece = data[position : position + min(len(buffer), step)]
        buffer[: len(piece)] = piece
        position += len(piece)
        return len(piece)

    return read


def cut_all(data: bytes, params: ChunkParams = SMALL, step: int = 1 << 30, hint: int | None = None) -> list[bytes]:
    return [bytes(chunk) for chunk in cut(reader(data, step), len(data) if hint is None else hint, params)]


def sizes_of(data: bytes, params: ChunkParams = SMALL) -> list[int]:
    return [len(chunk) for chunk in cut_all(data, params)]


class Counted:
    """A file of which every read is remembered."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read = RangeSet()
        self.bytes_read = 0

    def read_at(self, offset: int, buffer: memoryview) -> int:
        piece = self.data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self.bytes_read += len(piece)
        if piece:
            self.read.add(offset, offset + len(piece))
        return len(piece)


def ends_of(sizes: list[int]) -> list[int]:
    return list(accumulate(sizes))


def read_zeros(offset: int, buffer: memoryview) -> int:
    buffer[:] = bytes(len(buffer))
    return len(buffer)


def recut_sizes(
    file: Counted,
    old_sizes: list[int],
    changed: RangeSet,
    limit: int,
    params: ChunkParams = SMALL,
    zeros: RangeSet | None = None,
) -> list[int]:
    """Sizes of the new chunks; checks offsets and bytes on the way."""
    starts = [0, *accumulate(old_sizes)]
    found: list[int] = []
    for step in recut(file.read_at, ends_of(old_sizes), changed, limit, len(file.data), params, zeros=zeros):
        position = sum(found)
        match step:
            case Reuse(index):
                assert starts[index] == position
                found.append(old_sizes[index])
            case Fresh(offset, data):
                assert offset == position
                assert file.data[offset : offset + len(data)] == data
                found.append(len(data))
            case Zeros(offset, size, count):
                assert offset == position
                assert not any(file.data[offset : offset + size * count])
                found += [size] * count
    return found


def test_the_cuts_are_those_of_the_library() -> None:
    data = noise(1, 20_000)
    library = FastCDC(256, min_size=64, max_size=1024, seed=12345)
    assert sizes_of(data) == [chunk.length for chunk in library.cut_buf(data)]


def test_cuts_golden() -> None:
    data = b"".join(i.to_bytes(4, "big") for i in range(2_000_000))
    assert sizes_of(data, REAL) == [789041, 564062, 323182, 2320723, 2027229, 294380, 628283, 1053100]


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 1), (63, 1), (64, 1)])
def test_a_file_up_to_min_is_one_chunk_and_an_empty_one_has_none(size: int, count: int) -> None:
    assert [len(chunk) for chunk in cut_all(noise(2, size))] == [size] * count


@given(st.integers(0, 5000), st.integers(1, 3000), st.integers(0, 9000))
def test_neither_short_reads_nor_a_wrong_size_hint_move_cuts(size: int, step: int, hint: int) -> None:
    data = noise(size, size)
    chunks = cut_all(data, step=step, hint=hint)
    assert b"".join(chunks) == data
    assert [len(chunk) for chunk in chunks] == sizes_of(data)


def test_a_large_file_is_never_in_memory_as_a_whole() -> None:
    asked: list[int] = []
    left = 64 << 20

    def read(buffer: memoryview) -> int:
        nonlocal left
        asked.append(len(buffer))
        got = min(len(buffer), left)
        left -= got
        return got

    assert sum(len(chunk) for chunk in cut(read, 64 << 20, REAL)) == 64 << 20
    assert max(asked) <= 2 * REAL.max_size


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": 0},
        {"seed": 1 << 63},
        {"seed": 1, "max_size": 8 << 20},
        {"seed": 1, "min_size": 1},
        {"seed": 1, "min_size": 2 << 20},
    ],
)
def test_impossible_params_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        ChunkParams(**wrong)


# What bytes are made of decides where cuts can fall: noise cuts often, zeros only at max_size, few symbols in between.
CONTENT = st.builds(
    lambda seed, size, alphabet: bytes(b % alphabet for b in noise(seed, size)),
    st.integers(0, 1000),
    st.integers(0, 12_000),
    st.sampled_from([256, 256, 3, 1]),
)


@given(CONTENT, st.data())
def test_recut_equals_cutting_from_the_start(old: bytes, data: st.DataObject) -> None:
    old_sizes = sizes_of(old)
    around_cuts = [cut + d for cut in (0, *accumulate(old_sizes)) for d in (-2, -1, 0, 1, 2)]
    place = st.one_of(st.integers(0, 13_000), st.sampled_from(around_cuts)).map(lambda n: max(n, 0))
    limit = len(old)
    new = bytearray(old)
    changed = RangeSet()
    for _ in range(data.draw(st.integers(0, 5))):
        match data.draw(st.sampled_from(["write", "truncate", "same"])):
            case "write":  # beyond the end: a hole of zeros before it
                start = data.draw(place)
                piece = noise(data.draw(st.integers(0, 99)), data.draw(st.sampled_from([1, 2, 60, 300, 3000])))
                new.extend(bytes(max(0, start - len(new))))
                new[start : start + len(piece)] = piece
                changed.add(start, start + len(piece))
            case "truncate":
                size = data.draw(place)
                limit = min(limit, size)
                changed.truncate(size)
                del new[size:]
                new.extend(bytes(max(0, size - len(new))))
            case "same":  # written over with what was there
                start = data.draw(place)
                if start < len(new):
                    changed.add(start, min(start + 10, len(new)))
    assert recut_sizes(Counted(bytes(new)), old_sizes, changed, limit) == sizes_of(bytes(new))


def test_an_end_of_file_just_behind_a_cut_moves_it() -> None:
    old = noise(7, 30_000)
    sizes = sizes_of(old)
    moved = 0
    for end in accumulate(sizes[:-1]):
        for size in (end - 1, end, end + 1, end + 2, end + 3):
            expected = sizes_of(old[:size])
            assert recut_sizes(Counted(old[:size]), sizes, RangeSet(), size) == expected
            moved += size > end and end not in accumulate(expected)
    assert moved > 0


@given(CONTENT, st.integers(0, 5000))
def test_recut_without_a_base_is_a_plain_cut(data: bytes, step: int) -> None:
    assert recut_sizes(Counted(data), [], RangeSet([(0, len(data))]), 0) == sizes_of(data)
    assert recut_sizes(Counted(data), sizes_of(noise(step, step)), RangeSet(), 0) == sizes_of(data)


@given(CONTENT)
def test_recut_of_nothing_changed_reads_nothing(data: bytes) -> None:
    file = Counted(data)
    sizes = sizes_of(data)
    assert list(recut(file.read_at, ends_of(sizes), RangeSet(), len(data), len(data), SMALL)) == [
        Reuse(i) for i in range(len(sizes))
    ]
    assert file.bytes_read == 0


@given(st.integers(0, 200), st.integers(0, 199_999))
def test_recut_reads_only_the_neighbourhood_of_a_change(seed: int, where: int) -> None:
    old = noise(seed, 200_000)
    new = bytearray(old)
    new[where] ^= 255
    file = Counted(bytes(new))
    sizes = sizes_of(old)
    assert recut_sizes(file, sizes, RangeSet([(where, where + 1)]), len(old)) == sizes_of(bytes(new))
    # Cuts fall back into step within a few chunks: five times max_size is far more than this noise ever needs.
    assert file.bytes_read <= 5 * SMALL.max_size
    assert file.bytes_read == file.read.total  # nothing twice
    (read,) = file.read
    assert read[0] <= where < read[1]


def test_one_byte_in_a_large_file_costs_little() -> None:
    old = noise(5, 24 << 20)
    new = bytearray(old)
    new[12 << 20] ^= 1
    file = Counted(bytes(new))
    ends, change = ends_of(sizes_of(old, REAL)), RangeSet([(12 << 20, (12 << 20) + 1)])
    steps = list(recut(file.read_at, ends, change, len(old), len(old), REAL))
    assert sum(isinstance(step, Fresh) for step in steps) == 1
    assert file.bytes_read <= 5 << 20


def test_appending_reads_only_the_last_chunk() -> None:
    old = noise(6, 100_000)
    file = Counted(old + b"more")
    sizes = sizes_of(old)
    changed = RangeSet([(100_000, 100_004)])
    assert recut_sizes(file, sizes, changed, 100_000) == sizes_of(file.data)
    assert file.bytes_read <= sizes[-1] + sizes[-2] + 4


def test_a_file_that_ends_early_is_an_error() -> None:
    file = Counted(b"short")
    with pytest.raises(EOFError):
        list(recut(file.read_at, [], RangeSet(), 0, 100, SMALL))


@st.composite
def with_holes(draw: st.DrawFn) -> tuple[bytes, RangeSet]:
    """Contents with runs of zeros, and those of them that are known; bytes beside them may be zeros, too."""
    data, zeros = bytearray(), RangeSet()
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            size = draw(st.integers(0, 12_000))
            if draw(st.booleans()):
                zeros.add(len(data), len(data) + size)
            data += bytes(size)
        else:
            data += noise(draw(st.integers(0, 99)), draw(st.sampled_from([1, 50, 300, 3000])))
    return bytes(data), zeros


@pytest.mark.parametrize("seed", [1, 12345, (1 << 63) - 1])
@given(with_holes())
def test_holes_are_cut_as_if_they_were_read(seed: int, made: tuple[bytes, RangeSet]) -> None:
    data, zeros = made
    params = ChunkParams(seed=seed, min_size=64, avg_size=256, max_size=1024)
    file = Counted(data)
    assert recut_sizes(file, [], RangeSet([(0, len(data))]), 0, params, zeros) == sizes_of(data, params)
    least = sum(max(0, end - start - 5 * params.max_size) for start, end in zeros)
    assert file.read.total <= len(data) - least


@given(CONTENT, st.integers(0, 40_000), st.data())
def test_recut_with_holes_equals_cutting_from_the_start(old: bytes, grown: int, data: st.DataObject) -> None:
    """Cut somewhere, made longer by a hole, and written to; resumed at any cut."""
    limit = data.draw(st.integers(0, len(old)))
    new = bytearray(old[:limit]) + bytes(grown)
    zeros, changed = RangeSet([(limit, limit + grown)]), RangeSet()
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(new)))
        piece = noise(start, data.draw(st.sampled_from([1, 60, 3000])))[: len(new) - start]
        new[start : start + len(piece)] = piece
        changed.add(start, start + len(piece))
        zeros.remove(start, start + len(piece))
    expected = sizes_of(bytes(new))
    old_sizes = sizes_of(old)
    file = Counted(bytes(new))
    assert recut_sizes(file, old_sizes, changed, limit, zeros=zeros) == expected
    ends = [0, *accumulate(expected)]
    start = data.draw(st.sampled_from(ends))
    rest = recut(file.read_at, ends_of(old_sizes), changed, limit, len(new), SMALL, zeros=zeros, start=start)
    found = list(ends_of_steps(start, rest, old_sizes))
    assert found == [end for end in ends if end > start]


def ends_of_steps(position: int, steps: Iterable[Reuse | Fresh | Zeros], old_sizes: list[int]) -> Iterable[int]:
    for step in steps:
        match step:
            case Reuse(index):
                sizes = [old_sizes[index]]
            case Fresh(_, data):
                sizes = [len(data)]
            case Zeros(_, size, count):
                sizes = [size] * count
        for size in sizes:
            position += size
            yield position


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_chunk_in_the_midst_of_zeros(seed: int) -> None:
    params = ChunkParams(seed=seed)
    sizes = sizes_of(bytes(20 << 20), params)
    assert set(sizes[:-2]) == {zero_chunk(params)}


def test_a_hole_of_16_tib_costs_nothing() -> None:
    size = 16 << 40
    steps = list(recut(read_zeros, [], RangeSet(), 0, size, REAL, zeros=RangeSet([(0, size)])))
    assert isinstance(steps[0], Zeros)
    assert len(steps) <= 10
