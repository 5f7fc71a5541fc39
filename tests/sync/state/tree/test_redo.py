"""The redo log: what it gives back is what was appended on top of just that state, whatever became of the rest."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.state.tree.redo import (
    NOTHING_LOGGED,
    SIZE,
    Batch,
    Logged,
    LoggedEntry,
    LoggedNode,
    RedoLog,
    read,
    read_logged,
    read_whole,
)

OLD, NEW = b"o" * 16, b"n" * 16
ROWS: list[Batch] = [("node+", [(3, 1, 0o644, "x", None, b"seal")]), ("span-", [(7,)])]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RedoLog]:
    log = RedoLog(tmp_path / "log")
    yield log
    log.close()


def test_golden_bytes(log: RedoLog, tmp_path: Path) -> None:
    log.restart(bytes(range(16)))
    assert log.append([("node-", [(7,)])])
    assert (tmp_path / "log").read_bytes()[:36].hex() == (
        "0000000b" "dbf0346e" "000102030405060708090a0b0c0d0e0f" "9192a56e6f64652d919107" "00"
    )  # fmt: skip


def test_records_come_back_in_their_order(log: RedoLog, tmp_path: Path) -> None:
    log.restart(NEW)
    assert log.append(ROWS)
    assert log.append([("meta+", [("next_ino", 9)])])
    assert list(read(tmp_path / "log", NEW)) == [ROWS, [("meta+", [("next_ino", 9)])]]


def test_records_of_another_stamp_do_not_count(log: RedoLog, tmp_path: Path) -> None:
    log.restart(OLD)
    for _ in range(3):
        assert log.append(ROWS)
    log.restart(NEW)
    assert list(read(tmp_path / "log", NEW)) == []
    assert log.append(ROWS)
    assert list(read(tmp_path / "log", NEW)) == [ROWS]  # not those of the same size that stand behind it
    assert list(read(tmp_path / "log", OLD)) == []


def test_nothing_is_taken_before_there_is_a_stamp(log: RedoLog) -> None:
    assert not log.append(ROWS)


@given(cut=st.integers(0, 200), flip=st.integers(0, 7))
def test_a_record_that_is_cut_off_or_damaged_ends_the_log(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int
) -> None:
    path = tmp_path_factory.mktemp("redo") / "log"
    log = RedoLog(path)
    log.restart(NEW)
    sizes = [0]
    records = [[("meta+", [(f"key {n}", n)])] for n in range(4)]
    for record in records:
        assert log.append(record)
        sizes.append(sizes[-1] + 24 + int.from_bytes(path.read_bytes()[sizes[-1] :][:4], "big"))
    log.close()
    data = bytearray(path.read_bytes())
    cut = min(cut, sizes[-1] - 1)
    data[cut] ^= 1 << flip
    path.write_bytes(data)
    found = list(read(path, NEW))
    assert found == records[: len(found)]
    assert sizes[len(found)] <= cut
    whole = read_whole(path, NEW)
    assert whole.records == found
    assert bool(whole.damage) == (len(found) < len(records) - 1)  # the last one may have been cut off by a kill


def test_a_full_log_and_a_disk_that_refuses_take_nothing(
    log: RedoLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.restart(NEW)
    large: list[Batch] = [("meta+", [("x", b"x" * (SIZE // 2))])]
    assert log.append(large)
    assert not log.append(large)
    assert log.append(ROWS)

    def refuse(fd: int, buffers: object, offset: int) -> int:
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(os, "pwritev", refuse)
    assert not log.append(ROWS)
    monkeypatch.setattr(os, "pwritev", lambda fd, buffers, offset: 5)
    assert not log.append(ROWS)
    monkeypatch.undo()
    assert list(read(tmp_path / "log", NEW)) == [large, ROWS]


@pytest.mark.parametrize("value", ["\udcff", 1 << 70])
def test_what_no_file_can_hold_is_not_taken(log: RedoLog, value: object) -> None:
    log.restart(NEW)
    assert not log.append([("node+", [(1, value)])])


def test_no_log_has_no_records(tmp_path: Path) -> None:
    assert list(read(tmp_path / "none", NEW)) == []
    assert read_whole(tmp_path / "none", NEW) == ([], "")


def test_a_log_that_nobody_has_written_to_is_not_damaged(log: RedoLog, tmp_path: Path) -> None:
    for stamp in (b"", bytes(16), NEW):  # the second is that of a tree.db that was just made
        assert read_whole(tmp_path / "log", stamp) == ([], "")


def test_what_is_void_is_not_damaged(log: RedoLog, tmp_path: Path) -> None:
    log.restart(OLD)
    for _ in range(3):
        assert log.append(ROWS)
    assert read_whole(tmp_path / "log", NEW) == ([], "")
    log.restart(NEW)
    assert log.append(ROWS)
    assert read_whole(tmp_path / "log", NEW) == ([ROWS], "")
    os.truncate(tmp_path / "log", 400)
    assert read_whole(tmp_path / "log", b"3" * 16) == ([], "")


@pytest.mark.parametrize("size", [1, 100, SIZE - 1])
def test_a_log_that_is_cut_is_damaged(log: RedoLog, tmp_path: Path, size: int) -> None:
    log.restart(NEW)
    assert log.append(ROWS)
    os.truncate(tmp_path / "log", size)
    found = read_whole(tmp_path / "log", NEW)
    assert found.records == ([ROWS] if size >= 100 else [])
    assert f"{size} of {SIZE} bytes" in found.damage


def test_names_are_as_the_last_record_says(log: RedoLog, tmp_path: Path) -> None:
    log.restart(NEW)
    log.append([("entry+", [_entry(1, "a", 3, 1, 0), _entry(1, "b", None, 1, 0), _entry(1, "c", 5, 1, 1)])])
    log.append([("entry-", [(1, "b")]), ("entry+", [_entry(1, "a", None, 0, 0)])])
    as_sealed = (7, b"seal", 6)
    entries = {
        (1, "a"): LoggedEntry(1, "a", None, 9, False, False, False, as_sealed),
        (1, "c"): LoggedEntry(1, "c", 5, 9, True, True, False, as_sealed),
    }
    assert read_logged(tmp_path / "log") == Logged(NEW, entries, {}, entries_gone={(1, "b")})
    assert read_logged(tmp_path / "none") == NOTHING_LOGGED


def test_files_are_as_the_last_record_says(log: RedoLog, tmp_path: Path) -> None:
    log.restart(NEW)
    log.append([("node+", [_node(3, None, 1), _node(5, None, 0), _node(7, "lost", 0)])])
    log.append([("node-", [(5,)]), ("node+", [_node(3, None, 0)])])
    as_sealed = (7, b"seal", 6)
    nodes = {
        3: LoggedNode(1, "base", as_sealed, None, False),
        7: LoggedNode(1, "base", as_sealed, "lost", False),
    }
    assert read_logged(tmp_path / "log") == Logged(NEW, {}, nodes, nodes_gone={5})


def _entry(*values: object) -> tuple[object, ...]:
    """A row up to its moved_node."""
    return (*values, 0, "[]", None, 7, b"seal", 6, None, None, 9)


def _node(number: int, lost_path: str | None, unflushed: int) -> tuple[object, ...]:
    """A row up to its unflushed."""
    return (number, 1, *[0] * 9, "base", 0, 0, 7, b"seal", 6, lost_path, None, unflushed)
