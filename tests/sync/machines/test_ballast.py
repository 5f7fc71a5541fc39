import errno
import os

import pytest

from sync.machines import ballast


def test_it_holds_its_space_until_given_up(tmp_path):
    path = tmp_path / "ballast"
    assert ballast.keep(path)
    assert path.stat().st_size == ballast.SIZE
    assert path.stat().st_blocks * 512 >= ballast.SIZE
    assert ballast.keep(path)
    assert ballast.give_up(path)
    assert not ballast.give_up(path)


def test_a_full_disk_goes_without(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not ballast.keep(tmp_path / "ballast")
    assert not (tmp_path / "ballast").exists()
    assert "nearly full" in caplog.text


def test_other_errors_are_not_hidden(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "posix_fallocate", broken)
    with pytest.raises(OSError, match="I/O error"):
        ballast.keep(tmp_path / "ballast")
