"""Overlay: the rows of tree.db in memory, written behind.

Memory is the truth: a change marks its node or entry, and `commit` writes all that is marked in one transaction. If
that fails nothing is lost, the marks stay for the next try. `log` makes changes outlive this process without one, in
the redo log, until the next commit. What is neither marked nor open may leave memory again (above `keep` rows) and is
read back when asked for, a directory at a time.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

from fs.tree import wal
from fs.tree.marks import Marks, WrittenFile
from fs.tree.model import Entry, Folder, Key, LocalTimes, Node
from fs.tree.room import Room
from fs.tree.rows import decode_mapping, json_text
from fs.tree.seal_refs import SealRefs
from fs.tree.small import SmallTable
from fs.tree.stored import Stored
from fs.tree.writer import Writer
from fs.work.durable import Folders
from fs.work.spares import AT_ONCE, Spares
from fs.work.workfile import WorkFile
from fs.work.writeback import Writeback
from sync.core.errors import NoSpace
from sync.env import Env
from sync.state.tree.check import Rows
from sync.state.tree.database import layer_name, open_tree
from sync.state.tree.redo import log_path

KEEP: Final = 50_000  # nodes in memory before unused ones may go
NUMBERS_AT_ONCE: Final = 1000  # inode numbers, and work files, that one stored counter covers


class Overlay:
    """The only writer of tree.db. Not for several threads at once."""

    def __init__(
        self, env: Env, tree_db: Path | str, work_dir: Path, *, keep: int = KEEP, ballast: Path | None = None
    ) -> None:
        """ballast: see Room. NoSpace if the disk is so full that tree.db cannot even be opened."""
        self._env = env
        self.room = Room(ballast)
        self._connection = self.room.commit(lambda: open_tree(env, tree_db))
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {wal.PAGES_MAX}").fetchone()
        # Of work files that have no row any more. Who sets another one calls `wal.sync` before `remove_files`, both in
        # a thread: what a power cut leaves of tree.db must find its files.
        self.remove: Callable[[list[str | int]], None] = remove_files
        self.spares = Spares()
        self.writeback = Writeback()
        self._stored = Stored(self._connection, self._file_path)
        self.work_dir = work_dir
        self._work_folder = str(work_dir)
        self.work_folders = Folders(self._work_folder)
        self.has_unsynced_commits = False
        self.durable_taken_upto = 0  # answers noted, as of the last full commit
        self.wal = wal.Wal(env, tree_db)
        self._keep = keep
        self.nodes: dict[int, Node] = {}
        self.folders: dict[int, Folder] = {}
        # Where shown directories lie that are needed here.
        self.attach = SmallTable("attach", ("dir_id", "path"), str, lambda path: (path,))
        # What only this machine knows of shown rows: without a row of these, shown is right.
        self.owners = SmallTable("owner", ("id", "uid", "gid"), _owner, tuple)
        self.times = SmallTable("local_time", ("id", "mtime_ns", "ctime_ns", "version"), LocalTimes, tuple)
        # Where removed directories were, while something below them is still to be published: see the schema.
        self.gone = SmallTable("gone", ("dir_id", "parent", "name"), _place, tuple)
        # Attributes that stay here, as {name: base64}.
        self.local_xattrs = SmallTable(
            "local_xattr", ("id", "names"), decode_mapping, lambda names: (json_text(names),)
        )
        self._small: tuple[SmallTable[Any], ...] = (
            self.attach, self.owners, self.times, self.gone, self.local_xattrs,
        )  # fmt: skip
        self._marks = Marks(self._small)
        self._writer = Writer(env, self._connection, self._marks)
        self.seals = SealRefs(self._marks, self._stored)
        self._meta: dict[str, Any] = {}
        self._next: dict[str, int] = {}
        self._complete = False  # all rows are in memory
        # The dicts of the marks themselves: these are on the way of every request.
        self._nodes_changed = self._marks.nodes
        self._nodes_logged = self._marks.logged_nodes
        self._entries_changed = self._marks.entries
        self._files_changed = self._marks.files
        self._files_gone = self._marks.files_gone
        try:
            if self.wal.path and (records := self.room.commit(lambda: self._writer.open_log(log_path(tree_db)))):
                self.room.commit(lambda: self._writer.replay(records))
            self._load()
        except BaseException:
            self._writer.close()
            raise

    # ---- reading

    def node(self, ino: int) -> Node | None:
        """The node of that number if the overlay, or an open file, has one."""
        node = self.nodes.get(ino)
        if node is None and not self._complete and ino not in self._nodes_changed and ino not in self._nodes_logged:
            found = self._hold_nodes(self._stored.nodes("WHERE id = ?", ino))
            node = found[0] if found else None
        return node

    def folder(self, parent: int) -> Folder | None:
        """The rows of a directory; None if it has none."""
        folder = self.folders.get(parent)
        if folder is None and not self._complete:
            folder = self.folders[parent] = Folder()
            self._hold_entries(self._stored.entries("WHERE parent = ?", parent))
        return folder

    def entry(self, parent: int, name: str) -> Entry | None:
        folder = self.folders.get(parent)
        if folder is None:
            if self._complete:
                return None
            folder = self.folder(parent)
        return folder.entries.get(name) if folder is not None else None

    def has_rows(self, parent: int) -> bool:
        folder = self.folder(parent)
        return folder is not None and bool(folder.entries)

    def entry_of(self, node: Node) -> Entry | None:
        """The entry that shows the node; None if it is nameless."""
        return self.entry(*node.key) if node.key is not None else None

    def entries_of(self, node: Node) -> list[Entry]:
        """The entries of all its names."""
        return [entry for key in node.keys if (entry := self.entry(*key)) is not None]

    def meta(self, key: str) -> Any:
        """The value of a singleton, None if it was never set."""
        return self._meta.get(key)

    @property
    def has_changes(self) -> bool:
        """True if anything is not committed to tree.db."""
        return bool(self._marks)

    @property
    def has_logged(self) -> bool:
        """True if what was logged waits for a commit."""
        return self._marks.has_logged

    def all_entries(self) -> list[Entry]:
        """Every row of every directory, read in if need be; for starting, checking and rare decisions."""
        if not self._complete:
            for parent in self._stored.folder_ids():
                self.folder(parent)
        return [entry for folder in self.folders.values() for entry in folder.entries.values()]

    def all_nodes(self) -> list[Node]:
        """Every stored node, read in if need be."""
        if not self._complete:
            for ino in self._stored.node_ids():
                self.node(ino)
        return [node for node in self.nodes.values() if node.stored]

    def stored_work_ids(self) -> set[int]:
        """Work files that have a row, as of the last commit."""
        return self._stored.work_ids()

    def broken_rows(self) -> list[str]:
        """The rules that rows break, as of the last commit; without what a round of seals under way leaves open."""
        return [broken.text for broken in Rows(self._connection.execute).broken() if not broken.heals]

    # ---- changes

    def set_meta(self, key: str, value: Any) -> None:
        if self._meta.get(key) != value:
            self._meta[key] = self._marks.meta[key] = value

    def new_ino(self) -> int:
        """The next odd inode number."""
        return self._take("next_ino", 2)

    def _take(self, counter: str, step: int) -> int:
        """The next number. Stored is the end of those that may be in use: moved seldom, as each time costs a page."""
        number = self._next[counter]
        self._next[counter] = number + step
        if number >= self._meta[counter]:
            self.set_meta(counter, number + NUMBERS_AT_ONCE * step)
        return number

    def put_node(self, node: Node) -> None:
        """The node has changed, or is new."""
        node.stored = True
        self.nodes[node.id] = node
        self._nodes_changed[node.id] = node

    def drop_node(self, node: Node, *, keep: bool = False) -> None:
        """Its row goes. It stays in memory while a file is open on it, or to keep it. Its work files stay, too."""
        if node.stored:
            node.stored = False
            self._nodes_changed[node.id] = None
        if not (node.handles or keep) and self.nodes.get(node.id) is node:
            del self.nodes[node.id]

    def put_entry(self, entry: Entry) -> None:
        """The entry has changed, or is new."""
        folder = self.folder(entry.parent)
        if folder is None:
            folder = self.folders[entry.parent] = Folder()
        folder.add(entry)
        self._entries_changed[entry.key] = entry

    def mark_entry(self, key: Key, entry: Entry) -> None:
        """As put_entry, of one that `entry` has just given for that key."""
        self._entries_changed[key] = entry

    def drop_entry(self, entry: Entry) -> None:
        """The row goes, its node stays."""
        folder = self.folders[entry.parent]
        folder.entries.pop(entry.name, None)
        self._entries_changed[entry.key] = None
        if not folder.entries and self._complete:
            del self.folders[entry.parent]

    def new_file(self, node: Node, limit_below: int) -> WorkFile:
        """A new work file; its row is written only if it is put."""
        spare = self.spares.take()
        if spare is not None:
            work_id, path, fd = spare
            return WorkFile(work_id, node.id, path, limit_below, fd=fd)
        work_id = self._take("next_work", 1)
        return WorkFile(work_id, node.id, self._file_path(work_id), limit_below)

    @property
    def wants_spares(self) -> bool:
        """True while programs make files faster than `order_spares` was called."""
        return self.spares.are_wanted and not self.room.is_short

    def order_spares(self) -> Callable[[], None]:
        """What makes some, so that making the next files does not wait for the disk; for another thread."""
        self.spares.ordered()
        numbers = [self._take("next_work", 1) for _ in range(AT_ONCE)]
        return partial(self.spares.make, [(number, self._file_path(number)) for number in numbers])

    def drop_spares(self) -> None:
        """Those that nobody needed go."""
        if dropped := self.spares.drop():
            self.remove(dropped)

    def put_file(self, file: WorkFile) -> None:
        self._files_changed[file.id] = file

    def drop_file(self, file_id: int, *, remove: bool) -> None:
        """Its rows go; the file itself is removed after the commit if `remove`."""
        self._files_changed.pop(file_id, None)
        self._files_gone[file_id] = self._file_path(file_id) if remove else None

    def remove_file(self, file: WorkFile) -> None:
        """A file whose rows were dropped without it: now it goes too, once they are gone from the disk."""
        if file.id in self._files_gone:
            self._files_gone[file.id] = file.path
        else:
            self.remove([file.path])

    def _file_path(self, file_id: int) -> str:
        """As text: pathlib costs as much as making the file."""
        return f"{self._work_folder}/{layer_name(file_id)}"

    # ---- the transaction

    def log(self) -> None:
        """Make all changes outlive this process: as commit, which it is where the redo log does not take them."""
        marks = self._marks
        if not marks.has_unlogged:
            return
        if not self._writer.log():
            self.commit()
            return
        self._env.fault("tree.after_log")
        marks.logged()
        self.room.look()  # what is closed may have filled the disk: the next file must not be emptied for nothing

    def commit(self, *, full: bool = False) -> None:
        """Write all changes in one transaction. full: it, and all before it, is on disk when this returns.

        NoSpace if the disk is full, even without the ballast: the changes stay for the next try. A row that cannot be
        written, whatever the disk is like, stays alone: see `is_unsaved` and `trouble`.
        """
        if not self.has_changes and not full:
            return
        if full:
            self.set_meta("commits", int(self._meta.get("commits") or 0) + 1)
        self._marks.recall()
        written = self.room.commit(lambda: self._transact(full))
        self._writer.committed()
        self._env.fault("tree.after_commit")
        for file, all_rows, rows in written:
            file.rows_written(all_rows, rows)
        for key, node in self._nodes_changed.items():
            if node is not None and key not in self._marks.bad_nodes:
                node.row_unflushed = node.unflushed
        gone: list[str | int] = [path for path in self._files_gone.values() if path is not None]
        if gone:
            self.remove(gone)
        if full:
            self.durable_taken_upto = int(self._meta.get("taken_upto") or 0)
        self.has_unsynced_commits = not full
        self.wal.grown()
        self._marks.written()
        self._shrink()

    @property
    def trouble(self) -> str:
        """Why changes are not saved, '' while all that were to be committed are."""
        marks = self._marks
        if self.room.trouble or not marks.has_bad:
            return self.room.trouble
        nodes = (self.nodes.get(number) for number in marks.bad_nodes)
        names = [*(node.key[1] for node in nodes if node and node.key), *(name for _, name in marks.bad_entries)]
        reasons = {*marks.bad_nodes.values(), *marks.bad_entries.values()}
        return f"changes of {', '.join(names[:3]) or 'files'} cannot be saved: {'; '.join(sorted(reasons))}"

    def is_unsaved(self, node_id: int) -> bool:
        """True if the last commit had to leave this node, or its entry, out."""
        marks = self._marks
        if not marks.has_bad:
            return False
        node = self.nodes.get(node_id)
        return node_id in marks.bad_nodes or (node is not None and any(key in marks.bad_entries for key in node.keys))

    def try_commit(self, *, full: bool = False) -> bool:
        """As commit; False if the disk is full, which the next commit finds, too."""
        try:
            self.commit(full=full)
        except NoSpace:
            return False
        return True

    def close(self) -> None:
        """Without a commit. Descriptors of work files are given back."""
        for node in self.nodes.values():
            node.close_files()
        remove_files(self.spares.drop())
        self.writeback.drop()
        self._writer.close()

    def _transact(self, full: bool) -> list[WrittenFile]:
        return self._writer.transact(full)

    # ---- memory

    def _load(self) -> None:
        self._meta = self._stored.meta()
        self._meta.setdefault("next_ino", 3)
        self._meta.setdefault("next_work", 1)
        self._next = {counter: int(self._meta[counter]) for counter in ("next_ino", "next_work")}
        for table in self._small:
            table.load(self._connection)
        self.seals.load()
        if self._stored.count_entries() <= self._keep:
            self._hold_nodes(self._stored.nodes())
            self._hold_entries(self._stored.entries())
            self._complete = True

    def _hold_nodes(self, nodes: list[Node]) -> list[Node]:
        self.nodes.update((node.id, node) for node in nodes)
        return nodes

    def _hold_entries(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.folders.setdefault(entry.parent, Folder()).add(entry)

    def _shrink(self) -> None:
        """After a commit: let rows go that nobody uses, oldest first, down to half."""
        if len(self.nodes) + len(self.folders) <= 2 * self._keep or self._marks.has_bad:
            return
        self._complete = False
        self.folders.clear()
        for node in _unused(self.nodes.values()):
            node.close_files()
            del self.nodes[node.id]
            if len(self.nodes) <= self._keep // 2:
                break


def remove_files(gone: list[str | int]) -> None:
    """Remove files, by path, and close descriptors: of a file that has no name any more that frees its space."""
    for item in gone:
        if isinstance(item, int):
            os.close(item)
            continue
        with contextlib.suppress(FileNotFoundError):
            os.unlink(item)  # noqa: PTH108  pathlib would cost as much as the removal


def _owner(uid: int, gid: int) -> tuple[int, int]:
    return uid, gid


def _place(parent: int, name: str) -> Key:
    return parent, name


def _unused(nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if _is_unused(node)]


def _is_unused(node: Node) -> bool:
    return node.stored and not (node.handles or node.is_cut or node.ahead is False) and node.lost_path is None
