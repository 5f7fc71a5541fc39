"""Writing a target: whole files or none, nothing replaced that changed meanwhile."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from sync.core.errors import Conflict, Integrity
from sync.plain import naming
from sync.plain.target import TargetDir, TargetFile
from sync.worker.content import FileStat


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


@pytest.mark.parametrize("way", ["rename", "link", "neither"])
@pytest.mark.parametrize("what", ["file", "symlink"])
def test_what_comes_at_the_last_moment_stays(
    folder: TargetDir, monkeypatch: pytest.MonkeyPatch, way: str, what: str
) -> None:
    """Between the look at the name and the renaming; where there is no better way only the look is left."""
    real = TargetDir.stat
    if way != "rename":
        monkeypatch.setattr(naming, "_renameat2", lambda: None)
    if way == "neither":
        monkeypatch.setattr(os, "link", refused)

    def late(self: TargetDir, name: str) -> os.stat_result | None:
        found = real(self, name)
        if way != "neither":
            (folder.path / name).write_bytes(b"mine")
        return found

    def write() -> None:
        if what == "file":
            put(folder, b"hello", size=5, file_hash="")
        else:
            folder.symlink("f", "somewhere", 7, ".temp", None)

    with monkeypatch.context() as patch:
        patch.setattr(TargetDir, "stat", late)
        if way == "neither":
            write()
        else:
            with pytest.raises(Conflict, match="changed meanwhile"):
                write()
            assert (folder.path / "f").read_bytes() == b"mine"
    assert os.listdir(folder.path) == ["f"]
    (folder.path / "f").unlink()
    write()
    assert os.listdir(folder.path) == ["f"]
    assert (folder.path / "f").is_symlink() is (what == "symlink")


@pytest.mark.parametrize("way", ["rename", "link"])
def test_other_errors_of_naming_are_told(folder: TargetDir, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way == "link":
        monkeypatch.setattr(naming, "_renameat2", lambda: None)
    with pytest.raises(FileNotFoundError):
        naming.name_new(folder.descriptor, "missing", "f")


def refused(*_: object, **__: object) -> None:
    raise PermissionError(errno.EPERM, "no links here")


def test_a_symlink_is_no_folder(folder: TargetDir) -> None:
    (folder.path / "real").mkdir()
    (folder.path / "link").symlink_to("real")
    with pytest.raises(Conflict):
        folder.enter("link", 0o755)
    inner, is_new = folder.enter("real", 0o755)
    inner.close()
    assert not is_new


@given(
    st.lists(st.tuples(st.integers(1, 200_000), st.booleans()), min_size=1, max_size=8),
    st.integers(1, 150_000),
)
def test_any_bytes_come_out_as_they_went_in(runs: list[tuple[int, bool]], step: int) -> None:
    data = b"".join((b"\xa5" if filled else b"\0") * length for length, filled in runs)
    with tempfile.TemporaryDirectory() as name:
        folder = TargetDir.open(Path(name))
        file = TargetFile(folder, "f", ".temp")
        for start in range(0, len(data), step):
            file.write(data[start : start + step])
        digest = blake3(data).hexdigest()
        file.finish(size=len(data), file_hash=digest, mode=0o600, mtime_ns=7, xattrs={}, before=None)
        folder.close()
        assert Path(name, "f").read_bytes() == data


def test_holes_stay_holes(folder: TargetDir) -> None:
    data = bytes(4 << 20) + b"end" + bytes(1 << 20)
    found, _ = put(folder, data, size=len(data), file_hash=blake3(data).hexdigest())
    about = (folder.path / "f").stat()
    assert about.st_size == len(data) == found.size
    assert about.st_blocks * 512 <= 256 << 10


def test_a_new_folder_has_its_mode_before_all_is_in_it(folder: TargetDir) -> None:
    inner, _ = folder.enter("d", 0o755)
    inner.close()
    assert (folder.path / "d").stat().st_mode & 0o777 == 0o755 & ~current_umask()
    inner, _ = folder.enter("closed", 0o500)
    inner.close()
    assert (folder.path / "closed").stat().st_mode & 0o777 == 0o700


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
