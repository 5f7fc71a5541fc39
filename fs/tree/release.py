"""Nodes that lose their last name."""

from fs.tree.model import DIR, Key, Node
from fs.tree.state import State


def release_node(st: State, node: Node) -> None:
    """No name leads to the node any more, by the user's will: what is open stays readable, nothing is published."""
    node.set_keys(())
    node.nameless = node.unlinked = True
    node.lost_path = None
    st.overlay.local_xattrs.put(node.id, None)
    st.unshown.discard(node.id)
    st.pending.pop(node.id, None)
    for key in st.left_by.pop(node.id, set()):
        free_whiteout(st, key, node.id)
    ref = st.overlay.seals.get(node.seal_id) if node.seal_id is not None else None
    if ref is not None:
        ref.node = None
    if node.handles:
        for file in node.files:
            if file.stored:
                file.fd()
    # Who has just looked the name up may open it yet: what the kernel has not forgotten can still be had.
    is_known = node.kind != DIR and node.id in st.inodes.known
    for file in node.files:
        if ref is None or ref.layer != file.id:
            st.overlay.drop_file(file.id, remove=not is_known)
    if not node.handles:
        node.close_files()
    st.overlay.drop_node(node, keep=is_known)


def forget_node(st: State, node: Node) -> None:
    """Neither the kernel nor a handle knows a removed file any more."""
    held = {ref.layer for ref in st.overlay.seals.values()} if node.layer is not None else set()
    for file in node.files:
        if file.id not in held:
            st.overlay.remove_file(file)
    del st.overlay.nodes[node.id]


def free_whiteout(st: State, key: Key, node_id: int) -> None:
    entry = st.overlay.entry(*key)
    if entry is not None and entry.moved_node == node_id:
        entry.moved_node = None
        st.overlay.put_entry(entry)
        if entry.dirty and entry.seal_id is None:
            st.pending[key] = st.env.monotonic()
