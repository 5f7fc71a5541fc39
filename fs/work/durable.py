"""What an fsync has to bring to the disk beside bytes: the names of new work files, and of the folders they lie in.

Most file systems do so by themselves when a new file is synced, but none has to.
"""

import os
from collections.abc import Iterable, Sequence

from fs.work.workfile import WorkFile


class Folders:
    """The folders of the work files. They are few, and each is made once."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._durable: set[str] = set()  # known to be in the root, on the disk

    def to_sync(self, paths: Iterable[str]) -> list[str]:
        """The folders that must be synced so that these names are on the disk."""
        folders = {os.path.dirname(path) for path in paths}  # noqa: PTH120
        return sorted(folders) + ([self._root] if folders - self._durable else [])

    def synced(self, folders: Sequence[str]) -> None:
        """What to_sync gave has been synced."""
        self._durable.update(folder for folder in folders if folder != self._root)


class FileSync:
    """The two waits of an fsync, each to be called once, in any thread. gen: of the node whose bytes these are."""

    def __init__(self, files: Sequence[WorkFile], folders: Folders, wal_path: str, gen: int) -> None:
        self._descriptors = [os.dup(file.fd()) for file in files]
        self._files = files
        self._new = [file for file in files if not file.is_named]
        self._folders = folders
        self._to_sync = folders.to_sync(file.path for file in self._new)
        self._wal_path = wal_path
        self.gen = gen

    def data(self) -> None:
        """The bytes of the work files, and their names, are on the disk. OSError as of WorkFile.sync."""
        try:
            for file, fd in zip(self._files, self._descriptors, strict=True):
                file.sync(fd)
            for folder in self._to_sync:
                sync_path(folder)
        finally:
            for fd in self._descriptors:
                os.close(fd)
            self._descriptors = []

    def done(self) -> None:
        """`data` has returned: it need not be done again. Not for another thread."""
        self._folders.synced(self._to_sync)
        for file in self._files:
            file.is_named = file.was_synced = True

    def rows(self) -> None:
        """The write-ahead log that names the ranges of these files is on the disk."""
        if self._wal_path:
            sync_path(self._wal_path, data_only=True)


def sync_path(path: str, *, data_only: bool = False) -> None:
    """fsync, or fdatasync, of a folder or file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        (os.fdatasync if data_only else os.fsync)(fd)
    finally:
        os.close(fd)
