"""One state a file, one glyph a state."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sync.core.filestate import GLYPHS, Facts, FileState, Locality, file_state, is_virtual, locality_of

ALL_FACTS = [Facts(*flags) for flags in itertools.product([False, True], repeat=4)]


def test_what_endangers_a_file_is_said_before_where_its_bytes_are() -> None:
    for facts, locality in itertools.product(ALL_FACTS, Locality):
        state = file_state(facts, locality)
        assert (state is FileState.EXCLUDED) == facts.is_excluded
        if not facts.is_excluded:
            assert (state is FileState.CONFLICT) == facts.is_conflict
            if not facts.is_conflict:
                assert (state is FileState.DIRTY) == facts.is_dirty


def test_pinned_is_said_only_of_what_is_all_here() -> None:
    assert [file_state(Facts(is_pinned=True), locality) for locality in Locality] == [
        FileState.ONLINE_ONLY,
        FileState.PARTIAL,
        FileState.PINNED,
    ]
    assert [file_state(Facts(), locality) for locality in Locality] == [
        FileState.ONLINE_ONLY,
        FileState.PARTIAL,
        FileState.LOCAL,
    ]


def test_each_state_has_a_glyph_of_its_own() -> None:
    assert set(GLYPHS) == set(FileState)
    assert len(set(GLYPHS.values())) == len(FileState)
    assert all(len(glyph) == 1 and glyph.isascii() for glyph in GLYPHS.values())


@given(st.lists(st.sampled_from("abcdef")), st.frozensets(st.sampled_from("abcdef")))
def test_locality(chunks: list[str], here: frozenset[str]) -> None:
    present = [chunk in here for chunk in chunks]
    expected = Locality.ALL if all(present) else Locality.SOME if any(present) else Locality.NONE
    assert locality_of(chunks, here.__contains__) is expected


def test_a_large_content_is_not_looked_at_to_its_end_for_nothing() -> None:
    looked: list[str] = []

    def has_chunk(name: str) -> bool:
        looked.append(name)
        return name != "2"

    assert locality_of([str(n) for n in range(1000)], has_chunk) is Locality.SOME
    assert looked == ["0", "1", "2"]


def test_names_that_are_made_up() -> None:
    assert is_virtual("user.tcfs.state") and is_virtual("user.openvfs.data") and is_virtual("user.tcfs.")
    assert not any(is_virtual(name) for name in ("user.tcfs", "user.tcfsx", "user.x", "security.capability", "tcfs."))
