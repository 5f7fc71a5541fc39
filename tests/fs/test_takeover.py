"""What can be said without a mount; integration/test_kill.py takes places for real."""

import os
from pathlib import Path

import pytest

from fs import takeover


def test_without_root_there_is_nothing_to_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert takeover.take_place(tmp_path) is None


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened here")
def test_a_refusal_leaves_nothing_open(tmp_path: Path) -> None:
    """Beneath a folder that is no mount point nothing can be mounted."""
    before = sorted(os.listdir("/proc/self/fd"))
    assert takeover.take_place(tmp_path) is None
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert not os.path.ismount(tmp_path)


def test_there_is_no_mount_to_detach(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        takeover.detach(tmp_path)
