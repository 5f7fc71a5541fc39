"""Versions for tests: machines that write them as real ones do, each with its own journal."""

import uuid
from collections.abc import Sequence
from typing import Any

from sync.core.clock import join, next_actor
from sync.core.manifest import Clocks, Kind, Manifest, Version, VersionId, encode_record, version_id
from sync.state.fleet import FleetDb
from sync.state.rows import NodePlace

MTIME_NS = 1_600_000_000_000_000_000
WRITTEN_AT = 1_650_000_000  # unix s

Line = tuple[bytes, Version]


class Journal:
    """The versions one machine writes. `written_at` moves one second a version."""

    def __init__(self, name: str, machine_id: str | None = None) -> None:
        self.name = name
        self.machine_id = machine_id or str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self.seq = 0
        self._newest: dict[str, dict[str, int]] = {}

    def write(
        self,
        path: str,
        content: str | None = "",
        *,
        seen: Sequence[Version] = (),
        kind: Kind | None = None,
        **fields: Any,
    ) -> Line:
        """A version of `path` with this content; None = a tombstone. `seen`: versions of that path."""
        self.seq += 1
        if kind is None:
            kind = Kind.TOMBSTONE if content is None else Kind.FILE
        clock = join(version.clock for version in seen)
        newest = self._newest.setdefault(path, {})
        actor = next_actor(self.machine_id, clock, newest)
        clock[actor] = newest[actor] = self.seq
        values: dict[str, Any] = {
            "version": 2,
            "seq": self.seq,
            "rel_path": path,
            "kind": kind,
            "vclock": Clocks(clock),
            "written_by": self.machine_id,
            "machine_name": self.name,
            "written_at": WRITTEN_AT + self.seq,
            "parents": sorted(version.id for version in seen),
        }
        if kind is Kind.FILE:
            size = len(content or "")
            values |= {"content_id": f"c-{content}", "file_size": size, "mode": 0o644, "mtime_ns": MTIME_NS}
            values |= {"chunks": ["ab" * 32], "chunk_sizes": [size]} if size else {}
        elif kind is Kind.DIR:
            values |= {"mode": 0o755, "mtime_ns": MTIME_NS}
        elif kind is Kind.SYMLINK:
            values |= {"target": content, "mode": 0o777, "mtime_ns": MTIME_NS}
        manifest = Manifest(**(values | fields))
        line = encode_record(manifest)
        return line, Version(version_id(self.machine_id, self.seq, line), manifest)

    def mkdir(self, path: str, *, seen: Sequence[Version] = (), **fields: Any) -> Line:
        return self.write(path, seen=seen, kind=Kind.DIR, **fields)

    def remove(self, path: str, *, seen: Sequence[Version] = ()) -> Line:
        return self.write(path, None, seen=seen)


def put(db: FleetDb, *lines: Line, place: NodePlace | None = None) -> None:
    """Insert versions in one transaction."""
    with db.transaction() as txn:
        for line, version in lines:
            txn.insert_version(line, version, place)


def tree(db: FleetDb) -> dict[str, tuple[int, VersionId | None]]:
    """path -> (kind, version) of all that is shown; a directory's path ends in '/'."""
    found: dict[str, tuple[int, VersionId | None]] = {}
    waiting = [(1, "")]
    while waiting:
        parent, folder = waiting.pop()
        for row in db.view.children(parent, limit=100_000):
            path = folder + row.name
            if row.kind == 2:
                path += "/"
                waiting.append((row.id, path))
            found[path] = (row.kind, db.view.identity(row.version) if row.version is not None else None)
    return found


def names(db: FleetDb) -> list[str]:
    return sorted(tree(db))
