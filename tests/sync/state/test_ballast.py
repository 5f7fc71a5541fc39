import errno
import os
import sqlite3
from types import SimpleNamespace

import pytest

from sync.core.errors import NoSpace
from sync.state import ballast


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sqlite_error(code):
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


def test_it_holds_its_space_until_given_up(tmp_path):
    path = tmp_path / "ballast"
    assert not ballast.is_kept(path)
    assert ballast.keep(path)
    assert path.stat().st_size == ballast.SIZE
    assert path.stat().st_blocks * 512 >= ballast.SIZE
    assert ballast.is_kept(path)
    assert ballast.keep(path)
    assert ballast.give_up(path)
    assert not ballast.give_up(path)


def test_a_full_disk_goes_without(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not ballast.keep(tmp_path / "ballast")
    assert not (tmp_path / "ballast").exists()


@pytest.mark.parametrize(("free", "kept"), [(ballast.SIZE + ballast.SPARE - 4096, False), (2 << 30, True)])
def test_it_is_not_made_where_the_next_write_would_need_it(tmp_path, monkeypatch, free, kept):
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free // 4096, f_frsize=4096))
    assert ballast.keep(tmp_path / "ballast") is kept


@pytest.mark.parametrize(("free", "kept"), [(ballast.LITTLE - 4096, False), (ballast.LITTLE, True)])
def test_it_goes_beforehand_where_hardly_anything_is_left(tmp_path, monkeypatch, free, kept):
    ballast.keep(tmp_path / "ballast")
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=free // 4096, f_frsize=4096))
    ballast.make_room(tmp_path / "ballast")
    assert ballast.is_kept(tmp_path / "ballast") is kept


def test_other_errors_are_not_hidden(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "posix_fallocate", broken)
    with pytest.raises(OSError, match="I/O error"):
        ballast.keep(tmp_path / "ballast")
    with pytest.raises(OSError, match="I/O error"):
        ballast.with_ballast(tmp_path / "ballast", broken)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, ""), True),
        (OSError(errno.EDQUOT, ""), True),
        (OSError(errno.EIO, ""), False),
        (sqlite_error(sqlite3.SQLITE_FULL), True),
        (sqlite_error(sqlite3.SQLITE_IOERR_SHMSIZE), True),
        (sqlite_error(sqlite3.SQLITE_IOERR_READ), False),
        (sqlite3.OperationalError("of this program's own"), False),
        (ValueError(), False),
    ],
)
def test_what_a_full_disk_looks_like(error, expected):
    assert ballast.is_full(error) is expected


def test_work_that_finds_the_disk_full_is_done_once_more_without_it(tmp_path):
    path = tmp_path / "ballast"
    ballast.keep(path)

    def work():
        if path.exists():
            full()
        return "done"

    assert ballast.with_ballast(path, work) == "done"
    assert not path.exists()


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_disk_that_stays_full_is_no_space(tmp_path, is_kept):
    path = tmp_path / "ballast"
    if is_kept:
        ballast.keep(path)
    calls = []

    def work():
        calls.append(path.exists())
        full()

    with pytest.raises(NoSpace, match=str(tmp_path)):
        ballast.with_ballast(path, work)
    assert calls == ([True, False] if is_kept else [False])
    assert not path.exists()
