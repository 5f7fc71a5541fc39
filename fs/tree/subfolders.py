"""How many folders a folder holds: its st_nlink is two more, as programs expect of a file system.

Counted when asked for, then kept: the kernel asks anew after each name that comes or goes.
"""

from collections.abc import Container
from typing import Final

from fs.tree.layers import Layers
from fs.tree.model import DIR

KEPT: Final = 20_000


class Subfolders:
    """Counts by number of the folder. Whoever moves a folder's name tells it."""

    def __init__(self, layers: Layers, unshown: Container[int]) -> None:
        """unshown: directories of which nothing is shown."""
        self._layers = layers
        self._unshown = unshown
        self._counts: dict[int, int] = {}

    def of(self, dir_id: int) -> int:
        count = self._counts.get(dir_id)
        if count is None:
            if len(self._counts) >= KEPT:
                self._counts.clear()
            count = self._counts[dir_id] = self._count(dir_id)
        return count

    def moved(self, dir_id: int, by: int) -> None:
        """A folder came (1) or went (-1). One that went before the feed told of it was never counted."""
        count = self._counts.get(dir_id)
        if count is None:
            return
        if count + by < 0:
            del self._counts[dir_id]
        else:
            self._counts[dir_id] = count + by

    def forget(self, dir_id: int) -> None:
        """Names of the folder have changed somehow."""
        self._counts.pop(dir_id, None)

    def forget_all(self) -> None:
        self._counts.clear()

    def _count(self, dir_id: int) -> int:
        layers = self._layers
        folder = layers.overlay.folder(dir_id)
        is_unshown = dir_id in self._unshown
        if folder is None or not folder.entries:
            return 0 if is_unshown else layers.view.count_folders(dir_id)
        names = set() if is_unshown else set(layers.view.folder_names(dir_id))
        for entry in folder.entries.values():
            node = layers.overlay.node(entry.node) if entry.node is not None else None
            if node is not None and node.kind == DIR:
                names.add(entry.name)
            else:
                names.discard(entry.name)
        return len(names)
