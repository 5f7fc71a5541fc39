"""What ids are called on this machine, and what is said while nobody knows."""

import grp
import pwd
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fs.name_service import AGAIN_S, UNSURE_S, NameService
from fs.tree.model import FILE, Node
from fs.tree.owners import WAIT_S, Ownership

DEADLINE_S = 30.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Asked:
    """pwd.getpwnam, which may hang. names: what was asked."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.known = {"root": 0}
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, name: str) -> Any:
        assert self.may_answer.wait(DEADLINE_S)
        self.names.append(name)
        return type("Entry", (), {"pw_uid": self.known[name]})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    made = Asked()
    monkeypatch.setattr(pwd, "getpwnam", made)
    yield made
    made.may_answer.set()


def poll(is_so: Callable[[], bool]) -> None:
    step = threading.Event()
    for _ in range(int(DEADLINE_S / 0.01)):
        if is_so():
            return
        step.wait(0.01)
    raise AssertionError("it never came")


def test_names_of_the_system(clock: Clock) -> None:
    names = NameService(clock).names
    assert (names.user.find(0), names.uid.find("root")) == ("root", 0)
    group = grp.getgrgid(0).gr_name
    assert (names.group.find(0), names.gid.find(group)) == (group, 0)
    assert (names.uid.valid_s("root"), names.uid.asked_s("root")) == (None, None)


@pytest.mark.parametrize("name", ["no-such-name", "", "a\0b", "\udc80", "n" * 256])
def test_who_is_not_there(clock: Clock, name: str) -> None:
    names = NameService(clock).names
    assert (names.uid.find(name), names.gid.find(name)) == (None, None)
    poll(lambda: names.uid.find(name) is None and names.uid.asked_s(name) is None)
    assert names.uid.valid_s(name) == AGAIN_S


@pytest.mark.parametrize("number", [2**32 - 2, 2**70, -2])
def test_which_id_has_no_name(clock: Clock, number: int) -> None:
    names = NameService(clock).names
    assert (names.user.find(number), names.group.find(number)) == (None, None)


def test_who_is_there_is_asked_for_once_and_who_is_not_once_a_minute(clock: Clock, asked: Asked) -> None:
    uid = NameService(clock).names.uid
    poll(lambda: [uid.find("root"), uid.find("ada")] == [0, None] and uid.asked_s("ada") is None)
    clock.now += AGAIN_S - 1
    assert [uid.find(name) for name in ("root", "ada") * 2] == [0, None] * 2
    assert asked.names == ["root", "ada"]
    asked.known["ada"] = 501
    clock.now += 1
    poll(lambda: uid.find("ada") == 501)
    assert asked.names == ["root", "ada", "ada"]


def test_nobody_waits_for_a_service_that_hangs(clock: Clock, asked: Asked) -> None:
    uid = NameService(clock).names.uid
    asked.may_answer.clear()
    for name in ("root", "ada"):  # once is waited, for a moment
        assert (uid.find(name), uid.valid_s(name)) == (None, UNSURE_S)
    clock.now += 7
    assert (uid.find("root"), uid.asked_s("root")) == (None, 7)
    asked.may_answer.set()
    poll(lambda: uid.find("root") == 0)
    assert uid.valid_s("root") is None
    poll(lambda: uid.find("ada") is None and uid.asked_s("ada") is None)
    assert asked.names == ["root", "ada"]


def test_user_and_group_are_waited_for_at_the_same_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()

    def find(number: int) -> pwd.struct_passwd:
        hangs.wait(DEADLINE_S)
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", find)
    node = Node(3, FILE, 0o644, 601, 60, 0, 0, 0, 0)
    ownership = Ownership(1000, 1000, NameService(clock).names)
    while ownership.is_asked(node):
        clock.now += 1
    assert (clock.now, ownership.published(node)) == (WAIT_S, ("", ""))
    hangs.set()


def test_an_id_that_had_no_name_is_a_number_until_there_is_another_answer(clock: Clock, asked: Asked) -> None:
    uid = NameService(clock).names.uid
    poll(lambda: uid.find("ada") is None and uid.asked_s("ada") is None)
    asked.may_answer.clear()
    clock.now += AGAIN_S
    assert (uid.find("ada"), uid.asked_s("ada"), uid.valid_s("ada")) == (None, None, UNSURE_S)


def test_without_a_thread_signals_go_where_they_went(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    uid = NameService(clock).names.uid
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert uid.find("root") is None
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    poll(lambda: uid.find("root") == 0)


def test_what_was_found_says_the_same_until_it_is_looked_for_again(clock: Clock, asked: Asked) -> None:
    """Between `find` and `asked_s` no answer comes: else an id would go out as a number though it has a name."""
    service = NameService(clock)
    uid = service.names.uid
    asked.may_answer.clear()
    assert uid.find("root") is None
    asked.may_answer.set()
    poll(lambda: bool(service._answers))
    assert uid.asked_s("root") is not None
    assert (uid.find("root"), uid.asked_s("root")) == (0, None)
