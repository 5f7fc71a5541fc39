"""Extended attributes that stay on this machine: trusted.*, security.*, and POSIX ACLs, which move with the mode.

They hang on numbers, not on nodes, so that they outlast the publishing of what has them.
"""

import base64

from fs.tree import acl
from fs.tree.model import DIR, SYMLINK, Node
from fs.tree.state import State
from sync.core.errors import Stale

ACLS = frozenset({acl.ACCESS, acl.DEFAULT})
_PREFIXES = ("trusted.", "security.")


def is_local(name: str) -> bool:
    return name.startswith(_PREFIXES) or name in ACLS


def of(st: State, ino: int) -> dict[str, str]:
    """Names to base64 values. Cheap where there are none at all: the kernel asks before every write."""
    known = st.overlay.local_xattrs
    return known.get(_number(st, ino), {}) if known else {}


def get(st: State, ino: int, name: str) -> bytes | None:
    text = of(st, ino).get(name)
    if text is None:
        return None
    value = base64.b64decode(text)
    return in_step(value, _mode(st, ino)) if name == acl.ACCESS else value


def in_step(value: bytes, mode: int) -> bytes:
    """An ACL, as a chmod to that mode would leave it: where it is read, as a chmod elsewhere changes none."""
    parsed = acl.parse(value)
    return value if acl.mode_of(parsed) == mode & 0o777 else acl.encode(acl.with_mode(parsed, mode))


def put(st: State, node: Node, name: str, value: bytes | None) -> None:
    """Set, or with None remove, one of a node that is writable. An ACL sets the mode; one that says no more than that
    is not kept. OSError EINVAL for what is no ACL, ENOTSUP or EACCES where there cannot be one.
    """
    if name in ACLS and value is not None:
        value = _set_acl(node, name, value)
    known = st.overlay.local_xattrs.get(node.id)
    if value is None and known is None:
        return
    names = dict(known or {})
    if value is None:
        names.pop(name, None)
    else:
        names[name] = base64.b64encode(value).decode()
    st.overlay.local_xattrs.put(node.id, names or None)


def inherit(st: State, parent: int, node: Node) -> None:
    """A new node takes its ACLs from the default one of the folder it was made in."""
    text = of(st, parent).get(acl.DEFAULT)
    if text is None or node.kind == SYMLINK:
        return
    made = acl.inherited(acl.parse(base64.b64decode(text)), node.mode)
    node.mode = node.mode & ~0o777 | acl.mode_of(made)
    names = {acl.DEFAULT: text} if node.kind == DIR else {}
    if not acl.is_mode(made):
        names[acl.ACCESS] = base64.b64encode(acl.encode(made)).decode()
    st.overlay.local_xattrs.put(node.id, names or None)


def move(st: State, old: int, new: int) -> None:
    """What had one number has another one."""
    names = st.overlay.local_xattrs.get(old)
    if names is not None and old != new:
        st.overlay.local_xattrs.put(new, names)
        st.overlay.local_xattrs.put(old, None)


def _number(st: State, ino: int) -> int:
    node = st.overlay.nodes.get(ino)
    if node is not None and node.stored:
        return ino
    return st.inodes.row_id(ino) or ino


def _mode(st: State, ino: int) -> int:
    """Permission bits, as stat shows them. Stale as stat."""
    node = st.overlay.nodes.get(ino) or st.inodes.removed.get(ino)
    if node is not None and (node.stored or node.nameless or node.unlinked):
        return node.mode
    row = st.view.row(_number(st, ino))
    if node is not None and (row is None or row.value != node.value):
        return node.mode
    if row is None:
        raise Stale(f"inode {ino} is gone")
    return row.mode


def _set_acl(node: Node, name: str, value: bytes) -> bytes | None:
    if node.kind == SYMLINK:
        raise OSError(95, "symlinks have no ACL")
    if name == acl.DEFAULT and node.kind != DIR:
        raise OSError(13, "only folders have a default ACL")
    if name == acl.ACCESS and (mode := acl.plain_mode(value)) is not None:
        node.mode = node.mode & ~0o777 | mode
        return None
    try:
        parsed = acl.parse(value)
    except ValueError as error:
        raise OSError(22, str(error)) from error
    if not parsed:
        return None
    if name == acl.DEFAULT:
        return value
    node.mode = node.mode & ~0o777 | acl.mode_of(parsed)
    return None if acl.is_mode(parsed) else value
