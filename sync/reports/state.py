"""What the CLI reads without an engine: both databases, read-only. Works with every process dead and the store away."""

import contextlib

from sync.core.errors import NotFound
from sync.core.paths import is_below
from sync.env import Env
from sync.state import ballast
from sync.state.fleet import FleetDb
from sync.state.home import FleetPaths
from sync.state.tree.reader import TreeReader
from sync.state.view import ShownView


class LocalState:
    """Read-only connections to fleet.db and tree.db; close it."""

    def __init__(self, env: Env, paths: FleetPaths) -> None:
        """NotFound if this machine has no fleet.db, Unsupported or NotYet if it is of another version."""
        self.env = env
        self.paths = paths
        self.config = paths.load()
        if not paths.fleet_db.exists():
            raise NotFound(f"{paths.fleet_db} is not there", hint="'tcfs up' rebuilds it from the store")
        with contextlib.ExitStack() as stack:
            # The first to open a database makes the index of its log: on a full disk there is no room for that.
            self.view = ballast.with_ballast(paths.ballast, lambda: ShownView(env, paths.fleet_db))
            stack.callback(self.view.close)
            self.db = FleetDb(env, env.connect(paths.fleet_db, readonly=True))
            stack.callback(self.db.close)
            self.tree = TreeReader(env, paths.tree_db)
            stack.callback(self.tree.close)
            self._open = stack.pop_all()

    def close(self) -> None:
        self._open.close()

    def is_known_path(self, path: str) -> bool:
        """True if any version of this path is known, dead or alive, or something is shown there."""
        return bool(self.db.query("SELECT 1 FROM version WHERE path = ? LIMIT 1", path)) or self.is_shown(path)

    def is_here(self, path: str) -> bool:
        """True if the path, or something below it, is known or is only in the mount yet, as far as that can be read."""
        if self.is_known_path(path):
            return True
        self.tree.pass_over_log()
        path_of = self.view.path_of
        here = [item.path for item in self.tree.dirty(path_of)]
        here += self.tree.local_only(path_of) + self.tree.special(path_of)
        return any(item == path or is_below(item, path) for item in here)

    def is_shown(self, path: str) -> bool:
        return self.view.resolve_path(path) is not None

    def versioned_path(self, path: str) -> str:
        """The path whose versions a name shows: of a sibling NAME.MACHINE.conflict that is NAME's."""
        row = self.view.resolve_path(path)
        return self.view.sibling_path(row) if row is not None and row.sibling else path
