""".tcfsignore: its text follows what is shown at the fleet's root, on every machine, and what is pushed obeys it."""

from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from workerkit import Fleet, Machine, run

from sync.core.errors import BadInput
from sync.core.ignore import IGNORE_FILE
from sync.state.changes import Places
from sync.state.rows import ROOT_ID
from sync.worker import ignorefile
from sync.worker.ignorefile import IgnoreFile

T = TypeVar("T")


class Pair:
    def __init__(self, root: Path) -> None:
        self.fleet = Fleet(root)
        self.yoga, self.bates = self.fleet.machine("yoga"), self.fleet.machine("bates")

    def do(self, work: Awaitable[T]) -> T:
        return run(work, self.fleet.clock)

    def set(self, text: str | None) -> None:
        """yoga publishes it; bates learns."""
        if text is not None:
            self.yoga.write(IGNORE_FILE, text)
            self.do(self.yoga.push(IGNORE_FILE))
        self.do(self.bates.learner.learn())


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.fleet.close()


def text_of(machine: Machine) -> str:
    return machine.db.view.tcfsignore()


def test_no_such_file_is_nothing_to_follow(pair: Pair) -> None:
    assert pair.do(pair.bates.ignore_file.follow()) is False
    assert text_of(pair.bates) == ""


def test_the_text_follows_what_is_shown(pair: Pair) -> None:
    for text in ("*.log\n", "*.log\n*.o\n", ""):
        pair.set(text)
        assert pair.do(pair.bates.ignore_file.follow()) is True
        assert text_of(pair.bates) == text
        assert pair.do(pair.bates.ignore_file.follow()) is False


def test_what_is_pushed_obeys_it(pair: Pair) -> None:
    pair.set("*.log\n")
    pair.yoga.write("d/a.log", "stays")
    pair.yoga.write("d/a.txt", "goes")
    pair.do(pair.yoga.push("d"))
    assert [row.name for row in pair.yoga.db.view.children(pair.yoga.db.view.resolve_path("d").id, "", 9)] == ["a.txt"]


def test_the_feed_tells_of_it_and_of_no_change(pair: Pair) -> None:
    pair.set("*.log\n")
    view = pair.bates.db.view
    before = view.feed_last()
    pair.do(pair.bates.ignore_file.follow())
    (item,) = view.feed_after(before)
    assert (item.path, item.parent) == (IGNORE_FILE, ROOT_ID)
    places = Places()
    places.add(item, view.lookup(ROOT_ID, IGNORE_FILE))
    assert places.differences(view) == []


def test_one_that_cannot_be_read_leaves_the_text_of_before(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.set("*.log\n")
    pair.do(pair.bates.ignore_file.follow())
    pair.set("*.o\n")
    with monkeypatch.context() as patched:
        patched.setattr(ignorefile, "SIZE_MAX", 2)
        with pytest.raises(BadInput, match="more than 2"):
            pair.do(pair.bates.ignore_file.follow())
    assert text_of(pair.bates) == "*.log\n"
    pair.do(pair.bates.ignore_file.follow())
    assert text_of(pair.bates) == "*.o\n"


def test_a_line_that_is_no_pattern_is_told(pair: Pair) -> None:
    pair.set("[[:alpha:]]\n*.log\n")
    pair.do(pair.bates.ignore_file.follow())
    (problem,) = pair.bates.context.problems.current()
    assert "[[:alpha:]]" in problem.message
    assert pair.bates.learner.unreadable() == ()  # nothing that keeps a pull from being whole
    pair.bates.context.problems.clear(problem.kind, problem.subject)
    assert pair.do(IgnoreFile(pair.bates.context, pair.bates.fetcher).follow()) is False  # after a new start
    assert pair.bates.context.problems.current() == (problem,)
    pair.set("*.log\n")
    pair.do(pair.bates.ignore_file.follow())
    assert pair.bates.context.problems.current() == ()


def test_a_push_can_mend_one_that_is_too_large(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.set("#" * 100)
    monkeypatch.setattr(ignorefile, "SIZE_MAX", 10)
    pair.set("*.log\n")
    pair.yoga.write("d/a.log", "stays")
    pair.do(pair.yoga.push("d"))
    assert pair.yoga.db.view.resolve_path("d/a.log") is None
