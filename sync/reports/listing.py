"""What the fleet shows at a path: tcfs ls."""

from collections.abc import Iterator
from typing import Any

from sync.core.errors import NotFound
from sync.reports.state import LocalState
from sync.state.rows import DIR, SYMLINK, ShownRow

_KINDS = {DIR: "dir", SYMLINK: "symlink"}


def listing(state: LocalState, path: str) -> list[dict[str, Any]]:
    """The entries of a directory by name, or the one entry of anything else; NotFound if nothing is shown there."""
    row = state.view.resolve_path(path)
    if row is None:
        raise NotFound(f"no such file in the fleet: {path}", path=path)
    rows = _children(state, row.id) if row.kind == DIR else [row]
    return [_described(state, child) for child in rows]


def _children(state: LocalState, parent: int) -> Iterator[ShownRow]:
    after = ""
    while page := state.view.children(parent, after):
        yield from page
        after = page[-1].name


def _described(state: LocalState, row: ShownRow) -> dict[str, Any]:
    target = ""
    if row.kind == SYMLINK and row.version is not None:
        target = state.view.manifest(state.view.identity(row.version)).target
    return {
        "name": row.name,
        "kind": _KINDS.get(row.kind, "file"),
        "size": row.size,
        "mode": row.mode,
        "mtime_ns": row.mtime_ns,
        "target": target,
        "is_sibling": bool(row.sibling),
    }
