"""tree.db, the mount's own rows: opening it for writing (only the mount does), and where work files lie."""

import sqlite3
from pathlib import Path
from typing import Final

from sync.env import Env
from sync.state.migrate import migrate, schema_version

TREE_PACKAGE: Final = "sync.state.tree"
WORK_FOLDERS: Final = 256
PAGE_SIZE: Final = 2048  # bytes: each closing of a file writes five pages


def tree_schema() -> int:
    """The schema number this program writes."""
    return schema_version(TREE_PACKAGE)


def open_tree(env: Env, path: Path | str) -> sqlite3.Connection:
    """tree.db for writing, made or migrated if need be. Unsupported if a newer program wrote it."""
    connection = env.connect(path, page_size=PAGE_SIZE)
    try:
        migrate(connection, TREE_PACKAGE)
    except BaseException:
        connection.close()
        raise
    return connection


def layer_path(work_dir: Path, work_id: int) -> Path:
    """The file of a work row."""
    return work_dir / layer_name(work_id)


def layer_name(work_id: int) -> str:
    """Its name below work/: <2 hex of the id's lowest byte>/<id as 16 hex>."""
    return f"{work_id % WORK_FOLDERS:02x}/{work_id:016x}"
