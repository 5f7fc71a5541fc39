"""Tree: what the mount shows and what a request does to it. The only writer of tree.db; synchronous, one thread.

Everything between two calls is one consistent state. Changes are written behind: who makes them sees to it that
`overlay.log` and `overlay.commit` follow; closing a file that was written, fsync and sealing do that by themselves.
What goes on beside the requests works on the parts, which take `state`: sealing, note, feed, syncing.
"""

import os
from typing import Any

from fs.tree import access, attrs, exchange, files, linking, names, note, recovery, release, rename, stat, whole
from fs.tree.files import OpenFile
from fs.tree.model import FILE, ROOT_ID, Attr, Cut
from fs.tree.overlay import KEEP, Overlay
from fs.tree.owners import Names, Ownership
from fs.tree.state import State
from sync.env import Env
from sync.state.home import FleetPaths
from sync.state.view import ShownView


class Tree:
    """The overlay over the shown view. See fs/tree/model.py for Attr and Invalidation."""

    def __init__(self, state: State, paths: FleetPaths, *, owns_view: bool) -> None:
        self.state = state
        self.overlay = state.overlay
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
        owner_names: Names | None = None,
        keep: int = KEEP,
    ) -> "Tree":
        """Open both databases and take up what the last mount left. NotYet while the engine has not made fleet.db.

        uid, gid: the owner of what has none here. owner_names: given if ownership is synced. view: read through this
        one (the caller closes it). The caller holds mount.lock.
        """
        shown = view if view is not None else ShownView(env, paths.fleet_db)
        try:
            overlay = Overlay(env, paths.tree_db, paths.work_dir, keep=keep, ballast=paths.ballast)
        except BaseException:
            if view is None:
                shown.close()
            raise
        ownership = Ownership(uid, gid, owner_names)
        state = State(env, shown, overlay, paths.cache_dir / "whole", ownership=ownership, sync_git=sync_git)
        tree = cls(state, paths, owns_view=view is None)
        try:
            recovery.recover(state, paths)
            state.whole_is_elsewhere = whole.is_elsewhere(paths.work_dir, paths.cache_dir / "whole")
            while note.has_answers(state):  # a layer may have been renamed by an answer that was not committed
                whole.copy_layers(note.copies_ahead(state))
                note.note(state)
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

    def look(self, parent: int, name: str) -> Attr | None:
        """As lookup; None if there is nothing."""
        return names.look(self.state, parent, name)

    def remember(self, attr: Attr) -> None:
        """The kernel took an inode from a listing: that counts as one lookup."""
        self.state.inodes.remember(attr.ino, attr.kind, attr.told, attr.size, attr.mtime_ns, attr.nlink)

    def forget(self, ino: int, count: int) -> None:
        st = self.state
        if st.inodes.forget(ino, count):
            node = st.overlay.nodes.get(ino)
            if node is not None and node.handles:
                return
            st.inodes.drop(ino)
            if node is not None and node.unlinked and not node.stored:
                release.forget_node(st, node)

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

    def create_open(
        self, parent: int, name: str, mode: int, uid: int, gid: int, *, write: bool
    ) -> tuple[Attr, OpenFile]:  # fmt: skip
        """As create, of a file, and open."""
        node = names.make(self.state, parent, name, FILE, mode, uid, gid)
        return stat.node_attr(self.state, node), files.open_node(self.state, node, write=write, truncate=False)

    def link(self, ino: int, parent: int, name: str) -> Attr:
        """Another name for a file. PermissionError for a directory, NotFound if it has no name any more, OSError EXDEV
        for a name that is not shared as the others are; else as create. Counts as one lookup.
        """
        return linking.link(self.state, ino, parent, name)

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
        """Both names, in one step. NotFound, ReadOnly; OSError EINVAL or EXDEV where that cannot be."""
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

    def mode_and_group(self, ino: int) -> tuple[int, int]:
        """Permission bits and group; of a folder for what is made in it. Stale as attr."""
        return names.mode_and_group(self.state, ino)

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

    def check_folder(self, ino: int) -> None:
        """Stale if the number stands for nothing any more, unless it was removed here; NotADirectoryError."""
        if ino not in self.state.inodes.removed:
            names.check_parent(self.state, ino)
