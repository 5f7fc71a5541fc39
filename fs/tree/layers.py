"""The two layers of a tree: what is shown, and the overlay over it."""

from typing import Final

from fs.tree.model import ROOT_ID, Key
from fs.tree.overlay import Overlay
from sync.core.errors import NotFound
from sync.core.paths import PATH_MAX, join_path
from sync.state.view import ShownView

DEPTH_MAX: Final = PATH_MAX  # of folders; what goes on longer is a circle of what crashes have left
PATHS_KEPT: Final = 20_000


class Layers:
    """Where directories are in both of them. Whoever moves one says so: `forget_paths`."""

    def __init__(self, view: ShownView, overlay: Overlay) -> None:
        self.view = view
        self.overlay = overlay
        self._paths: dict[int, str] = {ROOT_ID: ""}

    def path_of(self, dir_id: int) -> str:
        """The rel_path of a directory as it stands here ('' is the root). NotFound if nothing leads there."""
        path = self._paths.get(dir_id)
        return path if path is not None else self._find_path(dir_id)

    def path_at(self, key: Key) -> str:
        return join_path(self.path_of(key[0]), key[1])

    def forget_paths(self) -> None:
        """A directory was moved, made or lost."""
        self._paths = {ROOT_ID: ""}

    def forget_path(self, dir_id: int) -> None:
        """An empty directory was removed."""
        self._paths.pop(dir_id, None)

    def _find_path(self, dir_id: int) -> str:
        unknown: list[tuple[int, str]] = []  # no recursion: a path has up to 2048 parts
        path = None
        while path is None:
            key = self.place_of(dir_id) if len(unknown) <= DEPTH_MAX else None
            if key is not None:
                unknown.append((dir_id, key[1]))
                dir_id = key[0]
                path = self._paths.get(dir_id)
                continue
            path = self.overlay.attach.get(dir_id)
            if path is None:
                raise NotFound(f"no directory has the number {dir_id}")
            self._keep_path(dir_id, path)
        for below, name in reversed(unknown):
            path = join_path(path, name)
            self._keep_path(below, path)
        return path

    def _keep_path(self, dir_id: int, path: str) -> None:
        if len(self._paths) >= PATHS_KEPT:
            self._paths = {ROOT_ID: ""}
        self._paths[dir_id] = path

    def place_of(self, dir_id: int) -> Key | None:
        """The folder and name of a directory; None if neither layer has it."""
        node = self.overlay.node(dir_id)
        if node is not None and node.key is not None:
            return node.key
        row = self.view.row(dir_id)
        return (row.parent, row.name) if row is not None else None

    def is_known_folder(self, dir_id: int) -> bool:
        """True if its path is at hand; False says nothing."""
        return dir_id in self._paths
