import errno
import os
import sqlite3

import pytest

from sync.core.errors import Integrity, NoSpace, NotAuthorised, NotYet, StoreAway, TcfsError
from sync.state.trouble import expected


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EROFS, NotAuthorised), (errno.EIO, TcfsError)],
)
def test_the_system(number, kind):
    found = expected(OSError(number, os.strerror(number), "/a/b"))
    assert (type(found), found.path) == (kind, "/a/b")


def test_bugs_are_bugs():
    assert expected(FileNotFoundError(errno.ENOENT, "no such file")) is None
    assert expected(ZeroDivisionError()) is None
    assert expected(sqlite3.ProgrammingError("closed")) is None


def test_ours_stay_as_they_are():
    error = StoreAway("away")
    assert expected(error) is error


def test_databases(tmp_path):
    (tmp_path / "db").write_bytes(b"no database at all" * 100)
    broken = sqlite3.connect(tmp_path / "db")
    with pytest.raises(sqlite3.DatabaseError) as not_one:
        broken.execute("SELECT 1 FROM sqlite_master")
    broken.close()
    assert type(expected(not_one.value)) is Integrity
    full = sqlite3.connect(":memory:")
    full.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as no_room:
        full.execute("CREATE TABLE a AS SELECT randomblob(100000)")
    full.close()
    assert type(expected(no_room.value)) is NoSpace
    one, two = sqlite3.connect(tmp_path / "x"), sqlite3.connect(tmp_path / "x", timeout=0)
    one.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError) as busy:
        two.execute("BEGIN EXCLUSIVE")
    one.close()
    two.close()
    assert type(expected(busy.value)) is NotYet
