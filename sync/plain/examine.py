"""Before a pull writes: what stands at each place of the target, and what may be done there."""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from sync.core.chunking import ChunkParams, cut
from sync.core.codec import ContentHasher, chunk_id
from sync.core.errors import Conflict, TcfsError
from sync.core.keys import Keys
from sync.core.manifest import Manifest, VersionId
from sync.plain.target import TargetDir
from sync.plain.xattrs import read_xattrs, travels
from sync.worker.content import FileStat

_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Known(msgspec.Struct, frozen=True):
    """What `plain` remembers of a local path: the version of its last push or pull, and its stat then."""

    version: VersionId
    size: int
    mtime_ns: int
    ino: int
    ctime_ns: int  # 0: not known

    def is_unmodified(self, found: FileStat) -> bool:
        return self.may_be_unmodified(found) and self.ctime_ns in (0, found.ctime_ns)

    def may_be_unmodified(self, found: FileStat) -> bool:
        """Only the change time may differ: a chmod, a link, or a content that was changed and got its old time back."""
        return (self.size, self.mtime_ns, self.ino) == (found.size, found.mtime_ns, found.ino)


class Entry(msgspec.Struct, frozen=True):
    """A file or symlink that the fleet shows. covers: the heads that who sees it has seen; fields as merged."""

    name: str
    remote: str
    version: VersionId
    manifest: Manifest
    covers: frozenset[str]
    mode: int
    mtime_ns: int
    xattrs: Mapping[str, str]
    known: Known | None
    link: int | None = None  # of a file with several names in the fleet: the same for all


class EnterDir(msgspec.Struct, frozen=True):
    """A folder; all items up to its LeaveDir lie in it. version None: implied by its content.

    gone: attributes that the version of its last push or pull had and this one has not.
    """

    name: str
    remote: str
    version: VersionId | None
    mode: int
    mtime_ns: int
    xattrs: Mapping[str, str]
    gone: frozenset[str]
    known: Known | None


class LeaveDir(msgspec.Struct, frozen=True):
    pass


Item = Entry | EnterDir | LeaveDir


class Write(msgspec.Struct, frozen=True):
    """Make or replace the entry; `before` is what stands there and may go."""

    folder: TargetDir
    entry: Entry
    before: FileStat | None


class Same(msgspec.Struct, frozen=True):
    """The right content is there already; stat None: and `plain` knows it.

    before: what stands there and is to get the fleet's mode, time and attributes; None: they stay as they are.
    """

    folder: TargetDir
    entry: Entry
    stat: FileStat | None
    before: FileStat | None = None


class Close(msgspec.Struct, frozen=True):
    """All below a folder is done."""

    folder: TargetDir
    made: EnterDir
    is_ours: bool  # made now, or by an earlier pull: then its mode is the fleet's too
    keeps_mode: bool  # unless it was changed here since


class Refused(msgspec.Struct, frozen=True):
    error: TcfsError


Step = Write | Same | Close | Refused


@dataclass(slots=True)
class _Open:
    folder: TargetDir | None  # None: refused, and all below with it
    made: EnterDir
    is_ours: bool = False
    keeps_mode: bool = False


@dataclass(slots=True)
class Examiner:
    """Walks the target alongside the items. Runs in a thread; opens folders that the steps' Close lets go."""

    root: TargetDir
    keys: Keys
    params: ChunkParams
    manifest_of: Callable[[VersionId], Manifest | None]
    force: bool
    now: float  # wall clock, s
    _stack: list[_Open] = field(default_factory=list)

    def examine(self, items: Sequence[Item]) -> list[Step]:
        steps: list[Step] = []
        for item in items:
            try:
                step = self._examine(item)
            except TcfsError as error:
                step = Refused(error)
            except OSError as error:
                step = Refused(self._os_error(item, error))
            if step is not None:
                steps.append(step)
        return steps

    def close(self) -> None:
        """After a failure: the folders that no Close will come for."""
        while self._stack:
            folder = self._stack.pop().folder
            if folder is not None:
                folder.close()

    def _here(self) -> TargetDir | None:
        return self._stack[-1].folder if self._stack else self.root

    def _examine(self, item: Item) -> Step | None:
        here = self._here()
        if isinstance(item, EnterDir):
            self._stack.append(_Open(None, item))
            if here is not None:
                folder, is_new = here.enter(item.name, item.mode)
                keeps_mode = not is_new and self._is_mode_changed(folder, item.known)
                self._stack[-1] = _Open(folder, item, is_new or item.known is not None, keeps_mode)
                if not is_new:
                    folder.clean(self.now)
            return None
        if isinstance(item, LeaveDir):
            done = self._stack.pop()
            return None if done.folder is None else Close(done.folder, done.made, done.is_ours, done.keeps_mode)
        return None if here is None else self._entry(here, item)

    def _is_mode_changed(self, folder: TargetDir, known: Known | None) -> bool:
        """True if a folder has another mode than at its last push or pull, and that is to stay."""
        manifest = self.manifest_of(known.version) if known is not None and not self.force else None
        return manifest is not None and folder.mode() != manifest.mode

    def _entry(self, here: TargetDir, entry: Entry) -> Step:
        found = here.stat(entry.name)
        if found is None:
            return Write(here, entry, None)
        path = str(here.path / entry.name)
        if stat.S_ISDIR(found.st_mode):
            raise Conflict(f"{path} is a folder here and none in the fleet", path=path, hint="move it away")
        if kind := _special(found.st_mode):  # of this machine: no content replaces it, whatever is asked
            raise Conflict(f"{path} is a {kind} here and a file in the fleet", path=path, hint="move it away")
        now = FileStat.of(found)
        if entry.known is not None and self._is_unmodified(here, entry.name, entry.known, found):
            if entry.known.version in entry.covers:
                return Same(here, entry, None, self._before(here, entry, found))
            return Write(here, entry, now)
        if self._is_equal(here, entry.name, entry.manifest, found):
            return Same(here, entry, now, self._before(here, entry, found))
        if self.force:
            return Write(here, entry, now)
        raise Conflict(
            f"{path} differs from the fleet's and was not published", path=path, hint="push it, or pull with --force"
        )

    def _before(self, here: TargetDir, entry: Entry, found: os.stat_result) -> FileStat | None:
        """Of a Same: with force what differs from the fleet's in more than its content."""
        now = FileStat.of(found)
        if not self.force:
            return None
        if now.mtime_ns != entry.mtime_ns:
            return now
        if stat.S_ISLNK(found.st_mode):
            return None
        there = read_xattrs(str(here.path / entry.name)).xattrs
        wanted = {name: value for name, value in entry.xattrs.items() if travels(name)}
        return None if now.mode == entry.mode and there in (None, wanted) else now

    def _is_unmodified(self, here: TargetDir, name: str, known: Known, found: os.stat_result) -> bool:
        now = FileStat.of(found)
        if known.is_unmodified(now) or not known.may_be_unmodified(now):
            return known.is_unmodified(now)
        manifest = self.manifest_of(known.version)
        return manifest is not None and self._is_equal(here, name, manifest, found)

    def _is_equal(self, here: TargetDir, name: str, manifest: Manifest, found: os.stat_result) -> bool:
        if stat.S_ISLNK(found.st_mode):
            return manifest.target != "" and here.read_link(name) == manifest.target
        if not stat.S_ISREG(found.st_mode) or manifest.target or found.st_size != manifest.file_size:
            return False
        if manifest.file_hash:
            return here.hash(name) == manifest.file_hash
        return self._content_id(here, name, manifest.file_size) == manifest.content_id

    def _content_id(self, here: TargetDir, name: str, size: int) -> str:
        """Of versions whose writer has not seen all bytes there is no hash: cut the local file as they were cut."""
        hasher = ContentHasher(self.keys)
        descriptor = os.open(name, _READ_FLAGS, dir_fd=here.descriptor)
        try:
            for chunk in cut(lambda buffer: os.readv(descriptor, [buffer]), size, self.params):
                hasher.add(chunk_id(self.keys, chunk), len(chunk))
        finally:
            os.close(descriptor)
        return hasher.content_id()

    def _os_error(self, item: Item, error: OSError) -> TcfsError:
        here = self._here() or self.root
        path = str(here.path / item.name) if not isinstance(item, LeaveDir) else str(here.path)
        return local_error(Path(path), error)


def _special(mode: int) -> str:
    """What it is; '' for a regular file, a folder or a symlink."""
    tests = {
        "pipe": stat.S_ISFIFO,
        "socket": stat.S_ISSOCK,
        "character device": stat.S_ISCHR,
        "block device": stat.S_ISBLK,
    }
    return next((name for name, is_one in tests.items() if is_one(mode)), "")


def local_error(path: Path, error: OSError) -> TcfsError:
    """An error of the local file system, naming the path."""
    return TcfsError(f"{path}: {error.strerror or error}", path=str(path))
