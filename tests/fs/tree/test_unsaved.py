"""A change that tree.db cannot take: it is told, and keeps no other from being saved and published."""

import sqlite3

import pytest
from treekit import Machine

from fs.tree import sealing
from sync.core.errors import TcfsError

MUCH = 2**70


def spoil(machine: Machine, path: str) -> None:
    """What no operation should let through."""
    node = machine.tree.overlay.node(machine.ino(path))
    assert node is not None
    node.mtime_ns = MUCH
    machine.tree.state.touch_node(node)


@pytest.fixture
def spoilt(yoga: Machine) -> Machine:
    yoga.mkdir("d")
    yoga.write("d/bad", b"bad")
    yoga.write("d/good", b"good")
    yoga.tree.overlay.commit()
    spoil(yoga, "d/bad")
    return yoga


def mend(machine: Machine, path: str) -> None:
    machine.tree.setattr(machine.ino(path), mtime_ns=1)


def test_one_bad_row_keeps_no_other_from_being_saved(spoilt: Machine) -> None:
    spoilt.write("d/later", b"later")
    spoilt.unlink("d/good")
    spoilt.tree.overlay.commit()
    assert "bad" in spoilt.tree.overlay.trouble
    spoilt.restart()
    assert spoilt.listing("d") == ["bad", "later"]
    assert spoilt.tree.overlay.trouble == ""


def test_it_is_told_until_it_is_mended(spoilt: Machine) -> None:
    for _ in range(2):
        spoilt.tree.overlay.commit()
        assert "too large" in spoilt.tree.overlay.trouble
        assert spoilt.tree.overlay.has_changes
    mend(spoilt, "d/bad")
    spoilt.tree.overlay.commit()
    assert spoilt.tree.overlay.trouble == ""
    assert not spoilt.tree.overlay.has_changes
    spoilt.cycle()
    assert spoilt.seals() == []
    assert not len(spoilt.tree.state.pending)


def test_everything_else_is_published(spoilt: Machine) -> None:
    spoilt.tree.overlay.commit()
    assert {seal.path for seal in spoilt.seal()} == {"d", "d/good"}
    assert sealing.seal_due(spoilt.tree.state, spoilt.env.monotonic() + 100).ready == 0
    mend(spoilt, "d/bad")
    spoilt.tree.overlay.commit()
    assert "d/bad" in {seal.path for seal in spoilt.seal()}


def test_who_asks_for_it_is_told(spoilt: Machine) -> None:
    spoilt.tree.overlay.commit()
    assert sealing.begin(spoilt.tree.state, ["d/good"]).unsaved == []
    spoilt.cycle()
    assert sealing.begin(spoilt.tree.state, None).unsaved == ["d/bad"]
    assert sealing.begin(spoilt.tree.state, ["d/bad"]).unsaved == ["d/bad"]
    mend(spoilt, "d/bad")


def test_its_old_name_waits_for_it(spoilt: Machine) -> None:
    """What was moved is published at its new place before its old one is given up."""
    mend(spoilt, "d/bad")
    spoilt.cycle()
    spoilt.rename("d/bad", "d/moved")
    spoil(spoilt, "d/moved")
    spoilt.tree.overlay.commit()
    assert spoilt.seal() == []
    mend(spoilt, "d/moved")
    spoilt.cycle()
    assert spoilt.listing("d") == ["good", "moved"]


def test_a_close_that_saved_nothing_does_not_return(spoilt: Machine) -> None:
    file = spoilt.open("d/bad", write=True)
    file.write(0, b"more")
    file.node.ctime_ns = MUCH
    with pytest.raises(TcfsError):
        file.flush()
    file.has_begun()
    with pytest.raises(TcfsError):
        spoilt.fsync(file)
    mend(spoilt, "d/bad")
    spoilt.release(file)


def test_rows_stay_in_memory_while_one_cannot_be_saved(spoilt: Machine) -> None:
    spoilt.tree.overlay._keep = 1
    spoilt.tree.overlay.commit()
    spoilt.write("d/one", b"1")
    assert spoilt.attr("d/bad").mtime_ns == MUCH
    mend(spoilt, "d/bad")


def test_any_failure_is_trouble(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    yoga.mkdir("d")

    def fail(full: bool) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr(yoga.tree.overlay, "_transact", fail)
        with pytest.raises(sqlite3.OperationalError):
            yoga.tree.overlay.commit()
        assert "I/O error" in yoga.tree.overlay.trouble
    yoga.tree.overlay.commit()
    assert yoga.tree.overlay.trouble == ""
