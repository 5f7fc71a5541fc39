"""Keepers: folders that shown has lost and that stay for what is below them here; rows of renumbered folders."""

from fs.tree import links
from fs.tree.gone import is_left
from fs.tree.model import DIR, ROOT_ID, SPECIAL, Entry, Invalidation, Node
from fs.tree.standing import folder_number
from fs.tree.state import State
from sync.core.errors import NotFound
from sync.core.paths import join_path, split_path

KEEPER_MODE = 0o755


def keep(st: State, dir_id: int) -> bool:
    """Make the vanished folder `dir_id` visible again if anything lives below it here. True if it is."""
    if not _has_life(st, dir_id):
        return False
    path = st.overlay.attach.get(dir_id)
    if path is None:
        return False
    folder, name = split_path(path)
    parent = folder_at(st, folder)
    if parent is None or st.show(parent, name) is not None:
        return False
    _make(st, parent, name, dir_id)
    st.overlay.attach.put(dir_id, None)
    return True


def folder_at(st: State, path: str) -> int | None:
    """The number of the folder at a path, made if it is missing; None if something else has the name."""
    parent = ROOT_ID
    for name in path.split("/") if path else ():
        found = st.show(parent, name)
        if found is None:
            numbers = [dir_id for dir_id, at in st.overlay.attach.items() if at == join_path(st.path_of(parent), name)]
            vanished = [dir_id for dir_id in numbers if st.place_of(dir_id) is None]
            parent = _make(st, parent, name, vanished[0] if vanished else st.overlay.new_ino()).id
            st.overlay.attach.put(parent, None)
            continue
        number = folder_number(st, found)
        if number is None:
            return None
        parent = number
    return parent


def drop_settled(st: State) -> list[Invalidation]:
    """Keepers go when shown has the folder again, or nothing is left below them."""
    found: list[Invalidation] = []
    for key in sorted(st.keepers, reverse=True):
        entry = st.overlay.entry(*key)
        node = st.overlay.node(entry.node) if entry is not None and entry.node is not None else None
        if entry is None or node is None or not entry.is_keeper:
            st.keepers.discard(key)
            continue
        row = st.view.lookup(*key)
        if row is not None and row.kind == DIR:
            if row.id != node.id:
                rehang(st, node.id, row.id)
            _drop(st, entry, node)
            if st.overlay.has_rows(row.id):
                st.overlay.attach.put(row.id, st.view.path_of(row.id))
            found.append(Invalidation(*key, node.id, "attr" if row.id == node.id else "entry"))
        elif not st.overlay.has_rows(node.id):
            _drop(st, entry, node)
            found.append(Invalidation(*key, node.id, "gone"))
    return found


def rehang(st: State, old_id: int, new_id: int) -> None:
    """The rows below a folder follow it to its new number. Where both have one of a name, that of the new number stands
    there, and what was behind the other is published beside it; removals on their way stay.
    """
    folder = st.overlay.folder(old_id)
    for entry in list(folder.entries.values()) if folder is not None else ():
        other = st.overlay.entry(new_id, entry.name)
        if is_left(entry) and _is_done(st, entry):
            continue  # there is nothing to hide, and what was moved there since shall show
        if other is None:
            _hang_up(st, entry, new_id)
        else:
            _give_way(st, entry, other)
    if st.overlay.has_rows(old_id):  # removals on their way
        st.overlay.attach.put(old_id, st.path_of(new_id))
        st.gone.add(old_id)
        st.gone.succeed(old_id, new_id)
    else:
        st.overlay.attach.put(old_id, None)
        st.gone.discard(old_id)
    if st.overlay.has_rows(new_id) and st.overlay.node(new_id) is None:
        st.overlay.attach.put(new_id, st.path_of(new_id))


def adopt(st: State, gone_id: int, new_id: int, path: str) -> None:
    """A new folder is sealed at the path of a gone one: its whiteouts go there; those stay that are sealed as they are,
    or whose name is taken, and follow it.

    They have seen what is absent at their paths by now, as rows of the new folder would have that are made in this
    moment: when a removal from there was noted, nothing hung in that folder that it could have handed its version to.
    """
    folder = st.overlay.folder(gone_id)
    for entry in list(folder.entries.values()) if folder is not None else ():
        is_sealed = entry.seal_id is not None and entry.gen == entry.sealed_gen
        if is_left(entry) and not is_sealed and st.overlay.entry(new_id, entry.name) is None:
            entry.add_seen(st.view.dead_heads(join_path(path, entry.name)))
            _hang_up(st, entry, new_id)
    st.gone.succeed(gone_id, new_id)
    st.detach_folder(gone_id)


def _is_done(st: State, entry: Entry) -> bool:
    """True if the row's present state was published, which is only to be noted."""
    is_sealed = entry.seal_id is not None and entry.gen == entry.sealed_gen
    return is_sealed and st.view.answer(entry.seal_id or b"") is not None


def _hang_up(st: State, entry: Entry, parent: int) -> None:
    """The row belongs to another folder from now on, under its name, which is free there."""
    old_key = entry.key
    waiting = st.pending.pop(old_key, None)
    is_keeper, is_gone_sibling = old_key in st.keepers, old_key in st.siblings_gone
    ref = st.overlay.seals.get(entry.seal_id) if entry.seal_id is not None else None
    st.overlay.drop_entry(entry)
    st.keepers.discard(old_key)
    st.siblings_gone.discard(old_key)
    entry.parent = parent
    st.subfolders.forget(old_key[0])
    st.subfolders.forget(parent)
    if ref is not None:
        ref.keys = [entry.key if key == old_key else key for key in ref.keys]
    if entry.moved_node is not None:
        left = st.left_by.setdefault(entry.moved_node, set())
        left.discard(old_key)
        left.add(entry.key)
    node = st.overlay.node(entry.node) if entry.node is not None else None
    if node is not None:
        node.change_key(old_key, entry.key)
    st.overlay.put_entry(entry)
    if waiting is not None:
        st.pending[entry.key] = waiting
    if is_keeper:
        st.keepers.add(entry.key)
    if is_gone_sibling:
        st.siblings_gone.add(entry.key)


def _give_way(st: State, entry: Entry, other: Entry) -> None:
    """Nothing of `entry`, whose name `other` has taken, gets lost."""
    if is_left(entry):
        return  # it goes out with the other, or by itself, from where it is
    node = st.overlay.node(entry.node) if entry.node is not None else None
    path = st.path_at(other.key)
    st.subfolders.forget(entry.parent)
    for ref in st.overlay.seals.values():
        if entry.key in ref.keys:
            ref.keys.remove(entry.key)
    st.drop_entry(entry)
    if node is None:
        return  # of a sibling
    if node.kind == DIR:
        other_node = st.overlay.node(other.node) if other.node is not None else None
        node.key = None
        st.overlay.drop_node(node)
        if other_node is not None and other_node.kind == DIR:
            rehang(st, node.id, other_node.id)
        elif st.overlay.has_rows(node.id):
            st.overlay.attach.put(node.id, path)
            st.gone.add(node.id)
    elif node.kind in SPECIAL or node.links:
        links.drop_name(st, node, entry.key)  # it has no content, or that has another name
    else:
        node.key = None
        node.nameless = True
        node.lost_path, node.lost_seen = path, entry.seen
        st.overlay.put_node(node)
        st.pending[node.id] = st.env.monotonic()


def _has_life(st: State, dir_id: int) -> bool:
    folder = st.overlay.folder(dir_id)
    return folder is not None and any(entry.node is not None for entry in folder.entries.values())


def _make(st: State, parent: int, name: str, dir_id: int) -> Node:
    now_ns = st.stamp_ns()
    mtime_ns, ctime_ns, _ = st.overlay.times.get(dir_id) or (now_ns, now_ns, 0)
    st.overlay.times.put(dir_id, None)
    node = Node(dir_id, DIR, KEEPER_MODE, st.uid, st.gid, 0, mtime_ns, mtime_ns, ctime_ns, key=(parent, name))
    try:
        seen = tuple(st.view.dead_heads(st.path_at((parent, name))))
    except NotFound:
        seen = ()
    entry = Entry(parent, name, dir_id, dirty=False, seen=seen)
    st.overlay.put_node(node)
    st.put_entry(entry)
    st.subfolders.forget(parent)
    st.keepers.add(entry.key)
    st.forget_paths()
    return node


def _drop(st: State, entry: Entry, node: Node) -> None:
    node.key = None
    st.drop_entry(entry)
    st.subfolders.forget(entry.parent)
    st.overlay.drop_node(node)
    st.forget_paths()
