import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.core.errors import BadPath
from sync.core.paths import PART_MAX, PATH_MAX, is_below, join_path, parents_of, parse_rel_path, split_path

_PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda part: part not in (".", "..")
)
PATHS = st.lists(_PARTS, min_size=1, max_size=6).map("/".join)


@given(PATHS)
def test_a_path_comes_back_unchanged_from_text_and_from_bytes(path: str) -> None:
    assert parse_rel_path(path) == path
    assert parse_rel_path(path.encode()) == path


def test_nothing_is_normalised() -> None:
    for path in ("e\u0301", "\u00e9", " a ", "a\nb", "a\\b", "...", "..a", "a..", "-", "~", "C:"):
        assert parse_rel_path(path) == path


@pytest.mark.parametrize(
    "bad", ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a/../b", "a\0b", "\0", "a/b/.."]
)
def test_what_is_no_path_inside_the_fleet_is_refused(bad: str) -> None:
    with pytest.raises(BadPath):
        parse_rel_path(bad)
    with pytest.raises(BadPath):
        parse_rel_path(bad.encode())


@pytest.mark.parametrize("bad", [b"\xff", b"a/\xc3", "a\udc80"])
def test_bytes_that_are_not_utf8_are_refused(bad: bytes | str) -> None:
    with pytest.raises(BadPath) as caught:
        parse_rel_path(bad)
    caught.value.path.encode()  # can be printed


def test_the_limits_count_bytes() -> None:
    assert parse_rel_path("ä" * 127 + "a")
    with pytest.raises(BadPath):
        parse_rel_path("ä" * 128)
    longest = "/".join(["a" * PART_MAX] * 16)
    assert len(longest) == PATH_MAX - 1
    assert parse_rel_path(longest[:-1] + "/b") == longest[:-1] + "/b"
    with pytest.raises(BadPath):
        parse_rel_path(longest + "/b")


@given(PATHS)
def test_split_and_join_are_inverse(path: str) -> None:
    parent, name = split_path(path)
    assert "/" not in name
    assert join_path(parent, name) == path
    assert is_below(path, parent)


@given(PATHS, PATHS)
def test_below_means_that_parts_are_shared(path: str, folder: str) -> None:
    parts, above = path.split("/"), folder.split("/")
    assert is_below(path, folder) == (len(parts) > len(above) and parts[: len(above)] == above)
    assert is_below(f"{folder}/{path}", folder)
    assert not is_below(folder + "x", folder)
    assert not is_below(folder, folder)


@given(st.text(alphabet="a. /\0ü-~\n\x7f", max_size=12) | st.text(alphabet="ab/", min_size=250, max_size=260))
def test_text_and_bytes_are_judged_alike(text: str) -> None:
    def judged(path: str | bytes) -> str | None:
        try:
            return parse_rel_path(path)
        except BadPath:
            return None

    assert judged(text) == judged(text.encode())


@given(PATHS)
def test_parents(path: str) -> None:
    parents = parents_of(path)
    assert [*parents, ""] == [split_path(below)[0] for below in (path, *parents)]
    assert all(is_below(path, parent) for parent in parents)
