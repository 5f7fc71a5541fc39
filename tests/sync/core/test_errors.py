import re

import sync.core.errors as errors
from sync.core.errors import BadPath, TcfsError


def _drawn() -> dict[str, str]:
    """Class -> parent, as the drawing at the top of the module says."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for match in re.finditer(r"^( {4,}(?:[|` -]*))([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE):
        column = len(match[1])
        while above and above[-1][0] >= column:
            above.pop()
        parents[match[2]] = above[-1][1] if above else "Exception"
        above.append((column, match[2]))
    return parents


def _real(cls: type[TcfsError]) -> dict[str, str]:
    found = {cls.__name__: cls.__mro__[1].__name__}
    for sub in cls.__subclasses__():
        if sub.__module__ == errors.__name__:
            found |= _real(sub)
    return found


def test_the_drawing_is_the_tree() -> None:
    assert _real(TcfsError) == _drawn()


def test_every_class_has_its_own_code_but_inherits_what_it_does_not_say() -> None:
    classes = [getattr(errors, name) for name in _real(TcfsError)]
    codes = [cls.code for cls in classes if "code" in vars(cls)]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch("[a-z-]+", code) for code in codes)


def test_exit_codes_are_those_of_the_table() -> None:
    classes = [getattr(errors, name) for name in _real(TcfsError)]
    assert {cls.exit_code for cls in classes} <= {1, 2, 3, 4, 5, 6, 7, 8, 64}
    assert errors.StoreAway("").exit_code == errors.NoDaemon("").exit_code == 2
    assert errors.Conflict("").exit_code == 6
    assert errors.ObjectMissing("").exit_code == 8
    assert BadPath("").exit_code == 64


def test_an_error_says_what_where_and_what_next() -> None:
    error = BadPath("no", path="a//b", hint="write a/b")
    assert (str(error), error.message, error.path, error.hint) == ("no", "no", "a//b", "write a/b")
    assert (BadPath("no").path, BadPath("no").hint) == ("", "")
