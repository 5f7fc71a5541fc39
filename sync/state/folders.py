"""Directories, ids, feed and the queue of paths still to derive: what the parts of one derivation share."""

from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

from sync.core.manifest import Version, VersionId
from sync.core.paths import join_path, parents_of, split_path
from sync.state.rows import DIR, IMPLIED_DIR_MODE, ROOT_ID, NodePlace, ShownRow
from sync.state.shown_table import ShownTable

NS: Final = 1_000_000_000  # ns in one second

Feed = dict[tuple[str, int, str, int], None]  # (path, parent, name, id), in order


class Versions(Protocol):
    """What deriving needs to know of versions (VersionTable)."""

    def load(self, paths: Iterable[str]) -> None: ...
    def heads(self, path: str) -> tuple[Version, ...]: ...
    def find(self, identity: str) -> Version | None: ...
    def version(self, number: int) -> Version: ...
    def number(self, identity: VersionId) -> int: ...


class Origin(msgspec.Struct):
    """Where the versions came from that one transaction has inserted.

    places: identity -> the node it was published from. folders: path -> the node of a directory published here.
    elsewhere: path -> the newest written_at (unix s) of the versions that came without a node.
    """

    places: dict[str, NodePlace] = {}
    folders: dict[str, NodePlace] = {}
    elsewhere: dict[str, int] = {}


class Folders:
    """The directories that rows hang below, while a derivation changes them."""

    def __init__(self, table: ShownTable, versions: Versions, origin: Origin, now_ns: int) -> None:
        self.table = table
        self.versions = versions
        self.origin = origin
        self.now_ns = now_ns
        self.feed: Feed = {}
        self.displaced: dict[str, list[ShownRow]] = {}  # folder -> siblings that lost their name to something real
        self.alone: dict[int, int] = {}  # rows that were names of a file with several -> its number
        self._dirs: dict[str, int] = {"": ROOT_ID}
        self._gained: set[str] = set()
        self._touched: dict[str, int] = {}
        self._queue: dict[int, dict[str, None]] = {}

    # ---- queue and feed

    def enqueue(self, path: str) -> None:
        """Derive this path when the deeper ones are done. The root is never derived."""
        if path:
            self._queue.setdefault(path.count("/"), {})[path] = None

    def next_layer(self) -> list[str]:
        """The deepest paths waiting; [] when nothing waits."""
        return list(self._queue.pop(max(self._queue))) if self._queue else []

    def note(self, path: str, parent: int, name: str, row_id: int) -> None:
        self.feed[(path, parent, name, row_id)] = None

    def entry_changed(self, path: str, cause: str | None = None) -> None:
        """An entry came or went: its folder's mtime moves, unless that came from a node (the mount has moved it)."""
        written_at = self.origin.elsewhere.get(path if cause is None else cause)
        if written_at is not None:
            folder = split_path(path)[0]
            self._touched[folder] = max(written_at, self._touched.get(folder, 0))

    def touch_all(self) -> None:
        """Move the mtime of folders whose entries changed after the folder's own record was written."""
        for path, written_at in self._touched.items():
            row_id = self.dir_id(path)
            row = self.table.by_id(row_id) if row_id is not None else None
            if row is None or written_at * NS <= row.mtime_ns:
                continue
            if row.version is None or self.versions.version(row.version).manifest.written_at < written_at:
                self.table.replace(row, row._replace(mtime_ns=written_at * NS, ctime_ns=self.now_ns))
                self.note(path, row.parent, row.name, row.id)

    # ---- directories

    def dir_id(self, path: str) -> int | None:
        """The id of the directory shown at a path; None if there is none."""
        found = self._dirs.get(path)
        if found is not None:
            return found
        unknown: list[str] = []  # no recursion: a path has up to 2048 parts
        while found is None:
            unknown.append(path)
            path = split_path(path)[0]
            found = self._dirs.get(path)
        for below in reversed(unknown):
            row = self.table.at(found, split_path(below)[1])
            if row is None or row.kind != DIR:
                return None
            found = self._dirs[below] = row.id
        return found

    def set_dir(self, path: str, row_id: int | None) -> None:
        """What stands at a path is this directory now, or none."""
        if row_id is None:
            self._dirs.pop(path, None)
        else:
            self._dirs[path] = row_id

    def forget_dirs(self) -> None:
        """Directories have moved: look for each again."""
        self._dirs = {"": ROOT_ID}
        self._gained = set()

    def ensure(self, path: str, cause: str) -> int:
        """The id of the directory at a path; made if need be, for the path `cause`, as implied until its turn comes."""
        row_id = self.dir_id(path)
        if row_id is None:
            for above in reversed(parents_of(path)):
                if self.dir_id(above) is None:
                    self._make(above, cause)
            return self._make(path, cause)
        if path not in self._gained:
            self._gained.add(path)
            if not self.table.has_children(row_id):
                self.enqueue(path)
        return row_id

    def displace(self, folder: str, parent: int, name: str) -> None:
        """Take a sibling out of the way of something real; it is named anew with the folder's siblings."""
        row = self.table.at(parent, name)
        if row is not None and row.sibling:
            self.table.delete(row)
            self.displaced.setdefault(folder, []).append(row)
            self.note(join_path(folder, name), parent, name, row.id)

    def _make(self, path: str, cause: str) -> int:
        folder, name = split_path(path)
        parent = self.ensure(folder, cause)
        row = self.table.at(parent, name)
        if row is not None and not row.sibling:
            self.table.delete(row)
            self.note(path, parent, name, row.id)
        self.displace(folder, parent, name)
        node, row_id = self._node_of_dir(path, cause)
        parent = self.ensure(folder, cause)
        mtime_ns = node.ctime_ns if node is not None else self.origin.elsewhere.get(cause, 0) * NS or self.now_ns
        ctime_ns, uid, gid = (node.ctime_ns, node.uid, node.gid) if node is not None else (self.now_ns, None, None)
        implied = ShownRow(
            row_id, parent, name, DIR, 0, IMPLIED_DIR_MODE, mtime_ns, ctime_ns, uid, gid, None, 0, None, 0, None
        )
        self.table.insert(implied, fresh_dir=True)
        self._dirs[path] = row_id
        self._gained.add(path)
        self.note(path, parent, name, row_id)
        self.entry_changed(path, cause)
        self.enqueue(path)
        return row_id

    def _node_of_dir(self, path: str, cause: str) -> tuple[NodePlace | None, int]:
        """What a new directory takes over: all from its own node, else from that of the entry it is made for."""
        own = self.origin.folders.get(path)
        if own is not None and own.node_id is not None:
            self.evict(own.node_id)
            return own, self.table.claim(own.node_id)
        places = self.origin.places
        heads = self.versions.heads(cause) if places else ()
        node = next((places[head.id] for head in heads if head.is_live and head.id in places), None)
        depth = path.count("/")
        if node is None or depth >= len(node.dir_ids):
            return node, self.table.new_id()
        wanted = node.dir_ids[depth]
        is_free = wanted > ROOT_ID and self.table.by_id(wanted) is None
        return node, self.table.claim(wanted) if is_free else self.table.new_id()

    # ---- ids

    def evict(self, row_id: int) -> None:
        """If a row has this number it gets a new one: it is another file than the node that brings the number."""
        row = self.table.by_id(row_id)
        if row is None:
            return
        self.table.claim(row_id)
        path = self.table.path_of(row)
        new = row._replace(id=self.table.new_id())
        self.table.replace(row, new)
        self.note(path, row.parent, row.name, row.id)
        self.rehang_children(row, new, path)

    def rehang_children(self, old: ShownRow, new: ShownRow, path: str) -> None:
        """The row at `path` has changed its number: so its children, if both are directories, follow."""
        self.note(path, new.parent, new.name, new.id)
        if old.kind != DIR or new.kind != DIR:
            return
        self._dirs[path] = new.id
        for child in self.table.children(old.id):
            self.table.replace(child, child._replace(parent=new.id))
            self.note(
                join_path(path, child.name), old.id, child.name, child.id
            )  # old.id may come back as another folder
            self.note(join_path(path, child.name), new.id, child.name, child.id)
