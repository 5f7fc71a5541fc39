import pytest
from hypothesis import given
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from sync.core.ignore import DEFAULT_LOCAL_ONLY, GIT_FOLDER, Ignore

PARTS = st.sampled_from(["a", "b", "ab", "*", "*b", "a*", "**", ".git", "x.swp", "?"])
LINES = st.builds(
    lambda mark, start, parts, end: mark + start + "/".join(parts) + end,
    st.sampled_from(["", "", "!"]), st.sampled_from(["", "/"]), st.lists(PARTS, min_size=1, max_size=3),
    st.sampled_from(["", "/"]),
)  # fmt: skip
NAMES = st.sampled_from(["a", "b", "ab", "ba", ".git", "x.swp", "c"])


@pytest.mark.parametrize(
    "path",
    [
        ".a.swp", "src/.main.c.swp", "x.swo", ".direnv", ".direnv/bin/python", "4913", "src/4913", ".#notes",
        ".~lock.report.odt#", ".goutputstream-A1B2C3", ".git", ".git/config", "repo/.git/objects/aa/bb",
    ],
)  # fmt: skip
def test_what_stays_here_by_default(path: str) -> None:
    assert Ignore().is_ignored(path, False)


@pytest.mark.parametrize(
    "path", ["a", "a.swpx", "swp", ".gitignore", "git/config", "x.git", "49130", ".goutputstream", "#a#", "4913/data"]
)
def test_what_does_not(path: str) -> None:
    assert not Ignore().is_ignored(path, False)


def test_the_files_that_gnupg_locks_with_are_shared_as_their_locks_are() -> None:
    assert not Ignore().is_ignored("gnupg/.#lk0x000055b0be1cc3f0.yoga.4757", False)


def test_a_folder_of_the_name_of_vims_probe_is_data() -> None:
    assert not Ignore().is_ignored("4913", True)
    assert Ignore().is_ignored(".git", True)
    assert not Ignore().is_ignored("", True)


def test_git_raw_sends_repositories() -> None:
    raw = Ignore(sync_git_raw=True)
    assert not raw.is_ignored(".git/config", False)
    assert raw.is_ignored(".git/index.swp", False)


def test_the_grammar_is_that_of_gitignore() -> None:
    ignore = Ignore(
        "# comment\n\n/top\nbuild/\nlog/*\n!log/keep\n*.o\n!main.o\ndoc/**/draft\n\\#odd\ntrailing   \r\nwin/\r\n"
    )
    ignored = [
        "top",
        "build/x",
        "a/build/x/y",
        "log/a",
        "a.o",
        "x/b.o",
        "doc/draft",
        "doc/a/b/draft",
        "#odd",
        "trailing",
    ]
    kept = ["x/top", "build", "log/keep", "main.o", "x/main.o", "x/log/a", "draft", "comment"]
    assert [path for path in ignored if not ignore.is_ignored(path, False)] == []
    assert [path for path in kept if ignore.is_ignored(path, False)] == []
    assert ignore.is_ignored("build", True)
    assert ignore.invalid_lines == []


def test_nothing_below_an_ignored_folder_is_taken_back() -> None:
    ignore = Ignore("build/\n!build/keep\n")
    assert ignore.is_ignored("build/keep", False)


def test_a_text_may_take_back_what_is_built_in() -> None:
    ignore = Ignore("!*.swp\n!.git\n")
    assert not ignore.is_ignored("a.swp", False)
    assert not ignore.is_ignored("repo/.git/config", False)
    assert ignore.is_ignored("a.swo", False)


def test_a_line_that_is_no_pattern_is_named_and_the_others_count() -> None:
    ignore = Ignore("*.a\n\\\n[z-a]x\n[[:alpha:]]x\n# [[:alpha:]]\n*.b")
    assert ignore.invalid_lines == ["\\", "[z-a]x", "[[:alpha:]]x"]
    assert ignore.is_ignored("x.a", False)
    assert ignore.is_ignored("x.b", False)
    assert not ignore.is_ignored("ax", False)


def test_more_folders_than_are_remembered() -> None:
    ignore = Ignore("d7/\n")
    for _ in range(2):
        assert [n for n in range(12_000) if ignore.is_ignored(f"d{n}/f", False)] == [7]


@given(st.lists(LINES, max_size=4), st.lists(NAMES, min_size=1, max_size=4))
def test_the_one_look_that_most_names_get_passes_over_nothing(lines: list[str], names: list[str]) -> None:
    library = GitIgnoreSpec.from_lines([*DEFAULT_LOCAL_ONLY, GIT_FOLDER, *lines])
    path = "/".join(names)
    asked = [*("/".join(names[:count]) + "/" for count in range(1, len(names))), path]
    assert Ignore("\n".join(lines)).is_ignored(path, False) == any(library.check_file(text).include for text in asked)
