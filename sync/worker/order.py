"""Which seals must not go out before others that have to wait: those whose bytes take long to be packed.

The log of seals is in an order that is always right. Out of it goes only what has nothing to do with what waits, by
their paths: so a large file holds up its own folder's rename or removal, and nothing else.
"""

from collections.abc import Iterator

from sync.core.paths import parents_of
from sync.state.rows import DIR
from sync.state.tree.reader import Seal


class Held:
    """Seals that wait, in the order of the log. Costs the depth of a path, however many they are."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._above: set[str] = set()  # the folders that they lie in

    def add(self, seal: Seal) -> None:
        for path in _paths_of(seal):
            self._paths.add(path)
            self._above.update(parents_of(path))

    def holds(self, seal: Seal) -> bool:
        """True if one of them must go before this later one: at its path, above it, or below it.

        A folder itself (made, or its mode changed) goes before what waits in it.
        """
        if not self._paths:
            return False
        is_folder = seal.op == "put" and seal.kind == DIR
        return any(
            path in self._paths
            or (path in self._above and not is_folder)
            or any(parent in self._paths for parent in parents_of(path))
            for path in _paths_of(seal)
        )


def _paths_of(seal: Seal) -> Iterator[str]:
    yield seal.path
    if seal.from_path is not None:
        yield seal.from_path
    if seal.moved_to:
        yield seal.moved_to
    if seal.moved_from is not None:
        yield seal.moved_from.path
