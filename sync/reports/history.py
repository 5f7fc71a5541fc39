"""The versions of a path, and the paths with versions that stand against each other."""

from typing import Any

from sync.core.manifest import Kind, Manifest
from sync.reports.state import LocalState
from sync.state.rows import decode_version, identity_of, size_of

_OF_PATH = """
SELECT m.machine_id, v.seq, v.hash, v.record, h.version IS NOT NULL, m.name
FROM version AS v JOIN machine AS m ON m.num = v.machine LEFT JOIN head AS h ON h.path = v.path AND h.version = v.num
WHERE v.path = ?"""
_CONTESTED = "SELECT path FROM head GROUP BY path HAVING count(*) > 1 ORDER BY path"


def versions(state: LocalState, path: str) -> list[dict[str, Any]]:
    """Every known version of a path, the newest first. name: machine:seq, for people; is_head: nothing supersedes it."""
    found = []
    for machine_id, seq, digest, record, is_head, machine_name in state.rows(_OF_PATH, path):
        identity = identity_of(machine_id, seq, digest)
        manifest = decode_version(identity, record).manifest
        found.append(_described(identity, machine_name, manifest, bool(is_head)))
    return sorted(found, key=lambda item: (item["written_at"], item["seq"], item["id"]), reverse=True)


def contested_paths(state: LocalState) -> list[str]:
    """Paths with heads of unequal value, at least one of them live: conflicts, whatever this machine's mode shows."""
    return [path for (path,) in state.rows(_CONTESTED) if _is_conflict(_heads(state, path))]


def conflicts(state: LocalState) -> list[dict[str, Any]]:
    """The contested paths with the versions that stand there."""
    return [
        {"path": path, "versions": [item for item in versions(state, path) if item["is_head"]]}
        for path in contested_paths(state)
    ]


def _heads(state: LocalState, path: str) -> list[Manifest]:
    rows = state.rows(_OF_PATH + " AND h.version IS NOT NULL", path)
    return [decode_version(identity_of(row[0], row[1], row[2]), row[3]).manifest for row in rows]


def _is_conflict(heads: list[Manifest]) -> bool:
    """Directories never conflict with each other: every field of theirs merges."""
    values = {head.value for head in heads}
    return len(values) > 1 and any(head.is_live for head in heads)


def _described(identity: str, machine_name: str, manifest: Manifest, is_head: bool) -> dict[str, Any]:
    return {
        "id": identity,
        "name": f"{manifest.machine_name or machine_name}:{manifest.seq}",
        "machine": manifest.machine_name or machine_name,
        "seq": manifest.seq,
        "kind": manifest.kind.value,
        "size": size_of(manifest),
        "mode": manifest.mode,
        "mtime_ns": manifest.mtime_ns,
        "written_at": manifest.written_at,
        "content_id": manifest.content_id,
        "is_head": is_head,
        "is_removal": manifest.kind is Kind.TOMBSTONE,
        "parents": list(manifest.parents),
        "moved_from": manifest.moved_from.path if manifest.moved_from else "",
        "moved_to": manifest.moved_to.path if manifest.moved_to else "",
    }
