"""cp: a copy inside the fleet that moves no content: new manifests with the same chunks."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from sync.core.errors import BadInput, Conflict, NotFound, NotYet, StoreAway, TcfsError
from sync.core.ignore import Ignore
from sync.core.manifest import Kind, VersionId
from sync.core.paths import is_below, join_path, parse_rel_path, split_path
from sync.machines.mounts import InMount
from sync.machines.places import local_place, remote_forms
from sync.reports.status import is_among, kept_here
from sync.state.globs import children
from sync.state.home import FleetConfig
from sync.state.rows import DIR, FILE, IMPLIED_DIR_MODE, ShownRow
from sync.state.tree.reader import Dirty, DirtyState
from sync.verbs import Progress, described, parse_args, with_error
from sync.verbs.places import looked_up, places_of
from sync.verbs.wait import publish_now
from sync.worker.change import Answer, Change, KeepSource, Outcome

if TYPE_CHECKING:
    from sync.engine import Engine

CHANGES_AT_ONCE: Final = 5_000  # of one batch: a larger copy goes out in several
_KINDS: Final = {FILE: Kind.FILE, DIR: Kind.DIR}


class CopyArgs(msgspec.Struct, forbid_unknown_fields=True):
    """sources, target: in the mount or REMOTE, relative ones to cwd; sources may be globs. preserve: the times too."""

    sources: list[str]
    target: str
    cwd: str
    recursive: bool = False
    force: bool = False
    preserve: bool = False


@dataclass(frozen=True, slots=True)
class _Item:
    """One thing to copy. row: what is shown at `source`."""

    source: str
    path: str
    row: ShownRow


async def cp(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """Copy as `cp` would name it. What is changed in the mount at either end is published first, or NotYet.

    Conflict if something is there already (force: it is replaced, not folders), NotFound, BadInput; then nothing is
    copied, or, of more than CHANGES_AT_ONCE things, no more: something came there meanwhile. StoreAway. What nobody
    else can have, and the other version of a conflict, is left out, and told (`skipped`).
    """
    asked = parse_args(args, CopyArgs)
    sources = await places_of(engine, asked.sources, asked.cwd)
    target = await _target(engine, asked.target, asked.cwd)
    await _settled(engine, [*sources, target])
    pairs = [(source, _named(engine, source, target, len(sources) > 1)) for source in sources]
    skipped = await engine.env.run_io(kept_here, engine.tree, engine.context.db.view.path_of, sources)
    items = await engine.env.run(_planned, engine, pairs, asked, skipped)
    published = await _publish(engine, items, asked)
    files = sum(1 for item in items if item.row.kind == FILE)
    size = sum(item.row.size for item in items if item.row.kind == FILE)
    conflicts = [answer.path for answer in published if answer.beside]
    refused = [answer for answer in published if answer.outcome is Outcome.REFUSED]
    data: dict[str, object] = {
        "files": files,
        "bytes": size,
        "targets": [path for _, path in pairs],
        "skipped": [{"path": path, "reason": reason} for path, reason in sorted(skipped)],
    }
    failures: list[TcfsError] = [BadInput(answer.reason, path=answer.path) for answer in refused]
    failures += [Conflict("another version has come beside it: see 'tcfs conflicts'", path=path) for path in conflicts]
    return with_error({**data, "failures": [described(f) for f in failures]}, failures[0] if failures else None)


async def _target(engine: "Engine", text: str, cwd: str) -> str:
    """The rel_path of a target, which need not exist ('' = the root). BadInput for what is meant of this machine: an
    absolute path at which the fleet has nothing, and the machine has something.
    """
    place, is_here = await looked_up(engine, _here, text, cwd)
    if isinstance(place, InMount):
        return parse_rel_path(place.rel_path) if place.rel_path else ""
    forms = remote_forms(engine.config, text)
    shown = next((form for form in forms if not form or engine.is_shown(form)), None)
    if shown is None and text.startswith("/") and is_here:
        raise BadInput(
            f"{text} is on this machine, outside of the mount; cp copies inside the fleet",
            path=text,
            hint=f"'tcfs pull' copies to there; in the fleet it would be {engine.config.name}:{forms[-1]}",
        )
    return forms[-1] if shown is None else shown


def _here(config: FleetConfig, text: str, cwd: str) -> tuple[InMount | str, bool]:
    """Where it leads, and whether this machine has something there outside of the mount."""
    place = local_place(config, text, cwd)
    return place, not isinstance(place, InMount) and os.path.lexists(place)


async def _settled(engine: "Engine", places: Sequence[str]) -> None:
    """What was changed in the mount at, below or above these places is in the books when this returns; else NotYet."""
    changed = await _changed(engine, places)
    if not changed:
        return
    if engine.server.mount is None:
        raise NotYet(
            "was changed in the mount and is not published yet", path=changed[0], hint="start the mount with 'tcfs up'"
        )
    published = await publish_now(engine, changed)
    if published.failures:
        failure = published.failures[0]
        raise NotYet(failure.message, path=failure.path, hint="'tcfs status' tells more")
    if left := await _changed(engine, places):
        raise NotYet("is being changed in the mount", path=left[0], hint="close it, or 'tcfs wait', then try again")


async def _changed(engine: "Engine", places: Sequence[str]) -> list[str]:
    items = [item for item in await engine.dirty() if not _is_published(engine, item)]
    return [
        item.path
        for item in items
        if any(is_among(item.path, [place]) or is_below(place, item.path) for place in places)
    ]


def _is_published(engine: "Engine", item: Dirty) -> bool:
    """True if this very state is in the books, though the mount has not taken note of that yet."""
    if item.seal_id is None or item.state is not DirtyState.SEALED:
        return False
    answer = engine.context.db.view.answer(item.seal_id)
    return answer is not None and answer.answer != Outcome.REFUSED


def _named(engine: "Engine", source: str, target: str, is_folder: bool) -> str:
    """Where a source goes: into a target that is a folder, under its own name; else it gets the target's."""
    view = engine.context.db.view
    row = view.resolve_path(target)
    if row is not None and row.kind == DIR:
        return parse_rel_path(join_path(target, split_path(source)[1]))
    if is_folder:
        raise NotFound(f"no such folder in the fleet: {target}", path=target)
    parent = split_path(target)[0]
    above = view.resolve_path(parent)
    if above is None or above.kind != DIR:
        raise NotFound(f"no such folder in the fleet: {parent}", path=parent, hint="make it, or name another")
    return parse_rel_path(target)


def _planned(
    engine: "Engine", pairs: Sequence[tuple[str, str]], asked: CopyArgs, skipped: list[tuple[str, str]]
) -> list[_Item]:
    """All there is to copy, looked at; long for a large tree. skipped: gets what is left out of it, and why."""
    items = [item for source, path in pairs for item in _items(engine, source, path, asked.recursive, skipped)]
    _check(engine, items, asked.force)
    return items


def _items(
    engine: "Engine", source: str, path: str, recursive: bool, skipped: list[tuple[str, str]]
) -> Iterator[_Item]:
    view = engine.context.db.view
    row = view.resolve_path(source)
    if not source:
        raise BadInput("the root of the fleet cannot be copied into itself")
    if row is None:
        raise NotFound(f"no such file in the fleet: {source}", path=source)
    if row.kind == DIR and not recursive:
        raise BadInput(f"{source} is a folder", path=source, hint="copy it with -r")
    if path == source or is_below(path, source):
        raise BadInput(f"{source} cannot be copied onto or into itself", path=source)
    waiting = [_Item(source, path, row)]
    while waiting:
        item = waiting.pop()
        yield item
        if item.row.kind == DIR:
            for child in children(view, item.row.id):
                name = join_path(item.source, child.name)
                if child.sibling:
                    skipped.append((name, "is the other version of a conflict"))
                else:
                    waiting.append(_Item(name, parse_rel_path(join_path(item.path, child.name)), child))


def _check(engine: "Engine", items: Sequence[_Item], force: bool) -> None:
    """Nothing is half done: what stands in the way of one keeps all from being copied."""
    ignore = Ignore(engine.context.db.view.tcfsignore())
    taken: set[str] = set()
    for item in items:
        if ignore.is_ignored(item.path, item.row.kind == DIR):
            raise BadInput(f"{item.path} stays on this machine by its name", path=item.path, hint="see .tcfsignore")
        if item.path in taken:
            raise BadInput(f"two sources would become {item.path}", path=item.path)
        taken.add(item.path)
        _there(engine, item, force)


def _there(engine: "Engine", item: _Item, force: bool) -> ShownRow | None:
    """What stands where the copy goes. Conflict if it may not be replaced."""
    there = engine.context.db.view.resolve_path(item.path)
    is_dir = item.row.kind == DIR
    if there is None or (is_dir and there.kind == DIR):
        return there
    if is_dir or there.kind == DIR or there.sibling or not force:
        hint = "replace it with --force" if not (is_dir or there.kind == DIR or there.sibling) else "name another"
        raise Conflict(f"{item.path} is there already", path=item.path, hint=hint)
    return there


async def _publish(engine: "Engine", items: Sequence[_Item], asked: CopyArgs) -> list[Answer]:
    answers: list[Answer] = []
    pending: TcfsError | None = None
    async with engine.publisher.begin() as publication:
        for start in range(0, len(items), CHANGES_AT_ONCE):
            changes = await engine.env.run(_changes, engine, items[start : start + CHANGES_AT_ONCE], asked)
            published = await publication.commit([changes])
            answers += published.answers[0]
            pending = published.pending or pending
    if pending is not None:
        raise StoreAway(
            f"copied here, but the store does not know of it yet: {pending.message}",
            hint="it goes out as soon as the store is back",
        ) from pending
    return answers


def _changes(engine: "Engine", items: Sequence[_Item], asked: CopyArgs) -> list[Change]:
    """Conflict if something has come since _check that may not be replaced; what comes later stands beside."""
    found = (_change(engine, item, asked) for item in items)
    return [change for change in found if change is not None]


def _change(engine: "Engine", item: _Item, asked: CopyArgs) -> Change | None:
    """None for a folder that is there already."""
    view = engine.context.db.view
    row, there = item.row, _there(engine, item, asked.force)
    if row.kind == DIR and there is not None:
        return None
    version = view.identity(row.version) if row.version is not None else None
    manifest = view.manifest(version) if version is not None else None
    seen = frozenset(view.seen_of(there)) if there is not None else frozenset[VersionId]()
    return Change(
        item.path,
        _KINDS.get(row.kind, Kind.SYMLINK),
        source=KeepSource(version) if version is not None and row.kind == FILE else None,
        mode=row.mode if row.version is not None else IMPLIED_DIR_MODE,
        mtime_ns=row.mtime_ns if asked.preserve else engine.env.now_ns(),
        xattrs=view.xattrs(row),
        owner=row.owner,
        group=row.group,
        target=manifest.target if manifest is not None and row.kind not in (FILE, DIR) else "",
        requires=manifest.requires if manifest is not None and row.kind != FILE else (),
        seen=seen,
        last=view.identity(there.version) if there is not None and there.version is not None else None,
        resolved=there is not None,
        folder_rules=there is None,
    )
