"""fsck of the overlay: rows of tree.db, the work files that they speak of, and the versions that they build on.

The mount goes on writing meanwhile, and the two databases are not read in one moment: what counts is what two looks
find.
"""

from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from sync.core.errors import BadInput, NotFound, TcfsError
from sync.core.paths import join_path, parse_rel_path
from sync.env import Env
from sync.machines.lock import is_held
from sync.state.fleet import FleetDb
from sync.state.home import FleetPaths
from sync.state.rows import FILE, ROOT_ID
from sync.state.tree.reader import Seal, TreeReader, layer_path
from sync.worker.fsck.check import Check
from sync.worker.fsck.findings import Finding, Findings

TREE_DB: Final = "tree.db"
BETWEEN_S: Final = 0.25  # between the two looks; the mount commits its changes much sooner
DEPTH_MAX: Final = 4096

_WORKS = """
SELECT w.id, w.node, w.sealed, w.limit_below, coalesce(max(s."end"), 0) AS reach,
    coalesce(min(s.start >= 0 AND s."end" > s.start), 1) AS sane
FROM work AS w LEFT JOIN span AS s ON s.work = w.id GROUP BY w.id"""
_NODES = "SELECT id, kind, size, base, layer, work, seal_id, lost_path FROM node"
_ENTRIES = "SELECT parent, name, node, dirty, local_only, seal_id FROM entry"
_LOST = "these bytes were on this machine only"
_RESTART = "stop the mount and start it again: it brings its rows in order"


async def check_overlay(check: Check, paths: FleetPaths) -> None:
    """A database that cannot be read raises sqlite3.DatabaseError."""
    env, db = check.context.env, check.context.db
    first = await env.run(look, env, db, paths)
    if first:
        await env.sleep(BETWEEN_S)
        second = await env.run(look, env, db, paths)
        for finding in first:
            if finding in second:
                check.findings.take(finding)


def look(env: Env, db: FleetDb, paths: FleetPaths) -> list[Finding]:
    """What is wrong in one moment of tree.db; [] while there is none."""
    try:
        connection = env.connect(paths.tree_db, readonly=True)
    except NotFound:
        return []
    reader = TreeReader(env, paths.tree_db, connection=connection)
    found = Findings()
    try:
        connection.execute("BEGIN")
        damage = [row[0] for row in connection.execute("PRAGMA quick_check(20)") if row[0] != "ok"]
        for sentence in damage:
            found.error(TREE_DB, f"{TREE_DB} is damaged: {sentence}")
        has_tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'seal'").fetchone()
        if has_tables and not damage:
            _Look(db, paths, reader, connection, found).run()
    except (TcfsError, msgspec.DecodeError) as error:
        found.error(TREE_DB, f"{TREE_DB} cannot be read: {error}")
    finally:
        connection.close()
    return found.all()


class _Work(NamedTuple):
    """A row of `work`. reach: the end of its last range; sane: every range is one."""

    id: int
    node: int
    sealed: int
    limit_below: int
    reach: int
    sane: int


class _Node(NamedTuple):
    id: int
    kind: int
    size: int
    base: str | None
    layer: int | None
    work: int | None
    seal_id: bytes | None
    lost_path: str | None


class _Look:
    def __init__(self, db: FleetDb, paths: FleetPaths, reader: TreeReader, connection: Any, found: Findings) -> None:
        self._db = db
        self._work_dir = paths.work_dir
        self._found = found
        self._execute = connection.execute
        self._mount_runs = is_held(paths.mount_lock)
        self._works = {row[0]: _Work(*row) for row in self._execute(_WORKS)}
        self._seals = {seal.seal_id: seal for seal in reader.seals()}
        # Under another fleet.db the numbers of folders and versions mean nothing until the mount has started again.
        self._is_attached = reader.fleet_epoch() in (None, db.epoch)

    def run(self) -> None:
        if not self._is_attached:
            self._found.warning(TREE_DB, f"{TREE_DB} was written beside another fleet.db", hint=_RESTART)
        for seal in self._seals.values():
            self._check_seal(seal)
        for row in self._execute(_NODES).fetchall():
            self._check_node(_Node(*row))
        for parent, name, node, dirty, local_only, seal_id in self._execute(_ENTRIES).fetchall():
            self._check_entry(parent, name, node, dirty and not local_only, seal_id)
        self._check_works()

    # ---- seals

    def _check_seal(self, seal: Seal) -> None:
        name = f"seal {seal.ord} of {TREE_DB}"
        answered = self._db.view.answer(seal.seal_id) is not None
        try:
            parse_rel_path(seal.path)
        except BadInput as error:
            self._found.error(TREE_DB, f"{name}: {error.message}", path=seal.path)
        if seal.base is not None and not answered:
            self._check_base(seal.path, seal.base)
        if seal.layer is None:
            return
        layer = self._works.get(seal.layer)
        if layer is None:
            if not answered:
                self._found.error(TREE_DB, f"{name}: its layer {seal.layer} is not there", path=seal.path, hint=_LOST)
            return
        if not layer.sealed:
            self._found.error(TREE_DB, f"{name}: its layer may still be written", path=seal.path)
        if not answered:
            self._check_file(layer, seal.path)

    # ---- nodes

    def _check_node(self, node: _Node) -> None:
        path = self._path_of_node(node)
        name = f"node {node.id} of {TREE_DB}"
        for which, work_id in (("layer", node.layer), ("work file", node.work)):
            if work_id is not None and work_id not in self._works:
                self._found.error(TREE_DB, f"{name}: its {which} {work_id} is not there", path=path, hint=_LOST)
        if node.seal_id is not None and node.seal_id not in self._seals:
            self._found.error(TREE_DB, f"{name} waits for a seal that is not there", path=path, hint=_RESTART)
        if node.kind == FILE and node.base is not None:
            self._check_base(path, node.base)
        work = self._works.get(node.work) if node.work is not None else None
        if work is not None:
            if work.reach > node.size:
                self._found.error(TREE_DB, f"{name}: its work file reaches beyond {node.size} bytes", path=path)
            self._check_file(work, path)

    def _check_base(self, path: str, base: str) -> None:
        if self._is_attached and self._db.view.number(base) is None:
            message = f"{path or 'a file without a name'} builds on version {base}, which is not known here"
            self._found.error(TREE_DB, message, path=path)

    def _path_of_node(self, node: _Node) -> str:
        if node.lost_path is not None:
            return node.lost_path
        rows = self._execute("SELECT parent, name FROM entry WHERE node = ?", (node.id,)).fetchall()
        return (self._path(*rows[0]) or rows[0][1]) if rows else ""

    # ---- entries

    def _check_entry(self, parent: int, name: str, node: int | None, is_dirty: bool, seal_id: bytes | None) -> None:
        path = self._path(parent, name)
        if path is None and node is not None and is_dirty and self._is_attached:
            text = f"the changed file {name} hangs in folder {parent}, which is nowhere"
            self._found.error(TREE_DB, text, path=name, hint=_RESTART)
        if node is not None and not self._execute("SELECT 1 FROM node WHERE id = ?", (node,)).fetchone():
            self._found.error(TREE_DB, f"{path or name} shows node {node}, which is not there", path=path or name)
        if seal_id is not None and seal_id not in self._seals:
            text = f"{path or name} waits for a seal that is not there"
            self._found.error(TREE_DB, text, path=path or name, hint=_RESTART)

    def _path(self, parent: int, name: str) -> str | None:
        """None if nothing leads there. A folder that shown has lost is remembered in `attach`."""
        path = name
        for _ in range(DEPTH_MAX):
            if parent == ROOT_ID:
                return path
            row = self._execute("SELECT parent, name FROM entry WHERE node = ?", (parent,)).fetchone()
            if row is None:
                above = self._shown_path(parent)
                return None if above is None else join_path(above, path)
            parent, path = row[0], join_path(row[1], path)
        return None

    def _shown_path(self, folder: int) -> str | None:
        try:
            return self._db.view.path_of(folder)
        except NotFound:
            row = self._execute("SELECT path FROM attach WHERE dir_id = ?", (folder,)).fetchone()
            return None if row is None else str(row[0])

    # ---- work files

    def _check_works(self) -> None:
        used = {row[0] for row in self._execute("SELECT layer FROM node UNION SELECT work FROM node")}
        used |= {seal.layer for seal in self._seals.values()}
        for work in self._works.values():
            name = f"work file {work.id:016x}"
            if not work.sane or work.limit_below < 0:
                self._found.error(name, f"{name}: {TREE_DB} has impossible ranges of it")
            if work.id not in used:
                self._found.warning(name, f"{name} belongs to nothing", hint=_RESTART)
        for (work_id,) in self._execute("SELECT DISTINCT work FROM span WHERE work NOT IN (SELECT id FROM work)"):
            self._found.warning(TREE_DB, f"{TREE_DB} has ranges of work file {work_id:016x}, which it does not know")

    def _check_file(self, work: _Work, path: str) -> None:
        """Holds all that its ranges say. Only a sealed layer is never touched again once its rows are committed."""
        file = layer_path(self._work_dir, work.id)
        size = _size(file)
        if work.reach <= (size or 0):
            return
        message = f"{file} is missing" if size is None else f"{file} has {size} bytes, its ranges reach to {work.reach}"
        if work.sealed or self._mount_runs or size is None:
            self._found.error(str(file), message, path=path, hint=_LOST)
        else:
            self._found.warning(str(file), message, path=path, hint="a truncation was cut off; the mount completes it")


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None
