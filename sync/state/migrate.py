"""Numbered migrations: the NNN_name.sql files of a folder beside a package, each applied once and in order.

The number of the last one applied stands in the table `meta` under the key `schema`; each database's 001 makes `meta`.
"""

import sqlite3
from collections.abc import Callable
from importlib import resources

from sync.core.errors import Unsupported


def schema_version(package: str) -> int:
    """The number of the newest migration this program has for `package` ('sync.state' or 'sync.state.tree')."""
    return _migrations(package)[-1][0]


def applied_version(connection: sqlite3.Connection) -> int:
    """The schema of an open database; 0 if it is empty."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
        return 0
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    return int(row[0]) if row else 0


def migrate(
    connection: sqlite3.Connection, package: str, fill: Callable[[sqlite3.Connection], None] | None = None
) -> int:
    """Bring the database to the newest schema, in one transaction; return that schema's number.

    fill: writes the first rows of a new database, in that transaction. Unsupported if a newer program has written the
    database: nothing is changed then.
    """
    migrations = _migrations(package)
    newest = migrations[-1][0]
    applied = applied_version(connection)
    if applied > newest:
        raise Unsupported(
            f"the database has schema {applied}, this program knows {newest}",
            hint="install a newer tcfs on this machine",
        )
    if applied == newest:
        return newest
    connection.execute("BEGIN IMMEDIATE")
    try:
        for number, sql in migrations:
            if number > applied:
                for statement in _statements(sql):
                    connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (newest,))
        if applied == 0 and fill is not None:
            fill(connection)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return newest


def _migrations(package: str) -> list[tuple[int, str]]:
    folder = resources.files(package) / "schema"
    files = sorted((item.name, item) for item in folder.iterdir() if item.name.endswith(".sql"))
    return [(int(name.split("_")[0]), item.read_text(encoding="utf-8")) for name, item in files]


def _statements(sql: str) -> list[str]:
    """The statements of a script. executescript() would commit between them."""
    statements: list[str] = []
    current = ""
    for line in sql.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
