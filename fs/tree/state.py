"""State: what all parts of the tree share. What stands at a name, and what is to be published of it."""

import itertools
from collections.abc import Callable
from pathlib import Path

from cachetools import LRUCache

from fs.tree.change import Change
from fs.tree.gone import GoneFolders
from fs.tree.inodes import Inodes
from fs.tree.layers import Layers
from fs.tree.model import DIR, FILE, ROOT_ID, Cut, Entry, Invalidation, Key, LocalTimes, Node
from fs.tree.overlay import Overlay
from fs.tree.owners import Ownership
from fs.tree.subfolders import Subfolders
from sync.core.errors import NotFound
from sync.core.ignore import Ignore
from sync.core.paths import PATH_MAX
from sync.env import Env
from sync.state.changes import Places
from sync.state.rows import ShownRow
from sync.state.view import ShownView

LOCAL_TIMES_KEPT = 100_000
LOCAL_KEPT = 100_000
NOTED_KEPT = 100_000
RECENT_SECONDS = 2.0  # what was published so short ago waits for quiet

Pending = Key | int  # an entry, or the number of a nameless node that is to be published


class State(Layers):
    """The shared, mutable heart of a Tree. The functions of this package take it as their first argument."""

    def __init__(
        self, env: Env, view: ShownView, overlay: Overlay, whole_dir: Path, *, ownership: Ownership, sync_git: bool
    ) -> None:
        super().__init__(view, overlay)
        self.env = env
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
        self.subfolders = Subfolders(self, self.unshown)
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

    # ---- the content of shown files

    def has_content(self, row: ShownRow) -> bool:
        """True if bytes of a shown file are on this machine."""
        return row.value in self._local_values or self.is_local(row)

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

    def xattrs_of(self, row: ShownRow) -> dict[str, str] | None:
        return self.view.xattrs(row) or None

    # ---- where things are

    def forget_paths(self) -> None:
        super().forget_paths()
        self.gone.forget_paths()

    def dir_kind(self, ino: int) -> int:
        """The kind of what has this number; NotFound if nothing has."""
        if self.is_known_folder(ino):
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
