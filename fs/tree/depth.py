"""How long paths become when a directory is renamed."""

import errno
import os
from collections.abc import Iterator

from fs.tree.model import DIR
from fs.tree.state import State
from fs.tree.whereabouts import Places
from sync.core.errors import NotFound
from sync.core.paths import PATH_MAX


def check_depth(st: State, dir_id: int, old_path: str, new_path: str) -> None:
    """OSError ENAMETOOLONG if something below the directory could not have its path behind the rename to `new_path`."""
    more = len(new_path.encode()) - len(old_path.encode())
    if more > 0 and any(length + more > PATH_MAX for length in _lengths(st, dir_id, len(old_path.encode()))):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def _lengths(st: State, dir_id: int, length: int) -> Iterator[int]:
    """Bytes of paths below a directory whose own path has `length`: the longest of what is shown, and all of ours."""
    places = Places(st)
    waiting = [(dir_id, length)]
    for other in st.overlay.attach:
        if other != dir_id and places.is_in(other, dir_id):
            waiting.append((other, len(st.path_of(other).encode())))
    while waiting:
        folder_id, length = waiting.pop()
        try:
            shown = st.view.path_of(folder_id)
            yield length - len(shown.encode()) + st.view.longest_below(shown)
        except NotFound:
            pass
        folder = st.overlay.folder(folder_id)
        for entry in folder.entries.values() if folder is not None else ():
            node = st.overlay.node(entry.node) if entry.node is not None else None
            if node is not None and not entry.local_only:
                yield length + 1 + len(entry.name.encode())
                if node.kind == DIR:
                    waiting.append((node.id, length + 1 + len(entry.name.encode())))
