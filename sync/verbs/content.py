"""hydrate and dehydrate: content into the cache, and out of it again."""

import contextlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from sync.cas.index import ChunkPlace
from sync.core.errors import Integrity, NoSpace, NotYet, ObjectMissing, StoreAway, TcfsError, Unsupported
from sync.core.manifest import ChunkId
from sync.core.policy import Policies
from sync.ipc.frames import ContentMoved
from sync.reports.status import is_among, queued_paths
from sync.state.files import ShownFile, files_below
from sync.verbs import Progress, described, parse_args, with_error
from sync.verbs.places import places_of
from sync.worker.fetch import Priority

if TYPE_CHECKING:
    from sync.engine import Engine

CHUNKS_AT_ONCE: Final = 16  # asked for in one fetch
TOLD_AT_ONCE: Final = 1000  # files of one frame to the mount
TOLD_EVERY_S: Final = 1.0  # of what has come


class PathsArgs(msgspec.Struct, forbid_unknown_fields=True):
    """paths: in the mount or REMOTE, relative ones to cwd."""

    paths: list[str]
    cwd: str


class DehydrateArgs(PathsArgs, forbid_unknown_fields=True):
    """unpin: first unpin what of these places is pinned."""

    unpin: bool = False


async def hydrate(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """Bring all content of these files, and of all below folders, into the cache. Files that fail are named."""
    asked = parse_args(args, PathsArgs)
    places = await places_of(engine, asked.paths, asked.cwd)
    files = [file for place in places for file in files_below(engine.context.db.view, place)]
    total = sum(file.size for file in files)
    failures: list[TcfsError] = []
    done = moved = 0
    untold: list[ShownFile] = []
    told_at = engine.env.monotonic()
    try:
        for file in files:
            untold.append(file)
            try:
                moved += await _hydrate_one(engine, file)
                done += 1
            except (Integrity, Unsupported) as error:
                failures.append(type(error)(error.message, path=file.path, hint=error.hint))
            progress({"files": done, "files_total": len(files), "bytes": moved, "bytes_total": total})
            if len(untold) == TOLD_AT_ONCE or engine.env.monotonic() - told_at >= TOLD_EVERY_S:
                _tell_mount(engine, untold, dropped=False)
                untold, told_at = [], engine.env.monotonic()
    finally:
        _tell_mount(engine, untold, dropped=False)
    data = {"files": done, "bytes": moved, "failures": [described(failure) for failure in failures]}
    return with_error(data, failures[0] if failures else None)


async def _hydrate_one(engine: "Engine", file: ShownFile) -> int:
    """Bytes of the file; NoSpace if the cache cannot keep them."""
    manifest = engine.context.db.view.manifest(file.version)
    if engine.cache.has_whole(manifest.content_id):
        return file.size
    ids, _ = await engine.fetcher.chunk_list(file.version)
    missing = [index for index, chunk in enumerate(ids) if not engine.cache.has(chunk)]
    for start in range(0, len(missing), CHUNKS_AT_ONCE):
        wanted = missing[start : start + CHUNKS_AT_ONCE]
        if await engine.fetcher.fetch(file.version, wanted, Priority.BACKGROUND):
            raise NoSpace(
                "the cache is full", path=file.path, hint="dehydrate something, raise cache_quota, or free the disk"
            )
    return file.size


async def dehydrate(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """Free the content of these files that is verifiably in the store; NotYet names the first that is not.

    Refused files keep theirs, and so do pinned ones; all others lose it, but for what pinned ones share with them.
    files: those that have lost something; unchanged: those of which nothing was here that could go.
    """
    asked = parse_args(args, DehydrateArgs)
    places = await places_of(engine, asked.paths, asked.cwd)
    if asked.unpin:
        await engine.change_policies(lambda now: now.unpinned(*places))
    policies = engine.policies.read()
    protected = await engine.env.run(engine.pins.protected)
    protected |= engine.fetcher.reused.lenders(protected)
    unsafe = {item.path for item in await engine.dirty()} | set(queued_paths(engine.context.db))
    packs: dict[str, bool] = {}
    dropped: set[str] = set()
    freed: list[ShownFile] = []
    freed_bytes = unchanged = 0
    refused: list[TcfsError] = [
        NotYet("is not in the store yet", path=path, hint="'tcfs wait', then try again")
        for path in sorted(unsafe)
        if is_among(path, places)
    ]
    files, pins = await engine.env.run(_unpinned, engine, policies, places, unsafe)
    refused += [NotYet("is pinned", path=pin, hint="'tcfs unpin' it, or 'tcfs dehydrate --unpin'") for pin in pins]
    for done, file in enumerate(files, 1):
        try:
            size = await _dehydrate_one(engine, file, packs, protected, dropped)
            if size is None:
                unchanged += 1
            else:
                freed_bytes += size
                freed.append(file)
        except StoreAway as error:
            refused.append(NotYet(f"kept: {error.message}", path=file.path, hint=error.hint))
            break  # of no other one can be seen that the store has it
        except (Integrity, NotYet) as error:
            refused.append(NotYet(f"kept: {error.message}", path=file.path, hint="'tcfs fsck' tells more"))
        progress({"files": done, "files_total": len(files)})
    for start in range(0, len(freed), TOLD_AT_ONCE):
        _tell_mount(engine, freed[start : start + TOLD_AT_ONCE], dropped=True)
    data = {
        "files": len(freed),
        "bytes": freed_bytes,
        "unchanged": unchanged,
        "refused": [described(error) for error in refused],
    }
    return with_error(data, refused[0] if refused else None)


def _tell_mount(engine: "Engine", files: list[ShownFile], *, dropped: bool) -> None:
    """What `du` shows of these files has changed."""
    values = list({file.value for file in files})
    if values:
        engine.server.hint(ContentMoved(values, dropped))


def _unpinned(
    engine: "Engine", policies: Policies, places: list[str], unsafe: set[str]
) -> tuple[list[ShownFile], list[str]]:
    """The files of these places that are in the store and not pinned; and the pins that cover the others."""
    files: list[ShownFile] = []
    pins: set[str] = set()
    for place in places:
        for file in files_below(engine.context.db.view, place):
            if policies.words and policies.is_pinned(file.path):
                pins.add(policies.source(file.path) or "/")
            elif file.path not in unsafe:
                files.append(file)
    return files, sorted(pins)


async def _dehydrate_one(
    engine: "Engine", file: ShownFile, packs: dict[str, bool], protected: Collection[str], dropped: set[str]
) -> int | None:
    """Bytes freed; None if nothing of it was here that may go. `packs` remembers which packs the store was seen to hold
    whole, `dropped` which chunks and contents went, in hex: other files may have had them too.
    """
    content_id = engine.context.db.view.manifest(file.version).content_id
    all_ids, _ = await engine.fetcher.chunk_list(file.version)
    here = await engine.env.run_io(_here, engine, all_ids, content_id, protected)
    reused = engine.fetcher.reused
    lent = reused.lent([chunk for chunk in all_ids if chunk.hex() not in protected]) if reused.has_work() else {}
    if not (here or lent) and dropped.isdisjoint([content_id, *(chunk.hex() for chunk in all_ids)]):
        return None
    if here or lent:
        await _check_stored(engine, all_ids, packs)
    if lent:
        await reused.forget(lent)
        here = await engine.env.run_io(_here, engine, all_ids, content_id, protected)  # more may have been copied
    freed = await engine.env.run_io(_drop, engine, here, content_id, file.size, dropped)
    return freed + sum(each.place.size for chunk, each in lent.items() if chunk.hex() not in here)


def _here(
    engine: "Engine", ids: list[ChunkId], content_id: str, protected: Collection[str]
) -> dict[str, ChunkId | None]:
    """What of these chunks, and of the content as a whole (None), is here and may go, by its name in hex."""
    found: dict[str, ChunkId | None] = {
        name: chunk
        for chunk in dict.fromkeys(ids)
        if (name := chunk.hex()) not in protected and engine.cache.path(chunk).exists()
    }
    if content_id not in protected and engine.cache.has_whole(content_id):
        found[content_id] = None
    return found


def _drop(engine: "Engine", here: Mapping[str, ChunkId | None], content_id: str, size: int, dropped: set[str]) -> int:
    """Bytes freed."""
    sizes = []
    for chunk in here.values():
        if chunk is not None:
            with contextlib.suppress(FileNotFoundError):  # evicted meanwhile
                sizes.append(engine.cache.path(chunk).stat().st_size)
            engine.cache.drop(chunk)
    if content_id in here:
        sizes = [size]
        engine.cache.drop_whole(content_id)
    dropped.update(here)
    return sum(sizes)


async def _check_stored(engine: "Engine", ids: list[ChunkId], packs: dict[str, bool]) -> None:
    """NotYet unless each chunk lies in a pack that the store holds in full length."""
    located = engine.context.db.packs.locate(ids)
    for chunk in dict.fromkeys(ids):
        places = located.get(chunk, [])
        for place in places:
            if place.key not in packs:
                packs[place.key] = await _is_whole(engine, place)
        if not any(packs[place.key] for place in places):
            raise NotYet(f"chunk {chunk.hex()[:16]} is not in the store")


async def _is_whole(engine: "Engine", place: ChunkPlace) -> bool:
    try:
        found = await engine.context.store.stat(place.key)
        return found.size == engine.context.db.packs.size(place.machine_id, place.pack_id)
    except ObjectMissing:
        return False
