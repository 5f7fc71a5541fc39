"""The versions of a path, and the paths with versions that stand against each other."""

from typing import Any

from sync.core.manifest import Version
from sync.reports.state import LocalState
from sync.state.fleet import FleetDb
from sync.state.rows import size_of


def versions(state: LocalState, path: str) -> list[dict[str, Any]]:
    """Every known version of a path, newest first. name: machine:seq, for people; is_head: nothing supersedes it."""
    heads = {head.id for head in state.db.heads(path)}
    found = [_described(version, version.id in heads) for version in state.db.history(path)]
    return sorted(found, key=lambda item: (item["written_at"], item["seq"], item["id"]), reverse=True)


def contested_paths(db: FleetDb) -> list[str]:
    """Paths with heads of unequal value, at least one of them live: conflicts, whatever this machine's mode shows."""
    contested = db.contested_paths()
    return [path for path in contested if len({head.manifest.value for head in db.heads(path)}) > 1]


def conflicts(state: LocalState) -> list[dict[str, Any]]:
    """The contested paths with the versions that stand there."""
    return [
        {"path": path, "versions": [item for item in versions(state, path) if item["is_head"]]}
        for path in contested_paths(state.db)
    ]


def _described(version: Version, is_head: bool) -> dict[str, Any]:
    manifest = version.manifest
    return {
        "id": version.id,
        "name": f"{manifest.machine_name}:{manifest.seq}",
        "machine": manifest.machine_name,
        "seq": manifest.seq,
        "kind": manifest.kind.value,
        "size": size_of(manifest),
        "mode": manifest.mode,
        "owner": manifest.owner,
        "group": manifest.group,
        "mtime_ns": manifest.mtime_ns,
        "written_at": manifest.written_at,
        "content_id": manifest.content_id,
        "is_head": is_head,
        "is_removal": not manifest.is_live,
        "parents": list(manifest.parents),
        "moved_from": manifest.moved_from.path if manifest.moved_from else "",
        "moved_to": manifest.moved_to.path if manifest.moved_to else "",
    }
