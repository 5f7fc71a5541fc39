"""Tree: what the mount shows and what happens to it. The only writer of tree.db; synchronous, one thread.

Everything between two calls is one consistent state. Changes are written behind: `commit` when `has_open_group` has
been true for 5 ms; closing a file that was written, fsync and sealing commit by themselves.
"""

import base64
import os
from collections.abc import Callable, Sequence
from typing import Any

from fs.tree import (
    access,
    attrs,
    exchange,
    feed,
    files,
    links,
    named,
    names,
    note,
    recovery,
    rename,
    sealing,
    syncing,
    whole,
)  # fmt: skip
from fs.tree import seen as seen_of
from fs.tree.changes import Change
from fs.tree.check import check_state
from fs.tree.files import OpenFile
from fs.tree.model import DIR, FILE, ROOT_ID, SYMLINK, Ahead, Attr, Cut, Invalidation, Node
from fs.tree.overlay import KEEP, Overlay, remove_files
from fs.tree.sealing import SealDue, SealRound
from fs.tree.state import State
from fs.tree.syncing import SyncRound
from fs.tree.whole import Copy, copy_layers
from fs.work.durable import FileSync
from fs.work.writeback import Writeback
from sync.core.errors import NotFound
from sync.core.manifest import Manifest, VersionId
from sync.env import Env
from sync.state.home import FleetPaths
from sync.state.rows import ShownRow
from sync.state.view import ShownView

__all__ = [
    "DIR", "FILE", "ROOT_ID", "SYMLINK", "Ahead", "Attr", "Cut", "FileSync", "Invalidation", "OpenFile", "SealDue",
    "SealRound", "SyncRound", "Tree", "copy_layers", "remove_files", "tree_check",
]  # fmt: skip

NAMED_MAX = 10_000  # lookups kept in mind: they count for microseconds only


class Tree:
    """The overlay over the shown view. See fs/tree/model.py for Attr and Invalidation."""

    def __init__(self, state: State, paths: FleetPaths, *, owns_view: bool) -> None:
        self.state = state
        self._paths = paths
        self._owns_view = owns_view

    @classmethod
    def load(
        cls,
        env: Env,
        paths: FleetPaths,
        *,
        uid: int,
        gid: int,
        view: ShownView | None = None,
        sync_git: bool = False,
        keep: int = KEEP,
    ) -> "Tree":
        """Open both databases and take up what the last mount left. NotYet while the engine has not made fleet.db.

        uid, gid: the owner of what has none here. view: read through this one (the caller closes it). The caller holds
        mount.lock.
        """
        shown = view if view is not None else ShownView(env, paths.fleet_db)
        try:
            overlay = Overlay(env, paths.tree_db, paths.work_dir, keep=keep, ballast=paths.ballast)
        except BaseException:
            if view is None:
                shown.close()
            raise
        state = State(env, shown, overlay, paths.cache_dir / "whole", uid=uid, gid=gid, sync_git=sync_git)
        tree = cls(state, paths, owns_view=view is None)
        try:
            recovery.recover(state, paths.work_dir)
            state.whole_is_elsewhere = whole.is_elsewhere(paths.work_dir, paths.cache_dir / "whole")
            while note.has_answers(state):  # a layer may have been renamed by an answer that was not committed
                whole.copy_layers(note.copies_ahead(state, note.NOTES_MAX))
                note.note(state, note.NOTES_MAX)
        except BaseException:
            tree.abandon()
            raise
        return tree

    def close(self) -> None:
        """Commit and close. NoSpace: it is closed, but what was never committed is lost."""
        try:
            self.state.overlay.commit(full=True)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close without a commit, as a crash would."""
        self.state.overlay.close()
        if self._owns_view:
            self.state.view.close()

    # ---- names

    def lookup(self, parent: int, name: str) -> Attr:
        """NotFound. Counts as one lookup, as create does: see forget."""
        return names.lookup(self.state, parent, name)

    def remember(self, attr: Attr) -> None:
        """The kernel took an inode from a listing: that counts as one lookup."""
        self.state.inodes.remember(attr.ino, attr.told, attr.size, attr.mtime_ns, attr.nlink)

    def forget(self, ino: int, count: int) -> None:
        st = self.state
        if st.inodes.forget(ino, count):
            node = st.overlay.nodes.get(ino)
            if node is not None and node.handles:
                return
            st.inodes.drop(ino)
            if node is not None and node.unlinked and not node.stored:
                st.forget_node(node)

    def is_known(self, ino: int) -> bool:
        """True while the kernel has not forgotten the inode."""
        return ino in self.state.inodes.known

    def read_dir(self, ino: int, after: str, limit: int) -> list[tuple[str, Attr]]:
        """At most `limit` names behind `after` ('': from the start), sorted. Counts no lookups: see remember."""
        return names.read_dir(self.state, ino, after, limit)

    def create(
        self, parent: int, name: str, kind: int, mode: int, uid: int, gid: int, target: str = "", rdev: int = 0
    ) -> Attr:  # fmt: skip
        """AlreadyExists, BadPath, Stale if the parent is gone. Counts as one lookup."""
        return names.create(self.state, parent, name, kind, mode, uid, gid, target, rdev)

    def link(self, ino: int, parent: int, name: str) -> Attr:
        """Another name for a file. PermissionError for a directory, NotFound if it has no name any more, OSError EXDEV
        for a name that is not shared as the others are; else as create. Counts as one lookup.
        """
        return links.link(self.state, ino, parent, name)

    def unlink(self, parent: int, name: str) -> None:
        """NotFound; IsADirectoryError."""
        names.unlink(self.state, parent, name)

    def rmdir(self, parent: int, name: str) -> None:
        """NotFound, NotEmpty; NotADirectoryError."""
        names.rmdir(self.state, parent, name)

    def rename(self, parent: int, name: str, new_parent: int, new_name: str, noreplace: bool = False) -> None:
        """NotFound, AlreadyExists (noreplace), NotEmpty, ReadOnly; OSError of rename(2)."""
        rename.rename(self.state, parent, name, new_parent, new_name, noreplace=noreplace)

    def exchange(self, parent: int, name: str, other_parent: int, other_name: str) -> None:
        """Both names, in one step. NotFound, ReadOnly; OSError EINVAL where that cannot be."""
        exchange.exchange(self.state, parent, name, other_parent, other_name)

    def path_of(self, ino: int) -> str:
        """The rel_path of a directory or of a file; NotFound if no name leads to it."""
        place = self.state.place_of(ino)
        return self.state.path_at(place) if place is not None and ino != ROOT_ID else self.state.path_of(ino)

    def parent_of(self, ino: int) -> int:
        """The directory above; of the root, and of one that is gone, it is the same."""
        place = self.state.place_of(ino) if ino != ROOT_ID else None
        return place[0] if place is not None else ino

    # ---- inodes

    def attr(self, ino: int) -> Attr:
        """Stale if the number stands for nothing any more."""
        return names.attr(self.state, ino)

    def setattr(self, ino: int, **changes: Any) -> Attr:
        """mode, uid, gid, size, mtime_ns, atime_ns; None leaves one as it is. Stale, ReadOnly."""
        return attrs.setattr_of(self.state, ino, **changes)

    def take_cut(self) -> Cut | None:
        """A work file that setattr wants made shorter: call it in a thread, then cut_done, then answer the request."""
        return self.state.cuts.pop() if self.state.cuts else None

    def cut_done(self, cut: Cut) -> None:
        cut.node.is_cut = False

    @property
    def has_local_xattrs(self) -> bool:
        """False if nothing has an attribute that stays on this machine."""
        return bool(self.state.overlay.local_xattrs)

    def getxattr(self, ino: int, name: str) -> bytes | None:
        """None if there is no such attribute."""
        return attrs.getxattr(self.state, ino, name)

    def seen(self, ino: int) -> seen_of.Seen:
        """What is to be said of an inode at a glance; Stale as attr."""
        return seen_of.seen(self.state, ino)

    def manifest(self, version: VersionId) -> Manifest:
        """NotFound if no such version is known here."""
        return self.state.view.manifest(version)

    @property
    def machine_name(self) -> str:
        """Of this machine, in the fleet."""
        return self.state.view.machine_name

    def listxattr(self, ino: int) -> list[str]:
        return attrs.listxattr(self.state, ino)

    def setxattr(self, ino: int, name: str, value: bytes) -> None:
        """Stale, ReadOnly."""
        attrs.setxattr(self.state, ino, name, value)

    def removexattr(self, ino: int, name: str) -> None:
        """OSError ENODATA if there is none; Stale, ReadOnly."""
        attrs.setxattr(self.state, ino, name, None)

    def readlink(self, ino: int) -> str:
        return attrs.readlink(self.state, ino)

    def statfs(self) -> os.statvfs_result:
        """Of the disk that holds what is written here; nothing is available while writes are refused."""
        disk = os.statvfs(self._paths.state_dir)
        if not self.state.overlay.room.is_short:
            return disk
        fields = list(disk[:10])
        fields[4] = 0  # f_bavail
        return os.statvfs_result((*fields, disk.f_fsid))

    def open(self, ino: int, *, write: bool, truncate: bool = False) -> OpenFile:
        """Stale if the inode shows other content than was told; ReadOnly for writing to a sibling."""
        return files.open_file(self.state, ino, write=write, truncate=truncate)

    def was_read(self, ino: int) -> bool:
        """A directory was listed, or a symlink followed. True if that moved its atime."""
        return access.read(self.state, ino)

    def inodes(self) -> list[tuple[int, int]]:
        """Every inode the kernel knows, with the token of the content that it was told (0: none, or one of ours)."""
        return [(ino, known.told) for ino, known in self.state.inodes.known.items()]

    def forget_local(self) -> set[int]:
        """Content was freed: look again whether bytes are local (st_blocks). The tokens of what was thought to be."""
        return self.state.forget_local()

    def check_folder(self, ino: int) -> None:
        """Stale if the number stands for nothing any more, unless it was removed here; NotADirectoryError."""
        if ino not in self.state.inodes.removed:
            names.check_parent(self.state, ino)

    # ---- what a lookup named a moment ago: see fs/tree/named.py

    def watch_names(self, on: bool) -> None:
        """Keep in mind, or not any more, what lookups name."""
        if not on:
            self.state.named_rows = None
        elif self.state.named_rows is None or len(self.state.named_rows) > NAMED_MAX:
            self.state.named_rows = {}

    def named_row(self, ino: int) -> ShownRow | None:
        """What the kernel was last told of an inode, if that was kept in mind."""
        return named.named_row(self.state, ino)

    def open_named(self, row: ShownRow, ino: int, *, write: bool, truncate: bool) -> OpenFile:
        return named.open_named(self.state, row, ino, write=write, truncate=truncate)

    def attr_named(self, row: ShownRow, ino: int) -> Attr:
        return self.state.row_attr(row, ino)

    def setattr_named(self, row: ShownRow, ino: int, **changes: Any) -> Attr:
        return named.setattr_named(self.state, row, ino, **changes)

    def xattrs_named(self, row: ShownRow) -> dict[str, bytes]:
        xattrs = {**(self.state.xattrs_of(row) or {}), **self.state.overlay.local_xattrs.get(row.number, {})}
        return {name: base64.b64decode(value) for name, value in xattrs.items()}

    def setxattr_named(self, row: ShownRow, name: str, value: bytes | None) -> None:
        """None removes it."""
        named.setxattr_named(self.state, row, name, value)

    def readlink_named(self, row: ShownRow) -> str:
        return named.target_of(self.state, row)

    # ---- open files

    def set_local_probe(self, is_local: Callable[[ShownRow], bool]) -> None:
        """How to know whether bytes of a shown file are in the cache (st_blocks). Must be cheap."""
        self.state.is_local = is_local

    def set_remover(self, remove: Callable[[list[str | int]], None]) -> None:
        """Who removes work files that are needed no more: else each commit does. It calls `sync_commits` and then
        `remove_files`, in a thread: what a power cut leaves of tree.db must find its files.
        """
        self.state.overlay.remove = remove

    @property
    def data_version(self) -> int:
        """Another number after each commit of the engine."""
        return self.state.view.data_version()

    @property
    def wants_spares(self) -> bool:
        """True while programs make files faster than `order_spares` was called."""
        return self.state.overlay.spares.are_wanted and not self.state.overlay.room.is_short

    def order_spares(self) -> Callable[[], None]:
        """Work to be done in a thread, so that making the next files does not wait for the disk."""
        return self.state.overlay.order_spares()

    def drop_spares(self) -> None:
        """Those that nobody needed go."""
        if dropped := self.state.overlay.spares.drop():
            self.state.overlay.remove(dropped)

    @property
    def writeback(self) -> Writeback:
        """What large files that are being written have to bring to the disk."""
        return self.state.overlay.writeback

    # ---- the transaction

    @property
    def has_open_group(self) -> bool:
        return self.state.overlay.has_changes

    @property
    def has_logged(self) -> bool:
        return self.state.overlay.has_logged

    def log(self) -> None:
        """What is open outlives this process when this returns; NoSpace. To be committed soon all the same."""
        self.state.overlay.log()

    def commit(self, *, full: bool = False) -> None:
        """Write what is open; NoSpace. full: on disk when it returns, and the engine may prune up to taken_upto."""
        self.state.overlay.commit(full=full)

    def sync_names(self) -> Callable[[], None]:
        """Commit, and what then brings all commits to the disk: for another thread. NoSpace."""
        self.state.overlay.commit()
        return self.sync_commits

    def sync_commits(self) -> None:
        """Bring all commits to the disk. For another thread."""
        self.state.overlay.wal.sync()

    @property
    def wants_checkpoint(self) -> bool:
        """True when `checkpoint` should be called."""
        return self.state.overlay.wal.wants_checkpoint

    def checkpoint(self) -> None:
        """Empty the log of tree.db. The one method for another thread, beside all others; never twice at once."""
        self.state.overlay.wal.checkpoint()

    @property
    def trouble(self) -> str:
        """Why what is open cannot be committed; '' while it can."""
        return self.state.overlay.trouble

    def sync_begin(self) -> SyncRound:
        """What to bring to the disk by itself: SyncRound.data in a thread, sync_finish, SyncRound.rows in a thread."""
        return syncing.begin(self.state)

    def sync_finish(self, sync_round: SyncRound) -> None:
        """NoSpace: the bytes are there, the rows wait for the next commit."""
        syncing.finish(self.state, sync_round)

    # ---- publishing

    @property
    def pending(self) -> int:
        """How many changes wait to be sealed."""
        return len(self.state.pending)

    def seal_due(self, now: float) -> SealDue:
        """`now`: Env.monotonic()."""
        return sealing.seal_due(self.state, now)

    def sync_ahead(self, node: Node) -> Ahead:
        """What brings a file of SealDue.large to the disk, in a thread; then ahead_done."""
        return sealing.sync_ahead(node)

    def ahead_done(self, ahead: Ahead) -> None:
        sealing.ahead_done(ahead)

    def seal_begin(
        self, paths: Sequence[str] | None = None, *, only_due: bool = False, include_busy: bool = False
    ) -> SealRound:  # fmt: skip
        """Freeze; then SealRound.sync in a thread, then seal_finish, or seal_abort if that failed. One round at a time.

        Timers: only_due. A push of paths: include_busy. wait, down, unmount: neither.
        """
        return sealing.begin(self.state, paths, only_due=only_due, include_busy=include_busy)

    def seal_finish(self, seal_round: SealRound) -> None:
        sealing.finish(self.state, seal_round)

    def seal_abort(self, seal_round: SealRound) -> None:
        sealing.abort(self.state, seal_round)

    def copies_ahead(self, limit: int = note.NOTES_MAX) -> list[Copy]:
        """What must be copied (`copy_layers`, in a thread) before `note` of that many answers; mostly nothing."""
        return note.copies_ahead(self.state, limit)

    def note(self, limit: int = note.NOTES_MAX) -> list[Invalidation]:
        """Take note of up to `limit` answers; what the kernel has to forget. Committed, unless the disk is full."""
        return note.note(self.state, limit)

    @property
    def has_answers(self) -> bool:
        return note.has_answers(self.state)

    @property
    def taken_upto(self) -> int:
        """The last answer noted."""
        return int(self.state.overlay.meta("taken_upto") or 0)

    @property
    def durable_taken_upto(self) -> int:
        """The same, as of the last full commit: the engine may prune up to here."""
        return self.state.overlay.durable_taken_upto

    def feed(self, limit: int = feed.ITEMS_MAX) -> list[Invalidation]:
        """Read up to `limit` items of the feed; what the kernel has to forget. Committed, unless the disk is full."""
        return feed.feed(self.state, limit)

    def kind_at(self, parent: int, name: str) -> int | None:
        """What stands at a name, without counting a lookup; None if nothing does."""
        try:
            return names.find(self.state, parent, name).kind
        except NotFound:
            return None

    def looked_up_again(self, ino: int) -> bool:
        """Counts one more lookup of an inode, whatever stands at its name now. False if the kernel does not know it."""
        known = self.state.inodes.known.get(ino)
        if known is not None:
            known.count += 1
        return known is not None

    def new_number(self) -> int:
        """An inode number that nothing has."""
        return self.state.overlay.new_ino()

    @property
    def uid(self) -> int:
        """The owner of what has none here."""
        return self.state.uid

    @property
    def gid(self) -> int:
        return self.state.gid

    def take_changes(self) -> list[Change]:
        """What the feed has told of changes made elsewhere, in folders that the kernel knows; each is told once."""
        taken, self.state.changes = self.state.changes, []
        return taken

    @property
    def has_feed(self) -> bool:
        return feed.has_more(self.state)


def tree_check(tree: Tree) -> list[str]:
    """The rules that memory and rows keep: what is broken, a line each. For tests; fsck reads the rows."""
    return check_state(tree.state)
