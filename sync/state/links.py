"""Names of one file: which rows of shown are one inode, and under which number.

Rows whose versions carry one link_id are one file as long as content, mode, mtime, xattrs, owner and group agree; what
has been changed under one name only is a file by itself again. One of them has the number of all as its own id, so a
number always leads to a row.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from sync.state.folders import Folders
from sync.state.rows import ShownRow


def settle_links(folders: Folders) -> None:
    """Behind a derivation: count the names of each file that has several, and give them one number.

    First every file whose names stayed takes its number back, and only then is any number given: it is never that of a
    row that still moves to another one.
    """
    table = folders.table
    if not (table.links_changed or folders.alone):
        return
    placed = {place.node_id for place in folders.origin.places.values() if place.node_id is not None}
    kept: dict[str, None] = {}  # link_ids of the files that have a number by names that stayed
    for link_id in list(table.links_changed):
        for row in table.linked(link_id):
            number = _stayed(folders, row)
            if number is not None:
                kept[link_id] = None
                _take_back(folders, row, number, placed)
    for link_id in {**kept, **table.links_changed}:
        for rows in _groups(table.linked(link_id)):
            _settle(folders, rows, placed)
    table.links_changed.clear()
    for row_id, number in folders.alone.items():
        alone = table.by_id(row_id)
        if alone is not None and alone.link_id is None and table.by_id(number) is None:
            _renumber(folders, alone, number)
    folders.alone.clear()


def _groups(rows: Iterable[ShownRow]) -> Collection[list[ShownRow]]:
    """Those that are one file, of the rows of one link_id."""
    groups: dict[tuple[object, ...], list[ShownRow]] = {}
    for row in rows:
        groups.setdefault((row.value, row.mode, row.mtime_ns, row.xattrs, row.owner, row.group), []).append(row)
    return groups.values()


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
    """The one that most of them have had, else that of the node they were published from, else the least.

    A folder that is renamed here brings each row below it as if that was a node: this changes no file's number.
    """
    ids = [row.id for row in rows]
    stayed = Counter(number for row in rows if (number := _stayed(folders, row)) is not None)
    had = sorted(stayed or {row.link for row in rows if row.link is not None}, key=lambda n: (-stayed[n], n))
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


def _stayed(folders: Folders, row: ShownRow) -> int | None:
    """The number of the file that the row was a name of before this transaction, the only one even; None if it was
    none of this one.
    """
    was = folders.table.before(row.parent, row.name)
    if was is None or was.id != row.id:
        return row.link if was is None or was.link_id == row.link_id else None
    return was.number if was.link_id == row.link_id else None


def _renumber(folders: Folders, row: ShownRow, number: int) -> ShownRow:
    new = row._replace(id=folders.table.claim(number))
    folders.table.replace(row, new)
    path = folders.table.path_of(new)
    folders.note(path, row.parent, row.name, row.id)
    folders.note(path, new.parent, new.name, new.id)
    return new
