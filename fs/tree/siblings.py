"""Siblings: what stands beside NAME is read-only, and removing or moving it resolves the conflict.

NAME's row becomes dirty, adds the sibling's version to what it has seen and is marked resolved, so that it is
published even if nothing else changed. The sibling itself is hidden by a whiteout that is never published and goes
when shown agrees.
"""

from fs.tree import owning, stat
from fs.tree.model import FILE, SPECIAL, Entry, Node
from fs.tree.state import State
from sync.core.errors import ReadOnly
from sync.core.paths import split_path
from sync.state.rows import ShownRow


def refuse_sibling(row: ShownRow) -> None:
    """ReadOnly if the row is a sibling."""
    if row.sibling:
        raise ReadOnly(
            f"{row.name!r} is the other version of a conflict: it cannot be changed",
            hint="copy it, move it over the file, or remove it",
        )


def remove(st: State, row: ShownRow) -> None:
    """`rm SIBLING`: NAME's value stands, also where NAME is absent."""
    _resolve(st, row)
    _hide(st, row)


def take_out(st: State, row: ShownRow, parent: int, name: str) -> Node:
    """The node that `mv SIBLING name` puts there, made from the sibling's version; the sibling is resolved and hidden.

    Moved over its own NAME it replaces it (the caller puts the node there); elsewhere NAME keeps its value.
    """
    version = st.view.seen_of(row)[0]
    now_ns = st.stamp_ns()
    manifest = st.view.manifest(version)
    attr = stat.row_attr(st, row, row.id)
    node = Node(
        st.overlay.new_ino(), row.kind, manifest.mode, attr.uid, attr.gid, row.size, row.mtime_ns, row.mtime_ns, now_ns,
        owner=row.owner, owner_group=row.group,
    )  # fmt: skip
    node.xattrs = st.xattrs_of(row)
    if row.kind == FILE:
        node.base = version
    else:
        node.target = manifest.target
    node.gen = 1
    if (parent, name) != _name_of(st, row):
        _resolve(st, row)
    _hide(st, row)
    return node


def mark_resolved(st: State, entry: Entry, row: ShownRow) -> None:
    """The row has seen the sibling `row`, and is to be published whatever it holds."""
    entry.add_seen(st.view.seen_of(row))
    entry.resolved = True
    entry.dirty = True


def is_of_name(st: State, row: ShownRow, parent: int, name: str) -> bool:
    """True if `row` is a sibling of that very name."""
    return bool(row.sibling) and (parent, name) == _name_of(st, row)


def drop_settled(st: State) -> None:
    """Whiteouts of siblings go when shown has that sibling no more, or something else at its name."""
    for key in list(st.siblings_gone):
        entry = st.overlay.entry(*key)
        if entry is None or not entry.is_resolved_sibling:
            st.siblings_gone.discard(key)
            continue
        row = st.view.lookup(*key)
        if row is None or not row.sibling or entry.last not in st.view.seen_of(row):
            st.drop_entry(entry)


def _name_of(st: State, row: ShownRow) -> tuple[int, str]:
    """The place of NAME: siblings stand in its folder."""
    return row.parent, split_path(st.view.sibling_path(row))[1]


def _resolve(st: State, row: ShownRow) -> None:
    parent, name = _name_of(st, row)
    entry = st.overlay.entry(parent, name)
    if entry is None:
        shown = st.view.lookup(parent, name)
        if shown is None:
            entry = st.new_entry(parent, name, None)
            st.put_entry(entry)
        else:
            entry, _ = owning.own(st, parent, name, shown)
    elif entry.local_only and entry.node is not None:
        node = st.overlay.node(entry.node)
        entry.local_only = node is None or node.kind not in SPECIAL  # that NAME is absent is said once more
    mark_resolved(st, entry, row)
    st.touch(entry)


def _hide(st: State, row: ShownRow) -> None:
    seen = tuple(st.view.seen_of(row))
    st.put_entry(Entry(row.parent, row.name, None, dirty=False, seen=seen, last=seen[0]))
    st.siblings_gone.add((row.parent, row.name))
    node = st.overlay.nodes.get(st.inodes.number(row.id))
    if node is not None and not node.stored:
        node.nameless = node.unlinked = True
