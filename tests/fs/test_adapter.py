"""Only FUSEError leaves a handler; each failure is logged once, with what it was about."""

import errno
import inspect
import logging
from collections.abc import Coroutine
from typing import Any

import pyfuse3
import pytest
from pyfuse3 import FUSEError

from fs.adapter import FOREVER_S, Adapter
from fs.convert import entry_of
from fs.ops.recent import Recent
from fs.ops.retries import Retries
from fs.replay.waiting import Replay
from fs.tree.model import Attr
from sync.core.errors import Integrity, NotFound, ReadOnly, Stale, StoreAway

HANDLERS = [
    name
    for name, member in inspect.getmembers(pyfuse3.Operations, inspect.iscoroutinefunction)
    if name not in ("forget", "access", "poll")
]
ATTR = Attr(5, 1, 0o640, 1, 7, 8, 1000, 1_000_000_001, 2_000_000_002, 3_000_000_003, 2, 99)


class Broken:
    """A volume on which everything fails with the same error, but for what the log asks."""

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self.recent = Recent(lambda: 0)
        self.retries = Retries(lambda: 0.0)
        self.replay = Replay()
        self.named_rows: dict[int, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        if name in ("tree", "state", "handles") and inspect.stack()[1].function in ("_path", "row_for", "failed"):
            return self
        if name == "path_of":
            return lambda ino: f"path/{ino}"
        raise self._error

    def __getitem__(self, handle: int) -> Any:
        raise KeyError(handle)


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a handler that may not wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the handler waits")


def arguments(name: str) -> list[Any]:
    """Arguments of the right kind for a handler: names are bytes, all else numbers."""
    parameters = list(inspect.signature(getattr(pyfuse3.Operations, name)).parameters)[1:]
    values: dict[str, Any] = {"attr": pyfuse3.EntryAttributes(), "fields": pyfuse3.SetattrFields(), "ctx": Context()}
    return [
        values.get(parameter, b"user.x" if "name" in parameter or parameter in ("target", "value", "buf") else 1)
        for parameter in parameters
    ]


class Context:
    uid = gid = pid = umask = 0


def failure(error: BaseException, name: str) -> int:
    with pytest.raises(FUSEError) as caught:
        finish(getattr(Adapter(Broken(error)), name)(*arguments(name)))  # type: ignore[arg-type]
    return caught.value.errno


@pytest.mark.logs_trouble
@pytest.mark.parametrize("name", HANDLERS)
def test_nothing_but_fuse_errors_leaves_a_handler(name: str) -> None:
    assert failure(ZeroDivisionError("a bug"), name) == errno.EIO
    assert failure(Integrity("broken"), name) == errno.EIO
    assert failure(Stale("moved on"), name) == errno.ESTALE


def test_every_operation_is_there() -> None:
    missing = [name for name in HANDLERS if getattr(Adapter, name) is getattr(pyfuse3.Operations, name)]
    assert missing == []


@pytest.mark.logs_trouble
def test_forget_never_fails(caplog: pytest.LogCaptureFixture) -> None:
    finish(Adapter(Broken(ZeroDivisionError("a bug"))).forget([(1, 1)]))  # type: ignore[arg-type]
    assert "forget failed" in caplog.text


@pytest.mark.logs_trouble
def test_a_failed_request_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        failure(StoreAway("the store is away"), "unlink")
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelno == logging.WARNING
    assert (
        "unlink" in message and "b'user.x'" in message and "the store is away" in message and "unreachable" in message
    )


def test_what_programs_do_wrong_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        failure(ReadOnly("a sibling"), "unlink")
        failure(NotFound("gone"), "getattr")
    assert caplog.records == []


@pytest.mark.logs_trouble
def test_the_traceback_of_a_bug_comes_once(caplog: pytest.LogCaptureFixture) -> None:
    adapter = Adapter(Broken(ZeroDivisionError("a bug")))  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(FUSEError):
            finish(adapter.getattr(1, Context()))  # type: ignore[arg-type]
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, False]


def test_what_people_write_is_not_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    adapter = Adapter(Broken(OSError(errno.EFBIG, "too large")))  # type: ignore[arg-type]
    with caplog.at_level(logging.DEBUG):
        with pytest.raises(FUSEError):
            finish(adapter.write(1, 0, b"secret" * 1000))
        with pytest.raises(FUSEError):
            finish(adapter.setxattr(1, b"user.x", b"secret", Context()))  # type: ignore[arg-type]
    assert "6000 bytes" in caplog.text
    assert "user.x" in caplog.text
    assert "secret" not in caplog.text


def test_attributes_reach_the_kernel_unchanged() -> None:
    entry = entry_of(ATTR, FOREVER_S)
    assert (entry.st_ino, entry.st_mode, entry.st_nlink) == (5, 0o100640, 1)
    assert (entry.st_uid, entry.st_gid, entry.st_size, entry.st_blocks) == (7, 8, 1000, 2)
    assert (entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns) == (1_000_000_001, 2_000_000_002, 3_000_000_003)
    assert entry.entry_timeout > 10**8 and entry.attr_timeout > 10**8
