"""An fsync brings new names to the disk, too, each once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fs.work.durable import FileSync, Folders
from fs.work.workfile import WorkFile


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synced since the list was emptied, by name."""
    found: list[str] = []

    def record(fd: int) -> None:
        found.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(os, "fdatasync", record)
    return found


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[WorkFile]]:
    made = [WorkFile(n, 1, tmp_path / "work" / folder / name, 0) for n, (folder, name) in enumerate(["01", "12", "13"])]
    for file in made:
        file.write(0, b"x")
    yield made
    for file in made:
        file.close()


def fsync(folders: Folders, *files: WorkFile) -> None:
    sync = FileSync(files, folders, "", 0)
    sync.data()
    sync.done()
    sync.rows()


def test_names_of_new_files_and_folders(tmp_path: Path, files: list[WorkFile], synced: list[str]) -> None:
    folders = Folders(str(tmp_path / "work"))
    fsync(folders, files[0])
    assert synced == ["1", "0", "work"]
    synced.clear()
    fsync(folders, files[0])
    assert synced == ["1"]
    synced.clear()
    fsync(folders, files[1], files[2])
    assert synced == ["2", "3", "1", "work"]
    synced.clear()
    fsync(folders, *files)
    assert synced == ["1", "2", "3"]


def test_a_sync_that_failed_is_no_sync(
    tmp_path: Path, files: list[WorkFile], synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = Folders(str(tmp_path / "work"))

    def refuse(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", refuse)
        with pytest.raises(OSError):
            fsync(folders, files[0])
    synced.clear()
    fsync(folders, files[0])
    assert synced == ["1", "0", "work"]
