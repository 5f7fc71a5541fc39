"""The siblings of one directory: which rows they are, and their names, which depend on each other."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from sync.core.manifest import Version, VersionId
from sync.core.paths import split_path
from sync.core.place import sibling_name
from sync.core.show import Sibling
from sync.state.folders import Folders
from sync.state.rows import KIND_NUMBER, NodePlace, ShownRow, json_or_none, size_of, value_number

WRITE_BITS: Final = 0o222  # a sibling's mode lacks them

_identities = msgspec.json.Decoder(tuple[VersionId, ...])


class Beside(NamedTuple):
    """A sibling and the path it stands beside."""

    path: str
    sibling: Sibling


def naming_order(wanted: Iterable[Beside]) -> list[Beside]:
    """Who gets the better name. Part of what a directory shows: the same on every machine, in any order of arrival."""
    return sorted(wanted, key=lambda item: (item.path, item.sibling.id))


class SiblingRows:
    """Derives the sibling rows of directories whose paths have been derived."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._table = folders.table
        self._derived: dict[str, dict[str, tuple[Sibling, ...]]] = {}
        self.may_stand = folders.table.has_any_sibling()

    def set(self, path: str, siblings: tuple[Sibling, ...]) -> None:
        """What stands beside a path now."""
        if siblings or self.may_stand:
            self._derived.setdefault(split_path(path)[0], {})[path] = siblings

    def settle(self, folder: str) -> None:
        """Give the siblings of this folder their rows, when all its paths have been derived."""
        derived = self._derived.pop(folder, {})
        displaced = self._folders.displaced.pop(folder, [])
        if not derived and not displaced:
            return
        parent = self._folders.dir_id(folder)
        if parent is None:
            return
        for siblings in derived.values():
            self._make_room(siblings)
        parent = self._folders.dir_id(folder) or parent
        standing = self._table.siblings(parent)
        wanted = [Beside(path, sibling) for path, siblings in derived.items() for sibling in siblings]
        wanted += [item for row in (*standing, *displaced) if (item := self._beside(row)).path not in derived]
        old = {row.version: row for row in (*standing, *displaced)}
        new = self._rows(parent, naming_order(wanted), old)
        self._write(folder, standing, displaced, new)

    def _make_room(self, siblings: tuple[Sibling, ...]) -> None:
        for sibling in siblings:
            node = self._folders.origin.places.get(sibling.id)
            if node is not None and node.node_id is not None:
                row = self._table.by_id(node.node_id)
                if row is not None and not (row.sibling and row.version == self._number(sibling)):
                    self._folders.evict(node.node_id)

    def _beside(self, row: ShownRow) -> Beside:
        assert row.version is not None, "a sibling row shows a version"
        version = self._folders.versions.version(row.version)
        also = _identities.decode(row.also) if row.also else ()
        return Beside(version.path, Sibling(version.id, version.manifest, also))

    def _rows(self, parent: int, wanted: list[Beside], old: dict[int | None, ShownRow]) -> list[tuple[str, ShownRow]]:
        names: set[str] = set()

        def taken(name: str) -> bool:
            if name in names:
                return True
            row = self._table.at(parent, name)
            return row is not None and not row.sibling

        rows: list[tuple[str, ShownRow]] = []
        for path, sibling in wanted:
            name = sibling_name(split_path(path)[1], sibling.manifest.machine_name, taken, sibling.id)
            names.add(name)
            rows.append((path, self._row(parent, name, sibling, old.get(self._number(sibling)))))
        return rows

    def _row(self, parent: int, name: str, sibling: Sibling, kept: ShownRow | None) -> ShownRow:
        manifest = sibling.manifest
        node = self._folders.origin.places.get(sibling.id) or NodePlace(None, ctime_ns=self._folders.now_ns)
        if kept is not None:
            row_id, ctime_ns, uid, gid = kept.id, kept.ctime_ns, kept.uid, kept.gid
        else:
            row_id = self._table.new_id() if node.node_id is None else self._table.claim(node.node_id)
            ctime_ns, uid, gid = node.ctime_ns, node.uid, node.gid
        return ShownRow(
            id=row_id,
            parent=parent,
            name=name,
            kind=KIND_NUMBER[manifest.kind],
            size=size_of(manifest),
            mode=manifest.mode & ~WRITE_BITS,
            mtime_ns=manifest.mtime_ns,
            ctime_ns=ctime_ns,
            uid=uid,
            gid=gid,
            version=self._number(sibling),
            value=value_number(manifest),
            also=json_or_none(sibling.also),
            sibling=1,
            xattrs=json_or_none(manifest.xattrs),
            owner=manifest.owner,
            group=manifest.group,
        )

    def _write(
        self, folder: str, standing: list[ShownRow], displaced: list[ShownRow], new: list[tuple[str, ShownRow]]
    ) -> None:
        rows = {row for _, row in new}
        ids = {row.id for row in rows}
        for row in standing:
            if row not in rows:
                self._table.delete(row)
                self._gone(folder, row, row.id in ids)
        for row in displaced:
            self._gone(folder, row, row.id in ids)
        kept = set(standing)
        known = {row.id for row in (*standing, *displaced)}
        for path, row in new:
            if row in kept:
                continue
            is_taken = self._table.by_id(row.id) is not None
            inserted = row._replace(id=self._table.new_id()) if is_taken else row
            self._table.insert(inserted)
            self._folders.note(path, row.parent, row.name, inserted.id)
            if row.id not in known:
                self._folders.entry_changed(path)

    def _gone(self, folder: str, row: ShownRow, stays: bool) -> None:
        path = self._beside(row).path
        self._folders.note(path, row.parent, row.name, row.id)
        if not stays:
            self._folders.entry_changed(path)
            self._folders.enqueue(folder)

    def _number(self, sibling: Version) -> int:
        return self._folders.versions.number(sibling.id)
