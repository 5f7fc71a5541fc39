"""Writing a target: whole files or none, nothing replaced that changed meanwhile."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from sync.core.errors import Conflict, Integrity
from sync.worker.content import FileStat
from sync.worker.target import TargetDir, TargetFile


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[TargetDir]:
    made = TargetDir.open(tmp_path)
    yield made
    made.close()


def put(
    folder: TargetDir, data: bytes, *, size: int, file_hash: str, before: FileStat | None = None
) -> tuple[FileStat, str]:
    file = TargetFile(folder, "f", ".temp")
    file.write(data)
    return file.finish(size=size, file_hash=file_hash, mode=0o640, mtime_ns=7, xattrs={}, before=before)


def test_a_whole_file(folder: TargetDir) -> None:
    found, _ = put(folder, b"hello", size=5, file_hash=blake3(b"hello").hexdigest())
    about = (folder.path / "f").stat()
    assert (about.st_size, about.st_mtime_ns, about.st_mode & 0o7777) == (5, 7, 0o640)
    assert found == FileStat.of(about)
    assert os.listdir(folder.path) == ["f"]


@pytest.mark.parametrize(("size", "digest"), [(6, ""), (5, blake3(b"other").hexdigest())])
def test_wrong_bytes_leave_nothing(folder: TargetDir, size: int, digest: str) -> None:
    with pytest.raises(Integrity):
        put(folder, b"hello", size=size, file_hash=digest)
    assert os.listdir(folder.path) == []


def test_what_changed_meanwhile_stays(folder: TargetDir) -> None:
    (folder.path / "f").write_bytes(b"mine")
    with pytest.raises(Conflict):
        put(folder, b"hello", size=5, file_hash="")
    before = FileStat.of((folder.path / "f").lstat())
    os.utime(folder.path / "f", ns=(1, 1))
    with pytest.raises(Conflict):
        put(folder, b"hello", size=5, file_hash="", before=before)
    assert (folder.path / "f").read_bytes() == b"mine"
    assert os.listdir(folder.path) == ["f"]


def test_a_symlink_is_no_folder(folder: TargetDir) -> None:
    (folder.path / "real").mkdir()
    (folder.path / "link").symlink_to("real")
    with pytest.raises(Conflict):
        folder.enter("link")
    inner, is_new = folder.enter("real")
    inner.close()
    assert not is_new
