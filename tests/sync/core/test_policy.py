import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.core.paths import is_below
from sync.core.policy import DEFAULT, Policies, Policy

paths = st.lists(st.sampled_from("abc"), max_size=4).map("/".join)
policies = st.dictionaries(paths, st.sampled_from(Policy), max_size=6).map(Policies)


def test_the_nearest_word_counts() -> None:
    words = Policies({"": Policy.NEVER, "a": Policy.ALWAYS, "a/b/c": Policy.ON_OPEN})
    found = {path: words.of(path).value for path in ("", "x", "x/y", "a", "a/b", "a/b/c", "a/b/c/d", "ab")}
    assert found == {
        "": "never", "x": "never", "x/y": "never", "a": "always", "a/b": "always", "a/b/c": "on-open",
        "a/b/c/d": "on-open", "ab": "never",
    }  # fmt: skip
    assert [words.source(path) for path in ("a/b", "x/y", "a/b/c/d")] == ["a", "", "a/b/c"]
    assert Policies().source("a") is None and Policies().of("a") is DEFAULT


def test_a_pin_covers_all_below_and_goes_with_all_below() -> None:
    words = Policies({"d/x": Policy.NEVER, "d/y": Policy.ALWAYS, "e": Policy.ALWAYS})
    pinned = words.pinned("d")
    assert dict(pinned.words) == {"d": Policy.ALWAYS, "e": Policy.ALWAYS}
    assert dict(words.unpinned("d").words) == {"d/x": Policy.NEVER, "e": Policy.ALWAYS}


def test_what_a_folder_pins_gets_the_default_word() -> None:
    words = Policies({"d": Policy.ALWAYS}).unpinned("d/a")
    assert dict(words.words) == {"d": Policy.ALWAYS, "d/a": DEFAULT}
    assert words.is_pinned("d/b") and not words.is_pinned("d/a/x")


def test_a_word_is_taken_away() -> None:
    assert Policies({"a": Policy.NEVER}).with_word("a", None) == Policies()


@given(policies, paths, paths)
def test_pinned_is_pinned_and_unpinned_is_not(words: Policies, path: str, other: str) -> None:
    pinned, freed = words.pinned(path), words.unpinned(path)
    for place in (path, *(p for p in (other, f"{path}/{other}".strip("/")) if p == path or is_below(p, path))):
        assert pinned.is_pinned(place)
        assert not freed.is_pinned(place)
    if other != path and not is_below(other, path):
        assert pinned.of(other) is words.of(other)
        assert freed.of(other) is words.of(other)


@pytest.mark.parametrize("word", list(Policy))
def test_uses(word: Policy) -> None:
    assert [Policies({"a": word}).uses(each) for each in Policy] == [each is word for each in Policy]


class Counted(dict[str, Policy]):
    """How often somebody went through all of it."""

    looks = 0

    def items(self):  # type: ignore[no-untyped-def]
        self.looks += 1
        return super().items()


def test_many_paths_at_once_are_one_look_at_the_words() -> None:
    """A glob may mean a hundred thousand files."""
    words = Counted({"a": Policy.NEVER, "a/x/y": Policy.ALWAYS, "b": Policy.ON_OPEN, "c": Policy.ALWAYS})
    paths = ["a", "b/c", "c/d", "c/e"]
    pinned = Policies(words).pinned(*paths)
    assert pinned.words == {"b": Policy.ON_OPEN, "c": Policy.ALWAYS, **dict.fromkeys(paths, Policy.ALWAYS)}
    assert Policies(words).unpinned(*paths).words == {
        "a": Policy.NEVER, "b": Policy.ON_OPEN, "c": Policy.ALWAYS, "c/d": Policy.ON_READ, "c/e": Policy.ON_READ,
    }  # fmt: skip
    assert pinned.unpinned("").words == {"b": Policy.ON_OPEN}
    assert words.looks == 2
