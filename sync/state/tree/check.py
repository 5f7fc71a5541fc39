"""The rules that the rows of tree.db keep among themselves; read by fsck, and by the mount's own tests.

Between two commits of a running mount a round of seals may be under way: its entries and nodes name seals whose rows
come with the round's end. All other rules hold after every commit.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol

from sync.state.rows import DIR, FILE, ROOT_ID, SPECIAL, SYMLINK

_NODES: Final = "SELECT id, kind, size, base, layer, work, seal_id, sealed_gen, lost_path FROM node"
_ENTRIES: Final = "SELECT parent, name, node, dirty, local_only, seal_id, sealed_gen FROM entry"
_WORKS: Final = """
SELECT w.id, w.node, w.sealed, w.limit_below, coalesce(max(s."end"), 0) AS reach,
    coalesce(min(s.start >= 0 AND s."end" > s.start), 1) AS sane
FROM work AS w LEFT JOIN span AS s ON s.work = w.id GROUP BY w.id"""


class Execute(Protocol):
    """sqlite3.Connection.execute"""

    def __call__(self, sql: str, parameters: tuple[Any, ...] = ..., /) -> Any: ...


class Work(NamedTuple):
    """A row of `work`. reach: the end of its last range; sane: every range is one."""

    id: int
    node: int
    sealed: int
    limit_below: int
    reach: int
    sane: int


class NodeRow(NamedTuple):
    id: int
    kind: int
    size: int
    base: str | None
    layer: int | None
    work: int | None
    seal_id: bytes | None
    sealed_gen: int | None
    lost_path: str | None


class EntryRow(NamedTuple):
    parent: int
    name: str
    node: int | None
    dirty: int
    local_only: int
    seal_id: bytes | None
    sealed_gen: int | None


class Broken(NamedTuple):
    """A rule that is broken. entry (folder and name), node or work: where. heals: the mount's next start mends it."""

    text: str
    entry: tuple[int, str] | None = None
    node: int | None = None
    work: int | None = None
    heals: bool = False


class Rows:
    """All rows of one moment; the caller holds a transaction."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self.works = {row[0]: Work(*row) for row in execute(_WORKS)}
        self.nodes = {row[0]: NodeRow(*row) for row in execute(_NODES)}
        self.entries = [EntryRow(*row) for row in execute(_ENTRIES)]
        self.seals: dict[bytes, int | None] = dict(execute("SELECT seal_id, layer FROM seal"))

    def broken(self) -> Iterator[Broken]:
        """Every rule that is broken; nothing if all is well."""
        shown_by: dict[int, EntryRow] = {}
        for entry in self.entries:
            yield from self._entry(entry)
            if entry.node is None:
                continue
            other = shown_by.setdefault(entry.node, entry)
            node = self.nodes.get(entry.node)
            if other is not entry and (node is None or node.kind == DIR):
                place = (entry.parent, entry.name)
                yield Broken(f"node {entry.node} stands under two names, {other.name} and {entry.name}", place)
        for node in self.nodes.values():
            yield from self._node(node)
            if node.id not in shown_by and node.lost_path is None and node.id != ROOT_ID:
                yield Broken(f"node {node.id} has no name and is not to be published", node=node.id)
        yield from self._works()

    def _entry(self, entry: EntryRow) -> Iterator[Broken]:
        place = (entry.parent, entry.name)
        if entry.node is not None and entry.node not in self.nodes:
            yield Broken(f"{entry.name} shows node {entry.node}, which is not there", place)
        if entry.local_only and (entry.dirty or entry.node is None):
            yield Broken(f"{entry.name} stays on this machine and is to be published as well", place)
        yield from self._seal(entry.name, entry.seal_id, entry.sealed_gen, place, entry.node)

    def _node(self, node: NodeRow) -> Iterator[Broken]:
        name = f"node {node.id}"
        if node.kind not in (FILE, DIR, SYMLINK, *SPECIAL):
            yield Broken(f"{name} is of no kind that there is: {node.kind}", node=node.id)
        for which, work_id in (("layer", node.layer), ("work file", node.work)):
            if work_id is not None and work_id not in self.works:
                yield Broken(f"{name}: its {which} {work_id} is not there", node=node.id)
        yield from self._seal(name, node.seal_id, node.sealed_gen, None, node.id)
        if node.layer is not None and node.seal_id is None and node.work is None:
            yield Broken(f"{name} has a layer that no seal holds", node=node.id, heals=True)
        work = self.works.get(node.work) if node.work is not None else None
        if work is not None and work.reach > node.size:
            yield Broken(f"{name}: its work file reaches beyond {node.size} bytes", node=node.id)
        if work is not None and work.sealed:
            yield Broken(f"{name}: its work file is sealed, and would be written", node=node.id)

    def _seal(
        self, name: str, seal_id: bytes | None, gen: int | None, entry: tuple[int, str] | None, node: int | None
    ) -> Iterator[Broken]:
        if (seal_id is None) != (gen is None):
            yield Broken(f"{name} has half a seal", entry, node)
        elif seal_id is not None and seal_id not in self.seals:
            yield Broken(f"{name} waits for a seal that is not there: {seal_id.hex()}", entry, node, heals=True)

    def _works(self) -> Iterator[Broken]:
        used = {work_id for node in self.nodes.values() for work_id in (node.layer, node.work)}
        used |= set(self.seals.values())
        for work in self.works.values():
            name = f"work file {work.id:016x}"
            if not work.sane or work.limit_below < 0:
                yield Broken(f"{name} has impossible ranges", work=work.id)
            if work.id not in used:
                yield Broken(f"{name} belongs to nothing", work=work.id, heals=True)
        for (work_id,) in self._execute("SELECT DISTINCT work FROM span WHERE work NOT IN (SELECT id FROM work)"):
            yield Broken(f"there are ranges of work file {work_id:016x}, which has no row", work=work_id, heals=True)
