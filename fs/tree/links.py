"""Hard links: files that have several names.

One node stands behind the entries of all of them, and whatever is changed under one name is changed under all. A shown
file with several names gets the rows of all when any of them is changed here: none of its names is ever shown beside
one that has a row. They are published together, under one link_id. A name that comes or goes changes nothing of the
others: they keep their link_id, and have nothing to publish.

All names of a file are shared, or all stay on this machine: content that is here alone must not hang on what others do
with a shared name. One that is too long to be published keeps the others here with it, as long as nobody has seen them.
"""

from fs.tree import release
from fs.tree.inodes import Known
from fs.tree.model import DIR, SPECIAL, Entry, Key, Node
from fs.tree.state import State
from fs.tree.whereabouts import is_reachable
from sync.core.errors import NotFound
from sync.state.rows import ShownRow

ID_BYTES = 16
LET_GO_AFTER = 2.0  # seconds: names in a tree that is too deep come and go


def drop_name(st: State, node: Node, key: Key) -> None:
    """One of its names is gone, by the user's will; with the last one the node goes (release.py)."""
    if not node.links:
        release.release_node(st, node)
        return
    node.set_keys([other for other in node.keys if other != key])
    node.ctime_ns = st.stamp_ns()
    known = st.inodes.known.get(node.id)
    if known is not None:
        known.nlink = min(known.nlink, len(node.keys))  # the kernel has done that itself
    decide_place(st, node)
    st.touch_node(node)


def settle_id(st: State, node: Node) -> None:
    """Before it is frozen: what is changed under its names alone is no file with what still has its link_id elsewhere.

    Where nothing is changed the link_id stays: a name that came or went is no reason to publish the others again.
    """
    keys = set(node.keys)
    is_shared = node.link_id and any((row.parent, row.name) not in keys for row in st.view.linked(node.link_id))
    if is_shared and _is_changed(st, node):
        node.link_id = new_id(st) if node.links else ""


def are_one(one: Entry | ShownRow, other: Entry | ShownRow | None) -> bool:
    """True of two names of one file."""
    if isinstance(one, Entry) and isinstance(other, Entry):
        return one.node is not None and one.node == other.node
    return isinstance(one, ShownRow) and isinstance(other, ShownRow) and one.link is not None and one.link == other.link


def visible(st: State, row: ShownRow) -> ShownRow | None:
    """The row, if no entry hides it; of a file with several names one of those that can be reached. None if there is
    none.
    """
    if row.link is None:
        return row if st.overlay.entry(row.parent, row.name) is None else None
    if is_visible(st, row):
        return row
    others = st.view.linked(row.link_id or "")
    return next((other for other in others if other.link == row.link and is_visible(st, other)), None)


def number_of(st: State, row: ShownRow) -> int:
    """The inode number of a row. While names of the file are changed here, another one keeps to itself."""
    number = row.number
    return row.id if number != row.id and is_changed_here(st, number) else number


def count(st: State, row: ShownRow) -> int:
    """st_nlink of a file with several names: those that no row of ours hides."""
    if not st.overlay.folders:
        return row.nlink
    names = [each for each in st.view.linked(row.link_id or "") if each.link == row.link]
    return max(1, sum(st.overlay.entry(each.parent, each.name) is None for each in names))


def has_lost_names(st: State, row: ShownRow, known: Known | None) -> bool:
    """True of a file that has fewer names than the kernel was told: it may take another one's for one of its names."""
    if known is None or known.nlink == 1 or row.kind == DIR:
        return False
    return known.nlink > (row.nlink if row.link is None else count(st, row))


def is_changed_here(st: State, ino: int) -> bool:
    """True if a node of ours has that number."""
    node = st.overlay.node(ino)
    return node is not None and node.stored


def decide_place(st: State, node: Node) -> None:
    """A name has come or gone: whether all names are shared or all stay here. See linking.py for what may come."""
    entries = st.overlay.entries_of(node)
    if node.kind in SPECIAL or not any(entry.local_only for entry in entries):
        return
    must_stay = any(st.is_local_name(entry.parent, entry.name, False) for entry in entries)
    for entry in entries:
        if must_stay and not entry.local_only:
            entry.local_only, entry.dirty = True, False
            st.put_entry(entry)
            st.pending.pop(entry.key, None)
        elif entry.local_only and not must_stay:
            entry.local_only = False
            st.touch(entry)
            st.retry_at[entry.key] = st.env.monotonic() + LET_GO_AFTER


def is_visible(st: State, row: ShownRow) -> bool:
    return st.overlay.entry(row.parent, row.name) is None and is_reachable(st, row.parent)


def _is_changed(st: State, node: Node) -> bool:
    """True if what it holds differs from what was last published under its link_id, or seen, at any of its names."""
    if node.files:
        return True
    fields = (node.mode, node.mtime_ns, node.xattrs or {})
    for last in {entry.last for entry in st.overlay.entries_of(node) if entry.last is not None}:
        try:
            was = st.view.manifest(last)
        except NotFound:
            return True
        if was.link_id == node.link_id and (was.mode, was.mtime_ns, was.xattrs) != fields:
            return True
    return False


def new_id(st: State) -> str:
    return st.env.random_bytes(ID_BYTES).hex()
