"""What ids are called on this machine."""

import grp
import pwd

import pytest

from fs.tree.owners import system_names


def test_names_of_the_system() -> None:
    names = system_names()
    assert (names.user(0), names.uid("root")) == ("root", 0)
    group = grp.getgrgid(0).gr_name
    assert (names.group(0), names.gid(group)) == (group, 0)


@pytest.mark.parametrize("name", ["no-such-name", "", "a\0b", "\udc80", "n" * 256])
def test_who_is_not_there(name: str) -> None:
    assert (system_names().uid(name), system_names().gid(name)) == (None, None)


@pytest.mark.parametrize("number", [2**32 - 2, 2**70, -2])
def test_which_id_has_no_name(number: int) -> None:
    assert (system_names().user(number), system_names().group(number)) == (None, None)


def test_the_system_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def find(name: str) -> pwd.struct_passwd:
        asked.append(name)
        return known(name)

    known = pwd.getpwnam
    monkeypatch.setattr(pwd, "getpwnam", find)
    names = system_names()
    assert [names.uid(name) for name in ("root", "no-such-name") * 2] == [0, None] * 2
    assert asked == ["root", "no-such-name"]
