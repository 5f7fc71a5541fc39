"""What the feed comes to: created, removed, modified, moved. It says what stood there before; shown says the rest."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from sync.core.manifest import PathVersion
from sync.core.paths import is_below, split_path
from sync.state.rows import DIR, FeedItem, ShownRow, Was, decode_was, was_of
from sync.state.view import ShownView

Key = tuple[int, str]


class What(StrEnum):
    CREATED = "created"
    REMOVED = "removed"
    MODIFIED = "modified"
    ATTRIBUTES = "attributes"
    MOVED = "moved"


@dataclass(slots=True)
class Place:
    """A place of the feed: what was there before all of it, and what is there now. is_end: of a move."""

    item: FeedItem
    was: Was | None
    row: ShownRow | None
    is_end: bool = False


@dataclass(slots=True, frozen=True)
class Difference:
    """One change. was: None of what was created; row: None of what was removed. origin: the removal half of a move."""

    what: What
    item: FeedItem
    was: Was | None
    row: ShownRow | None
    origin: "Difference | None" = None

    @property
    def key(self) -> Key:
        return (self.item.parent, self.item.name)

    @property
    def kind(self) -> int:
        if self.row is not None:
            return self.row.kind
        return self.was.kind if self.was is not None else DIR

    @property
    def is_sibling(self) -> bool:
        """NAME.MACHINE.conflict: the item's path is that of NAME."""
        return split_path(self.item.path)[1] != self.item.name


class Places:
    """The places of a batch of the feed, each once."""

    def __init__(self) -> None:
        self._places: dict[Key, Place] = {}

    def add(self, item: FeedItem, row: ShownRow | None) -> None:
        """row: what stands there now."""
        place = self._places.get((item.parent, item.name))
        if place is None:
            self._places[(item.parent, item.name)] = Place(item, decode_was(item.was), row)
        else:
            place.row = row

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Place]:
        return iter(list(self._places.values()))

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def add_end(self, place: Place) -> None:
        """What the feed was not read for: the other end of a move, in a folder that nobody asks about."""
        self._places.setdefault((place.item.parent, place.item.name), place)

    def take_moving(self, view: ShownView, is_told: Callable[[Place], bool]) -> "Places":
        """Takes out the ends of moves that are told: the items of the feed that come next may tell of the other end."""
        taken = Places()
        for key, place in list(self._places.items()):
            if not place.is_end and is_told(place):
                place.is_end = came_from(view, place) is not None or bool(went_to(view, place))
            if place.is_end:
                taken._places[key] = self._places.pop(key)
        return taken

    def differences(self, view: ShownView, is_told: Callable[[Place], bool] = lambda place: True) -> list[Difference]:
        """In the order of the feed; a move stands where the later half of it stood. is_told: others are left out."""
        found: list[tuple[Difference, PathVersion | None]] = []
        for place in self._places.values():
            if is_told(place):
                found += _compared(view, place)
        return list(_paired(view, found))


def came_from(view: ShownView, place: Place) -> PathVersion | None:
    """Where what stands there now was before, if it has come there."""
    is_new = place.row is not None and (place.was is None or place.was.value != place.row.value)
    return moved_from(view, place.row) if is_new and place.row is not None else None


def went_to(view: ShownView, place: Place) -> list[PathVersion]:
    """Where what is gone from there may be now."""
    if place.row is not None or place.was is None:
        return []
    return moved_to(view, place.item.path)


def moved_to(view: ShownView, path: str) -> list[PathVersion]:
    """Where what is gone from a path went, as its removals say."""
    targets = (view.moves(head).moved_to for head in view.dead_heads(path))
    return [target for target in targets if target is not None]


def _compared(view: ShownView, place: Place) -> Iterator[tuple[Difference, PathVersion | None]]:
    item, was, row = place.item, place.was, place.row
    if was is not None and row is not None and was.kind == row.kind:
        now = was_of(row)
        if was.value != now.value:
            yield Difference(What.MODIFIED, item, was, row), moved_from(view, row)
        elif (was.mode, was.xattrs) != (now.mode, now.xattrs) or (was.mtime_ns != now.mtime_ns and row.kind != DIR):
            yield Difference(What.ATTRIBUTES, item, was, row), None
        return
    if was is not None:
        yield Difference(What.REMOVED, item, was, None), None
    if row is not None:
        yield Difference(What.CREATED, item, None, row), moved_from(view, row)


def moved_from(view: ShownView, row: ShownRow) -> PathVersion | None:
    """Where what a row shows was before, if it came from another path."""
    return view.moves(view.identity(row.version)).moved_from if row.version is not None else None


def _paired(view: ShownView, found: Iterable[tuple[Difference, PathVersion | None]]) -> Iterator[Difference]:
    """A removal, and the creation of what came from there, are one move. What moved with its folder is no change."""
    found = list(found)
    removed = {change.item.path: change for change, _ in found if change.what is What.REMOVED and not change.is_sibling}
    origins: dict[Key, Difference] = {}
    for change, came_from in found:
        gone = removed.get(came_from.path) if came_from is not None else None
        if came_from is not None and gone is not None and gone.kind == change.kind:
            origins[change.key] = gone
            del removed[came_from.path]
    folders = [
        (origins[change.key].item.path, change.item.path)
        for change, _ in found
        if change.kind == DIR and change.key in origins and change.what is not What.REMOVED
    ]
    gone_keys = {origin.key for origin in origins.values()}
    for change, _ in found:
        path = change.item.path
        if change.what is What.REMOVED:
            if change.key not in gone_keys and not _has_moved_along(view, path, folders):
                yield change
        elif (origin := origins.get(change.key)) is not None:
            before = origin.item.path
            if not any(is_below(before, old) and is_below(path, new) for old, new in folders):
                yield replace(change, what=What.MOVED, origin=origin)
        else:
            yield change


def _has_moved_along(view: ShownView, path: str, folders: list[tuple[str, str]]) -> bool:
    """True if what was removed there went where its folder went: (old path, new path) of those that moved."""
    above = [new for old, new in folders if is_below(path, old)]
    if not above:
        return False
    targets = [view.moves(head).moved_to for head in view.dead_heads(path)]
    return any(target is not None and is_below(target.path, new) for target in targets for new in above)
