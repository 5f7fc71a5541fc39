"""The regular files that are shown at or below a place, with what a verb or a restore needs to know of each."""

from collections.abc import Iterator

import msgspec

from sync.core.paths import join_path
from sync.state.rows import DIR, FILE, ShownRow
from sync.state.view import ShownView


class ShownFile(msgspec.Struct, frozen=True):
    """size in bytes; value: the token of its content, shown.value."""

    path: str
    version: str
    size: int
    value: int


def files_below(view: ShownView, place: str) -> Iterator[ShownFile]:
    """The regular files shown at or below a rel_path ('' = all)."""
    row = view.resolve_path(place)
    if row is not None and row.kind == FILE and row.version is not None:
        yield _file(view, place, row)
    folders = [(row.id, place)] if row is not None and row.kind == DIR else []
    while folders:
        parent, folder = folders.pop()
        after = ""
        while page := view.children(parent, after):
            after = page[-1].name
            for child in page:
                path = join_path(folder, child.name)
                if child.kind == DIR:
                    folders.append((child.id, path))
                elif child.kind == FILE and child.version is not None:
                    yield _file(view, path, child)


def _file(view: ShownView, path: str, row: ShownRow) -> ShownFile:
    version = view.identity(row.version) if row.version is not None else ""
    return ShownFile(path, version, row.size, row.value)
