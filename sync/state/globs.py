"""The paths that a glob means among those the fleet shows."""

from collections.abc import Iterator

from sync.core.globs import ANY_DEPTH, is_glob, name_matches
from sync.core.paths import join_path
from sync.state.rows import DIR, ROOT_ID, ShownRow
from sync.state.view import ShownView


def expand(view: ShownView, glob: str) -> list[str]:
    """Files and folders, sorted; nothing is listed but the folders that the glob leads through."""
    root = view.row(ROOT_ID)
    found = _below(view, root, "", glob.strip("/").split("/")) if root is not None else iter(())
    return sorted(dict.fromkeys(found))


def children(view: ShownView, parent: int) -> Iterator[ShownRow]:
    """All rows of a folder, by name."""
    after = ""
    while page := view.children(parent, after):
        yield from page
        after = page[-1].name


def _below(view: ShownView, row: ShownRow, path: str, parts: list[str]) -> Iterator[str]:
    if not parts:
        yield path
        return
    part, rest = parts[0], parts[1:]
    if part == ANY_DEPTH:
        if rest or path:
            yield from _below(view, row, path, rest)
        for child in children(view, row.id) if row.kind == DIR else ():
            if not child.name.startswith("."):
                yield from _below(view, child, join_path(path, child.name), parts)
    elif row.kind != DIR:
        return
    elif is_glob(part):
        for child in children(view, row.id):
            if name_matches(part, child.name):
                yield from _below(view, child, join_path(path, child.name), rest)
    else:
        found = view.lookup(row.id, part)
        if found is not None:
            yield from _below(view, found, join_path(path, part), rest)
