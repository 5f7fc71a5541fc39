"""Reading fleet.db in the engine: through the connection that writes, or through one beside it."""

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sync.env import Env
from sync.state.heads import VersionTable
from sync.state.rows import MachineNumbers
from sync.state.view import ShownView


class Reads:
    """One connection, for reading in any thread, one at a time."""

    def __init__(self, connection: sqlite3.Connection, lock: threading.RLock) -> None:
        self._connection = connection
        self.lock = lock
        self.machines = MachineNumbers(connection)
        self.view = ShownView.over(connection, lock)

    def query(self, sql: str, arguments: Sequence[object]) -> list[Any]:
        with self.lock:
            return self._connection.execute(sql, arguments).fetchall()

    def versions(self) -> VersionTable:
        """To be used under the lock."""
        return VersionTable(self._connection, self.machines)

    def close(self) -> None:
        """Waits for who reads just now."""
        with self.lock:
            self._connection.close()


def beside(env: Env, path: Path | str) -> sqlite3.Connection | None:
    """None for a database in memory, which has one connection only."""
    return env.connect(path, readonly=True) if str(path) != ":memory:" else None
