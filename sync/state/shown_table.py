"""The table `shown` within one transaction: reads through, changes collected and written in batches."""

import sqlite3
from collections.abc import Collection, Iterable
from typing import Final

from sync.state.many import batches, insert_many, marks
from sync.state.rows import ROOT_ID, ROW_COLUMNS, ShownRow

_INSERT: Final = f"INSERT INTO shown ({ROW_COLUMNS}) VALUES "
_UPDATE: Final = (
    "UPDATE shown SET kind = ?, size = ?, mode = ?, mtime_ns = ?, ctime_ns = ?, uid = ?, gid = ?, version = ?,"
    ' value = ?, also = ?, sibling = ?, xattrs = ?, link_id = ?, link = ?, nlink = ?, owner = ?, "group" = ?'
    " WHERE id = ?"
)
_AT: Final = f"SELECT {ROW_COLUMNS} FROM shown WHERE parent = ? AND name = ?"
_BY_ID: Final = f"SELECT {ROW_COLUMNS} FROM shown WHERE id = ?"
_CHILDREN: Final = f"SELECT {ROW_COLUMNS} FROM shown WHERE parent = ? ORDER BY name"
_LINKED: Final = f"SELECT {ROW_COLUMNS} FROM shown WHERE link_id = ? AND sibling = 0 ORDER BY id"
_SIBLINGS: Final = f"SELECT {ROW_COLUMNS} FROM shown WHERE parent = ? AND sibling = 1 ORDER BY name"


class ShownTable:
    """Rows by place and by id. A row is replaced as a whole; a changed place or id is a removal and an insertion."""

    def __init__(self, connection: sqlite3.Connection, next_id: int) -> None:
        self._connection = connection
        self.next_id = next_id
        self._at: dict[tuple[int, str], ShownRow | None] = {}
        self._deleted: dict[int, None] = {}
        self._updated: dict[int, ShownRow] = {}
        self._inserted: dict[int, ShownRow] = {}
        self._free: set[int] = set()  # numbers that no row of the table has
        self._fresh: dict[int, int] = {}  # directories that this object made -> number of their rows
        self._changed_parents: set[int] = set()
        self._gained: dict[int, int] = {}  # directories -> number of the rows below them in `_inserted`
        self.links_changed: dict[str, None] = {}  # link_ids of rows that came, went or changed
        self._before: dict[tuple[int, str], ShownRow | None] = {}  # of places changed here

    # ---- reading

    def before(self, parent: int, name: str) -> ShownRow | None:
        """What stood at a place when this object was made."""
        key = (parent, name)
        return self._before[key] if key in self._before else self.at(parent, name)

    def prefetch_before(self, places: Iterable[tuple[int, str]]) -> None:
        """Read in few statements what `before` will be asked for."""
        names: dict[int, list[str]] = {}
        for parent, name in places:
            if (parent, name) not in self._before:
                names.setdefault(parent, []).append(name)
        for parent, wanted in names.items():
            self.prefetch(parent, wanted)

    def at(self, parent: int, name: str) -> ShownRow | None:
        key = (parent, name)
        if key not in self._at:
            row = None
            if parent not in self._fresh:
                found = self._connection.execute(_AT, key).fetchone()
                row = None if found is None else ShownRow._make(found)
            self._at[key] = row
            return row
        return self._at[key]

    def prefetch(self, parent: int, names: Iterable[str]) -> None:
        """Read what stands at these names in few statements."""
        if parent in self._fresh:
            return
        for batch in batches(name for name in names if (parent, name) not in self._at):
            self._at.update(dict.fromkeys(((parent, name) for name in batch), None))
            sql = f"SELECT {ROW_COLUMNS} FROM shown WHERE parent = ? AND name IN {marks(len(batch))}"
            for found in self._connection.execute(sql, (parent, *batch)):
                # Rows changed here stand in _at under their old place too (None), so what is read is as in the table.
                self._at[(parent, found[2])] = ShownRow._make(found)

    def prefetch_ids(self, row_ids: Collection[int]) -> None:
        """Find out in few statements which of these numbers no row has."""
        self.flush()
        free = set(row_ids)
        for batch in batches(row_ids):
            found = self._connection.execute(f"SELECT id FROM shown WHERE id IN {marks(len(batch))}", batch)
            free.difference_update(row[0] for row in found)
        self._free |= free

    def by_id(self, row_id: int) -> ShownRow | None:
        row = self._inserted.get(row_id) or self._updated.get(row_id)
        if row is not None or row_id in self._deleted or row_id in self._free:
            return row
        found = self._connection.execute(_BY_ID, (row_id,)).fetchone()
        return None if found is None else ShownRow._make(found)

    def has_children(self, parent: int) -> bool:
        if parent in self._fresh:
            return self._fresh[parent] > 0
        if self._gained.get(parent):
            return True
        if parent in self._changed_parents:
            self.flush()
        return (
            self._connection.execute("SELECT 1 FROM shown WHERE parent = ? LIMIT 1", (parent,)).fetchone() is not None
        )

    def children(self, parent: int) -> list[ShownRow]:
        self.flush()
        return [ShownRow._make(found) for found in self._connection.execute(_CHILDREN, (parent,)).fetchall()]

    def siblings(self, parent: int) -> list[ShownRow]:
        self.flush()
        return [ShownRow._make(found) for found in self._connection.execute(_SIBLINGS, (parent,)).fetchall()]

    def linked(self, link_id: str) -> list[ShownRow]:
        """Every row with that link_id that is no sibling, by number."""
        self.flush()
        return [ShownRow._make(found) for found in self._connection.execute(_LINKED, (link_id,)).fetchall()]

    def has_any_sibling(self) -> bool:
        self.flush()
        return self._connection.execute("SELECT 1 FROM shown WHERE sibling = 1 LIMIT 1").fetchone() is not None

    def path_of(self, row: ShownRow) -> str:
        names: list[str] = []
        current: ShownRow | None = row
        while current is not None and current.id != ROOT_ID:
            names.append(current.name)
            current = self.by_id(current.parent)
        return "/".join(reversed(names))

    # ---- changing

    def new_id(self) -> int:
        row_id = self.next_id
        self.next_id += 2
        return row_id

    def claim(self, row_id: int) -> int:
        """Use a number that somebody else gave: the engine's own counter stays beyond it."""
        if row_id % 2 == 0 and row_id >= self.next_id:
            self.next_id = row_id + 2
        return row_id

    def insert(self, row: ShownRow, *, fresh_dir: bool = False) -> None:
        """`fresh_dir`: a directory that certainly has no rows below it yet."""
        key = (row.parent, row.name)
        if key not in self._before:
            self._before[key] = self.at(*key)
        self._at[(row.parent, row.name)] = row
        self._inserted[row.id] = row
        self._gained[row.parent] = self._gained.get(row.parent, 0) + 1
        if row.link_id is not None:
            self.links_changed[row.link_id] = None
        if fresh_dir:
            self._fresh[row.id] = 0
        self._count(row.parent, 1)

    def delete(self, row: ShownRow) -> None:
        self._before.setdefault((row.parent, row.name), row)
        self._at[(row.parent, row.name)] = None
        if row.link_id is not None:
            self.links_changed[row.link_id] = None
        if self._inserted.pop(row.id, None) is None:
            self._deleted[row.id] = None
            self._updated.pop(row.id, None)
        else:
            self._gained[row.parent] -= 1
        self._count(row.parent, -1)

    def replace(self, old: ShownRow, new: ShownRow) -> None:
        if (old.id, old.parent, old.name) != (new.id, new.parent, new.name):
            self.delete(old)
            self.insert(new)
            return
        self._before.setdefault((old.parent, old.name), old)
        self._at[(new.parent, new.name)] = new
        for row in (old, new):
            if row.link_id is not None:
                self.links_changed[row.link_id] = None
        if new.id in self._inserted:
            self._inserted[new.id] = new
        else:
            self._updated[new.id] = new

    def flush(self) -> None:
        """Write what has changed. Removals first: then no intermediate state breaks UNIQUE (parent, name)."""
        if self._deleted:
            self._connection.executemany("DELETE FROM shown WHERE id = ?", [(row_id,) for row_id in self._deleted])
        if self._updated:
            rows = [(*row[3:], row.id) for row in self._updated.values()]
            self._connection.executemany(_UPDATE, rows)
        if self._inserted:
            insert_many(self._connection, _INSERT, list(self._inserted.values()))
            self._free.difference_update(self._inserted)
        self._deleted = {}
        self._updated = {}
        self._inserted = {}
        self._changed_parents.clear()
        self._gained.clear()

    def _count(self, parent: int, difference: int) -> None:
        if parent in self._fresh:
            self._fresh[parent] += difference
        else:
            self._changed_parents.add(parent)
