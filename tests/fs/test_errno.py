import errno
import logging
import sqlite3
from collections.abc import Iterator

import pytest

from fs.errno import TABLE, outcome_of
from sync.core import errors


def walk(kind: type[errors.TcfsError]) -> Iterator[type[errors.TcfsError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from walk(subclass)


@pytest.mark.parametrize(
    "kind", [kind for kind in walk(errors.TcfsError) if kind.__module__.startswith(("sync.core", "fs"))]
)
def test_every_failure_has_its_own_line_in_the_table(kind: type[errors.TcfsError]) -> None:
    assert kind in TABLE
    assert outcome_of(kind("x")) == TABLE[kind]
    assert TABLE[kind].errno > 0


def test_a_class_that_is_not_in_the_table_takes_its_base() -> None:
    class Later(errors.StoreAway):
        pass

    assert outcome_of(Later("x")).errno == errno.ENETUNREACH


@pytest.mark.parametrize(
    "error, number",
    [
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (OSError(errno.ENAMETOOLONG, "long"), errno.ENAMETOOLONG),
        (OSError(errno.EBADF, "a bug"), errno.EIO),
        (OSError("no number"), errno.EIO),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), errno.EILSEQ),
        (MemoryError(), errno.ENOMEM),
        (ZeroDivisionError(), errno.EIO),
        (sqlite3.OperationalError("?"), errno.EIO),
    ],
)
def test_other_errors(error: Exception, number: int) -> None:
    assert outcome_of(error).errno == number


def test_a_full_database_is_a_full_disk(tmp_path: object) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    try:
        db.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.OperationalError) as caught:
            db.execute("CREATE TABLE a (b)")
            db.execute("INSERT INTO a VALUES (zeroblob(100000))")
        assert outcome_of(caught.value).errno == errno.ENOSPC
    finally:
        db.close()


def test_what_nobody_expected_comes_with_a_traceback() -> None:
    outcome = outcome_of(KeyError("x"))
    assert outcome.traceback and outcome.level == logging.ERROR
