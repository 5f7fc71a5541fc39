"""Which changes must not go out before others that have to wait, or cannot go out at all.

The log of seals is in an order that is always right. Out of it goes only what has nothing to do with what waits, by
their paths: so a large file, or one whose bytes cannot be read, holds up its own folder's rename or removal, and
nothing else; and what was moved to where it cannot be published is not removed from where it was.
"""

from collections.abc import Iterable, Iterator

from sync.core.manifest import Kind
from sync.core.paths import parents_of
from sync.state.rows import DIR
from sync.state.tree.reader import Seal
from sync.worker.change import Change, FolderMove


class Held:
    """The paths of what waits, in the order of the log. Costs the depth of a path, however many they are."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._above: set[str] = set()  # the folders that they lie in

    def __bool__(self) -> bool:
        return bool(self._paths)

    def copy(self) -> "Held":
        found = Held()
        found._paths, found._above = set(self._paths), set(self._above)
        return found

    def take(self, other: "Held") -> None:
        """What `other`, a copy of this, has come to hold."""
        self._paths, self._above = other._paths, other._above

    def add(self, item: Seal | Change | FolderMove) -> None:
        for path in _paths_of(item):
            self._paths.add(path)
            self._above.update(parents_of(path))

    def holds(self, item: Seal | Change | FolderMove) -> bool:
        """True if one of them must go before this later one: at its path, above it, or below it.

        A folder itself (made, or its mode changed) goes before what waits in it.
        """
        if not self._paths:
            return False
        is_folder = _is_folder(item)
        return any(
            path in self._paths
            or (path in self._above and not is_folder)
            or any(parent in self._paths for parent in parents_of(path))
            for path in _paths_of(item)
        )


def in_order(seals: Iterable[Seal], waiting: set[bytes], held: Held) -> list[Seal]:
    """Those that can go out, without the `waiting` ones (seal_ids) and what has to wait with them, which is held from
    now on: also what an earlier removal has moved to one of them. All names of a file go out, or none. A folder that
    steps aside for others goes all the way, or nowhere.
    """
    seals, waiting = list(seals), set(waiting)
    while True:
        now_held = held.copy()
        found = _free(seals, waiting, now_held)
        free = {seal.seal_id for seal in found}
        torn = {seal.grp for seal in seals if seal.grp is not None and seal.seal_id not in free}
        going_on = {(seal.node, seal.from_path) for seal in seals if seal.op == "movedir" and seal.seal_id not in free}
        halfway = {seal.seal_id for seal in found if seal.op == "movedir" and (seal.node, seal.path) in going_on}
        waiting |= (late := {seal.seal_id for seal in found if seal.grp in torn or seal.seal_id in halfway})
        if not late:
            held.take(now_held)
            return found


def _free(seals: Iterable[Seal], waiting: set[bytes], held: Held) -> list[Seal]:
    found: list[Seal] = []
    lacking = {seal.path for seal in seals if seal.seal_id in waiting}
    for seal in seals:
        if seal.seal_id in waiting or (seal.op == "remove" and seal.moved_to in lacking) or held.holds(seal):
            held.add(seal)
        else:
            found.append(seal)
    return found


def _is_folder(item: Seal | Change | FolderMove) -> bool:
    if isinstance(item, Change):
        return item.kind is Kind.DIR
    return isinstance(item, Seal) and item.op == "put" and item.kind == DIR


def _paths_of(item: Seal | Change | FolderMove) -> Iterator[str]:
    if isinstance(item, FolderMove):
        yield item.new_path
        yield item.old_path
        return
    yield item.path
    if isinstance(item, Seal) and item.from_path is not None:
        yield item.from_path
    if item.moved_to:
        yield item.moved_to
    if item.moved_from is not None:
        yield item.moved_from.path
