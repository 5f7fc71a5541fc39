"""What is to be said of an inode at a glance: is it safe, does something stand against it, which version is it."""

from typing import NamedTuple

from fs.tree.model import ROOT_ID, SPECIAL, Node
from fs.tree.state import State
from sync.core.errors import NotFound, Stale
from sync.core.filestate import Facts
from sync.core.manifest import VersionId
from sync.state.rows import ShownRow


class Seen(NamedTuple):
    """version: the one that stands here, None if what stands here is in none. base: the one whose bytes are needed."""

    kind: int
    facts: Facts
    version: VersionId | None
    base: str | None


def seen(st: State, ino: int) -> Seen:
    """Stale if nothing has that number any more."""
    node = st.overlay.node(ino)
    if node is not None and (node.stored or node.nameless):
        return _of_node(st, node)
    row_id = st.inodes.row_id(ino)
    row = st.view.row(row_id) if row_id is not None else None
    if row is None:
        if ino in st.inodes.removed:
            return Seen(st.inodes.removed[ino].kind, Facts(), None, None)
        raise Stale(f"inode {ino} is gone")
    if node is not None and node.value != row.value:
        return _of_node(st, node)  # open, and another content stands at its name by now
    return _of_row(st, row)


def _of_node(st: State, node: Node) -> Seen:
    entry = st.overlay.entry_of(node)
    if entry is None:
        opened = node.base or (node.seen[0] if node.seen else None)
        is_lost = node.stored and node.lost_path is not None
        version = None if node.stored or opened is None or node.id == ROOT_ID else VersionId(opened)
        return Seen(node.kind, Facts(is_dirty=is_lost), version, opened)
    if entry.local_only or node.kind in SPECIAL:
        return Seen(node.kind, Facts(is_excluded=True), None, node.base)
    facts = Facts(is_conflict=not entry.resolved and st.view.is_contested(st.path_at(entry.key)), is_dirty=entry.dirty)
    return Seen(node.kind, facts, None if entry.dirty or node.base is None else VersionId(node.base), node.base)


def _of_row(st: State, row: ShownRow) -> Seen:
    if row.version is None:
        return Seen(row.kind, Facts(), None, None)
    is_conflict = bool(row.sibling)
    if not is_conflict and row.id != ROOT_ID:
        try:
            is_conflict = st.view.is_contested(st.path_at((row.parent, row.name)))
        except NotFound:  # a folder above is on its way out
            is_conflict = False
    version = st.view.identity(row.version)
    return Seen(row.kind, Facts(is_conflict=is_conflict, is_dirty=st.view.is_queued(row.version)), version, version)
