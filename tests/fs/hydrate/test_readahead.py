from hypothesis import given
from hypothesis import strategies as st

from fs.hydrate.readahead import ASK_MIN, MAX_AHEAD, Readahead

CHUNK = 1 << 20
READ = 128 * 1024


def straight(readahead: Readahead, chunks: int) -> list[range]:
    """Read a whole file of 1 MiB chunks in order; what was asked for ahead."""
    asked = []
    for offset in range(0, chunks * CHUNK, READ):
        index = offset // CHUNK
        ahead = readahead.advance(offset, READ, index, index, chunks)
        if ahead:
            asked.append(ahead)
    return asked


def test_a_straight_reader_gets_every_later_chunk_once() -> None:
    asked = straight(Readahead(), 200)
    assert [index for ahead in asked for index in ahead] == list(range(1, 200))


def test_the_window_doubles_up_to_its_limit() -> None:
    asked = straight(Readahead(), 200)
    assert len(asked[0]) == 1
    assert max(len(ahead) for ahead in asked) <= MAX_AHEAD
    assert len(asked) <= 200 // ASK_MIN + 4  # requests of several chunks, one after the other


def test_the_window_is_open_far_before_the_reader_needs_it() -> None:
    readahead, known = Readahead(), 0
    for offset in range(0, 200 * CHUNK, READ):
        index = offset // CHUNK
        ahead = readahead.advance(offset, READ, index, index, 200)
        known = max(known, ahead.stop if ahead else 0)
        if 60 < index < 160:
            assert known - index >= MAX_AHEAD - ASK_MIN


def test_a_jump_fetches_nothing_ahead() -> None:
    readahead = Readahead()
    readahead.advance(0, READ, 0, 0, 1000)
    assert not readahead.advance(500 * CHUNK, 4096, 500, 500, 1000)
    assert not readahead.advance(100 * CHUNK, 4096, 100, 100, 1000)


def test_after_a_jump_it_starts_small_again() -> None:
    readahead = Readahead()
    straight(readahead, 100)
    readahead.advance(500 * CHUNK, READ, 500, 500, 1000)
    ahead = readahead.advance(500 * CHUNK + READ, READ, 500, 500, 1000)
    assert ahead == range(501, 502)


@given(st.lists(st.tuples(st.integers(0, 40 * CHUNK), st.integers(1, 2 * CHUNK)), max_size=50))
def test_never_outside_the_file_never_what_is_read_now(reads: list[tuple[int, int]]) -> None:
    readahead = Readahead()
    for offset, size in reads:
        last = min((offset + size - 1) // CHUNK, 39)
        ahead = readahead.advance(offset, size, min(offset // CHUNK, 39), last, 40)
        assert not ahead or (ahead.start > last and ahead.stop <= 40 and len(ahead) <= MAX_AHEAD)
