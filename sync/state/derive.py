"""Heads become rows of shown: one run derives every path a transaction has changed.

Paths are derived the deepest first. So when a path's turn comes, what lives below it is final, and the question that
decides between file and directory (are there rows below it?) has its answer in the table. Siblings of one directory are
named together when all paths of that directory are done. What a row shows depends on the heads alone; only ids,
ctime_ns, uid, gid and the mtime_ns of directories depend on the past.
"""

from collections.abc import Collection, Sequence
from typing import Final

from sync.core.heads import common_ancestor
from sync.core.manifest import Kind, Version
from sync.core.paths import split_path
from sync.core.place import Implied, Placed, place
from sync.core.show import Mode, NameShown, show
from sync.state.folders import Feed, Folders
from sync.state.links import settle_links
from sync.state.rows import (
    DIR,
    IMPLIED_DIR_MODE,
    KIND_NUMBER,
    NodePlace,
    ShownRow,
    json_or_none,
    size_of,
    value_number,
)
from sync.state.siblings import SiblingRows

_Owner = tuple[int | None, int | None]  # uid, gid; None = the owner of the mount

RENAMES_MAX: Final = 10  # of one thing at a time, that are followed
_NOBODY: Final[_Owner] = (None, None)


class Deriver:
    """One run over the changed paths of a transaction; a new one for each run."""

    def __init__(self, folders: Folders, own_ids: Collection[str], mode: Mode) -> None:
        self._folders = folders
        self._table = folders.table
        self._versions = folders.versions
        self._own_ids = own_ids
        self._mode = mode
        self._siblings = SiblingRows(folders)
        self._owners: dict[str, _Owner] = {}  # of what comes from another path

    def run(self, paths: Collection[str]) -> Feed:
        """Derive these paths and whatever changes with them; the places that changed, each of `paths` included."""
        self._versions.load(paths)
        nodes = [node.node_id for node in self._folders.origin.places.values() if node.node_id is not None]
        if len(nodes) > 1:
            self._table.prefetch_ids(nodes)
        self._owners = self._moving_owners(paths)
        for path in paths:
            self._folders.enqueue(path)
        while layer := self._folders.next_layer():
            by_folder: dict[str, list[str]] = {}
            for path in layer:
                by_folder.setdefault(split_path(path)[0], []).append(path)
            for folder, members in by_folder.items():
                self._prefetch(folder, members)
                for path in members:
                    is_changed = path in paths
                    if not (self._derive_new(folder, path) or self._derive_absent(folder, path, is_changed)):
                        self._derive(folder, path, is_changed)
            for folder in by_folder:
                self._siblings.settle(folder)
        settle_links(self._folders)
        self._folders.touch_all()
        return self._folders.feed

    def _moving_owners(self, paths: Collection[str]) -> dict[str, _Owner]:
        """Whom that belongs to here which was renamed elsewhere, by its new path: no manifest says so."""
        moving: list[tuple[str, Version]] = []
        by_folder: dict[str, list[str]] = {}
        for path in paths:
            for head in self._versions.heads(path):
                origin = head.manifest.moved_from
                if origin is not None and origin.path in paths and head.id not in self._folders.origin.places:
                    moving.append((path, head))
                    by_folder.setdefault(split_path(origin.path)[0], []).append(origin.path)
        for folder, members in by_folder.items():
            self._prefetch(folder, members)
        found: dict[str, _Owner] = {}
        for path, head in moving:
            row = self._came_from(head, paths)
            if row is not None and row.uid is not None:
                found[path] = (row.uid, row.gid)
        return found

    def _came_from(self, version: Version, paths: Collection[str]) -> ShownRow | None:
        """What still stands where this was before it was renamed, maybe several times."""
        for _ in range(RENAMES_MAX):
            origin = version.manifest.moved_from
            if origin is None or origin.path not in paths:
                return None
            row = self._real_row(*split_path(origin.path))
            before = self._versions.find(origin.version) if row is None and origin.version else None
            if before is None:
                return row
            version = before
        return None

    def _prefetch(self, folder: str, paths: list[str]) -> None:
        parent = self._folders.dir_id(folder)
        if parent is not None and len(paths) > 1:
            self._table.prefetch(parent, [split_path(path)[1] for path in paths])

    def _derive_new(self, folder: str, path: str) -> bool:
        """The quick way for the many: one live head where nothing stands. False if it is not that simple."""
        heads = self._versions.heads(path)
        if len(heads) != 1 or not heads[0].is_live or self._siblings.may_stand:
            return False
        name = path[len(folder) + 1 :] if folder else path
        parent = self._folders.dir_id(folder)
        if parent is not None and self._table.at(parent, name) is not None:
            return False
        version = heads[0]
        manifest = version.manifest
        kind = KIND_NUMBER[manifest.kind]
        parent = self._folders.ensure(folder, path)
        node = self._folders.origin.places.get(version.id)
        if node is None:
            row_id, ctime_ns = self._table.new_id(), self._folders.now_ns
            uid, gid = self._owners.get(path, _NOBODY)
            self._folders.entry_changed(path)
        else:
            row_id, ctime_ns, uid, gid = self._row_id(node, None), node.ctime_ns, node.uid, node.gid
            if self._table.by_id(row_id) is not None:
                self._folders.evict(row_id)
                parent = self._folders.ensure(folder, path)
        number, value, xattrs = self._versions.number(version.id), value_number(manifest), json_or_none(manifest.xattrs)
        size, mode, mtime_ns = size_of(manifest), manifest.mode, manifest.mtime_ns
        row = ShownRow(
            row_id, parent, name, kind, size, mode, mtime_ns, ctime_ns, uid, gid, number, value, None, 0, xattrs,
            manifest.link_id or None if kind != DIR else None, None, 1, manifest.owner, manifest.group,
        )  # fmt: skip
        self._table.insert(row, fresh_dir=kind == DIR)
        if kind == DIR:
            self._folders.set_dir(path, row_id)
        self._folders.note(path, parent, name, row_id)
        return True

    def _derive_absent(self, folder: str, path: str, is_changed: bool) -> bool:
        """The quick way for the many others: removed, and nothing stands there. False if it is not that simple."""
        if self._siblings.may_stand or any(head.is_live for head in self._versions.heads(path)):
            return False
        parent = self._folders.dir_id(folder)
        name = path[len(folder) + 1 :] if folder else path
        if parent is not None and self._table.at(parent, name) is not None:
            return False
        if is_changed:
            self._folders.note(path, parent or 0, name, 0)
        return True

    def _derive(self, folder: str, path: str, is_changed: bool) -> None:
        name = split_path(path)[1]
        row = self._real_row(folder, name)
        placed = self._placed(path, row)
        self._siblings.set(path, placed.siblings)
        wanted = placed.file if placed.dir is None else placed.dir
        if wanted is not None:
            self._put(folder, path, wanted, is_changed)
            return
        if row is not None:
            self._remove(path, row)
        elif is_changed:
            self._folders.note(path, self._folders.dir_id(folder) or 0, name, 0)
        if placed.siblings:
            self._folders.ensure(folder, path)

    def _placed(self, path: str, row: ShownRow | None) -> Placed:
        shown = show(self._versions.heads(path), self._ancestor, self._own_ids, self._mode)
        return place(shown, row is not None and row.kind == DIR and self._table.has_children(row.id))

    def _ancestor(self, versions: Sequence[Version]) -> Version | None:
        return common_ancestor(versions, self._versions.find)

    def _real_row(self, folder: str, name: str) -> ShownRow | None:
        parent = self._folders.dir_id(folder)
        row = self._table.at(parent, name) if parent is not None else None
        return None if row is not None and row.sibling else row

    def _put(self, folder: str, path: str, shown: NameShown | Implied, is_changed: bool) -> None:
        """Make the row of NAME what it should be."""
        name = split_path(path)[1]
        parent = self._folders.ensure(folder, path)
        row = self._real_row(folder, name)
        kind = DIR if isinstance(shown, Implied) else KIND_NUMBER[shown.version.manifest.kind]
        kept = row if row is not None and row.kind == kind else None
        node = self._node_of(shown)
        row_id = self._row_id(node, kept)
        if kept is None or row_id != kept.id:
            self._folders.evict(row_id)
            parent = self._folders.ensure(folder, path)  # it may have been this very row, or a folder above
            row = self._real_row(folder, name)
            kept = row if kept is not None else None
        new = self._row(row_id, parent, name, shown, node, kept, self._owners.get(path, _NOBODY))
        if row is None:
            self._folders.displace(folder, parent, name)
            self._table.insert(new, fresh_dir=kind == DIR)
            self._folders.entry_changed(path)
        elif new != row:
            self._table.replace(row, new)
            if row.id != new.id:
                self._folders.note(path, parent, name, row.id)
                self._folders.rehang_children(row, new, path)
            if kept is None:
                self._folders.entry_changed(path)
        self._folders.set_dir(path, new.id if kind == DIR else None)
        if is_changed or new != row:
            self._folders.note(path, parent, name, new.id)

    def _remove(self, path: str, row: ShownRow) -> None:
        self._table.delete(row)
        self._folders.set_dir(path, None)
        self._folders.note(path, row.parent, row.name, row.id)
        self._folders.entry_changed(path)
        self._folders.enqueue(split_path(path)[0])

    def _node_of(self, shown: NameShown | Implied) -> NodePlace | None:
        places = self._folders.origin.places
        if isinstance(shown, Implied) or not places:
            return None
        return next((places[identity] for identity in shown.covers if identity in places), None)

    def _row_id(self, node: NodePlace | None, kept: ShownRow | None) -> int:
        if node is not None and node.node_id is not None:
            return self._table.claim(node.node_id)
        return kept.id if kept is not None else self._table.new_id()

    def _row(
        self,
        row_id: int,
        parent: int,
        name: str,
        shown: NameShown | Implied,
        node: NodePlace | None,
        kept: ShownRow | None,
        owner: _Owner,
    ) -> ShownRow:
        """ctime and owner come from the node, else from the row that this one replaces, else they are new. owner: of
        what has come from another path, as it had one there.
        """
        if node is not None:
            ctime_ns, uid, gid = node.ctime_ns, node.uid, node.gid
        elif kept is not None:
            ctime_ns, uid, gid = kept.ctime_ns, kept.uid, kept.gid
            if kept.version is None and uid is None:  # a folder that was only made for what comes into it
                uid, gid = owner
        else:
            ctime_ns, (uid, gid) = self._folders.now_ns, owner
        if isinstance(shown, Implied):
            mtime_ns = kept.mtime_ns if kept is not None else self._folders.now_ns
            new = ShownRow(
                row_id, parent, name, DIR, 0, IMPLIED_DIR_MODE, mtime_ns, ctime_ns, uid, gid, None, 0, None, 0, None
            )
        else:
            manifest = shown.version.manifest
            new = ShownRow(
                row_id,
                parent,
                name,
                KIND_NUMBER[manifest.kind],
                size_of(manifest),
                shown.mode,
                shown.mtime_ns,
                ctime_ns,
                uid,
                gid,
                self._versions.number(shown.version.id),
                value_number(manifest),
                json_or_none(shown.also),
                0,
                json_or_none(shown.xattrs),
                shown.link_id or None if manifest.kind is not Kind.DIR else None,
                owner=shown.owner,
                group=shown.group,
            )
            if kept is not None and kept.link is not None and node is None:
                if new.link_id is not None:
                    new = new._replace(link=kept.link, nlink=kept.nlink)  # until the names are counted
                else:
                    self._folders.alone[new.id] = kept.link
            if kept is not None and kept.kind == DIR and (kept.version, kept.also) == (new.version, new.also):
                new = new._replace(mtime_ns=kept.mtime_ns)  # entries that came and went since have moved it
        if node is None and kept is not None and not _looks_alike(kept, new):
            new = new._replace(ctime_ns=self._folders.now_ns)
        return new


def _looks_alike(old: ShownRow, new: ShownRow) -> bool:
    """True if a program that calls stat, read or getxattr cannot tell them apart."""
    return _looks(old) == _looks(new)


def _looks(row: ShownRow) -> tuple[object, ...]:
    return (row.size, row.mode, row.mtime_ns, row.value, row.xattrs, row.owner, row.group)
