"""What tree.db holds, read into nodes, entries and seals."""

import sqlite3
from collections.abc import Callable
from typing import Any

from fs.tree.model import DIR, FILE, Entry, Node, SealRef
from fs.tree.rows import ENTRY_COLUMNS, NODE_COLUMNS, decode_pair, entry_of, make_node, node_values
from fs.work.workfile import WorkFile


class Stored:
    """Reads on the overlay's own connection; keeps nothing itself."""

    def __init__(self, connection: sqlite3.Connection, file_path: Callable[[int], str]) -> None:
        """file_path: where the work file of a number lies."""
        self._connection = connection
        self._file_path = file_path

    def nodes(self, where: str = "", *arguments: object) -> list[Node]:
        """where: an SQL clause with its arguments; '': all."""
        rows = self._connection.execute(f"SELECT {NODE_COLUMNS} FROM node {where}", arguments).fetchall()
        return [self._node_of(row) for row in rows]

    def entries(self, where: str = "", *arguments: object) -> list[Entry]:
        """where: an SQL clause with its arguments; '': all."""
        rows = self._connection.execute(f"SELECT {ENTRY_COLUMNS} FROM entry {where}", arguments).fetchall()
        return [entry_of(row) for row in rows]

    def count_entries(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM entry").fetchone()[0])

    def folder_ids(self) -> list[int]:
        """Every directory that has rows."""
        return [row[0] for row in self._connection.execute("SELECT DISTINCT parent FROM entry")]

    def node_ids(self) -> list[int]:
        return [row[0] for row in self._connection.execute("SELECT id FROM node")]

    def work_ids(self) -> set[int]:
        return {row[0] for row in self._connection.execute("SELECT id FROM work")}

    def meta(self) -> dict[str, Any]:
        return dict(self._connection.execute("SELECT key, value FROM meta"))

    def seals(self) -> list[SealRef]:
        """Every committed seal, in the order of `ord`, with the keys and the node that wait for its answer."""
        db = self._connection
        found: dict[bytes, SealRef] = {}
        for seal_id, number, path, op, layer, last, size, from_path, moved_from, node, kind, group in db.execute(
            "SELECT seal_id, ord, path, op, layer, last, size, from_path, moved_from, node, kind, grp FROM seal"
            " ORDER BY ord"
        ):
            is_held = group is None or group == seal_id  # by the node, and the layer by this one
            ref = SealRef(seal_id, number, path, op, layer if is_held else None, last, size or 0, from_path)
            ref.moved_from = decode_pair(moved_from) if moved_from else None
            ref.folder = node if kind == DIR else None
            ref.group = group
            found[seal_id] = ref
        for parent, name, seal_id in db.execute("SELECT parent, name, seal_id FROM entry WHERE seal_id IS NOT NULL"):
            if seal_id in found:
                found[seal_id].keys.append((parent, name))
        for ino, seal_id in db.execute("SELECT id, seal_id FROM node WHERE seal_id IS NOT NULL"):
            if seal_id in found:
                found[seal_id].node = ino
        return list(found.values())

    def sealed_mtime(self, seal_id: bytes) -> int:
        """mtime_ns of what a committed seal has frozen; 0 if it has none."""
        found = self._connection.execute("SELECT mtime_ns FROM seal WHERE seal_id = ?", (seal_id,)).fetchone()
        return int(found[0] or 0) if found is not None else 0

    def seal_numbers(self) -> list[tuple[bytes, int | None, str]]:
        """(seal_id, node, dir_ids as JSON) of every committed seal."""
        return self._connection.execute("SELECT seal_id, node, dir_ids FROM seal").fetchall()

    def _node_of(self, row: tuple[Any, ...]) -> Node:
        values = node_values(row)
        node = make_node(values, self._file_of(values["layer"]), self._file_of(values["work"]))
        node.stored = True
        found = self._connection.execute("SELECT parent, name FROM entry WHERE node = ?", (node.id,)).fetchall()
        node.set_keys([(parent, name) for parent, name in found])
        node.nameless = node.lost_path is not None
        node.interrupted = node.kind == FILE and node.unflushed  # nobody has it open: such nodes stay in memory
        return node

    def _file_of(self, file_id: int | None) -> WorkFile | None:
        if file_id is None:
            return None
        db = self._connection
        row = db.execute("SELECT node, sealed, limit_below FROM work WHERE id = ?", (file_id,)).fetchone()
        if row is None:
            return None
        file = WorkFile(file_id, row[0], self._file_path(file_id), row[2], sealed=bool(row[1]))
        file.restore(db.execute('SELECT start, "end" FROM span WHERE work = ? ORDER BY start', (file_id,)).fetchall())
        return file
