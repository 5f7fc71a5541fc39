"""fsck of the overlay: rows of tree.db, the work files that they speak of, and the versions that they build on.

The mount goes on writing meanwhile, and the two databases are not read in one moment: what counts is what two looks
find.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from sync.core.errors import BadInput, NotFound, TcfsError
from sync.core.paths import join_path, parse_rel_path
from sync.env import Env
from sync.state.fleet import FleetDb
from sync.state.home import FleetPaths
from sync.state.lock import is_held
from sync.state.rows import FILE, ROOT_ID
from sync.state.tree.check import Broken, EntryRow, NodeRow, Rows, Work
from sync.state.tree.reader import Seal, TreeReader, layer_path
from sync.worker.fsck.check import Check
from sync.worker.fsck.findings import Finding, Findings

Settle = Callable[[], Awaitable[None]]

TREE_DB: Final = "tree.db"
BETWEEN_S: Final = 0.25  # between the two looks; the mount commits its changes much sooner
DEPTH_MAX: Final = 4096

_LOST = "these bytes were on this machine only"
_RESTART = "stop the mount and start it again: it brings its rows in order"


async def check_overlay(check: Check, paths: FleetPaths, settle: Settle) -> None:
    """settle: returns when the round of seals that the mount may have begun has ended.

    A database that cannot be read raises sqlite3.DatabaseError.
    """
    env, db = check.context.env, check.context.db
    first = await env.run(look, env, db, paths)
    if first:
        await settle()
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


class _Look:
    def __init__(self, db: FleetDb, paths: FleetPaths, reader: TreeReader, connection: Any, found: Findings) -> None:
        self._db = db
        self._work_dir = paths.work_dir
        self._found = found
        self._execute = connection.execute
        self._mount_runs = is_held(paths.mount_lock)
        self._rows = Rows(connection.execute)
        self._keys = {entry.node: (entry.parent, entry.name) for entry in self._rows.entries if entry.node is not None}
        self._seals = reader.seals()
        # Under another fleet.db the numbers of folders and versions mean nothing until the mount has started again.
        self._is_attached = reader.fleet_epoch() in (None, db.epoch)

    def run(self) -> None:
        if not self._is_attached:
            self._found.warning(TREE_DB, f"{TREE_DB} was written beside another fleet.db", hint=_RESTART)
        for seal in self._seals:
            self._check_seal(seal)
        for broken in self._rows.broken():
            self._take(broken)
        for node in self._rows.nodes.values():
            self._check_node(node)
        for entry in self._rows.entries:
            self._check_entry(entry)

    def _take(self, broken: Broken) -> None:
        """A broken rule of the rows. What the next start mends is no error, unless a mount goes on with it."""
        path = ""
        if broken.entry is not None:
            path = self._path(*broken.entry) or broken.entry[1]
        elif broken.node is not None:
            path = self._path_of_node(self._rows.nodes[broken.node])
        subject = f"work file {broken.work:016x}" if broken.work is not None else TREE_DB
        message = f"{TREE_DB}: {broken.text}"
        if broken.heals and (broken.work is not None or not self._mount_runs):
            self._found.warning(subject, message, path=path, hint=_RESTART)
        else:
            hint = _RESTART if broken.heals else _LOST if "not there" in broken.text else ""
            self._found.error(subject, message, path=path, hint=hint)

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
        layer = self._rows.works.get(seal.layer)
        if layer is None:
            if not answered:
                self._found.error(TREE_DB, f"{name}: its layer {seal.layer} is not there", path=seal.path, hint=_LOST)
            return
        if not layer.sealed:
            self._found.error(TREE_DB, f"{name}: its layer may still be written", path=seal.path)
        if not answered:
            self._check_file(layer, seal.path)

    # ---- nodes

    def _check_node(self, node: NodeRow) -> None:
        path = self._path_of_node(node)
        if node.kind == FILE and node.base is not None:
            self._check_base(path, node.base)
        work = self._rows.works.get(node.work) if node.work is not None else None
        if work is not None:
            self._check_file(work, path)

    def _check_base(self, path: str, base: str) -> None:
        if self._is_attached and self._db.view.number(base) is None:
            message = f"{path or 'a file without a name'} builds on version {base}, which is not known here"
            self._found.error(TREE_DB, message, path=path)

    def _path_of_node(self, node: NodeRow) -> str:
        if node.lost_path is not None:
            return node.lost_path
        key = self._keys.get(node.id)
        return (self._path(*key) or key[1]) if key is not None else ""

    # ---- entries

    def _check_entry(self, entry: EntryRow) -> None:
        if entry.node is None or not entry.dirty or entry.local_only or not self._is_attached:
            return
        if self._path(entry.parent, entry.name) is None:
            text = f"the changed file {entry.name} hangs in folder {entry.parent}, which is nowhere"
            self._found.error(TREE_DB, text, path=entry.name, hint=_RESTART)

    def _path(self, parent: int, name: str) -> str | None:
        """None if nothing leads there. A folder that shown has lost is remembered in `attach`."""
        path = name
        for _ in range(DEPTH_MAX):
            if parent == ROOT_ID:
                return path
            key = self._keys.get(parent)
            if key is None:
                above = self._shown_path(parent)
                return None if above is None else join_path(above, path)
            parent, path = key[0], join_path(key[1], path)
        return None

    def _shown_path(self, folder: int) -> str | None:
        try:
            return self._db.view.path_of(folder)
        except NotFound:
            row = self._execute("SELECT path FROM attach WHERE dir_id = ?", (folder,)).fetchone()
            return None if row is None else str(row[0])

    # ---- work files

    def _check_file(self, work: Work, path: str) -> None:
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
