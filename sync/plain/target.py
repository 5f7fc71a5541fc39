"""Plain folders as a pull leaves them: whole files by temp and rename, no symlink followed below the target."""

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3

from sync.core.errors import Conflict, Integrity
from sync.plain.naming import NO_LINKS, name_new
from sync.plain.temps import make_temp, remove_left
from sync.plain.xattrs import names_of, write_xattrs
from sync.worker.content import FileStat

_DIR_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ_SIZE: Final = 1 << 20
HOLE: Final = bytes(64 << 10)  # zeros that are not written: as small as is worth a system call


class TargetDir:
    """An open folder of the target; it stays this one even if it is renamed meanwhile. Names are single parts."""

    def __init__(self, descriptor: int, path: Path, replaced: set[int] | None = None) -> None:
        self.descriptor = descriptor
        self.path = path
        self._replaced: set[int] = set() if replaced is None else replaced  # inodes with other names as well

    @staticmethod
    def open(path: Path) -> "TargetDir":
        """The folder that the person named: a symlink to one will do."""
        return TargetDir(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)

    def close(self) -> None:
        os.close(self.descriptor)

    def clean(self, now: float) -> None:
        """Remove what pulls that were killed left here. now: wall clock, s."""
        remove_left(self.descriptor, now)

    def stat(self, name: str) -> os.stat_result | None:
        """lstat; None if there is nothing."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def enter(self, name: str, mode: int) -> tuple["TargetDir", bool]:
        """The folder of that name, and whether it was made now. Conflict if something else has the name.

        mode: what a new one will have in the end: a pull that is cut short leaves it usable.
        """
        path = self.path / name
        try:
            os.mkdir(name, mode & 0o777 | 0o700, dir_fd=self.descriptor)
            is_new = True
        except FileExistsError:
            is_new = False
        try:
            return TargetDir(os.open(name, _DIR_FLAGS, dir_fd=self.descriptor), path, self._replaced), is_new
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            raise Conflict(f"{path} is no folder", path=str(path), hint="move it away") from error

    def set_xattrs(self, xattrs: Mapping[str, str], gone: Collection[str]) -> str:
        """Of the folder itself; see write_xattrs."""
        return write_xattrs(self.descriptor, xattrs, gone)

    def mode(self) -> int:
        return stat.S_IMODE(os.fstat(self.descriptor).st_mode)

    def set_mode(self, mode: int | None, mtime_ns: int | None) -> None:
        """None: it stays."""
        if mode is not None:
            os.fchmod(self.descriptor, mode)
        if mtime_ns is not None:
            os.utime(self.descriptor, ns=(mtime_ns, mtime_ns))

    def symlink(self, name: str, target: str, mtime_ns: int, temp: str, before: FileStat | None) -> None:
        """Make or replace a symlink. before: as of TargetFile.finish."""
        os.symlink(target, temp, dir_fd=self.descriptor)
        try:
            os.utime(temp, ns=(mtime_ns, mtime_ns), dir_fd=self.descriptor, follow_symlinks=False)
            self.put(temp, name, before)
        except BaseException:
            os.unlink(temp, dir_fd=self.descriptor)
            raise

    def set_attributes(
        self, name: str, before: FileStat, mode: int, mtime_ns: int, xattrs: Mapping[str, str]
    ) -> tuple[FileStat, str]:
        """Give a file these, and no other attributes; a symlink gets the time alone. Its content stays.

        The stat of it now, but for the change time, and which attributes could not be set. Conflict if it is not
        what it was (`before`).
        """
        found = self.stat(name)
        if found is not None and stat.S_ISLNK(found.st_mode) and self._is_as(found, before):
            os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=self.descriptor, follow_symlinks=False)
            return FileStat.of(os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)), ""
        if found is None or not stat.S_ISREG(found.st_mode):
            raise self._changed(name)
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.descriptor)
        try:
            found = os.fstat(descriptor)
            is_given = (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (mode, mtime_ns)
            if is_given and found.st_ino in self._replaced:  # by its other name
                before = msgspec.structs.replace(before, mode=mode, mtime_ns=mtime_ns)
            if not self._is_as(found, before):
                raise self._changed(name)
            if found.st_nlink > 1:
                self._replaced.add(found.st_ino)
            trouble = write_xattrs(descriptor, xattrs, names_of(descriptor) - xattrs.keys())
            os.fchmod(descriptor, mode)
            os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            # Who has written to it at this very moment got the old time back: only the change time tells, later.
            return msgspec.structs.replace(FileStat.of(os.fstat(descriptor)), ctime_ns=before.ctime_ns), trouble
        finally:
            os.close(descriptor)

    def put(self, temp: str, name: str, before: FileStat | None) -> None:
        """Rename temp to name; Conflict if that does not hold any more what it held when it was decided to replace it.

        before None: it was absent, and nothing that is made at the last moment is replaced either.
        """
        found = self.stat(name)
        if not self._is_as(found, before):
            raise self._changed(name)
        if found is not None and found.st_nlink > 1:
            self._replaced.add(found.st_ino)
        try:
            if before is None and name_new(self.descriptor, temp, name):
                return
        except FileExistsError:
            raise self._changed(name) from None
        os.rename(temp, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def _is_as(self, found: os.stat_result | None, before: FileStat | None) -> bool:
        """Also if nothing but the change time has moved, because this pull has replaced another name of that file."""
        now = FileStat.of(found) if found is not None else None
        if now is not None and before is not None and now.ino in self._replaced:
            now = msgspec.structs.replace(now, ctime_ns=before.ctime_ns)
        return now == before

    def link(
        self, source: "TargetDir", known: str, stat: FileStat, name: str, temp: str, before: FileStat | None
    ) -> bool:
        """Make or replace a name of the file `known` in another folder; before: as of TargetFile.finish.

        False: that is not what `stat` says any more, or the file system has no links (any more for this file).
        """
        try:
            os.link(known, temp, src_dir_fd=source.descriptor, dst_dir_fd=self.descriptor, follow_symlinks=False)
        except OSError as error:
            if error.errno in NO_LINKS or error.errno == errno.ENOENT:
                return False
            raise
        try:
            made = self.stat(temp)
            is_it = made is not None and msgspec.structs.replace(FileStat.of(made), ctime_ns=stat.ctime_ns) == stat
            there = self.stat(name)
            if is_it and made is not None and there is not None and os.path.samestat(made, there):
                os.unlink(temp, dir_fd=self.descriptor)  # a rename would do nothing
                return True
            if is_it:
                self.put(temp, name, before)
                return True
            os.unlink(temp, dir_fd=self.descriptor)
        except BaseException:
            os.unlink(temp, dir_fd=self.descriptor)
            raise
        return False

    def below(self, parts: Sequence[str]) -> "TargetDir":
        """A folder below this one, no symlink followed; OSError."""
        folder = TargetDir(os.dup(self.descriptor), self.path, self._replaced)
        for name in parts:
            try:
                inner = os.open(name, _DIR_FLAGS, dir_fd=folder.descriptor)
            finally:
                folder.close()
            folder = TargetDir(inner, folder.path / name, self._replaced)
        return folder

    def _changed(self, name: str) -> Conflict:
        path = str(self.path / name)
        return Conflict(f"{path} has been changed meanwhile", path=path, hint="pull again")

    def read_link(self, name: str) -> str:
        return os.readlink(name, dir_fd=self.descriptor)

    def hash(self, name: str) -> str:
        """Plain BLAKE3 of a regular file's bytes, in hex."""
        hasher = blake3()
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.descriptor)
        try:
            while data := os.read(descriptor, READ_SIZE):
                hasher.update(data)
        finally:
            os.close(descriptor)
        return hasher.hexdigest()


class TargetFile:
    """A file under way: bytes go to a temp file, finish() puts it in its place, abort() leaves no trace."""

    def __init__(self, folder: TargetDir, name: str, temp: str) -> None:
        self._folder = folder
        self._name = name
        self._temp = temp
        self._hasher = blake3()
        self._size = 0
        self._descriptor = make_temp(folder.descriptor, temp)

    def write(self, data: bytes) -> None:
        """Append. Blocks of zeros take no space on the disk: the holes of a sparse file stay holes."""
        view = memoryview(data)
        for start, end in _filled(data):
            while start < end:
                start += os.pwrite(self._descriptor, view[start:end], self._size + start)
        self._hasher.update(data)
        self._size += len(data)

    def finish(
        self,
        *,
        size: int,
        file_hash: str,
        mode: int,
        mtime_ns: int,
        xattrs: Mapping[str, str],
        before: FileStat | None,
    ) -> tuple[FileStat, str]:
        """Check size and hash ('' = unknown), set metadata, rename.

        The stat of what stands there now, and which attributes could not be set ('' = none).

        before: what the name held when it was decided to replace it; Conflict if that has changed, Integrity for wrong
        bytes. The file is gone in both cases.
        """
        try:
            if self._size != size or (file_hash and self._hasher.hexdigest() != file_hash):
                raise Integrity(f"{self._folder.path / self._name}: the content is not what its version says")
            os.ftruncate(self._descriptor, size)  # it may end with a hole
            trouble = write_xattrs(self._descriptor, xattrs)
            os.fchmod(self._descriptor, mode)
            os.utime(self._descriptor, ns=(mtime_ns, mtime_ns))
            written = FileStat.of(os.fstat(self._descriptor))
            self._folder.put(self._temp, self._name, before)
            # A rename moves the change time; everything else must be as it was written, or somebody has changed it.
            ctime_ns = FileStat.of(os.fstat(self._descriptor)).ctime_ns
        except BaseException:
            self.abort()
            raise
        os.close(self._descriptor)
        return msgspec.structs.replace(written, ctime_ns=ctime_ns), trouble

    def abort(self) -> None:
        try:
            os.unlink(self._temp, dir_fd=self._folder.descriptor)
        finally:
            os.close(self._descriptor)


def _filled(data: bytes) -> Iterator[tuple[int, int]]:
    """The parts [start, end) of the bytes that must be written."""
    start = end = 0
    while end < len(data):
        block = end + len(HOLE)
        if data[end] == 0 and data[end:block] == HOLE:
            if start < end:
                yield start, end
            start = block
        end = block
    if start < len(data):
        yield start, len(data)


def is_folder(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode)


def sync_tree(descriptor: int) -> None:
    """Everything written to the file system of this folder is on the medium when it returns."""
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    else:
        os.sync()
