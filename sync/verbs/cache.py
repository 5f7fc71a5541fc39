"""cache: what of the fleet's content lies on this machine."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from sync.core.manifest import ChunkId
from sync.core.paths import join_path
from sync.core.policy import Policies
from sync.state.globs import children
from sync.state.rows import DIR, FILE
from sync.verbs import Progress, parse_args
from sync.verbs.places import places_of

if TYPE_CHECKING:
    from sync.engine import Engine


class CacheArgs(msgspec.Struct, forbid_unknown_fields=True):
    """path None: only the sums. '' or a path: the files at and below it too."""

    cwd: str = "/"
    path: str | None = None


class CachedFile(msgspec.Struct, frozen=True):
    """local: bytes of it that are in the cache; those that a changed file has only in the mount do not count."""

    path: str
    size: int
    local: int
    pinned: bool


async def cache(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """Counted anew, file by file. evictions and damaged: since this engine, or the mount, was started."""
    asked = parse_args(args, CacheArgs)
    await engine.pins.look_now()
    usage = await engine.env.run_io(engine.cache.usage)
    pins = engine.pins.state
    data: dict[str, object] = {
        "used": usage.used,
        "quota": usage.quota,
        "chunks": usage.chunks,
        "whole": usage.whole,
        "evictions": engine.cache.room.evictions,
        "damaged": usage.bad + engine.damaged_in_mount,
        "failed_writes": usage.failed_writes,
        "last_error": usage.last_error,
        "pinned": msgspec.to_builtins(pins),
        "folder": str(engine.paths.cache_dir),
    }
    if asked.path is not None:
        places = await places_of(engine, [asked.path or "/"], asked.cwd)
        files = await engine.env.run_io(_listed, engine, places, engine.policies.read())
        data["files"] = [msgspec.to_builtins(file) for file in files]
    return data


def _listed(engine: "Engine", places: list[str], policies: Policies) -> list[CachedFile]:
    """Files that have something here."""
    return [file for place in places for file in _files(engine, place, policies) if file.local]


def _files(engine: "Engine", place: str, policies: Policies) -> Iterator[CachedFile]:
    view = engine.context.db.view
    row = view.resolve_path(place)
    waiting = [(place, row)] if row is not None else []
    while waiting:
        path, row = waiting.pop()
        if row.kind == DIR:
            below = [(join_path(path, child.name), child) for child in children(view, row.id)]
            waiting += reversed(below)
        elif row.kind == FILE and row.version is not None:
            local = _local(engine, row.version)
            yield CachedFile(path, row.size, local, bool(policies.words) and policies.is_pinned(path))


def _local(engine: "Engine", number: int) -> int:
    view, cache = engine.context.db.view, engine.cache
    content = view.content_of(number)
    if content.file_size and cache.has_whole(content.content_id):
        return content.file_size
    if not content.chunk_pages:
        pairs = [(ChunkId(bytes.fromhex(c)), n) for c, n in zip(content.chunks, content.chunk_sizes, strict=True)]
    else:
        version = view.identity(number)
        if view.missing_pages(version):
            return 0
        pairs = list(zip(*view.chunk_list(version), strict=True))
    return sum(size for chunk, size in pairs if cache.has(chunk))
