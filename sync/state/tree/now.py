"""The rows of the mount as they are now: those of tree.db, and over them what the redo log has put since.

What is only logged stays so for moments, or, once the mount has died, until the next one starts.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from sync.core.errors import NotFound
from sync.core.paths import join_path
from sync.state.rows import ROOT_ID
from sync.state.tree.redo import NOTHING_LOGGED, Logged, LoggedEntry, LoggedNode, Sealed

DEPTH_MAX: Final = 4096  # parts of a path; more parents than this are a loop

Query = Callable[..., list[Any]]  # SQL and its arguments; all rows

_ENTRIES: Final = """
SELECT e.parent, e.name, e.node, e.moved_node, e.dirty, e.local_only, e.resolved, e.gen, e.seal_id, e.sealed_gen,
    COALESCE(n.kind, 0), n.base, COALESCE(n.unflushed, 0)
FROM entry AS e LEFT JOIN node AS n ON n.id = COALESCE(e.node, e.moved_node)"""
_NODE: Final = "SELECT kind, base, unflushed FROM node WHERE id = ?"
_LOST: Final = "SELECT id, lost_path, gen, seal_id, sealed_gen, unflushed FROM node WHERE lost_path IS NOT NULL"
_BASES: Final = "SELECT base FROM node WHERE base IS NOT NULL UNION SELECT base FROM seal WHERE base IS NOT NULL"

DIRTY: Final = "WHERE e.dirty = 1 AND e.local_only = 0"  # of `entries`
LOCAL_ONLY: Final = "WHERE e.local_only = 1"


class EntryNow(NamedTuple):
    """A name of the mount's own, flags as tree.db has them. node None: it is absent here. kind, base and unflushed: of
    the node, or of the one that moved away from there; 0, None and 0 without one.
    """

    parent: int
    name: str
    node: int | None
    moved_node: int | None
    dirty: int
    local_only: int
    resolved: int
    gen: int
    seal_id: bytes | None
    sealed_gen: int | None
    kind: int
    base: str | None
    unflushed: int

    @property
    def sealed(self) -> Sealed:
        return self.gen, self.seal_id, self.sealed_gen


class LostNow(NamedTuple):
    """A node without a name, to be published beside `path`."""

    path: str
    sealed: Sealed
    unflushed: int


class RowsNow:
    """One moment of tree.db. logged: nothing, if tree.db has it all by now."""

    def __init__(self, query: Query, logged: Logged) -> None:
        self._query = query
        self._logged = logged

    def entries(
        self, where: str = "", is_meant: Callable[[LoggedEntry], bool] = lambda row: True
    ) -> Iterator[EntryNow]:
        """Those that `where` chooses of tree.db, and `is_meant` of the log."""
        log = self._logged
        rows = map(EntryNow._make, self._query(f"{_ENTRIES} {where}"))
        if log is NOTHING_LOGGED:
            yield from rows
            return
        for row in rows:
            if (row.parent, row.name) in log.entries or (row.parent, row.name) in log.entries_gone:
                continue
            newer = log.nodes.get(row.node if row.node is not None else row.moved_node or 0)
            yield row if newer is None else row._replace(kind=newer.kind, base=newer.base, unflushed=newer.unflushed)
        for logged in log.entries.values():
            if is_meant(logged):
                behind = self._behind(logged.node if logged.node is not None else logged.moved_node)
                yield EntryNow(*logged[:7], *self._committed(logged.sealed), *behind)

    def lost(self) -> Iterator[LostNow]:
        """Nodes without a name that are to be published."""
        log = self._logged
        for number, path, gen, seal_id, sealed_gen, unflushed in self._query(_LOST):
            if number not in log.nodes and number not in log.nodes_gone:
                yield LostNow(path, (gen, seal_id, sealed_gen), unflushed)
        for node in log.nodes.values():
            if node.lost_path is not None:
                yield LostNow(node.lost_path, self._committed(node.sealed), node.unflushed)

    def bases(self) -> set[str]:
        """Identities of the versions whose bytes changed or sealed files still show."""
        found = {row[0] for row in self._query(_BASES)}
        return found | {node.base for node in self._logged.nodes.values() if node.base is not None}

    def _behind(self, number: int | None) -> tuple[int, str | None, int]:
        """kind, base and unflushed of a node."""
        node: LoggedNode | None = self._logged.nodes.get(number) if number is not None else None
        if node is not None:
            return node.kind, node.base, node.unflushed
        rows = self._query(_NODE, number) if number is not None and number not in self._logged.nodes_gone else []
        return rows[0] if rows else (0, None, 0)

    def _committed(self, sealed: Sealed) -> Sealed:
        """A seal counts from its commit on."""
        gen, seal_id, sealed_gen = sealed
        if seal_id is not None and not self._query("SELECT 1 FROM seal WHERE seal_id = ?", seal_id):
            seal_id = None
        return gen, seal_id, sealed_gen


class Folders:
    """The rel_paths of folders at one moment, each found once. shown_path: ShownView.path_of."""

    def __init__(self, query: Query, logged: Logged, shown_path: Callable[[int], str]) -> None:
        self._query = query
        self._logged = logged
        self._above = {row.node: (row.parent, row.name) for row in logged.entries.values() if row.node is not None}
        self._shown_path = shown_path
        self._known: dict[int, str | None] = {ROOT_ID: ""}

    def below(self, folder: int, name: str) -> str | None:
        """The path of a name in a folder; None if a folder above is gone without a trace."""
        above = self._known[folder] if folder in self._known else self._find(folder)
        return None if above is None else join_path(above, name)

    def _find(self, folder: int) -> str | None:
        """What is come upon on the way up is known from then on."""
        passed: list[tuple[int, str]] = []
        top = folder
        while top not in self._known and len(passed) < DEPTH_MAX:
            place = self._place(top)
            if place is None:
                self._known[top] = self._shown(top)
                break
            passed.append((top, place[1]))
            top = place[0]
        path = self._known.get(top)
        for each, name in reversed(passed):
            path = self._known[each] = None if path is None else join_path(path, name)
        return self._known[folder]

    def _place(self, folder: int) -> tuple[int, str] | None:
        if folder in self._above:
            return self._above[folder]
        rows = self._query("SELECT parent, name FROM entry WHERE node = ?", folder)
        return next(((parent, name) for parent, name in rows if (parent, name) not in self._logged.entries_gone), None)

    def _shown(self, folder: int) -> str | None:
        try:
            return self._shown_path(folder)
        except NotFound:
            attached = self._query("SELECT path FROM attach WHERE dir_id = ?", folder)
            return str(attached[0][0]) if attached else None
