"""Changing what stat and getxattr show of an inode."""

import base64

from fs.tree import acl, files, local_xattrs, owning, stat
from fs.tree.model import DIR, FILE, MODE_BITS, ROOT_ID, SYMLINK, Attr, Node
from fs.tree.names import mode_and_group, shown_row, xattrs_of
from fs.tree.siblings import refuse_sibling
from fs.tree.state import State
from sync.core.errors import NotFound, Stale
from sync.core.manifest import within


def setattr_of(
    st: State,
    ino: int,
    *,
    mode: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
    size: int | None = None,
    mtime_ns: int | None = None,
    atime_ns: int | None = None,
) -> Attr:
    """Change what is not None; times that no database holds become the nearest ones.

    Stale if the inode shows other content than was told; ReadOnly for a sibling; TooLarge.
    """
    if size is not None:
        node = writable_node(st, ino, content=True)
        if node.kind != FILE:
            raise IsADirectoryError(21, "is a directory") if node.kind == DIR else OSError(22, "not a file")
        files.truncate(st, node, size)
    else:
        node = writable_node(st, ino, content=False)
    change(st, node, mode=mode, uid=uid, gid=gid, mtime_ns=mtime_ns, atime_ns=atime_ns, is_resized=size is not None)
    known = st.inodes.known.get(ino)
    if known is not None:
        known.told, known.size, known.mtime_ns = 0, node.size, node.mtime_ns
    return stat.node_attr(st, node)


def change(
    st: State,
    node: Node,
    *,
    mode: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
    mtime_ns: int | None = None,
    atime_ns: int | None = None,
    is_resized: bool = False,
) -> None:
    """Change what is not None of a node that is writable."""
    if mode is not None:
        node.mode = mode & MODE_BITS
    st.ownership.give(node, uid, gid)
    if atime_ns is not None:
        node.atime_ns = within(atime_ns)
    if mtime_ns is not None:
        node.mtime_ns = within(mtime_ns)
        st.told_time(mtime_ns)
        if node.kind == DIR:
            st.overlay.times.put(node.id, None)
    node.ctime_ns = st.stamp_ns()
    if is_resized or (mode, uid, gid, mtime_ns) != (None,) * 4:
        st.touch_node(node)
    elif node.stored:
        st.overlay.put_node(node)


def writable_node(st: State, ino: int, *, content: bool) -> Node:
    """The node of an inode, with its own row, or nameless. content: it will be written to, not only described."""
    node = st.overlay.node(ino)
    if node is not None:
        if not node.stored and not node.unlinked:
            files.make_dirty(st, node)
        elif node.stored and node.key is not None:
            _wake_keeper(st, node)
        return node
    if ino == ROOT_ID:
        return _own_root(st)
    if ino in st.inodes.removed:
        return st.inodes.removed[ino]
    row = shown_row(st, ino, check_told=content)
    refuse_sibling(row)
    known = st.inodes.known.get(ino)
    if known is not None and known.told != row.value:
        raise Stale(f"the content of inode {ino} has moved on")
    _, node = owning.own(st, row.parent, row.name, row)
    if node.id != ino:
        raise Stale(f"inode {ino} is told under another number")
    return node


def readlink(st: State, ino: int) -> str:
    node = st.overlay.node(ino)
    if node is not None:
        if node.kind != SYMLINK:
            raise OSError(22, "not a symlink")
        return node.target
    row = shown_row(st, ino, check_told=False)
    if row.kind != SYMLINK:
        raise OSError(22, "not a symlink")
    return st.view.manifest(st.view.seen_of(row)[0]).target


def getxattr(st: State, ino: int, name: str) -> bytes | None:
    """None if there is no such attribute."""
    if local_xattrs.is_local(name):
        return local_xattrs.get(st, ino, name)
    value = xattrs_of(st, ino).get(name)
    return None if value is None else base64.b64decode(value)


def listxattr(st: State, ino: int) -> list[str]:
    """Every name, sorted."""
    return sorted([*xattrs_of(st, ino), *local_xattrs.of(st, ino)])


def setxattr(st: State, ino: int, name: str, value: bytes | None) -> None:
    """None removes it; OSError ENODATA if there is none, but for ACLs. Stale and ReadOnly as setattr.

    The value that is there already changes nothing, no time either, as on ext4.
    """
    if value is None:
        names = local_xattrs.of(st, ino) if local_xattrs.is_local(name) else xattrs_of(st, ino)
        if name not in names:
            if name in local_xattrs.ACLS:
                return  # a mode is an ACL, too: what is beyond it is gone
            raise OSError(61, "no such attribute")
    elif _is_there(st, ino, name, value):
        return
    else:
        st.overlay.room.need()
    change_xattr(st, writable_node(st, ino, content=False), name, value)


def _is_there(st: State, ino: int, name: str, value: bytes) -> bool:
    """True if the attribute says so already; never of a sibling, where nothing can be set."""
    known = getxattr(st, ino, name)
    if known is None and name == acl.ACCESS:  # a mode is an ACL, too: `cp -a` brings it with every file
        if acl.plain_mode(value) != mode_and_group(st, ino)[0] & 0o777:
            return False
    elif known != value:
        return False
    row_id = st.inodes.row_id(ino)
    row = st.view.row(row_id) if row_id is not None else None
    return row is None or not row.sibling


def change_xattr(st: State, node: Node, name: str, value: bytes | None) -> None:
    """Set or remove an attribute of a node that is writable."""
    if local_xattrs.is_local(name):
        local_xattrs.put(st, node, name, value)
    else:
        xattrs = dict(node.xattrs or {})
        if value is None:
            xattrs.pop(name, None)
        else:
            xattrs[name] = base64.b64encode(value).decode()
        node.xattrs = xattrs or None
    node.ctime_ns = st.stamp_ns()
    st.touch_node(node)


def _own_root(st: State) -> Node:
    """The root has a node but no entry: what is changed there stays on this machine."""
    row = st.view.row(ROOT_ID)
    if row is None:
        raise NotFound("the fleet has no root")
    attr = stat.row_attr(st, row, ROOT_ID)
    node = Node(
        ROOT_ID, DIR, attr.mode, attr.uid, attr.gid, 0, attr.atime_ns, attr.mtime_ns, attr.ctime_ns
    )  # fmt: skip
    st.overlay.put_node(node)
    return node


def _wake_keeper(st: State, node: Node) -> None:
    """A folder that is only kept for what is below it becomes one of ours when it is changed itself."""
    if node.key in st.keepers:
        st.keepers.discard(node.key)
