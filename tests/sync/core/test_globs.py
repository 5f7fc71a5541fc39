import pytest

from sync.core.globs import is_glob, path_matches, quoted


@pytest.mark.parametrize(
    "glob, path, matches",
    [
        ("*.txt", "a.txt", True),
        ("*.txt", "d/a.txt", False),
        ("*.txt", ".a.txt", False),
        (".*.txt", ".a.txt", True),
        ("d/*", "d/a", True),
        ("d/*", "d/a/b", False),
        ("d/**", "d/a/b", True),
        ("d/**", "d", True),
        ("**/a", "a", True),
        ("**/a", "x/y/a", True),
        ("**/a", "x/.y/a", False),
        ("d/[ab]?", "d/b1", True),
        ("d/[!ab]", "d/a", False),
        ("a", "a", True),
        ("D*", "d", False),
        ("**/**/b", "a/b", True),
        ("**/a/**/b/**", "x/a/b", True),
        ("**/a/**/b/**", "x/b/a", False),
        ("**/.git/**", "x/.git/y", True),
    ],
)
def test_as_a_shell_matches(glob: str, path: str, matches: bool) -> None:
    assert path_matches(glob, path) is matches


def test_what_is_a_glob() -> None:
    assert [is_glob(text) for text in ("a", "a*", "a?", "[a]", "a]")] == [False, True, True, True, False]


@pytest.mark.timeout(20)
def test_many_of_any_depth_cost_little() -> None:
    assert not path_matches("/".join(["**", "a"] * 30), "/".join(["a"] * 200 + ["b"]))


@pytest.mark.parametrize(
    "name", ["[br]", "[!a]", "[", "]", "a]b[", "*", "**", "?", ".[a]", "[[]", "[]]", "\\*", "[^a]", "{a,b}", "-", "!"]
)
def test_a_quoted_name_matches_itself_only(name: str) -> None:
    assert path_matches(f"d/{quoted(name)}/x*", f"d/{name}/x1")
    assert not [other for other in ("b", "a", "[", "ab", "x") if other != name and path_matches(quoted(name), other)]
