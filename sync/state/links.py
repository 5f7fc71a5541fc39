"""Names of one file: which rows of shown are one inode, and under which number.

Rows whose versions carry one link_id are one file as long as content, mode, mtime and xattrs agree; what has been
changed under one name only is a file by itself again. One of them has the number of all as its own id, so a number
always leads to a row.
"""

from collections.abc import Collection, Sequence

from sync.state.folders import Folders
from sync.state.rows import ShownRow


def settle_links(folders: Folders) -> None:
    """Behind a derivation: count the names of each file that has several, and give them one number."""
    table = folders.table
    if not (table.links_changed or folders.alone):
        return
    placed = {place.node_id for place in folders.origin.places.values() if place.node_id is not None}
    for link_id in list(table.links_changed):
        groups: dict[tuple[object, ...], list[ShownRow]] = {}
        for row in table.linked(link_id):
            groups.setdefault((row.value, row.mode, row.mtime_ns, row.xattrs), []).append(row)
        for rows in groups.values():
            _settle(folders, rows, placed)
    table.links_changed.clear()
    for row_id, number in folders.alone.items():
        alone = table.by_id(row_id)
        if alone is not None and alone.link_id is None and table.by_id(number) is None:
            _renumber(folders, alone, number)
    folders.alone.clear()


def _settle(folders: Folders, rows: list[ShownRow], placed: Collection[int]) -> None:
    number = _number(folders, rows, placed)
    if all(row.id != number for row in rows):  # that of a name that is gone
        rows[0] = _renumber(folders, rows[0], number)
    leader = next(row for row in rows if row.id == number)
    count = len(rows)
    ctime_ns = max(row.ctime_ns for row in rows)
    for row in rows:
        new = row._replace(
            link=number if count > 1 else None, nlink=count, ctime_ns=ctime_ns, uid=leader.uid, gid=leader.gid
        )
        if new != row:
            folders.table.replace(row, new)
            folders.note(folders.table.path_of(new), new.parent, new.name, new.id)


def _number(folders: Folders, rows: Sequence[ShownRow], placed: Collection[int]) -> int:
    """The one they have had, else that of the node they were published from, else the least.

    A folder that is renamed here brings each row below it as if that was a node: this changes no file's number.
    """
    ids = [row.id for row in rows]
    had = sorted({number for row in rows for number in _had(folders, row)})
    for number in had:
        _take_back(folders, rows[0], number, placed)
    kept = [*(number for number in had if number in ids), *(number for number in ids if number in placed)]
    free = [number for number in had if folders.table.by_id(number) is None]
    return (kept or free or ids)[0]


def _take_back(folders: Folders, row: ShownRow, number: int, placed: Collection[int]) -> None:
    """A name that was replaced is another file: the number stays with the others, and with who has the file open."""
    other = folders.table.by_id(number)
    was = folders.table.before(other.parent, other.name) if other is not None else None
    if other is None or was is None or number in placed:
        return
    if was.link_id == row.link_id != other.link_id:
        folders.evict(number)


def _had(folders: Folders, row: ShownRow) -> tuple[int, ...]:
    """The number of the file that the row was a name of, in this transaction or before."""
    was = folders.table.before(row.parent, row.name)
    is_same = was is not None and (was.id, was.link_id) == (row.id, row.link_id)
    numbers = (row.link, was.link if was is not None and is_same else None)
    return tuple(number for number in numbers if number is not None)


def _renumber(folders: Folders, row: ShownRow, number: int) -> ShownRow:
    new = row._replace(id=folders.table.claim(number))
    folders.table.replace(row, new)
    path = folders.table.path_of(new)
    folders.note(path, row.parent, row.name, row.id)
    folders.note(path, new.parent, new.name, new.id)
    return new
