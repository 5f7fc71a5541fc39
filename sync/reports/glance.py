"""One state a file, from the databases and the cache folder alone: tcfs status -s.

The tree is walked as the mount shows it: rows of tree.db over those of fleet.db, both below the same numbers.
"""

from collections.abc import Collection, Iterator
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from sync.core.errors import NotYet
from sync.core.filestate import Facts, FileState, Locality, file_state, locality_of
from sync.core.paths import join_path, split_path
from sync.core.policy import Policies
from sync.reports.history import contested_paths
from sync.reports.state import LocalState
from sync.reports.status import Unsafe, is_among
from sync.state.policies import PolicyFile
from sync.state.rows import DIR, FILE, ROOT_ID, SPECIAL, ShownRow
from sync.state.tree.reader import OverlayRow

PAGE = 1000


class Glance(NamedTuple):
    """A folder's path ends in a slash; it is named only if it is dirty itself. removed: what is dirty is a removal."""

    path: str
    state: FileState
    removed: bool = False


def glance(state: LocalState, places: list[str], unsafe: list[Unsafe]) -> Iterator[Glance]:
    """Every file and symlink at or below these places ('' or none = all), in the order of the tree.

    unsafe: as `unsafe_now` has found it; what of it stands nowhere (removals, say) is named too.
    """
    walk = _Walk(state, {item.path for item in unsafe}, PolicyFile(state.paths.policies_toml).read())
    for place in places or [""]:
        yield from walk.at(place)
    for path in sorted(walk.unsafe):
        if is_among(path, [place for place in places if place] if "" not in places else []):
            yield Glance(path, FileState.DIRTY, removed=True)


class _Walk:
    def __init__(self, state: LocalState, unsafe: set[str], policies: Policies) -> None:
        """unsafe: shrinks by what is named."""
        self.unsafe = unsafe
        self._policies = policies
        self._view = state.view
        self._cache = _Cache(state.paths.cache_dir)
        self._contested: Collection[str] = frozenset(contested_paths(state.db))
        self._own: dict[int, dict[str, OverlayRow]] = {}
        for row in state.tree.overlay():
            self._own.setdefault(row.parent, {})[row.name] = row

    def at(self, place: str) -> Iterator[Glance]:
        """What stands at a place, and below it."""
        if not place:
            yield from self._below(ROOT_ID, "")
            return
        parent = ROOT_ID
        folder, name = split_path(place)
        for part in folder.split("/") if folder else ():
            above = self._find(parent, part)
            if above is None:
                return
            parent = _number(above)
        found = self._find(parent, name)
        if found is not None and found.kind == DIR:
            yield from self._folder(place)
            yield from self._below(_number(found), place)
        elif found is not None:
            yield self._file(place, found)

    def _find(self, parent: int, name: str) -> OverlayRow | ShownRow | None:
        own = self._own.get(parent, {}).get(name)
        if own is not None:
            return own if own.node is not None else None
        return self._view.lookup(parent, name)

    def _below(self, parent: int, path: str) -> Iterator[Glance]:
        stack = [(path, self._children(parent))]
        while stack:
            folder, children = stack[-1]
            for name, row in children:
                inner = join_path(folder, name)
                if row.kind == DIR:
                    yield from self._folder(inner)
                    stack.append((inner, self._children(_number(row))))
                    break
                yield self._file(inner, row)
            else:
                stack.pop()

    def _children(self, parent: int) -> Iterator[tuple[str, OverlayRow | ShownRow]]:
        """What stands in a folder, by name."""
        own = self._own.get(parent, {})
        return merge(
            ((name, row) for name, row in sorted(own.items()) if row.node is not None),
            ((row.name, row) for row in self._shown(parent) if row.name not in own),
            key=itemgetter(0),
        )

    def _shown(self, parent: int) -> Iterator[ShownRow]:
        after = ""
        while page := self._view.children(parent, after, PAGE):
            yield from page
            after = page[-1].name

    def _folder(self, path: str) -> Iterator[Glance]:
        if path in self.unsafe:
            self.unsafe.discard(path)
            yield Glance(f"{path}/", FileState.DIRTY)

    def _file(self, path: str, row: OverlayRow | ShownRow) -> Glance:
        is_dirty = path in self.unsafe
        self.unsafe.discard(path)
        if isinstance(row, OverlayRow):
            is_conflict = path in self._contested and not row.resolved
            facts = Facts(row.local_only or row.kind in SPECIAL, is_conflict, is_dirty, self._policies.is_pinned(path))
        else:
            is_conflict = bool(row.sibling) or path in self._contested
            facts = Facts(False, is_conflict, is_dirty, self._policies.is_pinned(path))
        return Glance(path, file_state(facts, self._locality(row)))

    def _locality(self, row: OverlayRow | ShownRow) -> Locality:
        if row.kind != FILE:
            return Locality.ALL
        if isinstance(row, OverlayRow):
            identity = row.base
        else:
            identity = self._view.identity(row.version) if row.version is not None else None
        if identity is None:
            return Locality.ALL
        content = self._view.content(identity)
        if self._cache.has_whole(content.content_id):
            return Locality.ALL
        chunks = content.chunks
        if content.chunk_pages:
            try:
                chunks = [chunk.hex() for chunk in self._view.chunk_list(identity)[0]]
            except NotYet:  # not even the list of its chunks
                return Locality.NONE
        return locality_of(chunks, self._cache.has_chunk)


class _Cache:
    """Whether content is in the cache folder, by the names of its files."""

    def __init__(self, folder: Path) -> None:
        self._chunks = folder / "chunks"
        self._whole = folder / "whole"

    def has_chunk(self, name: str) -> bool:
        return (self._chunks / name[:2] / name).exists()

    def has_whole(self, content_id: str) -> bool:
        return bool(content_id) and (self._whole / content_id).exists()


def _number(row: OverlayRow | ShownRow) -> int:
    if isinstance(row, ShownRow):
        return row.id
    return row.node if row.node is not None else 0
