"""Folders that were removed here and still have rows: whiteouts that are to be published at the paths they had.

Rows hang below the numbers of folders, so a folder that is made or moved to where another one was knows nothing of what
was removed with that one, and one path has two rows: the whiteout that was left, and what stands there now. Only
together do they know what the person had seen there. So they go out together, as one change (fs/tree/freeze.py). A
whiteout that is on its way already is waited for, and hands its version over when that is noted.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator

from fs.tree.layers import Layers
from fs.tree.model import Entry, Key
from fs.tree.whereabouts import Places, is_reachable
from sync.core.errors import NotFound
from sync.core.paths import join_path


class GoneFolders:
    """Which folders are gone, and where they were. Looked at only when something is sealed or noted."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._maybe: set[int] = set()
        self._above: set[int] = set()  # the folders that others were in
        self._paths: dict[int, str] = {}
        self._ids: dict[str, list[int]] | None = None
        self._sorted: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._maybe)

    # ---- what happens to folders

    def add(self, dir_id: int, place: Key | None = None, path: str | None = None) -> None:
        """The folder may be gone, and may have rows. place: where it was, if it is removed just now. path: what that is
        for certain.
        """
        self._maybe.add(dir_id)
        if place is not None:
            self._layers.overlay.gone.put(dir_id, place)
            self._above.add(place[0])
        if path is None or self._ids is None or dir_id in self._paths:
            self._changed(dir_id)
            return
        self._paths[dir_id] = path
        if path not in self._ids:
            self._ids[path] = []
            insort(self._sorted, path)
        self._ids[path].append(dir_id)

    def removed(self, dir_id: int) -> bool:
        """The folder is about to be removed. True if the engine has it elsewhere: then that is where it was."""
        layers = self._layers
        path, place = layers.path_of(dir_id), layers.place_of(dir_id)
        is_elsewhere = self._is_elsewhere(dir_id, path)
        if layers.overlay.has_rows(dir_id):
            layers.overlay.attach.put(dir_id, path)
            self.add(dir_id, place, None if is_elsewhere else path)
        elif dir_id in self._above:
            self.add(dir_id, place)
        return is_elsewhere

    def _is_elsewhere(self, dir_id: int, path: str) -> bool:
        layers = self._layers
        node = layers.overlay.node(dir_id)
        if node is not None and node.seal_id is not None:
            return True
        try:
            return layers.view.path_of(dir_id) != path
        except NotFound:
            return False

    def succeed(self, dir_id: int, new_id: int) -> None:
        """What the engine still has in a gone folder is found, and moves, with another one from now on."""
        self.add(dir_id, (new_id, ""))

    def is_succeeded(self, dir_id: int) -> bool:
        """True if what it had is another folder's by now, wherever that has gone since."""
        place = self._layers.overlay.gone.get(dir_id)
        return place is not None and not place[1]

    def discard(self, dir_id: int) -> None:
        """It has no rows any more."""
        if dir_id not in self._maybe:
            return
        self._maybe.discard(dir_id)
        path = self._paths.pop(dir_id, None)
        if path is not None and self._ids is not None and dir_id in self._ids.get(path, ()):
            self._ids[path].remove(dir_id)

    def forget_paths(self) -> None:
        """Folders were moved, or changed in shown."""
        if self._maybe:
            self._paths.clear()
            self._ids = None

    def restore(self) -> None:
        """At the start: what was removed before."""
        layers = self._layers
        self._maybe.update(layers.overlay.attach, layers.overlay.gone)
        self._above.update(place[0] for place in layers.overlay.gone.values())

    def _changed(self, dir_id: int) -> None:
        self._paths.pop(dir_id, None)
        self._ids = None

    # ---- what is to be known

    def has(self, dir_id: int) -> bool:
        """True of a gone folder that has rows. Costs the depth of the folder, however many others are gone."""
        return (
            dir_id in self._maybe and self._layers.overlay.has_rows(dir_id) and not is_reachable(self._layers, dir_id)
        )

    def path_of(self, dir_id: int) -> str | None:
        """Where a gone folder was, as a rel_path of now; None of any other folder."""
        if dir_id not in self._maybe:
            return None
        self._find()
        return self._paths.get(dir_id)

    def at(self, path: str) -> list[int]:
        """The gone folders that were at a path."""
        return self._find().get(path, []) if self._maybe else []

    def whiteouts_at(self, folder: str, name: str) -> list[Entry]:
        """What gone folders of the path `folder` left of a name."""
        found = (self._layers.overlay.entry(dir_id, name) for dir_id in self.at(folder))
        return [entry for entry in found if entry is not None and is_left(entry)]

    def whiteouts_below(self, path: str) -> list[tuple[str, Entry]]:
        """(rel_path, whiteout) of all that gone folders left below a path, the deepest first."""
        if not self._maybe:
            return []
        found = list(self._rows(path))
        for place in range(bisect_left(self._sorted, f"{path}/"), len(self._sorted)):
            folder = self._sorted[place]
            if not folder.startswith(f"{path}/"):
                break
            found += self._rows(folder)
        return sorted(found, key=lambda item: item[0].count("/"), reverse=True)

    def _rows(self, path: str) -> Iterator[tuple[str, Entry]]:
        for dir_id in self.at(path):
            folder = self._layers.overlay.folder(dir_id)
            for entry in folder.entries.values() if folder is not None else ():
                if is_left(entry):
                    yield join_path(path, entry.name), entry

    def _find(self) -> dict[str, list[int]]:
        """path -> the gone folders that were there."""
        if self._ids is not None:
            return self._ids
        layers, places = self._layers, Places(self._layers)
        self._drop_settled()
        ids: dict[str, list[int]] = {}
        for dir_id in sorted(self._maybe):
            path = self._paths.get(dir_id)
            if path is None:
                path = None if is_reachable(layers, dir_id) else places.path_of(dir_id)
                if path is None:
                    self._maybe.discard(dir_id)
                    continue
                self._paths[dir_id] = path
                if dir_id in layers.overlay.attach:
                    layers.overlay.attach.put(dir_id, path)
            ids.setdefault(path, []).append(dir_id)
        self._ids, self._sorted = ids, sorted(ids)
        return ids

    def _drop_settled(self) -> None:
        """Forget folders without rows, and where they were, unless others were in them."""
        overlay = self._layers.overlay
        self._maybe = {dir_id for dir_id in self._maybe if overlay.has_rows(dir_id)}
        needed: set[int] = set()
        for dir_id in self._maybe:
            while dir_id in overlay.gone and dir_id not in needed:
                needed.add(dir_id)
                dir_id = overlay.gone[dir_id][0]
        for dir_id in [dir_id for dir_id in overlay.gone if dir_id not in needed]:
            overlay.gone.put(dir_id, None)
        self._above = {place[0] for place in overlay.gone.values()}


def is_left(entry: Entry) -> bool:
    """True of a whiteout that has a removal to publish."""
    return entry.node is None and entry.dirty
