"""What must always be true of fleet.db: used by fsck, and at the end of every test that has written one.

The tree is computed once more from the versions alone, by another way than deriving takes.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from sync.core.heads import Heads, common_ancestor, heads_of
from sync.core.manifest import Kind, Version, VersionId
from sync.core.paths import join_path, split_path
from sync.core.place import IMPLIED_MODE, Implied, Placed, place, sibling_name
from sync.core.show import NameShown, Shown, Sibling, show
from sync.state.fleet import FleetDb
from sync.state.rows import (
    DIR,
    KIND_NUMBER,
    ROOT_ID,
    ShownRow,
    size_of,
    value_number,
)
from sync.state.siblings import WRITE_BITS, Beside, naming_order

PAGE: Final = 1000  # rows read at once

_NEVER: Final = (  # (what must find nothing, the error if it does)
    ("SELECT 1 FROM head WHERE version NOT IN (SELECT num FROM version)", "a head names no version"),
    (
        "SELECT 1 FROM shown WHERE version IS NOT NULL AND version NOT IN (SELECT num FROM version)",
        "a row of shown names no version",
    ),
    ("SELECT 1 FROM shown WHERE (id = 1) <> (parent = 0)", "the root of shown is not alone"),
    ("SELECT 1 FROM meta WHERE NOT EXISTS (SELECT 1 FROM shown WHERE id = 1)", "shown has no root"),
    (
        "SELECT 1 FROM shown WHERE id % 2 = 0 AND id >= (SELECT value FROM meta WHERE key = 'next_ino')",
        "a row of shown has a number that will be given again",
    ),
    (
        "SELECT 1 FROM shown WHERE id <> 1 AND id NOT IN (SELECT id FROM feed) AND (SELECT min(n) FROM feed) = 1",
        "a row of shown was never in the feed",
    ),
    ("SELECT 1 FROM chunk WHERE pack NOT IN (SELECT num FROM pack)", "a chunk lies in no pack"),
    (
        "SELECT 1 FROM outbox AS o WHERE NOT EXISTS (SELECT 1 FROM outbox AS next WHERE next.first = o.last + 1)"
        " AND o.last + 1 <> (SELECT value FROM meta WHERE key = 'next_seq')",
        "the outbox has a gap",
    ),
)


class Look(msgspec.Struct, frozen=True):
    """What the heads alone decide about a row. mtime_ns: None for directories, whose entries move it."""

    kind: int
    size: int
    mode: int
    mtime_ns: int | None
    version: VersionId | None
    value: int
    also: tuple[VersionId, ...]
    is_sibling: bool
    xattrs: tuple[tuple[str, str], ...]


def check(db: FleetDb) -> list[str]:
    """Every sentence says what is wrong; [] if nothing is. Reads the whole database."""
    paths = db.all_paths()
    heads = {path: heads_of(db.history(path)) for path in paths}
    found = [
        f"heads of {path!r}: stored {_names(db.heads(path))}, should be {_names(heads[path])}"
        for path in paths
        if db.heads(path) != heads[path]
    ]
    dead = dict(db.query("SELECT path, sum(dead) FROM head GROUP BY path"))
    found += [
        f"heads of {path!r}: {dead.get(path)} are marked dead, should be {count}"
        for path in paths
        if dead.get(path) != (count := sum(not head.is_live for head in heads[path]))
    ]
    should = expected_tree(db, heads)
    actual, orphans = actual_tree(db)
    found += orphans
    for path in sorted(should.keys() | actual.keys()):
        if should.get(path) != actual.get(path):
            found.append(f"shown {path!r}: is {actual.get(path)}, should be {should.get(path)}")
    return found + [sentence for sql, sentence in _NEVER if db.query(sql)]


def actual_tree(db: FleetDb) -> tuple[dict[str, Look], list[str]]:
    """(path -> what stands there, what hangs nowhere). Paths of siblings end in their own names."""
    tree: dict[str, Look] = {}
    waiting = [(ROOT_ID, "")]
    visited: set[int] = set()
    while waiting:
        parent, folder = waiting.pop()
        if parent in visited:
            return tree, [f"the folder {folder!r} lies in itself"]
        visited.add(parent)
        after = ""
        while rows := db.view.children(parent, after, PAGE):
            after = rows[-1].name
            for row in rows:
                path = join_path(folder, row.name)
                tree[path] = _look(db, row)
                if row.kind == DIR:
                    waiting.append((row.id, path))
    total = db.view.count()
    return tree, [] if total == len(tree) else [f"{total - len(tree)} rows of shown hang below no directory"]


def expected_tree(db: FleetDb, heads: dict[str, Heads]) -> dict[str, Look]:
    """What should stand where, from all heads at once."""
    own_ids, mode = db.own_ids, db.mode

    def ancestor(versions: Sequence[Version]) -> Version | None:
        return common_ancestor(versions, db.version)

    shown = {path: show(of_path, ancestor, own_ids, mode) for path, of_path in heads.items()}
    folders = {folder for path, one in shown.items() if one.name or one.siblings for folder in _folders(path)}
    placed = {path: place(shown.get(path, Shown()), path in folders) for path in shown.keys() | folders}
    tree = {path: _real(one) for path, one in placed.items() if one.dir is not None or one.file is not None}
    beside: dict[str, list[Beside]] = {}
    for path, one in placed.items():
        beside.setdefault(split_path(path)[0], []).extend(Beside(path, sibling) for sibling in one.siblings)
    for folder, items in beside.items():
        for path, sibling in naming_order(items):
            name = sibling_name(
                split_path(path)[1],
                sibling.manifest.machine_name,
                lambda other, folder=folder: join_path(folder, other) in tree,  # type: ignore[misc]
                sibling.id,
            )
            tree[join_path(folder, name)] = _sibling(sibling)
    return tree


def _real(placed: Placed) -> Look:
    shown = placed.dir if placed.dir is not None else placed.file
    if isinstance(shown, NameShown):
        manifest = shown.version.manifest
        return Look(
            kind=KIND_NUMBER[manifest.kind],
            size=size_of(manifest),
            mode=shown.mode,
            mtime_ns=None if manifest.kind is Kind.DIR else shown.mtime_ns,
            version=shown.version.id,
            value=value_number(manifest),
            also=shown.also,
            is_sibling=False,
            xattrs=tuple(sorted(shown.xattrs.items())),
        )
    assert isinstance(shown, Implied)
    return Look(DIR, 0, IMPLIED_MODE, None, None, 0, (), False, ())


def _sibling(sibling: Sibling) -> Look:
    manifest = sibling.manifest
    return Look(
        kind=KIND_NUMBER[manifest.kind],
        size=size_of(manifest),
        mode=manifest.mode & ~WRITE_BITS,
        mtime_ns=manifest.mtime_ns,
        version=sibling.id,
        value=value_number(manifest),
        also=sibling.also,
        is_sibling=True,
        xattrs=tuple(sorted(manifest.xattrs.items())),
    )


def _look(db: FleetDb, row: ShownRow) -> Look:
    seen = db.view.seen_of(row) if row.version is not None else []
    return Look(
        kind=row.kind,
        size=row.size,
        mode=row.mode,
        mtime_ns=None if row.kind == DIR else row.mtime_ns,
        version=seen[0] if seen else None,
        value=row.value,
        also=tuple(seen[1:]),
        is_sibling=bool(row.sibling),
        xattrs=tuple(sorted(db.view.xattrs(row).items())),
    )


def _folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _names(heads: Heads) -> list[str]:
    return [head.id for head in heads]
