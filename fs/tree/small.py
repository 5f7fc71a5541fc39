"""Small tables of tree.db that are held in memory as a whole: number -> a few columns."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

V = TypeVar("V")


class SmallTable(dict[int, V]):
    """Read at the start, written behind: `put` changes it, `write` stores what has changed since `written`."""

    def __init__(
        self, name: str, columns: tuple[str, ...], of_row: Callable[..., V], to_row: Callable[[V], tuple[Any, ...]]
    ) -> None:
        """columns: the first is the number. of_row takes the others; to_row gives them."""
        super().__init__()
        self.changed: set[int] = set()  # numbers of the rows that have changed since `written`
        self.name = name
        self.is_unlogged = False  # has changed since `logged`
        self._select = f"SELECT {', '.join(columns)} FROM {name}"
        self._delete = f"DELETE FROM {name} WHERE {columns[0]} = ?"
        self._put = f"INSERT OR REPLACE INTO {name} VALUES ({', '.join('?' * len(columns))})"
        self._of_row = of_row
        self._to_row = to_row

    def load(self, connection: sqlite3.Connection) -> None:
        for number, *values in connection.execute(self._select):
            self[number] = self._of_row(*values)

    def put(self, number: int, value: V | None) -> None:
        """None: the row goes."""
        if self.get(number) == value:
            return
        if value is None:
            del self[number]
        else:
            self[number] = value
        self.changed.add(number)
        self.is_unlogged = True

    def changes(self) -> tuple[list[tuple[int]], list[tuple[Any, ...]]]:
        """(numbers of the rows that went, rows to put) since `written`."""
        gone = [(number,) for number in self.changed if number not in self]
        return gone, [(number, *self._to_row(self[number])) for number in self.changed if number in self]

    def write(self, connection: sqlite3.Connection) -> None:
        if self.changed:
            self.put_rows(connection, *self.changes())

    def put_rows(
        self, connection: sqlite3.Connection, gone: Sequence[tuple[Any, ...]], put: Sequence[tuple[Any, ...]]
    ) -> None:
        """What `changes` gave, now or in an earlier life. Nothing is marked as written by that."""
        connection.executemany(self._delete, gone)
        connection.executemany(self._put, put)

    def logged(self) -> None:
        """What `changes` gave is in the redo log, and will be again: it stays marked."""
        self.is_unlogged = False

    def written(self) -> None:
        """What `write` put is committed."""
        self.changed.clear()
        self.is_unlogged = False
