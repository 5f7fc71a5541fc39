"""Where folders are: by the names that stand here, and where the engine has them, or will have them."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from fs.tree.layers import DEPTH_MAX, Layers
from fs.tree.model import ROOT_ID, Key, SealRef
from sync.core.errors import NotFound
from sync.core.paths import is_below, split_path

ANSWERS_MAX: Final = 10_000


def is_reachable(layers: Layers, dir_id: int) -> bool:
    """True if names lead to the folder."""
    while dir_id != ROOT_ID:
        node = layers.overlay.node(dir_id)
        if node is not None and node.key is not None:
            dir_id = node.key[0]
            continue
        row = layers.view.row(dir_id)
        if row is None or layers.overlay.entry(row.parent, row.name) is not None:
            return False
        dir_id = row.parent
    return True


class FolderSeal(NamedTuple):
    """A folder is made, or renamed from a path, by a seal that is not yet noted."""

    folder: int
    from_path: str | None
    path: str


def folder_seals(layers: Layers) -> list[FolderSeal]:
    """Those that shown does not reflect yet, in their order. To be read in one moment with the paths they are about."""
    refs = [ref for ref in layers.overlay.seals.values() if ref.folder is not None]
    if not refs:
        return []
    taken = layers.view.taken_after(
        int(layers.overlay.meta("taken_upto") or 0), max(len(layers.overlay.seals), ANSWERS_MAX)
    )
    answered = {answer.seal_id for answer in taken}
    return [FolderSeal(ref.folder or 0, ref.from_path, ref.path) for ref in refs if ref.seal_id not in answered]


def path_behind(layers: Layers, dir_id: int, seals: Sequence[FolderSeal]) -> str | None:
    """Where the engine will have a directory once these are done; None if it does not know it then."""
    try:
        path: str | None = layers.view.path_of(dir_id)
    except NotFound:
        path = None
    for seal in seals:
        if seal.folder == dir_id:
            path = seal.path
        elif seal.from_path is not None and path is not None and is_at_or_below(path, seal.from_path):
            path = seal.path + path[len(seal.from_path) :]
    return path


def is_at_or_below(path: str, folder: str) -> bool:
    return path == folder or is_below(path, folder)


class Places:
    """Where folders are, and those that are gone were, with the seals of this moment."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._sealed: dict[int, SealRef] = {}  # the folders that they make or rename
        for ref in layers.overlay.seals.values():
            if ref.folder is not None:
                self._sealed[ref.folder] = ref

    def place_of(self, dir_id: int) -> Key | str | None:
        """The folder and name of a folder (name '': the folder it is part of by now), or its rel_path; None if nothing
        tells. Of one that is gone: where the engine will have it.
        """
        layers = self._layers
        node = layers.overlay.node(dir_id)
        if node is not None and node.key is not None:
            return node.key
        known = layers.overlay.gone.get(dir_id)
        if known is not None and not known[1]:
            return known
        row, ref = layers.view.row(dir_id), self._sealed.get(dir_id)
        if ref is not None and (row is None or ref.from_path is not None):
            return self._sealed_place(dir_id, ref)
        if row is not None:
            return row.parent, row.name
        return known or layers.overlay.attach.get(dir_id)

    def _sealed_place(self, dir_id: int, ref: SealRef) -> Key | str:
        name = split_path(ref.path)[1]
        for key in ref.keys:
            entry = self._layers.overlay.entry(*key)
            if entry is not None and entry.moved_to is None and entry.name == name and entry.parent != dir_id:
                return key
        return ref.path

    def path_of(self, dir_id: int) -> str | None:
        """None if nothing tells."""
        names: list[str] = []
        for _ in range(DEPTH_MAX):
            if dir_id == ROOT_ID:
                return "/".join(reversed(names))
            place = self.place_of(dir_id)
            if place is None:
                place = self._layers.overlay.attach.get(dir_id)
            if place is None or isinstance(place, str):
                return None if place is None else "/".join([place, *reversed(names)])
            dir_id = place[0]
            if place[1]:
                names.append(place[1])
        return None

    def is_in(self, dir_id: int, above: int) -> bool:
        """True if the folder is the folder `above`, or hangs below it and moves with it."""
        for _ in range(DEPTH_MAX):
            if dir_id in (above, ROOT_ID):
                break
            place = self.place_of(dir_id)
            if place is None or isinstance(place, str):
                return False
            dir_id = place[0]
        return dir_id == above
