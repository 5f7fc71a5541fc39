"""Owners as a mount that syncs them publishes them."""

from sync.state.fleet import FleetDb
from sync.worker.change import Change, KeepSource
from sync.worker.publish import Publisher


async def chown(publisher: Publisher, db: FleetDb, path: str, owner: str, group: str) -> None:
    """A version of a path that has one head, changed in nothing else."""
    (head,) = db.heads(path)
    manifest = head.manifest
    change = Change(
        path,
        manifest.kind,
        source=KeepSource(head.id) if manifest.kind == "file" else None,
        mode=manifest.mode,
        mtime_ns=manifest.mtime_ns,
        target=manifest.target,
        seen=frozenset({head.id}),
        last=head.id,
        owner=owner,
        group=group,
    )
    async with publisher.begin() as publication:
        await publication.commit([[change]])
