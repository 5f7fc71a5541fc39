"""What a lookup named a moment ago, though it has moved on since.

The kernel looks a name up once more after ESTALE, but only once. So whoever meets a second change in between is served
as if that had come a moment later: with the version that the lookup named, or, where only attributes are changed, with
what the name shows by now.
"""

import base64
from typing import Any, Final

from fs.tree import acl, attrs, files, links, local_xattrs, owning, stat
from fs.tree.files import OpenFile
from fs.tree.model import SYMLINK, Attr, Node
from fs.tree.siblings import refuse_sibling
from fs.tree.state import State
from sync.state.rows import ShownRow

NAMED_MAX: Final = 10_000  # lookups kept in mind: they count for microseconds only


def watch(st: State, on: bool) -> None:
    """Keep in mind, or not any more, what lookups name."""
    if not on:
        st.named_rows = None
    elif st.named_rows is None or len(st.named_rows) > NAMED_MAX:
        st.named_rows = {}


def named_row(st: State, ino: int) -> ShownRow | None:
    """The shown row that the kernel was last told of under this number; None if nobody knows any more."""
    row, known = (st.named_rows or {}).get(ino), st.inodes.known.get(ino)
    return row if row is not None and known is not None and known.told == row.value else None


def open_named(st: State, row: ShownRow, ino: int, *, write: bool, truncate: bool) -> OpenFile:
    """As open_file. What is written is a version of its own, as through any handle whose NAME has moved on."""
    return files.open_node(st, _node_of(st, row, ino, write or truncate), write=write, truncate=truncate)


def setattr_named(st: State, row: ShownRow, ino: int, **changes: Any) -> Attr:
    """As setattr_of. The attributes of what NAME shows by now, unless that was changed here; the size of what it
    showed."""
    size = changes.pop("size", None)
    if size is not None:
        node = _node_of(st, row, ino, True)
        files.truncate(st, node, size)
        attrs.change(st, node, **changes)
        return stat.node_attr(st, node)
    found = _own(st, row)
    if found is not None:
        attrs.change(st, found, **changes)
    attr = stat.row_attr(st, row, ino)
    new = {key: value for key, value in changes.items() if value is not None}
    return attr._replace(ctime_ns=st.stamp_ns(), **new)


def setxattr_named(st: State, row: ShownRow, name: str, value: bytes | None) -> None:
    """As setxattr: of what NAME shows by now, unless that was changed here."""
    found = _own(st, row)
    if found is not None:
        attrs.change_xattr(st, found, name, value)


def xattrs_of(st: State, row: ShownRow) -> dict[str, bytes]:
    """All of them, those that stay here too."""
    xattrs = {**(st.xattrs_of(row) or {}), **st.overlay.local_xattrs.get(row.number, {})}
    found = {name: base64.b64decode(value) for name, value in xattrs.items()}
    if acl.ACCESS in found:
        found[acl.ACCESS] = local_xattrs.in_step(found[acl.ACCESS], row.mode)
    return found


def target_of(st: State, row: ShownRow) -> str:
    """Of a symlink."""
    if row.kind != SYMLINK:
        raise OSError(22, "not a symlink")
    return st.view.manifest(st.view.seen_of(row)[0]).target


def _node_of(st: State, row: ShownRow, ino: int, is_changed: bool) -> Node:
    if is_changed:
        refuse_sibling(row)
    node = st.overlay.nodes.get(ino)
    if node is None:
        node = files.clean_node(st, ino, row)
        node.nameless = True
    return node


def _own(st: State, row: ShownRow) -> Node | None:
    """A node for what stands now where `row` stood. None if it is gone or was replaced here: then it was changed a
    moment before that."""
    current = st.view.row(row.id)
    if current is None or current.kind != row.kind or (current := links.visible(st, current)) is None:
        return None
    refuse_sibling(current)
    return owning.own(st, current.parent, current.name, current)[1]
