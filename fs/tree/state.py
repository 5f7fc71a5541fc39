"""State: what all parts of the tree share. Where things are, what stat shows of them, and how a name gets its own
row.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cachetools import LRUCache

from fs.tree import links
from fs.tree.gone import DEPTH_MAX, GoneFolders
from fs.tree.inodes import Inodes
from fs.tree.model import BLOCK, DIR, FILE, MODE_BITS, ROOT_ID, Attr, Cut, Entry, Invalidation, Key, LocalTimes, Node
from fs.tree.overlay import Overlay
from fs.tree.owners import Ownership
from fs.tree.subfolders import Subfolders
from sync.core.errors import NotFound
from sync.core.ignore import Ignore
from sync.core.paths import PATH_MAX, join_path
from sync.env import Env
from sync.state.changes import Places
from sync.state.rows import ShownRow
from sync.state.view import ShownView

if TYPE_CHECKING:
    from fs.tree.changes import Change

PATHS_KEPT = 20_000
LOCAL_TIMES_KEPT = 100_000
LOCAL_KEPT = 100_000
NOTED_KEPT = 100_000
RECENT_SECONDS = 2.0  # what was published so short ago waits for quiet

Pending = Key | int  # an entry, or the number of a nameless node that is to be published


class State:
    """The shared, mutable heart of a Tree. The functions of this package take it as their first argument."""

    def __init__(
        self, env: Env, view: ShownView, overlay: Overlay, whole_dir: Path, *, ownership: Ownership, sync_git: bool
    ) -> None:
        self.env = env
        self.view = view
        self.overlay = overlay
        self.inodes = Inodes()
        self.whole_folder = str(whole_dir)
        self.whole_is_elsewhere = False  # layers cannot be renamed to there
        self.ownership = ownership
        self.uid = ownership.uid
        self.gid = ownership.gid
        self.sync_git = sync_git
        self.ignore = Ignore(view.tcfsignore(), sync_git_raw=sync_git)
        self.pending: dict[Pending, float] = {}  # what is to be sealed, and when it last changed (monotonic s)
        self.retry_at: dict[Pending, float] = {}  # refused by the engine: not before
        self.left_by: dict[int, set[Key]] = {}  # node -> the whiteouts it left where it was
        self.keepers: set[Key] = set()
        self.unshown: set[int] = set()  # directories made here that no seal has named yet: nothing is shown in them
        self.siblings_gone: set[Key] = set()  # whiteouts of siblings that were resolved here
        self.gone = GoneFolders(self)
        self.subfolders = Subfolders(self)
        self.noted_at: dict[Pending, float] = {}
        self.named_rows: dict[int, ShownRow] | None = None  # while somebody was told ESTALE: see fs/tree/named.py
        self.atimes: dict[int, int] = {}  # of shown rows: when they were last read, if not when they were written
        self.unsynced: set[int] = set()  # nodes whose bytes may not be on the disk: see fs/tree/syncing.py
        self.unsynced_before: set[int] = set()
        self.changes: list[Change] = []  # made elsewhere, that somebody may want to be told of
        self.half_moves = Places()  # of which the feed has told one end; what the kernel has to forget there:
        self.held_items: dict[Invalidation, None] = {}
        self.noted_versions: LRUCache[str, None] = LRUCache(NOTED_KEPT)  # published from here
        self.cuts: list[Cut] = []  # to be made before the request that asked for them is answered
        # Whether bytes of a shown file are in the cache (st_blocks). Must be cheap.
        self.is_local: Callable[[ShownRow], bool] = lambda row: False
        self._told_ns = 0  # the newest time that the kernel has stamped, or nearly so
        self._local_values: dict[int, None] = {}  # contents that went from here to the cache as a whole
        self._paths: dict[int, str] = {ROOT_ID: ""}

    # ---- the time of a change

    def stamp_ns(self) -> int:
        """The time of what is changed now: by the kernel's own coarse clock, and not before what it has just said.

        The kernel stamps `touch` by that clock. With a finer one here what is touched would be older than what was made
        just before.
        """
        coarse = self.env.file_time_ns()
        return self._told_ns if coarse < self._told_ns <= self.env.now_ns() else coarse

    def told_time(self, time_ns: int) -> None:
        """A request has brought this time for a file; whether it is a program's or the kernel's cannot be told.

        The kernel's lies between its coarse clock, which stands still while the processors are busy elsewhere, and now.
        """
        if self.env.file_time_ns() < time_ns <= (now_ns := self.env.now_ns()):
            self._told_ns = max(time_ns, self._told_ns if self._told_ns <= now_ns else 0)

    # ---- what stat shows

    def node_attr(self, node: Node) -> Attr:
        size = node.size if node.kind != DIR else 0
        blocks = (size + BLOCK - 1) // BLOCK if node.kind == FILE else 0
        told = node.value if not node.stored else 0
        nlink = 0 if node.unlinked else 1 + len(node.links) if node.kind != DIR else 2 + self.subfolders.of(node.id)
        uid, gid = self.ownership.of_node(node)
        return Attr(
            node.id, node.kind, node.mode, nlink, uid, gid, size, node.atime_ns, node.mtime_ns, node.ctime_ns,
            blocks, told, node.rdev, self.ownership.valid_s(node.owner, node.owner_group),
        )  # fmt: skip

    def row_attr(self, row: ShownRow, ino: int) -> Attr:
        """A shown row under the number `ino`."""
        mtime_ns, ctime_ns, blocks = row.mtime_ns, row.ctime_ns, 0
        number = row.id if row.link is None else row.link
        uid, gid = self.ownership.of_row(row, self.overlay.owners.get(number))
        local = self.overlay.times.get(number)
        if local is not None:
            ctime_ns = max(ctime_ns, local.ctime_ns)
            mtime_ns = max(mtime_ns, local.mtime_ns) if row.kind == DIR else mtime_ns
        nlink = row.nlink if row.link is None else links.count(self, row)
        if row.kind == DIR:
            nlink = 2 + self.subfolders.of(row.id)
        if row.kind == FILE and row.size:
            is_local = row.value in self._local_values or self.is_local(row)
            blocks = (row.size + BLOCK - 1) // BLOCK if is_local else 1
        return Attr(
            ino, row.kind, row.mode & MODE_BITS, nlink,
            uid, gid, row.size, self.atimes.get(number, mtime_ns), mtime_ns, ctime_ns, blocks, row.value,
            valid_s=self.ownership.valid_s(row.owner, row.group),
        )  # fmt: skip

    def keep_local(self, value: int) -> None:
        """The content of that token was moved to the cache, whole."""
        if len(self._local_values) >= LOCAL_KEPT:
            del self._local_values[next(iter(self._local_values))]
        self._local_values[value] = None

    def forget_local(self) -> set[int]:
        """Whole contents may be gone from the cache. Their tokens."""
        values = set(self._local_values)
        self._local_values.clear()
        return values

    def told_number(self, row: ShownRow) -> int:
        """The inode number to tell for a row. A number stands for one content as long as the kernel knows it: of an
        inode whose size has changed, whoever is about to read it may still have the old one in hand.
        """
        number = row.id if row.link_id is None else links.number_of(self, row)
        ino = self.inodes.number(number)
        if self.inodes.row_id(ino) == number:  # else it was given to another row, as a node of ours stands there
            if row.kind == DIR:
                return ino
            node, known = self.overlay.nodes.get(ino), self.inodes.known.get(ino)
            if row.link_id is not None and links.is_changed_here(self, ino):
                pass
            elif node is not None and (node.nameless or node.value != row.value):
                node.nameless = True
            elif known is None or (
                known.told == row.value and (node is not None or not links.has_lost_names(self, row, known))
            ):
                return ino
        if ino in self.inodes.known:
            self.inodes.left[ino] = (row.parent, row.name)
        ino = self.overlay.new_ino()
        self.inodes.renumber(number, ino)
        return ino

    def xattrs_of(self, row: ShownRow) -> dict[str, str] | None:
        return self.view.xattrs(row) or None

    # ---- where things are

    def path_of(self, dir_id: int) -> str:
        """The rel_path of a directory as it stands here ('' is the root). NotFound if nothing leads there."""
        path = self._paths.get(dir_id)
        return path if path is not None else self._find_path(dir_id)

    def path_at(self, key: Key) -> str:
        return join_path(self.path_of(key[0]), key[1])

    def forget_paths(self) -> None:
        """A directory was moved, made or lost."""
        self._paths = {ROOT_ID: ""}
        self.gone.forget_paths()

    def forget_path(self, dir_id: int) -> None:
        """An empty directory was removed."""
        self._paths.pop(dir_id, None)

    def _find_path(self, dir_id: int) -> str:
        unknown: list[tuple[int, str]] = []  # no recursion: a path has up to 2048 parts
        path = None
        while path is None:
            key = self.place_of(dir_id) if len(unknown) <= DEPTH_MAX else None
            if key is not None:
                unknown.append((dir_id, key[1]))
                dir_id = key[0]
                path = self._paths.get(dir_id)
                continue
            path = self.overlay.attach.get(dir_id)
            if path is None:
                raise NotFound(f"no directory has the number {dir_id}")
            self._keep_path(dir_id, path)
        for below, name in reversed(unknown):
            path = join_path(path, name)
            self._keep_path(below, path)
        return path

    def _keep_path(self, dir_id: int, path: str) -> None:
        if len(self._paths) >= PATHS_KEPT:
            self._paths = {ROOT_ID: ""}
        self._paths[dir_id] = path

    def place_of(self, dir_id: int) -> Key | None:
        """The folder and name of a directory; None if neither layer has it."""
        node = self.overlay.node(dir_id)
        if node is not None and node.key is not None:
            return node.key
        row = self.view.row(dir_id)
        return (row.parent, row.name) if row is not None else None

    def dir_kind(self, ino: int) -> int:
        """The kind of what has this number; NotFound if nothing has."""
        if ino == ROOT_ID or ino in self._paths:
            return DIR
        node = self.overlay.node(ino)
        if node is not None:
            return node.kind if node.key is not None else FILE
        row_id = self.inodes.row_id(ino)
        row = self.view.row(row_id) if row_id is not None else None
        if row is None:
            raise NotFound(f"no inode {ino}")
        return row.kind

    # ---- rows for names

    def shown(self, parent: int, name: str) -> ShownRow | None:
        """The shown row of a name."""
        return None if parent in self.unshown else self.view.lookup(parent, name)

    def show(self, parent: int, name: str) -> Entry | ShownRow | None:
        """What decides about a name: its own row (perhaps a whiteout), else what is shown, else None."""
        entry = self.overlay.entry(parent, name)
        return entry if entry is not None else self.shown(parent, name)

    def find(self, path: str) -> Entry | ShownRow | None:
        """The same for a rel_path; a whiteout also for what was below it."""
        parent = ROOT_ID
        found: Entry | ShownRow | None = None
        for name in path.split("/"):
            found = self.show(parent, name)
            if found is None or (isinstance(found, Entry) and found.node is None):
                return found
            parent = found.id if isinstance(found, ShownRow) else found.node or 0
        return found

    def new_entry(self, parent: int, name: str, row: ShownRow | None) -> Entry:
        """A row for a name that has none: it has seen what NAME shows in this moment. Not yet put."""
        entry = Entry(parent, name, None)
        if row is None:
            entry.seen = tuple(self.view.dead_heads(self.path_at((parent, name))))
        else:
            entry.seen = tuple(self.view.seen_of(row))
            entry.last = entry.seen[0] if entry.seen else None
        return entry

    def own(self, parent: int, name: str, row: ShownRow) -> tuple[Entry, Node]:
        """Give a shown name its own row and node; both are put, and dirty once touched. A file with several names gets
        the rows of all.
        """
        if row.link is not None:
            return links.own(self, row)
        entry = self.new_entry(parent, name, row)
        node = self.node_of_row(row, entry.last)
        entry.node = node.id
        node.key = entry.key
        if row.kind == DIR:
            self.overlay.attach.put(row.id, self.view.path_of(row.id))
        self.overlay.put_node(node)
        self.put_entry(entry)
        self.pending[entry.key] = self.env.monotonic()
        return entry, node

    def node_of_row(self, row: ShownRow, base: str | None) -> Node:
        """The node of a shown row: the one that is open if it still shows the row's content. Not yet put."""
        ino = self.told_number(row)
        node = self.overlay.nodes.get(ino)
        attr = self.row_attr(row, ino)
        if node is None:
            node = Node(
                ino, row.kind, attr.mode, attr.uid, attr.gid, row.size, attr.atime_ns, attr.mtime_ns, attr.ctime_ns
            )  # fmt: skip
        else:
            node.mode, node.uid, node.gid = attr.mode, attr.uid, attr.gid
            node.mtime_ns, node.ctime_ns = attr.mtime_ns, attr.ctime_ns
        node.base = base if row.kind == FILE else None
        node.link_id = row.link_id or ""
        node.owner, node.owner_group = row.owner, row.group
        node.xattrs = self.xattrs_of(row)
        if row.kind not in (DIR, FILE) and base is not None:
            node.target = self.view.manifest(base).target
        if ino != row.number and (names := self.overlay.local_xattrs.get(row.number)) is not None:
            self.overlay.local_xattrs.put(ino, names)
        self.inodes.drop(ino)
        return node

    def put_entry(self, entry: Entry) -> None:
        """Put a row, and see to it that its folder can be found again under another fleet.db."""
        self.overlay.put_entry(entry)
        self.attach_folder(entry.parent)

    def attach_folder(self, dir_id: int) -> None:
        if dir_id == ROOT_ID or dir_id in self.overlay.attach:
            return
        node = self.overlay.node(dir_id)
        if node is None or node.key is None:
            self.overlay.attach.put(dir_id, self.path_of(dir_id))

    def detach_folder(self, dir_id: int) -> None:
        """Forget where a directory lies once nothing of ours is in it."""
        if dir_id in self.overlay.attach and not self.overlay.has_rows(dir_id) and self.overlay.node(dir_id) is None:
            self.overlay.attach.put(dir_id, None)
            self.gone.discard(dir_id)

    def drop_entry(self, entry: Entry) -> None:
        """The row of a name goes; what becomes of its node is the caller's."""
        self.overlay.drop_entry(entry)
        self.pending.pop(entry.key, None)
        self.retry_at.pop(entry.key, None)
        self.keepers.discard(entry.key)
        self.siblings_gone.discard(entry.key)
        if entry.moved_node is not None:
            self.waits_no_more(entry.key, entry.moved_node)
        self.detach_folder(entry.parent)

    def waits_no_more(self, key: Key, node_id: int | None) -> None:
        """The whiteout at `key` does not wait any more for the node that left it there."""
        if node_id is not None and node_id in self.left_by:
            self.left_by[node_id].discard(key)
            if not self.left_by[node_id]:
                del self.left_by[node_id]

    def touch(self, entry: Entry) -> None:
        """The entry, or the node behind it, has changed in a way that is to be published."""
        self.overlay.put_entry(entry)
        self._touched(entry.key, entry)

    def _touched(self, key: Key, entry: Entry) -> None:
        entry.gen += 1
        if not entry.local_only:
            entry.dirty = True
            self.pending[key] = self.env.monotonic()

    def touch_node(self, node: Node) -> None:
        """As touch, from the node's side; a nameless node is to be published only if it has a lost_path."""
        node.gen += 1
        if not node.stored:
            return
        overlay, key = self.overlay, node.key
        overlay.put_node(node)
        if node.links:
            for each in overlay.entries_of(node):
                self.touch(each)
        elif key is not None:
            entry = overlay.entry(*key)
            if entry is not None:  # it stands in its folder: each write of a program comes here
                overlay.mark_entry(key, entry)
                self._touched(key, entry)
        elif node.lost_path is not None:
            self.pending[node.id] = self.env.monotonic()

    def touch_dir(self, dir_id: int, now_ns: int) -> None:
        """An entry of the directory came, went or changed: its times move here, and nothing is published for that."""
        node = self.overlay.node(dir_id)
        if node is not None:
            node.mtime_ns = node.ctime_ns = now_ns
            self.overlay.put_node(node)
            return
        row_id = self.inodes.row_id(dir_id) or dir_id
        known = self.overlay.times.get(row_id)
        row = self.view.row(row_id) if known is None else None
        version = known.version if known is not None else (row.version or 0) if row is not None else 0
        self.keep_times(row_id, LocalTimes(now_ns, now_ns, version))

    def keep_times(self, row_id: int, times: LocalTimes) -> None:
        """Times of a shown row that only we know, as long as there is room for them."""
        known = self.overlay.times
        if len(known) >= LOCAL_TIMES_KEPT and row_id not in known:
            for old in list(itertools.islice(known, LOCAL_TIMES_KEPT // 2)):
                self.overlay.times.put(old, None)
        self.overlay.times.put(row_id, times)

    def is_local_folder(self, dir_id: int) -> bool:
        node = self.overlay.node(dir_id)
        entry = self.overlay.entry_of(node) if node is not None else None
        return entry is not None and entry.local_only

    def is_local_name(self, parent: int, name: str, is_dir: bool) -> bool:
        """True if a new row of that name stays on this machine."""
        return self.is_local_folder(parent) or self.is_local_path(self.path_at((parent, name)), is_dir)

    def is_local_path(self, path: str, is_dir: bool) -> bool:
        """True if it is ignored, or longer than what can be published."""
        is_too_long = len(path) * 4 > PATH_MAX and len(path.encode()) > PATH_MAX
        return is_too_long or self.ignore.is_ignored(path, is_dir)

    def was_noted_recently(self, key: Pending) -> bool:
        noted_at = self.noted_at.get(key)
        return noted_at is not None and self.env.monotonic() - noted_at < RECENT_SECONDS

    def row_behind(self, node: Node) -> ShownRow | None:
        """The shown row that a clean open node stands for, if NAME shows it still (and no row of ours hides it)."""
        row_id = self.inodes.row_id(node.id)
        row = self.view.row(row_id) if row_id is not None and not node.nameless else None
        return links.visible(self, row) if row is not None and row.value == node.value else None
