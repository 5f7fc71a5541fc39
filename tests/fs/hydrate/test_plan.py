import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs.hydrate.plan import ChunkMap, ChunkSlice
from sync.core.errors import Integrity

SIZES = st.lists(st.integers(1, 50), max_size=20)


def chunk_map(sizes: list[int]) -> ChunkMap:
    return ChunkMap([bytes([n]) * 32 for n in range(len(sizes))], sizes)


@given(SIZES, st.integers(0, 1200), st.integers(0, 1200))
def test_slices_give_the_bytes_of_the_range(sizes: list[int], offset: int, length: int) -> None:
    content = bytes(n % 251 for n in range(sum(sizes)))
    chunks, position = [], 0
    for size in sizes:
        chunks.append(content[position : position + size])
        position += size
    slices = chunk_map(sizes).slices(offset, length)
    assert b"".join(chunks[part.chunk][part.start : part.end] for part in slices) == content[offset : offset + length]
    assert all(part.start < part.end for part in slices)


def test_slices_are_those_of_the_chunks_touched() -> None:
    assert chunk_map([10, 10, 10]).slices(9, 12) == [ChunkSlice(0, 9, 10), ChunkSlice(1, 0, 10), ChunkSlice(2, 0, 1)]


def test_an_empty_file_has_nothing_to_read() -> None:
    assert chunk_map([]).slices(0, 100) == []


@pytest.mark.parametrize("ids, sizes", [([b"a" * 32], []), ([b"a" * 32], [0]), ([b"a" * 32], [-1])])
def test_a_list_that_makes_no_sense_is_refused(ids: list[bytes], sizes: list[int]) -> None:
    with pytest.raises(Integrity):
        ChunkMap(ids, sizes)
