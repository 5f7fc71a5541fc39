"""What has changed in memory since the last commit, and how that becomes rows of tree.db, or of its redo log."""

import sqlite3
from typing import Any, Final

from fs.tree.model import Entry, Key, Node
from fs.tree.rows import ENTRY_COLUMNS, NODE_COLUMNS, entry_row, node_row, put_rows
from fs.tree.small import SmallTable
from fs.work.workfile import WorkFile
from sync.core.manifest import INT_MAX
from sync.state.tree.redo import Batch

SEAL_COLUMNS: Final = (
    "seal_id, round, op, path, from_path, node, dir_ids, kind, mode, uid, gid, size, mtime_ns, ctime_ns, target,"
    " xattrs, base, layer, limit_below, seen, last, resolved, moved_from, moved_to, link_id, grp,"
    " owner, owner_group"
)
_PUT_SPAN: Final = (
    'INSERT INTO span (work, start, "end") VALUES (?, ?, ?)'
    ' ON CONFLICT (work, start) DO UPDATE SET "end" = max("end", excluded."end")'
)

WrittenFile = tuple[WorkFile, bool, list[tuple[int, int, int]]]  # and what WorkFile.rows_to_write gave

NODE_NUMBERS: Final = slice(5, 9)  # of a node's row: size and times, which programs choose
SMALL_LOGGED_MAX: Final = 64  # rows of small tables; each record has all that changed since the commit


def _put(table: str, columns: str) -> str:
    return f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({', '.join('?' * len(columns.split(',')))})"


PUT_META: Final = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"
_PUT_WORK: Final = "INSERT OR REPLACE INTO work (id, node, sealed, limit_below) VALUES (?, ?, ?, ?)"
_DROP_NODE: Final = "DELETE FROM node WHERE id = ?"
_DROP_ENTRY: Final = "DELETE FROM entry WHERE parent = ? AND name = ?"
_DROP_SPANS: Final = "DELETE FROM span WHERE work = ?"
_OTHERS: Final = {
    "node-": _DROP_NODE, "entry-": _DROP_ENTRY, "work+": _PUT_WORK, "span-": _DROP_SPANS, "span+": _PUT_SPAN,
    "meta+": PUT_META,
}  # fmt: skip
_PUT_NODE, _PUT_ENTRY, _PUT_SEAL = _put("node", NODE_COLUMNS), _put("entry", ENTRY_COLUMNS), _put("seal", SEAL_COLUMNS)


class Marks:
    """The overlay puts marks into the dicts and lists themselves, which are the same ones for ever; None: the row goes.

    `write` puts all of them inside the caller's transaction. Once that is committed, `written` takes them away. Before
    that `to_log` gives them as batches for the redo log, and `logged` sets them aside, until `recall` or `written`.
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
        self.logged_nodes: dict[int, Node | None] = {}
        self.logged_entries: dict[Key, Entry | None] = {}
        self.logged_files: dict[int, WorkFile] = {}
        self.logged_meta: dict[str, Any] = {}
        self._small = small
        self._asides: Final[tuple[tuple[dict[Any, Any], dict[Any, Any]], ...]] = (
            (self.nodes, self.logged_nodes),
            (self.entries, self.logged_entries),
            (self.files, self.logged_files),
            (self.meta, self.logged_meta),
        )

    def __bool__(self) -> bool:
        return self.has_unlogged or self.has_logged

    @property
    def has_logged(self) -> bool:
        """True if something is in the redo log alone, or will be with the next record."""
        return any(aside for _, aside in self._asides) or any(table.changed for table in self._small)

    @property
    def has_unlogged(self) -> bool:
        """True if something has changed since `logged`."""
        return bool(
            self.nodes
            or self.entries
            or self.files
            or self.meta
            or self._wants_commit
            or any(table.is_unlogged for table in self._small)
        )

    @property
    def has_bad(self) -> bool:
        """True if the last `write` had to leave something out."""
        return bool(self.bad_nodes or self.bad_entries)

    @property
    def _wants_commit(self) -> bool:
        """What is of seals, or removes files once it is committed, is for tree.db itself."""
        return bool(self.seals_new or self.seals_gone or self.seals_moved or self.files_gone)

    # ---- the redo log

    def to_log(self) -> list[Batch] | None:
        """What has changed since `logged`; None if that is for tree.db."""
        small = [table for table in self._small if table.changed]
        if (
            self._wants_commit
            or self.has_bad
            or (small and sum(len(table.changed) for table in small) > SMALL_LOGGED_MAX)
        ):
            return None
        batches: list[Batch] = []
        if self.nodes:
            rows = [node_row(node) for node in self.nodes.values() if node is not None]
            for row in rows:
                if max(row[NODE_NUMBERS]) > INT_MAX:
                    return None
            if len(rows) < len(self.nodes):
                _add(batches, "node-", [(key,) for key, node in self.nodes.items() if node is None])
            _add(batches, "node+", rows)
        if self.entries:
            rows = [entry_row(entry) for entry in self.entries.values() if entry is not None]
            if len(rows) < len(self.entries):
                _add(batches, "entry-", [key for key, entry in self.entries.items() if entry is None])
            _add(batches, "entry+", rows)
        if self.files:
            self._log_files(batches)
        if self.meta:
            _add(batches, "meta+", list(self.meta.items()))
        for table in small:
            gone, put = table.changes()
            _add(batches, f"{table.name}-", gone)
            _add(batches, f"{table.name}+", put)
        return batches

    def _log_files(self, batches: list[Batch]) -> None:
        works, renewed, spans = [], [], []
        for file in self.files.values():
            all_rows, rows = file.rows_to_write()
            works.append(_work_row(file))
            spans += rows
            if all_rows:
                renewed.append((file.id,))
        _add(batches, "work+", works)
        _add(batches, "span-", renewed)
        _add(batches, "span+", spans)

    def logged(self) -> None:
        """What `to_log` gave outlives this process: as good as committed, but for a power cut."""
        for node in self.nodes.values():
            if node is not None:
                node.row_unflushed = node.unflushed
        for file in self.files.values():
            file.stored = True
        for marked, aside in self._asides:
            if marked:
                aside.update(marked)
                marked.clear()
        for table in self._small:
            if table.is_unlogged:
                table.logged()

    def recall(self) -> None:
        """What was set aside is to be written, too, as it is by now."""
        for key in self.files_gone:
            self.logged_files.pop(key, None)
        for marked, aside in self._asides:
            if aside:
                newer = dict(marked)
                marked.clear()
                marked.update(aside)
                marked.update(newer)
                aside.clear()

    def replay(self, db: sqlite3.Connection, batches: list[Batch]) -> None:
        """Put a record of the redo log inside the caller's transaction. Rows of an older schema are shorter."""
        small = {table.name: table for table in self._small}
        for name, rows in batches:
            table, is_gone = name[:-1], name.endswith("-")
            if table in small:
                small[table].put_rows(db, *((rows, []) if is_gone else ([], rows)))
            elif rows:
                db.executemany(_replayed(name, len(rows[0])), rows)

    # ---- the transaction

    def write(self, db: sqlite3.Connection) -> list[WrittenFile]:
        """Put the rows. What cannot be written, whatever the disk is like, is left out, and stays marked."""
        many = db.executemany
        gone = [(key,) for key, node in self.nodes.items() if node is None]
        if gone:
            many(_DROP_NODE, gone)
        nodes = {key: node_row(node) for key, node in self.nodes.items() if node is not None}
        self.bad_nodes = put_rows(db, _PUT_NODE, nodes)
        entries_gone = [key for key, entry in self.entries.items() if entry is None]
        if entries_gone:
            many(_DROP_ENTRY, entries_gone)
        entries = {key: entry_row(entry) for key, entry in self.entries.items() if entry is not None}
        self.bad_entries = put_rows(db, _PUT_ENTRY, entries)
        if self.files_gone:
            many("DELETE FROM work WHERE id = ?", [(key,) for key in self.files_gone])
            many(_DROP_SPANS, [(key,) for key in self.files_gone])
        written = self._write_files(db) if self.files else []
        if self.seals_new:
            many(_PUT_SEAL, self.seals_new)
        if self.seals_moved:
            many("UPDATE seal SET node = ?, dir_ids = ? WHERE seal_id = ?", self.seals_moved)
        if self.seals_gone:
            many("DELETE FROM seal WHERE seal_id = ?", [(key,) for key in self.seals_gone])
        if self.meta:
            many(PUT_META, list(self.meta.items()))
        for table in self._small:
            table.write(db)
        return written

    def _write_files(self, db: sqlite3.Connection) -> list[WrittenFile]:
        written = [(file, *file.rows_to_write()) for file in self.files.values()]
        db.executemany(_PUT_WORK, [_work_row(file) for file, _, _ in written])
        renewed = [(file.id,) for file, all_rows, _ in written if all_rows]
        if renewed:
            db.executemany(_DROP_SPANS, renewed)
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


def _add(batches: list[Batch], name: str, rows: list[Any]) -> None:
    if rows:
        batches.append((name, rows))


def _work_row(file: WorkFile) -> tuple[int, int, int, int]:
    return file.id, file.node_id, int(file.sealed), file.limit_below


def _replayed(name: str, columns: int) -> str:
    """The statement of a batch whose rows have so many columns."""
    if name in _OTHERS:
        return _OTHERS[name]
    table, names = {"node+": ("node", NODE_COLUMNS), "entry+": ("entry", ENTRY_COLUMNS)}[name]
    return _put(table, ", ".join(names.split(", ")[:columns]))
