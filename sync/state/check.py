"""What must always be true of fleet.db: used by fsck, and at the end of every test that has written one.

The tree is computed once more from the versions alone, by another way than deriving takes, a folder at a time. That may
go on over many moments, while the engine writes: a folder in or below which something changed before it was compared,
and that is not as it should be, is looked at once more in one moment.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from sync.core.heads import Heads, common_ancestor, heads_of
from sync.core.manifest import Kind, Version, VersionId
from sync.core.paths import is_below, join_path, split_path
from sync.core.place import IMPLIED_MODE, Implied, Placed, place, sibling_name
from sync.core.show import NameShown, Shown, Sibling, show
from sync.state.fleet import FleetDb
from sync.state.moments import NOTHING, Changes, Moments
from sync.state.rows import (
    DIR,
    KIND_NUMBER,
    ROOT_ID,
    ShownRow,
    decode_version,
    identity_of,
    size_of,
    value_number,
)
from sync.state.rules import NEVER
from sync.state.siblings import WRITE_BITS, Beside, naming_order

PAGE: Final = 1000  # rows read at once ...
PAGE_MIN: Final = 16  # ... where one folder after the other is left again
FOUND_MAX: Final = 10_000  # sentences
IDS: Final = 20_000  # numbers of rows looked at in one moment

_VERSIONS: Final = """
SELECT m.machine_id, v.seq, v.hash, v.record FROM version AS v JOIN machine AS m ON m.num = v.machine
WHERE v.path = ? ORDER BY v.num DESC"""
_STORED_HEADS: Final = """
SELECT m.machine_id, v.seq, v.hash, h.dead
FROM head AS h JOIN version AS v ON v.num = h.version JOIN machine AS m ON m.num = v.machine WHERE h.path = ?"""
_LOOSE: Final = f"""
SELECT count(*) FROM shown AS s WHERE s.id > ? AND s.id <= ? AND s.parent <> 0
AND NOT EXISTS (SELECT 1 FROM shown AS a WHERE a.id = s.parent AND a.kind = {DIR})"""
_DIRS: Final = f"SELECT id, parent FROM shown WHERE id > ? AND id <= ? AND kind = {DIR}"
_ANY_BELOW: Final = "SELECT 1 FROM version WHERE path > ? AND path < ? LIMIT 1"


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
    link_id: str = ""
    owner: str = ""
    group: str = ""


def check(db: FleetDb, moments: Moments | None = None) -> list[str]:
    """Every sentence says what is wrong, FOUND_MAX at most; [] if nothing is. Reads the whole database.

    moments: None if nobody writes meanwhile. Memory: the names of one folder, and of those above it.
    """
    return list(islice(_problems(db, moments or Moments()), FOUND_MAX))


def _problems(db: FleetDb, moments: Moments) -> Iterator[str]:
    yield from _TreeCheck(db, moments).run()
    for sql, sentence in NEVER:
        moments.pass_on()
        if db.query(sql):
            yield sentence


class _Folder:
    """A folder whose paths are being gone through. row_id: what shown has there, None if no directory."""

    def __init__(self, db: FleetDb, path: str, row_id: int | None, shown: Shown) -> None:
        self.path = path
        self.row_id = row_id
        self.shown = shown  # of the folder's own path
        self.names = _names(db, path)
        self.has_live = False  # anything below shows something
        self.visited: set[str] = set()  # names that are gone through as folders of their own
        self.expected: dict[str, Look] = {}
        self.beside: list[Beside] = []
        self.has_moved = False  # something in it or below it has changed since it was opened

    def note(self, changes: Changes) -> None:
        if changes is None or self.has_moved or not self.path:
            self.has_moved = self.has_moved or changes != NOTHING
        elif changes:
            self.has_moved = any(path == self.path or is_below(path, self.path) for path in changes)

    def place(self, name: str, shown: Shown, has_live: bool) -> None:
        """What a path shows, once it is known whether anything below it does."""
        placed = place(shown, has_live)
        if placed.dir is not None or placed.file is not None:
            self.expected[name] = _real(placed)
        self.beside += [Beside(join_path(self.path, name), sibling) for sibling in placed.siblings]
        self.has_live = self.has_live or has_live or shown.name is not None or bool(shown.siblings)

    def name_siblings(self) -> None:
        for path, sibling in naming_order(self.beside):
            machine_name = sibling.manifest.machine_name
            name = sibling_name(split_path(path)[1], machine_name, self.expected.__contains__, sibling.id)
            self.expected[name] = _sibling(sibling)


class _TreeCheck:
    """Goes through all paths, a folder behind what is in it; of each open folder its names are in memory."""

    def __init__(self, db: FleetDb, moments: Moments) -> None:
        self._db = db
        self._moments = moments
        self._own_ids = db.own_ids
        self._mode = db.mode
        self._rows = 0  # of shown that were come upon
        self._open: list[_Folder] = []
        self._has_moved = False  # anything at all
        self._again: dict[str, None] = {}  # folders that were not as they should be, and have moved

    def run(self) -> Iterator[str]:
        self._open = [_Folder(self._db, "", ROOT_ID, Shown())]
        while self._open:
            self._pass_on()
            folder = self._open[-1]
            found = next(folder.names, None)
            if found is None:
                yield from self._close(folder)
                continue
            path = join_path(folder.path, found.name)
            shown, sentences = self._show(path) if found.has_versions else (Shown(), [])
            yield from sentences
            if found.has_more_below:
                folder.visited.add(found.name)
                row_id = self._dir_at(path) if folder.has_moved else self._dir_id(folder.row_id, found.name)
                self._open.append(_Folder(self._db, path, row_id, shown))
            else:
                folder.place(found.name, shown, False)
        yield from self._count()
        for path in self._again:
            self._moments.pass_on()
            yield from self._look_again(path)

    def _close(self, folder: _Folder) -> Iterator[str]:
        wrong = list(islice(self._compare(folder), FOUND_MAX))
        self._open.pop()
        if self._open:
            self._open[-1].place(split_path(folder.path)[1], folder.shown, folder.has_live)
        if wrong and folder.has_moved:
            self._again[folder.path] = None
        else:
            yield from wrong

    def _pass_on(self) -> None:
        changes = self._moments.pass_on()
        if changes == NOTHING:
            return
        self._has_moved = True
        if changes is None:
            self._own_ids, self._mode = self._db.own_ids, self._db.mode
        for folder in self._open:
            folder.note(changes)

    def _show(self, path: str) -> tuple[Shown, list[str]]:
        """What a path shows by its versions, and what is wrong with its heads."""
        heads = heads_of(self._versions(path))
        return show(heads, self._ancestor, self._own_ids, self._mode), list(self._compare_heads(path, heads))

    def _count(self) -> Iterator[str]:
        """Rows that nobody comes upon on the way down."""
        if not self._has_moved:
            total = self._db.view.count()
            if total != self._rows:
                yield f"{total - self._rows} rows of shown hang below no directory"
            return
        after, last, count = 0, int(self._db.query("SELECT max(id) FROM shown")[0][0]), 0
        while after < last:
            count += int(self._db.query(_LOOSE, after, after + IDS)[0][0])
            above: dict[int, int] = dict(self._db.query(_DIRS, after, after + IDS))
            count += sum(not self._leads_up(row_id, above) for row_id in list(above))
            after += IDS
            self._moments.pass_on()
        if count:
            yield f"{count} rows of shown hang below no directory, or in themselves"

    def _leads_up(self, row_id: int, above: dict[int, int]) -> bool:
        """False if the way up from a directory never ends. above: what is known of it in this moment."""
        passed: set[int] = set()
        while row_id not in passed:
            passed.add(row_id)
            if row_id not in above:
                found = self._db.query("SELECT parent FROM shown WHERE id = ?", row_id)
                above[row_id] = int(found[0][0]) if found else 0
            row_id = above[row_id]
            if row_id in (0, ROOT_ID):
                above.update(dict.fromkeys(passed, ROOT_ID))
                return True
        return False

    def _look_again(self, path: str) -> Iterator[str]:
        """A folder in one moment. Whether anything is shown below a name in it is asked of the versions below."""
        folder = _Folder(self._db, path, self._dir_at(path) if path else ROOT_ID, Shown())
        for found in folder.names:
            inner = join_path(path, found.name)
            shown = self._show(inner)[0] if found.has_versions else Shown()
            if found.has_more_below:
                folder.visited.add(found.name)
            folder.place(found.name, shown, found.has_more_below and self._shows_below(inner))
        yield from self._compare(folder, in_one_moment=True)

    def _shows_below(self, folder: str) -> bool:
        start = f"{folder}/"
        while paths := _paths(self._db, start, folder, PAGE):
            shown = (self._show(path)[0] for path in paths)
            if any(one.name is not None or one.siblings for one in shown):
                return True
            start = f"{paths[-1]}\x01"
        return False

    def _ancestor(self, versions: Sequence[Version]) -> Version | None:
        return common_ancestor(versions, self._db.version)

    def _versions(self, path: str) -> Iterator[Version]:
        """Those of a path, what came last first, as most of the others are covered by that."""
        for machine_id, seq, digest, record in self._db.query(_VERSIONS, path):
            yield decode_version(identity_of(machine_id, seq, digest), record)

    def _compare_heads(self, path: str, heads: Heads) -> Iterator[str]:
        """By their names and marks alone: what stands behind a name was just read."""
        rows = self._db.query(_STORED_HEADS, path)
        stored = sorted(identity_of(*row[:3]) for row in rows)
        if stored != _names_of(heads):
            yield f"heads of {path!r}: stored {stored}, should be {_names_of(heads)}"
        marked = sum(row[3] for row in rows)
        count = sum(not head.is_live for head in heads)
        if marked != count:
            yield f"heads of {path!r}: {marked} are marked dead, should be {count}"

    def _dir_id(self, parent: int | None, name: str) -> int | None:
        row = self._db.view.lookup(parent, name) if parent is not None else None
        return row.id if row is not None and row.kind == DIR and not row.sibling else None

    def _dir_at(self, path: str) -> int | None:
        row_id: int | None = ROOT_ID
        for name in path.split("/"):
            row_id = self._dir_id(row_id, name)
        return row_id

    def _compare(self, folder: _Folder, *, in_one_moment: bool = False) -> Iterator[str]:
        """What stands in a folder against what should."""
        folder.name_siblings()
        for row in self._children(folder.row_id, in_one_moment):
            path, should = join_path(folder.path, row.name), folder.expected.pop(row.name, None)
            found = _look(self._db, row)
            if found != should:
                yield f"shown {path!r}: is {found}, should be {should}"
            if row.kind == DIR and row.name not in folder.visited:
                yield from self._unexpected(row, path, in_one_moment)
        for name, should in folder.expected.items():
            yield f"shown {join_path(folder.path, name)!r}: is None, should be {should}"

    def _unexpected(self, above: ShownRow, path: str, in_one_moment: bool) -> Iterator[str]:
        """Everything below a folder below which nothing should be."""
        waiting, visited = [(above.id, path)], {ROOT_ID}
        while waiting:
            parent, folder = waiting.pop()
            if parent in visited:
                yield f"the folder {folder!r} lies in itself"
                return
            visited.add(parent)
            for row in self._children(parent, in_one_moment):
                child = join_path(folder, row.name)
                yield f"shown {child!r}: is {_look(self._db, row)}, should be None"
                if row.kind == DIR:
                    waiting.append((row.id, child))

    def _children(self, parent: int | None, in_one_moment: bool) -> Iterator[ShownRow]:
        after = ""
        while parent is not None and (rows := self._db.view.children(parent, after, PAGE)):
            self._rows += len(rows)
            yield from rows
            after = rows[-1].name
            if not in_one_moment:
                self._pass_on()


class _Name(NamedTuple):
    """A name of a folder: has_versions of the path itself, has_more_below: of paths below it."""

    name: str
    has_versions: bool
    has_more_below: bool


def _names(db: FleetDb, folder: str) -> Iterator[_Name]:
    """The names in a folder of which any version is known, or of anything below, each once."""
    prefix = f"{folder}/" if folder else ""
    start, size = prefix, PAGE_MIN
    while paths := _paths(db, start, folder, size):
        size = min(2 * size, PAGE)
        for path in paths:
            name, slash, _ = path[len(prefix) :].partition("/")
            above = prefix + name
            if slash:  # all that is below it is behind it: only if it has no versions itself it was not told yet
                if not db.query("SELECT 1 FROM version WHERE path = ? LIMIT 1", above):
                    yield _Name(name, has_versions=False, has_more_below=True)
                start, size = f"{above}0", PAGE_MIN  # '0' follows '/'
                break
            yield _Name(name, has_versions=True, has_more_below=bool(db.query(_ANY_BELOW, f"{above}/", f"{above}0")))
            start = f"{path}\x01"  # nothing sorts between the two: no path holds a NUL


def _paths(db: FleetDb, start: str, folder: str, limit: int) -> list[str]:
    """A page of the paths from `start` on that lie below a folder, sorted."""
    below = ("AND path < ?", f"{folder}0") if folder else ("",)
    sql = f"SELECT DISTINCT path FROM version WHERE path >= ? {below[0]} ORDER BY path LIMIT ?"
    return [str(row[0]) for row in db.query(sql, start, *below[1:], limit)]


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
            link_id=shown.link_id if manifest.kind is not Kind.DIR else "",
            owner=shown.owner,
            group=shown.group,
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
        owner=manifest.owner,
        group=manifest.group,
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
        link_id=row.link_id or "",
        owner=row.owner,
        group=row.group,
    )


def _names_of(heads: Heads) -> list[str]:
    return [head.id for head in heads]
