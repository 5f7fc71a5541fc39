"""What changed elsewhere, as a watcher of files here would have to hear of it.

What this mount has published itself is no change: whoever watches has seen it happen.
"""

from collections.abc import Callable, Collection

from fs.tree import stat
from fs.tree.change import Change
from fs.tree.model import BLOCK, DIR, Attr, Invalidation
from fs.tree.state import State
from sync.core.errors import NotFound
from sync.core.paths import split_path
from sync.state.changes import Difference, Place, Places, What, came_from, went_to
from sync.state.rows import FeedItem, ShownRow, Was


def changes(st: State, places: Places) -> list[Change]:
    """In the order of the feed, without what was done here."""
    return [_change(st, found) for found in places.differences(st.view, lambda place: not _is_own(st, place))]


def take_moving(st: State, places: Places) -> Places:
    """Takes out the ends of moves, which wait for what the feed tells next."""
    return places.take_moving(st.view, lambda place: not _is_own(st, place))


def add_ends(st: State, places: Places, is_known: Callable[[int], bool]) -> list[Invalidation]:
    """Add the other ends of moves that come from folders which the kernel has never seen, or go there. What it has to
    forget there once the move has been replayed.
    """
    found: list[Invalidation] = []
    told = {place.item.path for place in places}
    for place in places:
        end = _origin(st, place, told) or _target(st, place, told)
        is_sibling = split_path(place.item.path)[1] != place.item.name
        if end is not None and not (is_sibling or is_known(end.item.parent) or _is_own(st, place)):
            places.add_end(end)
            found.append(Invalidation(end.item.parent, end.item.name, 0, "entry"))
    return found


def _origin(st: State, place: Place, told: Collection[str]) -> Place | None:
    """The place that something has left for this one; None if the feed has told of that."""
    source, row = came_from(st.view, place), place.row
    if source is None or row is None or source.path in told:
        return None
    folder, name = split_path(source.path)
    above = st.view.resolve_path(folder)
    if above is None or above.kind != DIR or st.view.lookup(above.id, name) is not None:
        return None
    was = Was(0, row.kind, row.size, row.mode, row.mtime_ns, 0, row.value, 0)
    return Place(FeedItem(place.item.n, source.path, above.id, name, 0), was, None)


def _target(st: State, place: Place, told: Collection[str]) -> Place | None:
    """The place to which something has gone from this one; None if the feed has told of that."""
    for target in went_to(st.view, place):
        if target.path in told:
            continue
        row = st.view.resolve_path(target.path)
        if row is None or place.was is None or row.kind != place.was.kind:
            continue
        end = Place(FeedItem(place.item.n, target.path, row.parent, row.name, row.id), None, row)
        source = came_from(st.view, end)
        if source is not None and source.path == place.item.path:
            return end
    return None


def _is_own(st: State, place: Place) -> bool:
    item, row = place.item, place.row
    if row is not None:
        return row.version is not None and st.view.identity(row.version) in st.noted_versions
    if place.was is None:
        return False
    # Removals are made through the mount alone; that of a sibling by a version of the path it belongs to.
    if split_path(item.path)[1] != item.name:
        above = st.view.resolve_path(item.path)
        if above is not None and above.version is not None and st.view.identity(above.version) in st.noted_versions:
            return True
    own = st.view.own_ids()
    return any(head.partition(":")[0] in own for head in st.view.dead_heads(item.path))


def _change(st: State, found: Difference) -> Change:
    item, was, row = found.item, found.was, found.row
    folder, parent = _folder(st, item), st.inodes.number(item.parent)
    if found.origin is not None and row is not None:
        origin = _change(st, found.origin)
        is_another = origin.ino not in (0, st.inodes.number(row.number))
        return Change(
            found.what, row.kind, parent, folder, item.name, row.mode, row.size, origin.ino, None, origin, is_another
        )  # fmt: skip
    now = row if row is not None else was
    assert now is not None
    if was is None:
        return Change(found.what, now.kind, parent, folder, item.name, now.mode, now.size)
    ino = st.inodes.number(was.id)
    known = st.inodes.known.get(ino)
    old = None
    is_gone = found.what is What.REMOVED and not _stands(st, ino)  # else it has other names
    if known is not None and (found.what is What.MODIFIED or is_gone) and known.told == was.value:
        node = st.overlay.nodes.get(ino)
        old = stat.node_attr(st, node) if node is not None else _attr_of(st, ino, was, row)
    known_ino = ino if known is not None else 0
    return Change(found.what, was.kind, parent, folder, item.name, now.mode, now.size, known_ino, old)


def _stands(st: State, ino: int) -> bool:
    row_id = st.inodes.row_id(ino)
    return row_id is not None and st.view.row(row_id) is not None


def _folder(st: State, item: FeedItem) -> str:
    try:
        return st.path_of(item.parent)
    except NotFound:  # it has gone, too: the kernel has it where it was
        return split_path(item.path)[0]


def _attr_of(st: State, ino: int, was: Was, row: ShownRow | None) -> Attr:
    uid, gid = (st.uid, st.gid) if row is None else st.ownership.of_row(row, None)
    ctime_ns = row.ctime_ns if row is not None else was.mtime_ns
    return Attr(
        ino, was.kind, was.mode, 1, uid, gid, was.size, was.mtime_ns, was.mtime_ns, ctime_ns,
        (was.size + BLOCK - 1) // BLOCK, was.value,
    )  # fmt: skip
