import os
from pathlib import Path

import pytest

from fs import mountpoint
from sync.core.errors import AlreadyExists, BadInput
from sync.state.lock import owner

TABLE = """22 1 0:21 / /proc rw,nosuid - proc proc rw
30 1 0:45 / /home/x/my\\040fleet rw,nosuid - fuse.tcfs tcfs rw,user_id=0
31 1 0:46 / /home/x/my\\040fleet rw,nosuid - fuse.tcfs tcfs rw,user_id=0
32 1 0:47 / /home/x/my\\040fleet/below rw - tmpfs none rw
"""


def test_the_topmost_mount_is_found(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    assert mountpoint.device_of(Path("/home/x/my fleet"), table) == "0:46"
    assert mountpoint.device_of(Path("/home/x"), table) is None


def test_only_one_mount_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "mount.lock"
    with mountpoint.only_mount(lock, Path("/home/x/my fleet")):
        assert owner(lock) == os.getpid()
        with pytest.raises(AlreadyExists) as caught, mountpoint.only_mount(lock, Path("/elsewhere")):
            pass
        assert "at /home/x/my fleet" in caught.value.message
        assert f"process {os.getpid()}" in caught.value.message
    with mountpoint.only_mount(lock, Path("/elsewhere")):
        pass


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    mountpoint.prepare(tmp_path / "a" / "fleet")
    assert (tmp_path / "a" / "fleet").is_dir()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(BadInput, match="not empty"):
        mountpoint.prepare(tmp_path)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="not a folder"):
        mountpoint.prepare(tmp_path / "file")
    with pytest.raises(BadInput):
        mountpoint.prepare(tmp_path / "file" / "below")


def test_a_mount_point_that_is_taken_is_refused() -> None:
    with pytest.raises(BadInput, match="already"):
        mountpoint.prepare(Path("/proc"))
