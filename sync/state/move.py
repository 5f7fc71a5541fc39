"""The rename of a shown directory: its row is hung up elsewhere, with all that is below it."""

from collections.abc import Iterator

from sync.core.errors import BadInput
from sync.core.paths import is_below, join_path, split_path
from sync.state.folders import Folders
from sync.state.rows import DIR, ROOT_ID, ShownRow


def move_dir(folders: Folders, dir_id: int, old_path: str, new_path: str) -> dict[str, None]:
    """Hang the directory shown at old_path up at new_path under the number dir_id; the paths to be derived afterwards.

    Deriving them undoes whatever the heads do not say, so the versions of the rename must be there by then. A directory
    in the way is merged into the one that moves. Nothing is shown at old_path: nothing to do.
    BadInput if new_path is old_path or lies below it, or dir_id is the root's.
    """
    if dir_id <= ROOT_ID:
        raise BadInput(f"no folder has the number {dir_id}", path=old_path)
    if new_path == old_path or is_below(new_path, old_path):
        raise BadInput("a folder cannot move into itself", path=old_path)
    row_id = folders.dir_id(old_path)
    row = folders.table.by_id(row_id) if row_id is not None else None
    if row is None:
        return {}
    if row.id != dir_id:
        row = _renumber(folders, row, dir_id, old_path)
    changed = {old_path: None, new_path: None}
    for relative, below in _rows_below(folders, row):
        if below.sibling:
            folders.table.delete(below)
            folders.note(join_path(old_path, relative), below.parent, below.name, below.id)
            changed[_path_of_sibling(folders, below)] = None
        else:
            changed[join_path(old_path, relative)] = None
            changed[join_path(new_path, relative)] = None
    folders.enqueue(split_path(old_path)[0])
    folders.note(old_path, row.parent, row.name, row.id)
    _hang_up(folders, row, new_path, changed)
    return changed


def _renumber(folders: Folders, row: ShownRow, dir_id: int, path: str) -> ShownRow:
    folders.evict(dir_id)
    current = folders.table.by_id(folders.dir_id(path) or row.id) or row  # a folder above may have had that number
    new = current._replace(id=folders.table.claim(dir_id))
    folders.table.replace(current, new)
    folders.note(path, current.parent, current.name, current.id)
    folders.rehang_children(current, new, path)
    return new


def _hang_up(folders: Folders, row: ShownRow, new_path: str, changed: dict[str, None]) -> None:
    table = folders.table
    folder, name = split_path(new_path)
    table.delete(row)
    folders.forget_dirs()
    parent = folders.ensure(folder, new_path)
    folders.displace(folder, parent, name)
    target = table.at(parent, name)
    if target is not None:
        table.delete(target)
        folders.note(new_path, parent, name, target.id)
        if target.kind == DIR:
            _merge(folders, target, row, new_path, changed)
    table.insert(row._replace(parent=parent, name=name))
    folders.forget_dirs()
    folders.note(new_path, parent, name, row.id)


def _merge(folders: Folders, target: ShownRow, moved: ShownRow, path: str, changed: dict[str, None]) -> None:
    """Hang what is below `target`, a row already deleted, below `moved`; of two files the moved one stays."""
    table = folders.table
    waiting = [(target, moved, path)]
    while waiting:
        target, moved, path = waiting.pop()
        for child in table.children(target.id):
            child_path = join_path(path, child.name)
            mine = table.at(moved.id, child.name)
            folders.note(child_path, target.id, child.name, child.id)
            folders.note(child_path, moved.id, child.name, child.id)
            if child.sibling:
                changed[_path_of_sibling(folders, child)] = None
                table.delete(child)
            elif mine is None:
                table.replace(child, child._replace(parent=moved.id))
            elif child.kind == DIR and mine.kind != DIR:
                changed[child_path] = None
                table.delete(mine)
                table.replace(child, child._replace(parent=moved.id))
            else:
                changed[child_path] = None
                table.delete(child)
                if child.kind == DIR:
                    waiting.append((child, mine, child_path))


def _rows_below(folders: Folders, row: ShownRow) -> Iterator[tuple[str, ShownRow]]:
    """(path below the folder, row), each folder before what is in it."""
    waiting = [("", row)]
    while waiting:
        relative, row = waiting.pop()
        if relative:
            yield relative, row
        if row.kind == DIR:
            children = folders.table.children(row.id)
            waiting += [(join_path(relative, child.name), child) for child in reversed(children)]


def _path_of_sibling(folders: Folders, row: ShownRow) -> str:
    assert row.version is not None, "a sibling row shows a version"
    return folders.versions.version(row.version).path
