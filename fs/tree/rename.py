"""Renaming files, symlinks and directories.

A moved node leaves a whiteout that knows it (moved_node): the removal is not sealed before the node is. Rows of
children hang below the directory's number, so a directory moves with one row of its own, whose `origin` says that
shown has it elsewhere.
"""

import errno

from fs.tree import linking, links, owning, release, siblings
from fs.tree.depth import check_depth
from fs.tree.model import DIR, ROOT_ID, SPECIAL, Entry, Key, Node
from fs.tree.names import (
    check_name,
    check_parent,
    is_empty,
    leave,
    must_stay,
    node_behind,
    remember_place,
    renew_whiteout,
    white_out,
)
from fs.tree.siblings import refuse_sibling
from fs.tree.state import State
from fs.tree.whereabouts import Places, folder_seals, path_behind
from sync.core.errors import AlreadyExists, NotEmpty, NotFound
from sync.core.paths import join_path
from sync.state.rows import ShownRow

Found = Entry | ShownRow


def rename(st: State, parent: int, name: str, new_parent: int, new_name: str, *, noreplace: bool = False) -> None:
    """As rename(2): what stands at the new name is replaced. NotFound, AlreadyExists (noreplace), NotEmpty, ReadOnly
    for a sibling at the new name; OSError EXDEV where only copying can do it, ENAMETOOLONG also for what is below.
    """
    check_parent(st, new_parent)
    check_name(st, new_parent, new_name)
    source, target = st.show(parent, name), st.show(new_parent, new_name)
    if isinstance(target, Entry) and target.node is None:
        target_found: Found | None = None
    else:
        target_found = target
    if source is None or (isinstance(source, Entry) and source.node is None):
        raise NotFound(f"no such name: {name!r}")
    if noreplace and target_found is not None:
        raise AlreadyExists(f"the name is taken: {new_name!r}")
    if (parent, name) == (new_parent, new_name):
        return
    kind, ino = _what(st, source)
    if kind != DIR and links.are_one(source, target_found):
        return
    if kind != DIR:
        linking.check_place(st, source, new_parent, new_name)
    _check_target(st, source, kind, target_found, new_parent, new_name)
    if kind == DIR:
        _check_dir(st, ino, source, target, new_parent, new_name)
        check_depth(st, ino, st.path_of(ino), join_path(st.path_of(new_parent), new_name))
    if isinstance(source, ShownRow) and source.sibling:
        _move_sibling(st, source, target, new_parent, new_name)
    else:
        _move(st, source, target, new_parent, new_name)
    now_ns = st.stamp_ns()
    if kind == DIR:
        st.subfolders.forget(parent)
        st.subfolders.forget(new_parent)
        st.forget_paths()
        _see_absent(st, ino)
    st.touch_dir(parent, now_ns)
    if new_parent != parent:
        st.touch_dir(new_parent, now_ns)


def _what(st: State, found: Found) -> tuple[int, int]:
    """(kind, inode number)"""
    if isinstance(found, ShownRow):
        return found.kind, found.number
    node = node_behind(st, found)
    return node.kind, node.id


def _check_target(st: State, source: Found, kind: int, target: Found | None, new_parent: int, new_name: str) -> None:
    if target is None:
        return
    if isinstance(target, ShownRow):
        refuse_sibling(target)
    target_kind, target_ino = _what(st, target)
    if kind == DIR and target_kind != DIR:
        raise NotADirectoryError(errno.ENOTDIR, "a directory cannot replace a file")
    if kind != DIR and target_kind == DIR:
        raise IsADirectoryError(errno.EISDIR, "a file cannot replace a directory")
    if target_kind == DIR and not is_empty(st, target_ino):
        raise NotEmpty(f"directory not empty: {new_name!r}")


def _check_dir(st: State, ino: int, source: Found, target: Found | None, new_parent: int, new_name: str) -> None:
    above = new_parent
    while above != ROOT_ID:
        if above == ino:
            raise OSError(errno.EINVAL, "a directory cannot move below itself")
        place = st.place_of(above)
        if place is None:
            break
        above = place[0]
    was_local = isinstance(source, Entry) and source.local_only
    becomes_local = st.is_local_name(new_parent, new_name, True)
    if becomes_local and not was_local:
        raise OSError(errno.EXDEV, "what is shared cannot move to a local-only name")
    if was_local and not becomes_local and linking.has_names_outside(st, ino):
        raise OSError(errno.EXDEV, "of a file that has several names all stay on this machine, or none")


def _move_sibling(st: State, row: ShownRow, target: Found | None, new_parent: int, new_name: str) -> None:
    over_name = siblings.is_of_name(st, row, new_parent, new_name)
    node = siblings.take_out(st, row, new_parent, new_name)
    st.overlay.put_node(node)
    entry = _claim(st, target, new_parent, new_name, node)
    if over_name:
        siblings.mark_resolved(st, entry, row)
    _settle(st, entry, node)


def _move(st: State, source: Found, target: Found | None, new_parent: int, new_name: str) -> None:
    old_path = st.path_at((source.parent, source.name))
    if isinstance(source, ShownRow):
        left, node = owning.own(st, source.parent, source.name, source)
    else:
        left, node = source, node_behind(st, source)
    is_dir = node.kind == DIR
    was_local = left.local_only
    is_sent = left.last is not None or left.seal_id is not None
    moved_from = (old_path, left.last or "") if is_sent else left.moved_from
    origin = left.origin
    if is_dir and origin is None and _is_public(st, node):
        origin = old_path
    keys = [key for key in node.keys if key != left.key]
    entry = _claim(st, target, new_parent, new_name, node)
    node.set_keys([entry.key, *keys])
    left.node = None
    left.origin = left.moved_from = None
    if moved_from is not None and moved_from[0] == st.path_at(entry.key):
        moved_from = None  # back again
    is_special = node.kind in SPECIAL
    entry.moved_from = None if is_dir or was_local or entry.local_only or is_special else moved_from
    entry.origin = origin if is_dir else None
    if entry.local_only or is_special:
        _forget_left(st, node)
    elif not was_local and must_stay(st, left):
        _remember_left(st, left, node)
    leave(st, left)
    _settle(st, entry, node)
    if keys:
        links.decide_place(st, node)
    if is_dir and was_local and not entry.local_only:
        st.forget_paths()
        _wake_below(st, node.id)
    elif is_dir and not entry.local_only and len(st.path_at(left.key)) > len(st.path_at(entry.key)):
        st.forget_paths()
        _wake_short(st, node.id)


def _see_absent(st: State, dir_id: int) -> None:
    """What is below the renamed directory has seen that its paths of now were absent, as it had of the old ones.

    What has no row of its own sees that when the rename is published.
    """
    dead = st.view.dead_heads_below(st.path_of(dir_id))
    if not dead:
        return
    places = Places(st)
    folders = [dir_id, *(other for other in st.overlay.attach if other != dir_id and places.is_in(other, dir_id))]
    while folders:
        parent = folders.pop()
        folder = st.overlay.folder(parent)
        for entry in list(folder.entries.values()) if folder is not None else ():
            node = st.overlay.node(entry.node) if entry.node is not None else None
            if node is None:
                continue
            if node.kind == DIR:
                folders.append(node.id)
            path = st.path_at(entry.key)
            if path in dead:
                entry.add_seen(dead[path])
                st.overlay.put_entry(entry)


def _is_public(st: State, node: Node) -> bool:
    """True if the engine knows the directory by its number, or soon will."""
    return node.seal_id is not None or st.view.row(node.id) is not None


def _claim(st: State, target: Found | None, parent: int, name: str, node: Node) -> Entry:
    """The row of the new name, with `node` behind it and what stood there gone."""
    if isinstance(target, ShownRow) and target.link is not None:
        target = owning.own(st, parent, name, target)[0]
    if isinstance(target, ShownRow):
        if target.kind == DIR:
            remember_place(st, target.id)
        entry = white_out(st, target)
    elif target is None:
        entry = st.new_entry(parent, name, None)
        entry.local_only = node.kind in SPECIAL or st.is_local_name(parent, name, node.kind == DIR)
        entry.dirty = not entry.local_only
        entry.gen = 0
    else:
        entry = target
        if entry.node is None:
            renew_whiteout(st, entry)
        else:
            replaced = node_behind(st, entry)
            if replaced.kind == DIR:
                remember_place(st, replaced.id)
            entry.node = None
            links.drop_name(st, replaced, entry.key)
            st.keepers.discard(entry.key)
            if entry.local_only and replaced.kind != DIR and node.kind not in SPECIAL:  # maybe only for its sake
                entry.local_only = st.is_local_name(parent, name, node.kind == DIR)
        entry.origin = None
    if entry.moved_node == node.id:
        st.waits_no_more(entry.key, node.id)
        entry.moved_node = None
    if node.kind in SPECIAL and not must_stay(st, entry):
        entry.local_only, entry.dirty = True, False  # nobody else has ever seen anything there
        st.pending.pop(entry.key, None)
    entry.node = node.id
    node.key = entry.key
    return entry


def _settle(st: State, entry: Entry, node: Node) -> None:
    node.gen += 1
    node.ctime_ns = st.stamp_ns()
    st.overlay.put_node(node)
    if not entry.local_only:
        entry.dirty = True
    st.put_entry(entry)
    st.touch(entry)
    for other in st.overlay.entries_of(node) if node.links else ():
        if other is not entry:
            st.touch(other)
    known = st.inodes.known.get(node.id)
    if known is not None:
        known.told = 0


def _remember_left(st: State, left: Entry, node: Node) -> None:
    """The whiteout at the old name waits for the node. One that has left several names in a row left them all."""
    if left.moved_node is not None and left.moved_node != node.id:
        has_come = node.kind == DIR and _will_be_at(st, node.id, left.key)
        if not has_come:
            return  # a directory that left this name before is still to be moved: that comes first anyway
        st.waits_no_more(left.key, left.moved_node)  # the engine has had this one there since that has left
    left.moved_node = node.id
    st.left_by.setdefault(node.id, set()).add(left.key)


def _will_be_at(st: State, dir_id: int, key: Key) -> bool:
    """True if the engine has the directory there, or will behind what is on its way; wherever the folder is by then."""
    with st.view.snapshot():
        seals = folder_seals(st)
        folder, path = path_behind(st, key[0], seals), path_behind(st, dir_id, seals)
    return folder is not None and path == join_path(folder, key[1])


def _forget_left(st: State, node: Node) -> None:
    for key in st.left_by.pop(node.id, set()):
        release.free_whiteout(st, key, node.id)


def _wake_short(st: State, dir_id: int) -> None:
    """The directory is higher up now: what stayed here because its path was too long may be published."""
    places = Places(st)
    for folder in [dir_id, *(other for other in st.overlay.attach if other != dir_id and places.is_in(other, dir_id))]:
        _wake_below(st, folder)


def _wake_below(st: State, dir_id: int) -> None:
    """What is local-only below a directory is to be published, unless its own path says otherwise."""
    folder = st.overlay.folder(dir_id)
    for entry in list(folder.entries.values()) if folder is not None else ():
        node = st.overlay.node(entry.node) if entry.node is not None else None
        if node is not None and node.kind == DIR and not entry.local_only:
            _wake_below(st, node.id)
        if node is None or not entry.local_only or node.kind in SPECIAL:
            continue
        if node.links:
            links.decide_place(st, node)
            continue
        if st.is_local_path(st.path_at(entry.key), node.kind == DIR):
            continue
        entry.local_only = False
        st.touch(entry)
        if node.kind == DIR:
            _wake_below(st, node.id)
