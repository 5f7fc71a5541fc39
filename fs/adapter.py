"""The pyfuse3 side of the operations: convert, call one function of fs/ops, convert back. No logic.

Only FUSEError leaves a handler (`_handler` sees to it): pyfuse3 ends the whole mount on anything else. Handlers of the
hot path never await; what they call is synchronous, so a reply that was true when the tree was read always reaches the
kernel before the invalidation of a later change.
"""

import errno
import functools
import logging
import os
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from types import CoroutineType
from typing import Any, NoReturn

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext, SetattrFields, StatvfsData

from fs.convert import PERMISSIONS, changes_of, entry_of, groups_of
from fs.errno import outcome_of
from fs.ops import attr as attr_ops
from fs.ops import directory, link, lookup, named, read, rename, replay, seen, special, statfs, write, xattr
from fs.ops import open as open_ops
from fs.ops.privileges import Caller
from fs.ops.volume import Volume
from fs.tree.model import DIR, FILE, SYMLINK, Attr
from sync.core.errors import NotFound, Stale, TcfsError
from sync.core.paths import PART_MAX

FOREVER_S = 10.0 * 365 * 86_400  # every change is told to the kernel, so it may believe what it knows

_BY_HANDLE = frozenset({"read", "write", "flush", "release", "fsync"})
_WITH_CONTENT = frozenset({"write", "setxattr"})  # as their third argument

_FOR_HELPER = frozenset({"mknod", "mkdir", "symlink", "unlink", "rmdir", "rename", "setattr"})

log = logging.getLogger(__name__)

Handler = Callable[..., Coroutine[Any, Any, Any]]


def _handler(function: Callable[..., Any]) -> Handler:
    """The wrapper of every operation: what goes wrong leaves as the errno of fs/errno.py, and is logged once.

    What need not wait is a plain function: a coroutine more costs as much as a lookup in the tree.
    """

    @functools.wraps(function)
    async def wrapped(self: "Adapter", *args: Any) -> Any:
        try:
            answer = function(self, *args)
            return await answer if isinstance(answer, CoroutineType) else answer
        except FUSEError:
            raise
        except Exception as error:
            return self._answer_failed(function.__name__, args, error)

    return _replayable(function.__name__, wrapped)


def _replayable(operation: str, function: Handler) -> Handler:
    """The process that replays what was changed elsewhere gets answers of its own. No coroutine more for all others."""
    if operation not in _FOR_HELPER:
        return function

    @functools.wraps(function)
    def wrapped(self: "Adapter", *args: Any) -> Coroutine[Any, Any, Any]:
        if args[-1].pid == self._replay.pid:
            return self._answer_replayed(operation, args)
        return function(self, *args)

    return wrapped


def _change(function: Callable[..., Any]) -> Handler:
    """As _handler, for operations that change the tree."""

    @functools.wraps(function)
    async def wrapped(self: "Adapter", *args: Any) -> Any:
        try:
            answer = function(self, *args)
            if isinstance(answer, CoroutineType):
                answer = await answer
        except FUSEError:
            raise
        except Exception as error:
            answer = self._answer_failed(function.__name__, args, error)
        finally:
            self._volume.recent.forget()
        self._volume.on_change()
        return answer

    return _replayable(function.__name__, wrapped)


class Adapter(pyfuse3.Operations):
    """What the kernel asks, put to one Volume."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = True

    def __init__(self, volume: Volume, *, kernel_caches: bool = True) -> None:
        """kernel_caches: the kernel may keep names, attributes and pages of what nobody has open."""
        super().__init__()
        self._volume = volume
        self._keeps = kernel_caches
        self._valid_s = FOREVER_S if kernel_caches else 0.0
        self._replay = volume.replay
        self.on_init: Callable[[], None] = lambda: None  # called while the kernel's first request is being answered
        self._requests_failed = 0
        self._bugs_seen: set[tuple[str, str]] = set()
        absent = EntryAttributes()  # st_ino 0: there is nothing, and the kernel may remember that
        absent.entry_timeout = self._valid_s
        self._absent = absent

    def _entry(self, attr: Attr) -> EntryAttributes:
        return entry_of(attr, self._valid_s)

    def _replayed_entry(self, name: bytes, attr: Attr) -> EntryAttributes:
        """A name that only the helper knows is one for a moment."""
        entry = self._entry(attr)
        if len(name) > PART_MAX:
            entry.entry_timeout, entry.attr_timeout = 0.0, FOREVER_S
        return entry

    def _file_info(self, handle: int, *, is_direct: bool = False) -> FileInfo:
        # A number stands for one content: so do the kernel's pages.
        return FileInfo(fh=handle, keep_cache=self._keeps, direct_io=is_direct)

    def init(self) -> None:
        self.on_init()

    @_handler
    def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        if ctx.pid == self._replay.pid:
            return self._replayed_entry(name, replay.lookup(self._volume, parent_inode, name))
        attr = lookup.lookup(self._volume, parent_inode, name)
        if self._volume.retries and attr is not None:
            named.looked_up(self._volume, ctx.pid, attr)
        if attr is None:
            if self._replay.removes and replay.is_to_go(self._volume, parent_inode, name):
                raise FUSEError(errno.ENOENT)  # that is not remembered
            return self._absent
        return self._entry(attr)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        try:
            lookup.forget(self._volume, inode_list)
        except Exception:
            log.exception("forget failed")  # there is no request that could fail
        self._volume.recent.forget()  # numbers may stand for something else now

    @_handler
    def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._entry(attr_ops.getattr_of(self._volume, inode))

    @_change
    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        return self._entry(await attr_ops.setattr_of(self._volume, inode, changes_of(attr, fields)))

    @_handler
    def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return link.readlink(self._volume, inode)

    @_change
    def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        return self._entry(special.mknod(self._volume, parent_inode, name, mode, rdev, ctx.uid, ctx.gid))

    @_change
    def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        return self._entry(directory.mkdir(self._volume, parent_inode, name, mode & PERMISSIONS, ctx.uid, ctx.gid))

    @_change
    def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        directory.unlink(self._volume, parent_inode, name)

    @_change
    def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        directory.rmdir(self._volume, parent_inode, name)

    @_change
    def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._entry(link.symlink(self._volume, parent_inode, name, target, ctx.uid, ctx.gid))

    @_change
    def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        rename.rename(self._volume, parent_inode_old, name_old, parent_inode_new, name_new, flags)

    @_change
    def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._entry(link.hard_link(self._volume, inode, new_parent_inode, new_name))

    @_handler
    def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        if ctx.pid == self._replay.pid:
            return self._file_info(replay.open_file(self._volume, inode, flags))
        handle = open_ops.open_file(self._volume, inode, flags, ctx.pid, _caller(ctx))
        if self._volume.retries:
            named.served(self._volume, ctx.pid)
        return self._file_info(handle, is_direct=self._volume.handles[handle].is_direct)

    @_change
    def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        opened, attr = open_ops.create(self._volume, parent_inode, name, mode & PERMISSIONS, flags, ctx.uid, ctx.gid)
        return self._file_info(opened, is_direct=self._volume.handles[opened].is_direct), self._entry(attr)

    @_handler
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await read.read(self._volume, fh, off, size)

    @_change
    def write(self, fh: int, off: int, buf: bytes) -> int | Coroutine[Any, Any, int]:
        return write.write(self._volume, fh, off, buf)

    @_handler
    def flush(self, fh: int) -> None:
        open_ops.flush(self._volume, fh)

    @_handler
    async def release(self, fh: int) -> None:
        await open_ops.release(self._volume, fh)

    @_handler
    async def fsync(self, fh: int, datasync: bool) -> None:
        await open_ops.fsync(self._volume, fh)

    @_handler
    def opendir(self, inode: int, ctx: RequestContext) -> int:
        return directory.opendir(self._volume, inode)

    @_handler
    def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        for listed in directory.read_dir(self._volume, fh, start_id):
            if listed.reply is None:
                listed.reply = self._entry(listed.attr)
            if not pyfuse3.readdir_reply(token, listed.name, listed.reply, listed.cookie):
                break
            directory.listed(self._volume, listed)

    @_handler
    def releasedir(self, fh: int) -> None:
        directory.releasedir(self._volume, fh)

    @_handler
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await open_ops.fsyncdir(self._volume, fh)

    @_handler
    def statfs(self, ctx: RequestContext) -> StatvfsData:
        disk = statfs.statfs(self._volume)
        data = StatvfsData()
        for field in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "namemax"):
            setattr(data, f"f_{field}", getattr(disk, f"f_{field}"))
        return data

    @_handler
    def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes | Coroutine[Any, Any, bytes]:
        # Plain FUSEErrors, because these two answers are most of all requests that fail.
        if xattr.is_absent(self._volume, name):
            raise FUSEError(errno.ENODATA)
        if not xattr.is_kept(name):
            raise FUSEError(errno.EOPNOTSUPP)
        if name.startswith(seen.PREFIXES):
            return self._made_up(inode, name)
        return _present(xattr.getxattr(self._volume, inode, name))

    async def _made_up(self, inode: int, name: bytes) -> bytes:
        return _present(await seen.getxattr(self._volume, inode, name))

    @_change
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        if name.startswith(seen.PREFIXES):
            await seen.setxattr(self._volume, inode, name, value)
        else:
            xattr.setxattr(self._volume, inode, name, value, ctx.uid, ctx.gid, lambda: groups_of(ctx.pid))

    @_handler
    def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        return xattr.listxattr(self._volume, inode, ctx.uid)

    @_change
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        if name.startswith(seen.PREFIXES):
            await seen.removexattr(self._volume, inode, name)
        else:
            xattr.removexattr(self._volume, inode, name)

    def _answer_failed(self, operation: str, args: tuple[Any, ...], error: Exception) -> Any:
        """The answer to a request that has failed: once more ESTALE is none, see fs/tree/named.py."""
        second = _SECOND.get(operation)
        if second is not None and isinstance(error, Stale):
            if operation == "getattr" and args[-1].pid == self._replay.pid:
                gone = replay.attr_of_gone(self._volume, args[0])
                if gone is not None:
                    return self._entry(gone)
            row = named.row_for(self._volume, args[-1].pid, args[0], is_last=operation != "getattr")
            if row is not None:
                try:
                    return second(self, row, *args[:-1])
                except Exception as another:
                    error = another
        elif operation == "create" and isinstance(error, Stale):
            named.failed(self._volume, args[-1].pid)
        self._refuse(operation, args, error)

    async def _answer_replayed(self, operation: str, args: tuple[Any, ...]) -> Any:
        try:
            attr = _REPLAYED[operation](self._volume, *args)
            return None if attr is None else self._entry(attr)
        except NotFound:
            raise FUSEError(errno.ENOENT) from None
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None
        except Exception as error:
            self._refuse(operation, args, error)

    def _refuse(self, operation: str, args: tuple[Any, ...], error: Exception) -> NoReturn:
        """Log a failed request once and answer it."""
        outcome = outcome_of(error)
        self._requests_failed += 1
        if log.isEnabledFor(outcome.level):
            brief = [_brief(arg, operation in _WITH_CONTENT and n == 2) for n, arg in enumerate(args)]
            where = " ".join([*brief, self._path(operation, args[0])])
            kind = (operation, type(error).__name__)
            log.log(
                outcome.level,
                "%s(%s) -> %s: %s [%d]",
                operation,
                where,
                os.strerror(outcome.errno),
                error or type(error).__name__,
                self._requests_failed,
                exc_info=error if outcome.traceback and kind not in self._bugs_seen else None,
            )
            if outcome.traceback:
                self._bugs_seen.add(kind)
        raise FUSEError(outcome.errno) from None

    def _path(self, operation: str, number: int) -> str:
        """The rel_path of an inode, or of the file behind a handle; '?' if no name leads there."""
        try:
            ino = self._volume.handles[number].ino if operation in _BY_HANDLE else number
            return repr(self._volume.tree.path_of(ino))
        except (TcfsError, sqlite3.Error, KeyError):
            return "?"  # what is being logged is another failure


def _caller(ctx: RequestContext) -> Caller:
    return Caller(ctx.uid, ctx.gid, lambda: groups_of(ctx.pid))


def _present(value: bytes | None) -> bytes:
    if value is None:
        raise FUSEError(errno.ENODATA)
    return value


# Requests that come by a name: what they do with what a lookup has named. Arguments as theirs, but for the last.
_SECOND: dict[str, Callable[..., Any]] = {
    "open": lambda to, row, ino, flags: to._file_info(named.open_file(to._volume, row, ino, flags)),
    "getattr": lambda to, row, ino: to._entry(named.getattr_of(to._volume, row, ino)),
    "setattr": lambda to, row, ino, attr, fields, fh: to._entry(
        named.setattr_of(to._volume, row, ino, changes_of(attr, fields))
    ),
    "readlink": lambda to, row, ino: named.readlink(to._volume, row),
    "getxattr": lambda to, row, ino, name: named.getxattr(to._volume, row, name),
    "listxattr": lambda to, row, ino: named.listxattr(to._volume, row),
    "setxattr": lambda to, row, ino, name, value: named.setxattr(to._volume, row, name, value),
    "removexattr": lambda to, row, ino, name: named.setxattr(to._volume, row, name, None),
}


# Requests of the helper: the same arguments, the last one is the context. What is told of is an Attr.
_REPLAYED: dict[str, Callable[..., Attr | None]] = {
    "mknod": lambda volume, parent, name, mode, rdev, ctx: replay.create(volume, FILE, parent, name),
    "mkdir": lambda volume, parent, name, mode, ctx: replay.create(volume, DIR, parent, name),
    "symlink": lambda volume, parent, name, target, ctx: replay.create(volume, SYMLINK, parent, name),
    "unlink": lambda volume, parent, name, ctx: replay.remove(volume, parent, name),
    "rmdir": lambda volume, parent, name, ctx: replay.remove(volume, parent, name),
    "rename": lambda volume, *args: replay.rename(volume, *args[:-1]),
    "setattr": lambda volume, ino, attr, fields, fh, ctx: replay.setattr_of(volume, ino),
}


def _brief(arg: object, is_content: bool) -> str:
    """Of an argument what a line of the log needs; what people write into their files does not belong there."""
    if isinstance(arg, bytes):
        return f"{len(arg)} bytes" if is_content else repr(arg[:300])
    return str(arg) if isinstance(arg, int) else "-"
