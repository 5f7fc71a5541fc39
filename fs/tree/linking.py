"""Making another name of a file, and whether a name may lie where it is to: what that does to the other names is for
links.py.
"""

from fs.tree import attrs, links, names, owning, stat
from fs.tree.model import DIR, SPECIAL, Attr, Entry, Key, Node
from fs.tree.state import State
from sync.core.errors import AlreadyExists, NotFound, Stale
from sync.core.paths import PATH_MAX
from sync.state.rows import ShownRow


def link(st: State, ino: int, parent: int, name: str) -> Attr:
    """Another name for a file. PermissionError for a directory, NotFound if it has no name any more, OSError EXDEV for
    a name that is not shared as the others are; else as create. Counts as one lookup.
    """
    names.check_parent(st, parent)
    path = names.check_name(st, parent, name)
    if _kind_of(st, ino) == DIR:
        raise PermissionError(1, "a directory has one name")
    entry = st.overlay.entry(parent, name)
    row = st.shown(parent, name) if entry is None else None
    if row is not None or (entry is not None and entry.node is not None):
        raise AlreadyExists(f"the name is taken: {name!r}")
    st.overlay.room.need()
    node = attrs.writable_node(st, ino, content=True)
    first = st.overlay.entry_of(node)
    if first is None:
        raise NotFound(f"inode {ino} has no name any more")
    _check_place(st, node, first, parent, name)
    if entry is None:
        entry = Entry(parent, name, None, gen=0, seen=tuple(st.view.dead_heads(path)))
        entry.local_only = node.kind in SPECIAL or first.local_only or st.is_local_name(parent, name, False)
        entry.dirty = not entry.local_only
    else:
        names.renew_whiteout(st, entry)
    if entry.moved_node == node.id:
        st.waits_no_more(entry.key, node.id)
        entry.moved_node = None
    now_ns = st.stamp_ns()
    node.link_id = node.link_id or links.new_id(st)
    entry.node = node.id
    node.set_keys([*node.keys, entry.key])
    node.ctime_ns = now_ns
    st.put_entry(entry)
    links.decide_place(st, node)
    st.touch_node(node)
    st.touch_dir(parent, now_ns)
    st.inodes.remember(node.id, node.kind, 0, node.size, node.mtime_ns, len(node.keys))
    return stat.node_attr(st, node)


def check_place(st: State, source: Entry | ShownRow, parent: int, name: str) -> None:
    """OSError EXDEV if one name of several would be published otherwise than the others."""
    node = st.overlay.node(source.node) if isinstance(source, Entry) and source.node is not None else None
    if isinstance(source, Entry) and node is not None and node.links:
        _check_place(st, node, source, parent, name)
    elif isinstance(source, ShownRow) and source.link is not None and st.is_local_name(parent, name, False):
        raise _other_place()


def has_names_outside(st: State, dir_id: int) -> bool:
    """True if a file below a folder that is only here has a name elsewhere, too."""
    inside, waiting, files = {dir_id}, [dir_id], list[Node]()
    while waiting:
        folder = st.overlay.folder(waiting.pop())
        for entry in folder.entries.values() if folder is not None else ():
            node = st.overlay.node(entry.node) if entry.node is not None else None
            if node is not None and node.kind == DIR:
                inside.add(node.id)
                waiting.append(node.id)
            elif node is not None and node.links:
                files.append(node)
    return any(key[0] not in inside for node in files for key in node.keys)


def _check_place(st: State, node: Node, entry: Entry, parent: int, name: str) -> None:
    if node.kind in SPECIAL:
        return
    there = st.overlay.entry(parent, name)
    stood = st.overlay.node(there.node) if there is not None and there.node is not None else None
    is_kind_local = stood is not None and stood.kind in SPECIAL  # the name is not
    is_local = st.is_local_name(parent, name, False) if there is None or is_kind_local else there.local_only
    if is_local == entry.local_only:
        return
    places = [(parent, name)] if is_local else node.keys
    may_stay = _is_ours(st, node) if is_local else _is_free(st, parent, name)
    if not may_stay or not any(_is_too_long(st, place) for place in places):
        raise _other_place()


def _is_ours(st: State, node: Node) -> bool:
    """True if nobody else has seen the file under any of its names, or is about to."""
    entries = st.overlay.entries_of(node)
    is_known = node.base is not None or node.seal_id is not None or bool(st.left_by.get(node.id))
    return not is_known and not any(entry.moved_from is not None or names.must_stay(st, entry) for entry in entries)


def _is_free(st: State, parent: int, name: str) -> bool:
    """True of a name that hides nothing and whose removal is not to be published either."""
    if st.overlay.entry(parent, name) is not None or st.view.lookup(parent, name) is not None:
        return False
    return not st.gone or not st.gone.whiteouts_at(st.path_of(parent), name)


def _is_too_long(st: State, key: Key) -> bool:
    return len(st.path_at(key).encode()) > PATH_MAX


def _other_place() -> OSError:
    return OSError(18, "of a file that has several names all stay on this machine, or none")


def _kind_of(st: State, ino: int) -> int:
    """NotFound if the file was removed, Stale if the number stands for nothing."""
    node = st.overlay.node(ino)
    if node is not None and (node.stored or node.unlinked):
        if node.key is None and ino != 1:
            raise NotFound(f"inode {ino} has no name any more")
        return node.kind
    if node is not None and owning.row_behind(st, node) is None:
        raise Stale(f"the name of inode {ino} has moved on")
    row_id = st.inodes.row_id(ino)
    row = st.view.row(row_id) if row_id is not None else None
    if row is None:
        raise Stale(f"inode {ino} is gone")
    return row.kind
