"""Transaction: every change of fleet.db. Heads, shown, feed, outbox and answers move together or not at all."""

import sqlite3
from collections.abc import Iterable

from sync.core.errors import BadFormat, BadInput
from sync.core.ignore import IGNORE_FILE
from sync.core.manifest import (
    CondemnedRecord,
    Kind,
    Manifest,
    PackRecord,
    Version,
    decode_record,
    record_seq,
    version_id,
)
from sync.core.show import Mode
from sync.env import Env
from sync.state.books import OWNERS_TO_DERIVE, Books
from sync.state.derive import Deriver
from sync.state.folders import Folders, Origin
from sync.state.heads import VersionTable
from sync.state.many import insert_many
from sync.state.move import move_dir
from sync.state.rows import ROOT_ID, MachineNumbers, NodePlace, encode_was
from sync.state.shown_table import ShownTable

_CONTESTED = "SELECT path FROM head GROUP BY path HAVING count(*) > 1"
_LINKED = """
SELECT s.link_id, v.path FROM shown AS s JOIN version AS v ON v.num = s.version WHERE s.sibling = 0 AND s.link_id IN (
    SELECT link_id FROM shown WHERE link_id IS NOT NULL AND sibling = 0 GROUP BY link_id
    HAVING min(owner) <> max(owner) OR min("group") <> max("group"))"""


class Transaction(Books):
    """One open transaction; made by FleetDb.transaction, which finishes and commits it when it is left."""

    def __init__(self, env: Env, connection: sqlite3.Connection, machines: MachineNumbers) -> None:
        super().__init__(env, connection, machines)
        self.versions = VersionTable(connection, machines)
        self._origin = Origin()
        self._table: ShownTable | None = None
        self._folders: Folders | None = None
        self._moved: dict[str, None] = {}

    # ---- versions

    def insert_version(self, line: bytes, version: Version, place: NodePlace | None = None) -> bool:
        """Insert a version, whose record's bytes are `line`; False if it is known already.

        place: the node it was published from, which shown takes over; of a removal in the mount one without a number;
        None for a version from elsewhere, which moves the times of its folder. BadInput if that node is the root.
        """
        if place is not None and place.node_id is not None and place.node_id <= ROOT_ID:
            raise BadInput(f"no node has the number {place.node_id}", path=version.path)
        manifest = version.manifest
        machine = self.machine_number(version.id.partition(":")[0])
        if not self.versions.add(machine, line, version):
            return False
        path = manifest.rel_path
        if place is None:
            written_at = self._origin.elsewhere.get(path, 0)
            self._origin.elsewhere[path] = max(written_at, manifest.written_at)
        else:
            self._origin.places[version.id] = place
            if manifest.kind is Kind.DIR:
                self._origin.folders[path] = place
            elif self._origin.folders:
                self._origin.folders.pop(path, None)
        return True

    def insert(self, machine_id: str, line: bytes) -> bool:
        """Insert any record of a machine's journal, known type or not; False for a version known already.

        BadFormat if the line is broken.
        """
        record = decode_record(line)
        match record:
            case Manifest():
                return self.insert_version(line, Version(version_id(machine_id, record.seq, line), record))
            case PackRecord():
                self.add_pack(machine_id, record)
            case CondemnedRecord():
                self.condemn(machine_id, record.pack_id)
            case _:
                self._execute(
                    "INSERT OR REPLACE INTO other_record VALUES (?, ?, ?)",
                    *(self.machine_number(machine_id), record_seq(line), line),
                )
        return True

    def forget_versions(self, identities: Iterable[str]) -> None:
        """Take versions out again, as if never heard of (queued ones that are written anew after a fork)."""
        self._derive()
        self.versions.forget(identities)

    def rename_version(self, old: str, new: str) -> None:
        """An own version is called otherwise now (after a fork): read through for base, seen, answers and plain."""
        self._execute("INSERT OR REPLACE INTO renamed_version VALUES (?, ?)", old, new)

    # ---- the tree

    def derive(self) -> None:
        """Bring shown up to date with what was inserted so far; FleetDb.view shows that from now on."""
        places = self._origin.places
        self._derive()
        self._origin.places = self._without_name(places)

    def move_dir(self, dir_id: int, old_path: str, new_path: str) -> None:
        """A shown directory was renamed here: its row and all below it keep their numbers.

        Call it before the versions at the new paths and the tombstones at the old ones are inserted.
        """
        self.versions.flush()
        if self.versions.changed:
            self.derive()  # what moves may have been inserted just now
        self._moved.update(move_dir(self._open_folders(), dir_id, old_path, new_path))

    def _without_name(self, places: dict[str, NodePlace]) -> dict[str, NodePlace]:
        """Those that no name has led to so far: what is in their way may go before the transaction ends."""
        by_id = self._open_folders().table.by_id
        waiting: dict[str, NodePlace] = {}
        for identity, place in places.items():
            row = by_id(place.node_id) if place.node_id is not None else None
            if place.node_id is not None and (row is None or row.sibling):
                waiting[identity] = place
        return waiting

    def set_tcfsignore(self, text: str, version: str) -> None:
        """The text of the fleet's .tcfsignore, and the identity that it is of ('': there is none).

        The feed tells of the name once more, so that the mount decides by it.
        """
        self._derive()
        self.set_meta("tcfsignore", text or None)
        self.set_meta("tcfsignore_version", version or None)
        row = self._open_folders().table.at(ROOT_ID, IGNORE_FILE)
        item = (IGNORE_FILE, ROOT_ID, IGNORE_FILE, row.id if row is not None else 0, encode_was(row))
        insert_many(self._connection, "INSERT INTO feed (path, parent, name, id, was) VALUES ", [item])

    # ---- who we are

    def set_mode(self, mode: Mode) -> None:
        """How concurrent versions are shown here."""
        self.set_meta("mode", mode.value)
        self._derive_contested()

    def take_machine_id(self, machine_id: str, name: str) -> None:
        """Go on under a new machine_id (after a fork): the old one stays ours, the new journal begins with seq 1."""
        number = self.machine_number(machine_id)
        self._execute("UPDATE machine SET own = 1, name = ? WHERE num = ?", name, number)
        self.set_meta("machine_id", machine_id)
        self.set_meta("machine_name", name)
        self.set_meta("next_seq", 1)
        self.set_confirmed(None)
        self._derive_contested()

    def derive_owners(self) -> None:
        """What a migration has filled of one version each (schema/017_owner_merged.sql) becomes what is shown."""
        self._derive_contested()
        table = self._open_folders().table
        for link_id, path in self._connection.execute(_LINKED).fetchall():
            table.links_changed[link_id] = None  # its names may differ now, though no row of them changes
            self.versions.changed[path] = None
        self.set_meta(OWNERS_TO_DERIVE, None)

    # ---- leaving

    def finish(self) -> None:
        """Derive what has changed and append the feed; FleetDb commits."""
        self._derive()
        if self._table is not None:
            self.set_meta("next_ino", self._table.next_id)

    def _derive_contested(self) -> None:
        self.versions.flush()
        self.versions.changed.update((row[0], None) for row in self._connection.execute(_CONTESTED).fetchall())

    def _open_folders(self) -> Folders:
        if self._table is None:
            next_id = self.meta("next_ino")
            if not isinstance(next_id, int):
                raise BadFormat("fleet.db has lost its counter next_ino")
            self._table = ShownTable(self._connection, next_id)
        if self._folders is None:
            self._folders = Folders(self._table, self.versions, self._origin, self._env.now_ns())
        return self._folders

    def _derive(self) -> None:
        """Bring shown up to date with what was inserted so far."""
        self.versions.flush()
        paths = {**self._moved, **self.versions.changed}
        if not paths:
            return
        folders = self._open_folders()
        own_ids = {str(row[0]) for row in self._connection.execute("SELECT machine_id FROM machine WHERE own = 1")}
        mode = Mode(str(self.meta("mode") or Mode.INTERACTIVE.value))
        feed = Deriver(folders, own_ids, mode).run(paths)
        folders.table.flush()
        table = folders.table
        table.prefetch_before((parent, name) for _, parent, name, _ in feed)
        items = [(*item, encode_was(table.before(item[1], item[2]))) for item in feed]
        insert_many(self._connection, "INSERT INTO feed (path, parent, name, id, was) VALUES ", items)
        self.versions.changed = {}
        self._moved = {}
        self._folders = None
        self._origin = Origin()
