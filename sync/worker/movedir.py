"""The rename of a shown directory as changes: what shows below the old name at that moment moves, siblings stay."""

from collections.abc import Callable, Iterable, Sequence

from sync.core.heads import common_ancestor
from sync.core.manifest import Kind, Version
from sync.core.paths import join_path
from sync.core.plan import Creation, Moving, Removal, rename_folder
from sync.core.show import Shown, show
from sync.state.fleet import FleetDb
from sync.state.heads import VersionTable
from sync.state.rows import DIR, NodePlace, ShownRow
from sync.worker.change import Change, Content, FolderMove


def show_path(db: FleetDb, path: str) -> Shown:
    """What a path shows here, computed from its heads; inside a transaction, from what that has inserted."""
    return _shower(db, db.heads)(path)


def _shower(db: FleetDb, heads: Callable[[str], Sequence[Version]]) -> Callable[[str], Shown]:
    """The same for many paths."""

    def ancestor(versions: Sequence[Version]) -> Version | None:
        return common_ancestor(versions, db.version)

    own_ids, mode = db.own_ids, db.mode
    return lambda path: show(heads(path), ancestor, own_ids, mode)


def moved_changes(db: FleetDb, move: FolderMove, versions: VersionTable) -> list[Change]:
    """Creations at the new paths, then tombstones at the old ones; the folder's new name is always among them.

    Every child keeps its number and what belongs to it: shown's row of the moment before. versions: those of the
    transaction that is open.
    """
    rows = list(_rows_below(db, move.old_path))
    versions.load(_join(folder, inner) for inner, _ in rows for folder in (move.old_path, move.new_path))
    shown = _shower(db, versions.heads)
    moving: list[Moving] = []
    places: dict[str, NodePlace] = {}
    for inner, row in rows:
        # Without a record a directory shows none (a file of that name stands beside it as a sibling).
        source = shown(_join(move.old_path, inner)).name if row.version is not None else None
        if source is None and inner:
            continue  # implied by what it holds, under the new name too
        target = _join(move.new_path, inner)
        moving.append(Moving(inner, source, shown(target)))
        places[target] = NodePlace(row.id, (), row.ctime_ns, row.uid, row.gid)
    if not moving or moving[0].inner:
        moving.append(Moving("", None, shown(move.new_path)))
    places[move.new_path] = move.place
    plan = rename_folder(move.old_path, move.new_path, moving)
    return [
        *(_creation(item, move, places[item.path]) for item in plan.creations),
        *(_removal(item) for item in plan.removals),
    ]


def _join(folder: str, inner: str) -> str:
    return join_path(folder, inner) if inner else folder


def _rows_below(db: FleetDb, path: str) -> Iterable[tuple[str, ShownRow]]:
    """(path below the folder, row): the folder first, siblings left out. Nothing if no folder is shown there."""
    top = db.view.resolve_path(path)
    waiting = [("", top)] if top is not None and top.kind == DIR else []
    while waiting:
        inner, row = waiting.pop()
        yield inner, row
        after = ""
        while row.kind == DIR and (page := db.view.children(row.id, after)):
            waiting += [(join_path(inner, child.name), child) for child in page if not child.sibling]
            after = page[-1].name


def _creation(item: Creation, move: FolderMove, place: NodePlace) -> Change:
    seen, source = frozenset(item.seen), item.source
    is_top = item.path == move.new_path
    if is_top:
        seen |= move.seen
    if source is None:
        return Change(
            item.path,
            Kind.DIR,
            mode=move.mode,
            mtime_ns=move.mtime_ns,
            xattrs=move.xattrs,
            owner=move.owner,
            group=move.group,
            seen=seen,
            resolved=True,
            is_new_name=is_top,
            place=place,
        )
    manifest = source.version.manifest
    return Change(
        item.path,
        manifest.kind,
        source=Content.of(manifest) if manifest.kind is Kind.FILE else None,
        mode=source.mode,
        mtime_ns=move.mtime_ns if is_top else source.mtime_ns,
        xattrs=source.xattrs,
        target=manifest.target,
        seen=seen,
        resolved=True,
        moved_from=item.moved_from,
        requires=manifest.requires,
        is_new_name=is_top,
        place=place,
        link_id=source.link_id if manifest.kind is not Kind.DIR else "",
        owner=source.owner,
        group=source.group,
    )


def _removal(item: Removal) -> Change:
    return Change(
        item.path,
        Kind.TOMBSTONE,
        seen=frozenset(item.seen),
        resolved=True,
        moved_to=item.moved_to,
        place=NodePlace(None),  # the mount has moved the times of the folder above
    )
