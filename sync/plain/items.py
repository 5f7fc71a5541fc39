"""What a pull is to bring: the files and folders shown at and below a place, in the order of their names."""

from collections.abc import Iterator
from pathlib import Path

from sync.core.paths import join_path
from sync.plain.examine import EnterDir, Entry, Item, LeaveDir
from sync.plain.known import known_at
from sync.state.rows import DIR, ShownRow
from sync.worker.context import Context


def items_of(context: Context, row: ShownRow, remote: str, parent: Path, name: str) -> Iterator[Item]:
    """What is shown at and below a row, in the order of the names; siblings only if one is named itself.

    name: what the row is called in `parent`; '' = its content goes there.
    """
    if row.kind != DIR:
        yield _entry(context, row, remote, parent / name)
        return
    if name:
        yield _folder(context, row, remote, parent / name)
    folders = [(row, remote, parent / name, _children(context, row.id))]
    while folders:
        _, folder_remote, folder, children = folders[-1]
        child = next(children, None)
        if child is None:
            folders.pop()
            if folders or name:
                yield LeaveDir()
        elif not child.sibling:
            child_remote, place = join_path(folder_remote, child.name), folder / child.name
            if child.kind == DIR:
                yield _folder(context, child, child_remote, place)
                folders.append((child, child_remote, place, _children(context, child.id)))
            else:
                yield _entry(context, child, child_remote, place)


def _children(context: Context, row_id: int) -> Iterator[ShownRow]:
    after = ""
    while page := context.db.view.children(row_id, after):
        yield from page
        after = page[-1].name


def _folder(context: Context, row: ShownRow, remote: str, place: Path) -> EnterDir:
    version = context.db.view.identity(row.version) if row.version is not None else None
    known, xattrs = known_at(context.db, place, remote), context.db.view.xattrs(row)
    before = context.db.version(known.version) if known is not None else None
    gone = frozenset(before.manifest.xattrs.keys() - xattrs.keys()) if before is not None else frozenset()
    return EnterDir(place.name, remote, version, row.mode, row.mtime_ns, xattrs, gone, known)


def _entry(context: Context, row: ShownRow, remote: str, place: Path) -> Entry:
    view = context.db.view
    covers = view.seen_of(row)
    return Entry(
        name=place.name,
        remote=remote,
        version=covers[0],
        manifest=view.manifest(covers[0]),
        covers=frozenset(covers),
        mode=row.mode,
        mtime_ns=row.mtime_ns,
        xattrs=view.xattrs(row),
        known=known_at(context.db, place, remote),
        link=row.link,
    )
