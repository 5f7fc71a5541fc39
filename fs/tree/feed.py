"""Following the feed: what changed below, and what the kernel has to forget because of it.

The feed says where to look, never what is there; that is read from shown in this moment. Correctness does not depend
on when it is read: an inode that has moved on answers ESTALE until the kernel has looked again.
"""

from fs.tree import keepers, left, links, siblings
from fs.tree.change import Change
from fs.tree.changes import add_ends, changes, take_moving
from fs.tree.model import DIR, ROOT_ID, SPECIAL, Entry, Invalidation, Key
from fs.tree.state import State
from sync.core.errors import NotFound
from sync.core.ignore import IGNORE_FILE, Ignore
from sync.state.changes import Places, moved_from, moved_to
from sync.state.rows import FeedItem, ShownRow

ITEMS_MAX = 1000
RENAMES_MAX = 10  # of one thing, that are followed
HELD_MAX = 8000  # ends of moves that wait for the other ends


def has_more(st: State) -> bool:
    return st.view.feed_last() > int(st.overlay.meta("feed_cursor") or 0)


def feed(st: State, limit: int = ITEMS_MAX) -> list[Invalidation]:
    """Read up to `limit` items and commit, if the disk has room; each place once, as it is now."""
    with st.view.snapshot():  # one moment for all, and one lock instead of several an item
        items = st.view.feed_after(int(st.overlay.meta("feed_cursor") or 0), limit)
        if not items:
            return []
        found = _follow(st, items)
    st.overlay.try_commit()
    return list(found)


def _follow(st: State, items: list[FeedItem]) -> dict[Invalidation, None]:
    _follow_folders(st, items)
    found, st.held_items = st.held_items, {}
    places: dict[Key, None] = {}
    watchable, st.half_moves = st.half_moves, Places()
    for item in items:
        if item.path == IGNORE_FILE:
            reread_ignore(st)
        _settle_times(st, item)
        _settle_owner(st, item, found)
        st.subfolders.forget(item.parent)
        if item.parent and (_is_known(st, item.parent) or _has_kept(st, item.id)):
            _look(st, item, found, watchable)
            places[(item.parent, item.name)] = None
    for parent in {parent for parent, _ in places}:
        found.setdefault(Invalidation(parent, "", parent, "attr"))
    if len(watchable) < HELD_MAX and st.view.feed_last() > items[-1].n:
        st.half_moves = held = take_moving(st, watchable)
        st.held_items = {item: None for item in found if (item.parent, item.name) in held}
        for told in st.held_items:
            del found[told]
    else:
        found |= dict.fromkeys(add_ends(st, watchable, lambda folder: _is_known(st, folder)))
    st.changes += changes(st, watchable)
    left.keep_in_mind(st, watchable)
    siblings.drop_settled(st)
    found |= dict.fromkeys(keepers.drop_settled(st))
    st.overlay.set_meta("feed_cursor", items[-1].n)
    if not has_more(st):
        st.inodes.noted.clear()
    return found


def take_changes(st: State) -> list[Change]:
    """What the feed has told of changes made elsewhere, in folders that the kernel knows; each is told once."""
    taken, st.changes = st.changes, []
    return taken


def _settle_times(st: State, item: FeedItem) -> None:
    """Times that only we knew go when shown has a later change: of the thing itself, not of what is in the folder."""
    times = st.overlay.times.get(item.id)
    if times is None:
        return
    row = st.view.row(item.id)
    if row is None:
        st.overlay.times.put(item.id, None)
        return
    version = row.version or 0
    # A rename of what it lies in writes a version of a folder, too, and changes neither of its times.
    is_later = row.ctime_ns > times.ctime_ns and (row.kind != DIR or version != times.version)
    if is_later or (row.ctime_ns >= times.ctime_ns and row.mtime_ns >= times.mtime_ns):
        st.overlay.times.put(item.id, None)
    elif version != times.version:
        st.overlay.times.put(item.id, times._replace(version=version))


def _settle_owner(st: State, item: FeedItem, found: dict[Invalidation, None]) -> None:
    """An owner, and attributes, that only we knew go with the row: to where it was renamed, if that was all."""
    overlay = st.overlay
    owner, xattrs = overlay.owners.get(item.id), overlay.local_xattrs.get(item.id)
    if (owner is None and xattrs is None) or st.view.row(item.id) is not None:
        return
    row = _renamed(st, item.path)
    if row is not None:
        if owner is not None and row.number not in overlay.owners:
            overlay.owners.put(row.number, owner)
        if xattrs is not None and row.number not in overlay.local_xattrs:
            overlay.local_xattrs.put(row.number, xattrs)
        found.setdefault(Invalidation(row.parent, row.name, st.inodes.number(row.number), "attr"))
    overlay.owners.put(item.id, None)
    if overlay.node(item.id) is None:
        overlay.local_xattrs.put(item.id, None)


def _renamed(st: State, path: str) -> ShownRow | None:
    """What stood at a path and was renamed elsewhere, maybe several times; None of what has changed since."""
    for _ in range(RENAMES_MAX):
        target = next(iter(moved_to(st.view, path)), None)
        if target is None:
            return None
        row = st.view.resolve_path(target.path)
        if row is not None:
            came = moved_from(st.view, row)
            return row if came is not None and came.path == path else None
        path = target.path
    return None


def _is_known(st: State, folder: int) -> bool:
    """True if the kernel may have heard of a name in the folder. It forgets a folder after the names that are in it."""
    return folder == ROOT_ID or _has_kept(st, folder)


def _has_kept(st: State, row_id: int) -> bool:
    """True if the kernel has the inode. Short of memory it drops names, and folders, around one that is watched."""
    return st.inodes.number(row_id) in st.inodes.known or row_id in st.inodes.known


def _look(st: State, item: FeedItem, found: dict[Invalidation, None], watchable: Places) -> None:
    entry = st.overlay.entry(item.parent, item.name)
    if entry is not None:
        return  # ours stands there, whatever is below
    row = st.view.lookup(item.parent, item.name)
    watchable.add(item, row)
    if row is None:
        if _has_kept(st, item.id) and st.view.row(item.id) is None:  # else it has other names, or another one
            found.setdefault(Invalidation(item.parent, item.name, st.inodes.number(item.id), "gone"))
        else:
            found.setdefault(Invalidation(item.parent, item.name, 0, "entry"))
        return
    found.setdefault(_what_moved(st, item, row))


def _what_moved(st: State, item: FeedItem, row: ShownRow) -> Invalidation:
    """A name that the kernel itself has given to what stands there, in the place of something else, must be left alone:
    it would be dropped, and who works in such a folder, or runs such a program, would see it as removed.
    """
    ino = st.inodes.number(links.number_of(st, row))
    known = st.inodes.known.get(ino)
    if known is None and row.link is None:
        return Invalidation(item.parent, item.name, ino, "new")
    if known is None or (item.id != row.id and (ino, (item.parent, item.name)) not in st.inodes.noted):
        return Invalidation(item.parent, item.name, ino, "entry")
    if row.kind == DIR or known.told == row.value:
        return Invalidation(item.parent, item.name, ino, "attr")
    node = st.overlay.nodes.get(ino)
    # Its attributes are asked for, and answered with ESTALE; of an open file they are told as they were.
    is_open = node is not None and node.handles > 0
    return Invalidation(item.parent, item.name, ino, "entry" if is_open else "attr")


def _follow_folders(st: State, items: list[FeedItem]) -> None:
    """Folders that moved, vanished or got another number: their remembered paths, and the rows below them."""
    st.forget_paths()
    attached = st.overlay.attach
    if not attached:
        return
    # Of the places that a folder had, the one where it is known to have been counts.
    for item in sorted(items, key=lambda item: item.path != attached.get(item.id)):
        if item.id not in attached or st.view.row(item.id) is not None or st.gone.is_succeeded(item.id):
            continue
        row = st.view.lookup(item.parent, item.name) if item.parent else None
        if row is not None and row.kind == DIR and row.id != item.id:
            keepers.rehang(st, item.id, row.id)
    for dir_id in list(attached):
        if dir_id not in attached:
            continue
        try:
            st.overlay.attach.put(dir_id, st.view.path_of(dir_id))
        except NotFound:
            node = st.overlay.node(dir_id)
            if node is None or node.key is None:
                keepers.keep(st, dir_id)
                st.gone.add(dir_id)
            st.detach_folder(dir_id)


def reread_ignore(st: State) -> None:
    """A new .tcfsignore decides anew about rows that were never published."""
    st.ignore = Ignore(st.view.tcfsignore(), sync_git_raw=st.sync_git)
    for entry in sorted(st.overlay.all_entries(), key=lambda entry: _depth(st, entry)):
        node = st.overlay.node(entry.node) if entry.node is not None else None
        is_open_question = entry.local_only or (entry.dirty and entry.last is None and entry.seal_id is None)
        if (
            node is None
            or node.kind in SPECIAL
            or not is_open_question
            or entry.resolved
            or (entry.moved_from is not None and not entry.local_only)
        ):
            continue
        is_local = st.is_local_name(entry.parent, entry.name, node.kind == DIR)
        if is_local == entry.local_only or node.seal_id is not None or node.links:
            continue  # all names of a file stay, or go out, together: as it was when it got them
        entry.local_only, entry.dirty = is_local, not is_local
        if is_local:
            st.pending.pop(entry.key, None)
            st.overlay.put_entry(entry)
        else:
            entry.moved_from = None  # its removal there was published by itself
            st.touch(entry)


def _depth(st: State, entry: Entry) -> int:
    try:
        return st.path_at(entry.key).count("/")
    except NotFound:
        return 0
