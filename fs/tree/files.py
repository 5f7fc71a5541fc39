"""Open files: what a handle reads and writes, and when a file counts as closed."""

import errno
from typing import TYPE_CHECKING, Final

from fs.tree import access, owning, shrink, stat
from fs.tree.model import DIR, FILE, SYMLINK, Node
from fs.tree.names import shown_row
from fs.tree.siblings import refuse_sibling
from fs.tree.state import State
from fs.work.durable import FileSync
from fs.work.stack import Piece, pieces
from fs.work.workfile import WorkFile
from sync.core.errors import BadInput, Stale, TcfsError, TooLarge

if TYPE_CHECKING:
    from sync.state.rows import ShownRow

Buffer = bytes | bytearray | memoryview

SIZE_MAX: Final = (2**32 - 1) * 4096  # bytes: as ext4, on which the work file would lie


class OpenFile:
    """One handle. Handles of one node share it; what one writes the others read."""

    __slots__ = ("_has_read", "_has_written", "_is_busy", "_is_open", "_st", "node", "writes")

    def __init__(self, st: State, node: Node, *, write: bool) -> None:
        self._st = st
        self.node = node
        self.writes = write
        self._is_open = True
        self._is_busy = write
        self._has_written = self._has_read = False
        node.handles += 1
        node.busy += write

    def pieces(self, offset: int, size: int) -> list[Piece]:
        """Where to find [offset, offset + size), cut at the end of the file. Good until the caller's next await."""
        node = self.node
        return pieces(node.files, node.base, offset, min(offset + size, node.size))

    def was_read(self) -> None:
        """Bytes of the file were read: its atime moves, if that is due."""
        node = self.node
        if node.atime_ns <= node.mtime_ns or node.atime_ns <= node.ctime_ns or not self._has_read:
            self._has_read = True
            access.read_node(self._st, node)

    def write(self, offset: int, data: Buffer) -> int:
        """Bytes written, all of them unless the disk gave out in between, or the file is as large as it may be; the
        next call says why (OSError, NoSpace).
        """
        st, node = self._st, self.node
        if not len(data):
            return 0
        if offset + len(data) > SIZE_MAX:
            check_size(offset + 1)
            data = memoryview(data)[: SIZE_MAX - offset]
        st.overlay.room.need()
        make_writable(st, node)
        if not self._is_busy:
            self._is_busy = True
            node.busy += 1
        file = work_of(st, node)
        self.has_begun()
        if node.stored and file.stored and not node.row_unflushed and file.spans.intersect(offset, offset + len(data)):
            # The rows say that these very bytes are whole. Should the mount die now, they must not go out as such.
            st.overlay.put_node(node)
            st.overlay.log()
            st.overlay.put_file(file)  # again: this write is not among what was just logged
        try:
            done = file.write(offset, data)
        except OSError as error:
            st.overlay.room.was_refused(error)
            raise
        note_write(st, node, offset + done)
        st.overlay.writeback.wrote(file, offset, offset + done)
        return done

    def has_begun(self) -> None:
        """What this handle writes, or is about to write anew, is not whole before its next flush."""
        if not self._has_written:
            self._has_written = True
            self.node.writers += 1
        self.node.unflushed = True

    def flush(self) -> None:
        """A descriptor is closed. What was written outlives this process; the file counts as closed when no handle is
        busy, and as whole when no handle has written since its own last flush.
        """
        st, node = self._st, self.node
        if self._has_written:
            self._has_written = False
            node.writers -= 1
            if not node.writers and node.stored:
                node.unflushed = False
                st.overlay.put_node(node)
        if self._is_busy:
            self._is_busy = False
            node.busy -= 1
            if not node.busy:
                _closed(st, node)
        if self.writes:
            st.overlay.log()
            self._check_saved()

    def sync_begin(self) -> FileSync | None:
        """What makes the file durable; None if there is nothing to be done.

        `data` of it, in a thread if need be, then sync_end, then `rows` of it: the rows say that bytes are on the disk
        only after they are.
        """
        st, node = self._st, self.node
        if not node.stored:
            return None
        return FileSync(node.files, st.overlay.work_folders, st.overlay.wal.path, node.gen)

    def sync_end(self, sync: FileSync) -> None:
        """The bytes of sync_begin are on the disk: commit the rows that say so. NoSpace.

        What was written since then is not there yet, so a file that has changed meanwhile stays one that is written.
        """
        st, node = self._st, self.node
        sync.done()
        if not node.stored:
            return  # removed, or published, meanwhile
        before = node.unflushed, node.synced
        if node.gen == sync.gen:
            node.unflushed, node.synced = False, True
            st.overlay.put_node(node)
        try:
            st.overlay.commit()
            self._check_saved()
        except BaseException:
            node.unflushed, node.synced = before
            raise

    def _check_saved(self) -> None:
        """TcfsError if the commit had to leave the file out."""
        if self._st.overlay.is_unsaved(self.node.id):
            raise TcfsError("the change cannot be saved", hint="see 'tcfs status'")

    def release(self) -> None:
        """The last descriptor is gone."""
        if not self._is_open:
            return
        self._is_open = False
        st, node = self._st, self.node
        try:
            if self._is_busy:
                self.flush()
        finally:
            node.handles -= 1
            if not node.handles:
                last_close(st, node)


def open_file(st: State, ino: int, *, write: bool, truncate: bool) -> OpenFile:
    """Stale if the inode shows other content than was told; ReadOnly for writing to a sibling."""
    node = st.overlay.node(ino)
    if node is None or (not node.stored and not node.unlinked):
        row = shown_row(st, ino, check_told=True)
        _check_kind(row.kind)  # before there is a node: a change of a folder would store one that is not whole
        if write or truncate:
            refuse_sibling(row)
        node = clean_node(st, ino, row)
    return open_node(st, node, write=write, truncate=truncate)


def open_node(st: State, node: Node, *, write: bool, truncate: bool) -> OpenFile:
    """A handle of the node. Stale if it was removed, and its bytes by now, too."""
    _check_kind(node.kind)
    if node.unlinked and not node.handles:
        _find_files(node)
    file = OpenFile(st, node, write=write)
    try:
        if truncate:
            if not node.files:
                st.overlay.room.need()  # what it had stays: nothing new could take its place
            make_writable(st, node)
            if write:
                file.has_begun()
            if node.size or not node.fresh:
                set_size(st, node, 0)
            else:
                note_change(st, node)
            node.fresh = True
        elif write and node.stored and node.base is None and node.layer is None and node.work is None:
            node.fresh = True  # new, and about to be written
            file.has_begun()
            st.overlay.put_node(node)
    except BaseException:
        file.release()
        raise
    return file


def _check_kind(kind: int) -> None:
    if kind == DIR:
        raise IsADirectoryError(errno.EISDIR, "is a directory")
    if kind == SYMLINK:
        raise BadInput("a symlink cannot be opened")


def _find_files(node: Node) -> None:
    """Open what a removed file, that the kernel has not forgotten, still has of its bytes. Stale if they are gone."""
    try:
        for file in node.files:
            file.fd()
    except FileNotFoundError as error:
        node.close_files()
        raise Stale(f"inode {node.id} is gone") from error


def clean_node(st: State, ino: int, row: "ShownRow") -> Node:
    """The node of a shown file that is open without having been changed."""
    node = st.overlay.nodes.get(ino)
    if node is not None and node.value == row.value and not node.nameless:
        return node
    attr = stat.row_attr(st, row, ino)
    node = Node(
        ino, row.kind, attr.mode, attr.uid, attr.gid, row.size, attr.atime_ns, attr.mtime_ns, attr.ctime_ns
    )  # fmt: skip
    node.seen = tuple(st.view.seen_of(row))
    node.base = node.seen[0] if node.seen and row.kind == FILE else None
    node.value = row.value
    node.xattrs = st.xattrs_of(row)
    node.owner, node.owner_group = row.owner, row.group
    st.overlay.nodes[ino] = node
    return node


def make_writable(st: State, node: Node) -> None:
    """Before bytes of the node change."""
    if not node.stored and not node.unlinked:
        make_dirty(st, node)
    now = st.env.monotonic()
    if node.first_write is None:
        node.first_write = now
    node.last_write = now


def make_dirty(st: State, node: Node) -> None:
    """Give a clean open node its rows: those of its NAME if that still shows what was opened, else it goes nameless and
    its version will be based on what was opened: concurrent with what NAME shows now, and both stay.
    """
    row = owning.row_behind(st, node)
    if row is not None and stat.told_number(st, row) == node.id:  # else what is written here would be in no row's node
        refuse_sibling(row)
        entry, _ = owning.own(st, row.parent, row.name, row)
        st.touch(entry)
        return
    base = node.base
    node.nameless = True
    node.lost_path = st.view.manifest(base).rel_path if base is not None else None
    node.lost_seen = node.seen
    st.inodes.drop(node.id)
    st.overlay.put_node(node)
    st.pending[node.id] = st.env.monotonic()


def work_of(st: State, node: Node) -> WorkFile:
    """The file that takes the node's writes. Of an unlinked node it has no rows."""
    if node.work is None:
        file = st.overlay.new_file(node, node.size)
        file.fd()  # the file is there before any row says so
        node.work = file
        set_unsynced(st, node)
    if node.stored:
        st.overlay.put_file(node.work)
    return node.work


def note_write(st: State, node: Node, end: int) -> None:
    """Bytes up to `end` were written."""
    node.size = max(node.size, end)
    if node.synced:
        set_unsynced(st, node)
    note_change(st, node)


def set_unsynced(st: State, node: Node) -> None:
    """Bytes of the node may not be on the disk from now on."""
    node.synced = False
    st.unsynced.add(node.id)


def note_change(st: State, node: Node) -> None:
    """The content has changed, or a program has done what counts as that: its times move."""
    node.mtime_ns = node.ctime_ns = st.stamp_ns()
    st.touch_node(node)


def truncate(st: State, node: Node, size: int) -> None:
    """ftruncate, truncate: zeros behind the old end, nothing behind the new one. TooLarge."""
    check_size(size)
    if not node.files:
        st.overlay.room.need()
    make_writable(st, node)
    if node.busy:
        node.unflushed = True
    if size != node.size:
        set_size(st, node, size)
    else:
        note_change(st, node)
    if not node.handles:
        node.close_files()


def check_size(size: int) -> None:
    """TooLarge for more bytes than a file may have."""
    if size > SIZE_MAX:
        raise TooLarge(f"a file has {SIZE_MAX} bytes at most")


def set_size(st: State, node: Node, size: int) -> None:
    """Zeros behind the old end, nothing behind the new one."""
    file = work_of(st, node)
    is_shorter = size < node.size
    if is_shorter:
        file.truncate(size)
    node.size = size
    note_write(st, node, 0)
    if is_shorter:
        shrink.cut(st, node, file, size)


def _closed(st: State, node: Node) -> None:
    """No handle is busy any more: what stands in the node is what the programs meant to leave."""
    if not node.stored:
        return
    node.unflushed = node.fresh = node.interrupted = False
    st.overlay.put_node(node)
    key = node.key if node.key is not None else node.id
    if key in st.pending:
        st.pending[key] = st.env.monotonic()


def last_close(st: State, node: Node) -> None:
    """The last handle is gone: a node that only lived by it goes too."""
    node.busy = node.writers = 0
    is_known = node.id in st.inodes.known
    for file in node.files:
        if node.unlinked and not is_known:
            shrink.let_go(st, file)
        else:
            file.close()
    if node.stored or (node.unlinked and is_known):
        return  # the kernel forgets what is gone as soon as nobody is about to open it
    if node.unlinked:
        held = {ref.layer for ref in st.overlay.seals.values()} if node.layer is not None else set()
        for file in node.files:
            if file.id in held:
                continue
            if file.stored:
                st.overlay.drop_file(file.id, remove=True)  # not before the commit of the removal
            else:
                st.overlay.remove([file.path])
    if st.overlay.nodes.get(node.id) is node:
        del st.overlay.nodes[node.id]
    if node.id not in st.inodes.known:
        st.inodes.drop(node.id)
