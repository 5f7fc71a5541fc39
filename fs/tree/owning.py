"""How what is shown gets rows and nodes of its own, as soon as it is changed here."""

from fs.tree import links, stat
from fs.tree.model import DIR, FILE, Entry, Node
from fs.tree.state import State
from sync.state.rows import ShownRow


def own(st: State, parent: int, name: str, row: ShownRow) -> tuple[Entry, Node]:
    """Give a shown name its own row and node; both are put, and dirty once touched. A file with several names gets
    the rows of all.
    """
    if row.link is not None:
        return _own_all(st, row)
    entry = st.new_entry(parent, name, row)
    node = _node_of_row(st, row, entry.last)
    entry.node = node.id
    node.key = entry.key
    if row.kind == DIR:
        st.overlay.attach.put(row.id, st.view.path_of(row.id))
    st.overlay.put_node(node)
    st.put_entry(entry)
    st.pending[entry.key] = st.env.monotonic()
    return entry, node


def row_behind(st: State, node: Node) -> ShownRow | None:
    """The shown row that a clean open node stands for, if NAME shows it still (and no row of ours hides it)."""
    row_id = st.inodes.row_id(node.id)
    row = st.view.row(row_id) if row_id is not None and not node.nameless else None
    return links.visible(st, row) if row is not None and row.value == node.value else None


def _own_all(st: State, row: ShownRow) -> tuple[Entry, Node]:
    """Rows and node for a shown file of several names; those of `row`. All are put; those of other names are dirty.

    Names that nothing leads to here keep to themselves, but for `row`: who asks has a folder open that is gone.
    """
    same_id = st.view.linked(row.link_id or "")
    rows = [each for each in same_id if each.link == row.link and (each.id == row.id or links.is_visible(st, each))]
    found = [(other, st.new_entry(other.parent, other.name, other)) for other in rows]
    entry = next(entry for other, entry in found if other.id == row.id)
    node = _node_of_row(st, row, entry.last)
    node.set_keys([entry.key, *(other.key for _, other in found if other is not entry)])
    st.overlay.put_node(node)
    for _, other in found:
        other.node = node.id
        st.put_entry(other)
        if other is not entry:
            st.touch(other)
    st.pending[entry.key] = st.env.monotonic()
    return entry, node


def _node_of_row(st: State, row: ShownRow, base: str | None) -> Node:
    """The node of a shown row: the one that is open if it still shows the row's content. Not yet put."""
    ino = stat.told_number(st, row)
    node = st.overlay.nodes.get(ino)
    attr = stat.row_attr(st, row, ino)
    if node is None:
        node = Node(
            ino, row.kind, attr.mode, attr.uid, attr.gid, row.size, attr.atime_ns, attr.mtime_ns, attr.ctime_ns
        )  # fmt: skip
    else:
        node.mode, node.uid, node.gid = attr.mode, attr.uid, attr.gid
        node.mtime_ns, node.ctime_ns = attr.mtime_ns, attr.ctime_ns
    node.base = base if row.kind == FILE else None
    node.link_id = row.link_id or ""
    node.owner, node.owner_group = row.owner, row.group
    node.xattrs = st.xattrs_of(row)
    if row.kind not in (DIR, FILE) and base is not None:
        node.target = st.view.manifest(base).target
    if ino != row.number and (names := st.overlay.local_xattrs.get(row.number)) is not None:
        st.overlay.local_xattrs.put(ino, names)
    st.inodes.drop(ino)
    return node
