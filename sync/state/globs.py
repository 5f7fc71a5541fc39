"""The paths that a glob means among those the fleet shows."""

from collections.abc import Iterator

from sync.core.globs import beginning, behind, is_glob
from sync.core.paths import join_path
from sync.state.rows import DIR, ROOT_ID, ShownRow
from sync.state.view import ShownView


def expand(view: ShownView, glob: str) -> list[str]:
    """Files and folders, sorted; nothing is listed but the folders that the glob leads through."""
    root = view.row(ROOT_ID)
    return sorted(_below(view, root, tuple(glob.strip("/").split("/")))) if root is not None else []


def children(view: ShownView, parent: int) -> Iterator[ShownRow]:
    """All rows of a folder, by name."""
    after = ""
    while page := view.children(parent, after):
        yield from page
        after = page[-1].name


def _below(view: ShownView, root: ShownRow, parts: tuple[str, ...]) -> Iterator[str]:
    waiting = [(root, "", beginning(parts))]
    while waiting:  # no recursion: a path has up to 2048 parts
        row, path, places = waiting.pop()
        if path and len(parts) in places:
            yield path
        if row.kind != DIR:
            continue
        for child in _candidates(view, row, parts, places):
            if next_places := behind(parts, places, child.name):
                waiting.append((child, join_path(path, child.name), next_places))


def _candidates(
    view: ShownView, row: ShownRow, parts: tuple[str, ...], places: frozenset[int]
) -> Iterator[ShownRow] | list[ShownRow]:
    """What may be met in a folder: all that is in it only where a name is not written out."""
    wanted = [parts[place] for place in sorted(places) if place < len(parts)]
    if any(is_glob(part) for part in wanted):
        return children(view, row.id)
    found = (view.lookup(row.id, name) for name in dict.fromkeys(wanted))
    return [child for child in found if child is not None]
