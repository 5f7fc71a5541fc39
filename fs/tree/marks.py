"""What has changed in memory since the last commit, and how that becomes rows of tree.db."""

import sqlite3
from typing import Any, Final

from fs.tree.model import Entry, Key, Node
from fs.tree.rows import ENTRY_COLUMNS, NODE_COLUMNS, entry_row, node_row, put_rows
from fs.tree.small import SmallTable
from fs.work.workfile import WorkFile

SEAL_COLUMNS: Final = (
    "seal_id, round, op, path, from_path, node, dir_ids, kind, mode, uid, gid, size, mtime_ns, ctime_ns, target,"
    " xattrs, base, layer, limit_below, seen, last, resolved, moved_from, moved_to, link_id, grp"
)
_PUT_SPAN = (
    'INSERT INTO span (work, start, "end") VALUES (?, ?, ?)'
    ' ON CONFLICT (work, start) DO UPDATE SET "end" = max("end", excluded."end")'
)

WrittenFile = tuple[WorkFile, bool, list[tuple[int, int, int]]]  # and what WorkFile.rows_to_write gave


def _put(table: str, columns: str) -> str:
    return f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({', '.join('?' * len(columns.split(',')))})"


_PUT_NODE, _PUT_ENTRY, _PUT_SEAL = _put("node", NODE_COLUMNS), _put("entry", ENTRY_COLUMNS), _put("seal", SEAL_COLUMNS)


class Marks:
    """The overlay puts marks into the dicts and lists themselves, which are the same ones for ever; None: the row goes.

    `write` puts all of them inside the caller's transaction. Once that is committed, `written` takes them away.
    """

    def __init__(self, small: tuple[SmallTable[Any], ...]) -> None:
        """small: the tables that mark their changes themselves."""
        self.nodes: dict[int, Node | None] = {}
        self.entries: dict[Key, Entry | None] = {}
        self.files: dict[int, WorkFile] = {}
        self.files_gone: dict[int, str | None] = {}  # the path of what is to be removed after the commit
        self.meta: dict[str, Any] = {}
        self.seals_new: list[tuple[Any, ...]] = []  # in the order of SEAL_COLUMNS
        self.seals_gone: list[bytes] = []
        self.seals_moved: list[tuple[int | None, str, bytes]] = []  # node, dir_ids as JSON, seal_id
        self.bad_nodes: dict[int, str] = {}  # what no database can hold, and why
        self.bad_entries: dict[Key, str] = {}
        self._small = small

    def __bool__(self) -> bool:
        return bool(
            self.nodes
            or self.entries
            or self.files
            or self.meta
            or self.seals_new
            or self.seals_gone
            or self.files_gone
            or any(table.has_changes for table in self._small)
        )

    @property
    def has_bad(self) -> bool:
        """True if the last `write` had to leave something out."""
        return bool(self.bad_nodes or self.bad_entries)

    def write(self, db: sqlite3.Connection) -> list[WrittenFile]:
        """Put the rows. What cannot be written, whatever the disk is like, is left out, and stays marked."""
        many = db.executemany
        gone = [(key,) for key, node in self.nodes.items() if node is None]
        if gone:
            many("DELETE FROM node WHERE id = ?", gone)
        nodes = {key: node_row(node) for key, node in self.nodes.items() if node is not None}
        self.bad_nodes = put_rows(db, _PUT_NODE, nodes)
        entries_gone = [key for key, entry in self.entries.items() if entry is None]
        if entries_gone:
            many("DELETE FROM entry WHERE parent = ? AND name = ?", entries_gone)
        entries = {key: entry_row(entry) for key, entry in self.entries.items() if entry is not None}
        self.bad_entries = put_rows(db, _PUT_ENTRY, entries)
        if self.files_gone:
            many("DELETE FROM work WHERE id = ?", [(key,) for key in self.files_gone])
            many("DELETE FROM span WHERE work = ?", [(key,) for key in self.files_gone])
        written = self._write_files(db) if self.files else []
        if self.seals_new:
            many(_PUT_SEAL, self.seals_new)
        if self.seals_moved:
            many("UPDATE seal SET node = ?, dir_ids = ? WHERE seal_id = ?", self.seals_moved)
        if self.seals_gone:
            many("DELETE FROM seal WHERE seal_id = ?", [(key,) for key in self.seals_gone])
        if self.meta:
            many("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", list(self.meta.items()))
        for table in self._small:
            table.write(db)
        return written

    def _write_files(self, db: sqlite3.Connection) -> list[WrittenFile]:
        files = list(self.files.values())
        written = [(file, *file.rows_to_write()) for file in files]
        db.executemany(
            "INSERT OR REPLACE INTO work (id, node, sealed, limit_below) VALUES (?, ?, ?, ?)",
            [(file.id, file.node_id, int(file.sealed), file.limit_below) for file in files],
        )
        renewed = [(file.id,) for file, all_rows, _ in written if all_rows]
        if renewed:
            db.executemany("DELETE FROM span WHERE work = ?", renewed)
        db.executemany(_PUT_SPAN, [row for _, _, rows in written for row in rows])
        return written

    def written(self) -> None:
        """What `write` put is committed."""
        bad_nodes = {key: self.nodes[key] for key in self.bad_nodes}
        bad_entries = {key: self.entries[key] for key in self.bad_entries}
        for marked in (self.nodes, self.entries, self.files, self.files_gone, self.meta):
            marked.clear()
        for rows in (self.seals_new, self.seals_gone, self.seals_moved):
            rows.clear()
        self.nodes.update(bad_nodes)
        self.entries.update(bad_entries)
        for table in self._small:
            table.written()
