"""What stat shows: attributes and numbers of inodes."""

from fs.tree import links
from fs.tree.model import BLOCK, DIR, FILE, MODE_BITS, Attr, Node
from fs.tree.state import State
from sync.state.rows import ShownRow


def node_attr(st: State, node: Node) -> Attr:
    size = node.size if node.kind != DIR else 0
    blocks = (size + BLOCK - 1) // BLOCK if node.kind == FILE else 0
    told = node.value if not node.stored else 0
    nlink = 0 if node.unlinked else 1 + len(node.links) if node.kind != DIR else 2 + st.subfolders.of(node.id)
    uid, gid = st.ownership.of_node(node)
    return Attr(
        node.id, node.kind, node.mode, nlink, uid, gid, size, node.atime_ns, node.mtime_ns, node.ctime_ns,
        blocks, told, node.rdev, st.ownership.valid_s(node.owner, node.owner_group),
    )  # fmt: skip


def row_attr(st: State, row: ShownRow, ino: int) -> Attr:
    """A shown row under the number `ino`."""
    mtime_ns, ctime_ns, blocks = row.mtime_ns, row.ctime_ns, 0
    number = row.id if row.link is None else row.link
    uid, gid = st.ownership.of_row(row, st.overlay.owners.get(number))
    local = st.overlay.times.get(number)
    if local is not None:
        ctime_ns = max(ctime_ns, local.ctime_ns)
        mtime_ns = max(mtime_ns, local.mtime_ns) if row.kind == DIR else mtime_ns
    nlink = row.nlink if row.link is None else links.count(st, row)
    if row.kind == DIR:
        nlink = 2 + st.subfolders.of(row.id)
    if row.kind == FILE and row.size:
        is_local = st.has_content(row)
        blocks = (row.size + BLOCK - 1) // BLOCK if is_local else 1
    return Attr(
        ino, row.kind, row.mode & MODE_BITS, nlink,
        uid, gid, row.size, st.atimes.get(number, mtime_ns), mtime_ns, ctime_ns, blocks, row.value,
        valid_s=st.ownership.valid_s(row.owner, row.group),
    )  # fmt: skip


def told_number(st: State, row: ShownRow) -> int:
    """The inode number to tell for a row. A number stands for one content as long as the kernel knows it: of an
    inode whose size has changed, whoever is about to read it may still have the old one in hand.
    """
    number = row.id if row.link_id is None else links.number_of(st, row)
    ino = st.inodes.number(number)
    if st.inodes.row_id(ino) == number:  # else it was given to another row, as a node of ours stands there
        if row.kind == DIR:
            return ino
        node, known = st.overlay.nodes.get(ino), st.inodes.known.get(ino)
        if row.link_id is not None and links.is_changed_here(st, ino):
            pass
        elif node is not None and (node.nameless or node.value != row.value):
            node.nameless = True
        elif known is None or (
            known.told == row.value and (node is not None or not links.has_lost_names(st, row, known))
        ):
            return ino
    if ino in st.inodes.known:
        st.inodes.left[ino] = (row.parent, row.name)
    ino = st.overlay.new_ino()
    st.inodes.renumber(number, ino)
    return ino
