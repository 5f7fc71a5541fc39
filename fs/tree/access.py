"""When something was last read: as ext4 does it by default (relatime, mount(8)).

Of what is dirty here it is kept with that; of all else in memory, until the mount ends, so that reading writes nothing.
"""

import itertools
from typing import Final

from fs.tree import stat
from fs.tree.model import Node
from fs.tree.state import State
from sync.state.rows import ShownRow

DAY_NS: Final = 86_400 * 10**9
KEPT: Final = 100_000


def is_due(atime_ns: int, mtime_ns: int, ctime_ns: int, now_ns: int) -> bool:
    """True if a read in this moment moves the time."""
    return atime_ns <= mtime_ns or atime_ns <= ctime_ns or now_ns - atime_ns >= DAY_NS


def read_node(st: State, node: Node) -> bool:
    """Something of the node was read. True if that moved its time."""
    now_ns = st.stamp_ns()
    if not is_due(node.atime_ns, node.mtime_ns, node.ctime_ns, now_ns):
        return False
    node.atime_ns = now_ns
    if node.stored:
        st.overlay.put_node(node)
    elif not node.nameless:
        keep(st, st.inodes.row_id(node.id) or node.id, now_ns)
    return True


def read(st: State, ino: int) -> bool:
    """As read_node, of a directory or symlink that may have no node."""
    node = st.overlay.node(ino)
    if node is not None:
        return read_node(st, node)
    row_id = st.inodes.row_id(ino)
    row = st.view.row(row_id) if row_id is not None else None
    if row is None:
        return False
    now_ns, attr = st.stamp_ns(), stat.row_attr(st, row, ino)
    if not is_due(attr.atime_ns, attr.mtime_ns, attr.ctime_ns, now_ns):
        return False
    keep(st, row.id, now_ns)
    return True


def keep(st: State, row_id: int, atime_ns: int) -> None:
    """Of a shown row, as long as there is room."""
    if len(st.atimes) >= KEPT and row_id not in st.atimes:
        for old in list(itertools.islice(st.atimes, KEPT // 2)):
            del st.atimes[old]
    st.atimes[row_id] = atime_ns


def left(st: State, row: ShownRow, node: Node) -> None:
    """A node of ours has become a shown row: its time stays."""
    if st.atimes.get(row.number, row.mtime_ns) != node.atime_ns:
        keep(st, row.number, node.atime_ns)
