"""What the helper may ask for, once each, and nothing else."""

import pytest

from fs.replay.plan import Poke
from fs.replay.waiting import Replay, number_of_unnamed, unnamed
from fs.tree.change import Change, What
from fs.tree.model import DIR, FILE, Attr

OLD = Attr(7, FILE, 0o644, 1, 0, 0, 3, 0, 0, 0, 1, 5)


def poke(what: str, change: Change) -> Poke:
    return Poke(change, what, "d", change.name)


CREATED = Change(What.CREATED, FILE, 1, "", "new", 0o644)
REMOVED = Change(What.REMOVED, DIR, 1, "", "gone", 0o755)
MODIFIED = Change(What.MODIFIED, FILE, 1, "", "changed", 0o644, 3, 7, OLD)
MOVED = Change(What.MOVED, FILE, 1, "", "to", 0o644, origin=Change(What.REMOVED, FILE, 2, "e", "from", 0o644))


@pytest.fixture
def replay() -> Replay:
    made = Replay()
    made.begin([poke("create", CREATED), poke("remove", REMOVED), poke("touch", MODIFIED), poke("move", MOVED)])
    return made


def test_what_is_waited_for(replay: Replay) -> None:
    assert replay.is_to_come((1, "new")) and replay.is_to_come((1, "to"))
    assert replay.is_gone((1, "gone")) is REMOVED and replay.is_gone((2, "from")) is MOVED
    assert not replay.is_to_come((1, "changed")) and replay.is_gone((1, "changed")) is None
    assert replay.removes
    replay.create((1, "new"), FILE)
    replay.remove((1, "gone"))
    replay.move((2, "from"), (1, "to"))
    assert replay.touch(7) == OLD
    assert replay.touch(8) is None
    assert not replay.is_to_come((1, "new")) and not replay.is_to_come((1, "to"))
    assert replay.is_gone((1, "gone")) is None
    replay.end()
    assert not replay.removes


def test_a_folder_that_is_to_be_moved_is_still_there() -> None:
    origin = Change(What.REMOVED, DIR, 2, "e", "from", 0o755, ino=9)
    moved = Change(What.MOVED, DIR, 1, "", "to", 0o755, ino=9, origin=origin)
    replay = Replay()
    replay.begin([poke("move", moved)])
    assert replay.moving(9) is moved and replay.moving(8) is None
    replay.move((2, "from"), (1, "to"))
    assert replay.moving(9) is None


def test_once_only(replay: Replay) -> None:
    replay.create((1, "new"), FILE)
    replay.remove((1, "gone"))
    replay.move((2, "from"), (1, "to"))
    for again in (
        lambda: replay.create((1, "new"), FILE),
        lambda: replay.remove((1, "gone")),
        lambda: replay.move((2, "from"), (1, "to")),
    ):
        with pytest.raises(PermissionError):
            again()


def test_nothing_else(replay: Replay) -> None:
    for other in (
        lambda: replay.create((1, "other"), FILE),
        lambda: replay.create((1, "new"), DIR),
        lambda: replay.remove((1, "changed")),
        lambda: replay.remove((2, "from")),
        lambda: replay.move((2, "from"), (1, "elsewhere")),
        lambda: replay.move((1, "gone"), (1, "to")),
    ):
        with pytest.raises(PermissionError):
            other()


def test_nothing_at_all_afterwards(replay: Replay) -> None:
    replay.end()
    for late in (lambda: replay.create((1, "new"), FILE), lambda: replay.remove((1, "gone")), lambda: replay.touch(7)):
        with pytest.raises(PermissionError):
            late()


def test_the_last_look_is_one_and_behind_all_others() -> None:
    replay = Replay()
    replay.begin([poke("remove", REMOVED)])
    assert replay.is_at_work and not replay.take_end(7)
    replay.begin_ends([7])
    assert not replay.is_at_work and replay.is_gone((1, "gone")) is None
    assert replay.take_end(7) and not replay.take_end(7) and not replay.take_end(8)
    replay.begin_ends([7])
    replay.end()
    assert not replay.take_end(7)


def test_what_one_that_has_died_has_done_is_not_done_again(replay: Replay) -> None:
    todo = [poke("create", CREATED), poke("remove", REMOVED), poke("touch", MODIFIED), poke("move", MOVED)]
    assert all(replay.is_waited_for(each) for each in todo)
    replay.create((1, "new"), FILE)
    replay.touch(7)
    assert [each for each in todo if replay.is_waited_for(each)] == [todo[1], todo[3]]
    replay.begin([todo[1], todo[3]])
    replay.remove((1, "gone"))
    replay.move((2, "from"), (1, "to"))
    assert not any(replay.is_waited_for(each) for each in (todo[1], todo[3]))


def test_what_is_gone_is_found_by_a_name_that_nothing_can_have() -> None:
    assert number_of_unnamed(unnamed(4711).encode()) == 4711
    assert len(unnamed(1)) == len(unnamed(1 << 63)) > 255
    for other in (b"-" * 300, b"x" * 300, b"4711", b"-" * 299 + b"\xb2", b"-" * 297 + b"1-1"):
        assert number_of_unnamed(other) == 0
