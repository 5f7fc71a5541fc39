"""Folders that were removed here and still have rows: whiteouts that are to be published at the paths they had.

Rows hang below the numbers of folders, so a folder that is made or moved to where another one was knows nothing of what
was removed with that one, and one path has two rows: the whiteout that was left, and what stands there now. Only
together do they know what the person had seen there. So they go out together, as one change (fs/tree/freeze.py). A
whiteout that is on its way already is waited for, and hands its version over when that is noted.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from fs.tree.model import DIR, ROOT_ID, Entry, Key, SealRef
from sync.core.errors import NotFound
from sync.core.paths import PATH_MAX, is_below, join_path, split_path

if TYPE_CHECKING:
    from fs.tree.state import State

DEPTH_MAX: Final = PATH_MAX  # of folders; what goes on longer is a circle of what crashes have left


class GoneFolders:
    """Which folders are gone, and where they were. Looked at only when something is sealed or noted."""

    def __init__(self, st: "State") -> None:
        self._st = st
        self._maybe: set[int] = set()
        self._above: set[int] = set()  # the folders that others were in
        self._paths: dict[int, str] = {}
        self._ids: dict[str, list[int]] | None = None
        self._sorted: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._maybe)

    # ---- what happens to folders

    def add(self, dir_id: int, place: Key | None = None, path: str | None = None) -> None:
        """The folder may be gone, and may have rows. place: where it was, if it is removed just now. path: what that is
        for certain.
        """
        self._maybe.add(dir_id)
        if place is not None:
            self._st.overlay.gone.put(dir_id, place)
            self._above.add(place[0])
        if path is None or self._ids is None or dir_id in self._paths:
            self._changed(dir_id)
            return
        self._paths[dir_id] = path
        if path not in self._ids:
            self._ids[path] = []
            insort(self._sorted, path)
        self._ids[path].append(dir_id)

    def removed(self, dir_id: int) -> bool:
        """The folder is about to be removed. True if the engine has it elsewhere: then that is where it was."""
        st = self._st
        path, place = st.path_of(dir_id), st.place_of(dir_id)
        is_elsewhere = self._is_elsewhere(dir_id, path)
        if st.overlay.has_rows(dir_id):
            st.overlay.attach.put(dir_id, path)
            self.add(dir_id, place, None if is_elsewhere else path)
        elif dir_id in self._above:
            self.add(dir_id, place)
        return is_elsewhere

    def _is_elsewhere(self, dir_id: int, path: str) -> bool:
        st = self._st
        node = st.overlay.node(dir_id)
        if node is not None and node.seal_id is not None:
            return True
        try:
            return st.view.path_of(dir_id) != path
        except NotFound:
            return False

    def succeed(self, dir_id: int, new_id: int) -> None:
        """What the engine still has in a gone folder is found, and moves, with another one from now on."""
        self.add(dir_id, (new_id, ""))

    def is_succeeded(self, dir_id: int) -> bool:
        """True if what it had is another folder's by now, wherever that has gone since."""
        place = self._st.overlay.gone.get(dir_id)
        return place is not None and not place[1]

    def discard(self, dir_id: int) -> None:
        """It has no rows any more."""
        if dir_id not in self._maybe:
            return
        self._maybe.discard(dir_id)
        path = self._paths.pop(dir_id, None)
        if path is not None and self._ids is not None and dir_id in self._ids.get(path, ()):
            self._ids[path].remove(dir_id)

    def forget_paths(self) -> None:
        """Folders were moved, or changed in shown."""
        if self._maybe:
            self._paths.clear()
            self._ids = None

    def restore(self) -> None:
        """At the start: what was removed before."""
        st = self._st
        self._maybe.update(st.overlay.attach, st.overlay.gone)
        self._above.update(place[0] for place in st.overlay.gone.values())

    def _changed(self, dir_id: int) -> None:
        self._paths.pop(dir_id, None)
        self._ids = None

    # ---- what is to be known

    def has(self, dir_id: int) -> bool:
        """True of a gone folder that has rows. Costs the depth of the folder, however many others are gone."""
        return dir_id in self._maybe and self._st.overlay.has_rows(dir_id) and not is_reachable(self._st, dir_id)

    def path_of(self, dir_id: int) -> str | None:
        """Where a gone folder was, as a rel_path of now; None of any other folder."""
        if dir_id not in self._maybe:
            return None
        self._find()
        return self._paths.get(dir_id)

    def at(self, path: str) -> list[int]:
        """The gone folders that were at a path."""
        return self._find().get(path, []) if self._maybe else []

    def whiteouts_at(self, folder: str, name: str) -> list[Entry]:
        """What gone folders of the path `folder` left of a name."""
        found = (self._st.overlay.entry(dir_id, name) for dir_id in self.at(folder))
        return [entry for entry in found if entry is not None and is_left(entry)]

    def whiteouts_below(self, path: str) -> list[tuple[str, Entry]]:
        """(rel_path, whiteout) of all that gone folders left below a path, the deepest first."""
        if not self._maybe:
            return []
        found = list(self._rows(path))
        for place in range(bisect_left(self._sorted, f"{path}/"), len(self._sorted)):
            folder = self._sorted[place]
            if not folder.startswith(f"{path}/"):
                break
            found += self._rows(folder)
        return sorted(found, key=lambda item: item[0].count("/"), reverse=True)

    def _rows(self, path: str) -> Iterator[tuple[str, Entry]]:
        for dir_id in self.at(path):
            folder = self._st.overlay.folder(dir_id)
            for entry in folder.entries.values() if folder is not None else ():
                if is_left(entry):
                    yield join_path(path, entry.name), entry

    def _find(self) -> dict[str, list[int]]:
        """path -> the gone folders that were there."""
        if self._ids is not None:
            return self._ids
        st, places = self._st, Places(self._st)
        self._drop_settled()
        ids: dict[str, list[int]] = {}
        for dir_id in sorted(self._maybe):
            path = self._paths.get(dir_id)
            if path is None:
                path = None if is_reachable(st, dir_id) else places.path_of(dir_id)
                if path is None:
                    self._maybe.discard(dir_id)
                    continue
                self._paths[dir_id] = path
                if dir_id in st.overlay.attach:
                    st.overlay.attach.put(dir_id, path)
            ids.setdefault(path, []).append(dir_id)
        self._ids, self._sorted = ids, sorted(ids)
        return ids

    def _drop_settled(self) -> None:
        """Forget folders without rows, and where they were, unless others were in them."""
        overlay = self._st.overlay
        self._maybe = {dir_id for dir_id in self._maybe if overlay.has_rows(dir_id)}
        needed: set[int] = set()
        for dir_id in self._maybe:
            while dir_id in overlay.gone and dir_id not in needed:
                needed.add(dir_id)
                dir_id = overlay.gone[dir_id][0]
        for dir_id in [dir_id for dir_id in overlay.gone if dir_id not in needed]:
            overlay.gone.put(dir_id, None)
        self._above = {place[0] for place in overlay.gone.values()}


def is_left(entry: Entry) -> bool:
    """True of a whiteout that has a removal to publish."""
    return entry.node is None and entry.dirty


def is_reachable(st: "State", dir_id: int) -> bool:
    """True if names lead to the folder."""
    while dir_id != ROOT_ID:
        node = st.overlay.node(dir_id)
        if node is not None and node.key is not None:
            dir_id = node.key[0]
            continue
        row = st.view.row(dir_id)
        if row is None or st.overlay.entry(row.parent, row.name) is not None:
            return False
        dir_id = row.parent
    return True


def live_folder(st: "State", path: str) -> int | None:
    """The number of the folder that stands at a path; None if none does."""
    dir_id = ROOT_ID
    for name in path.split("/") if path else ():
        found = st.show(dir_id, name)
        if found is None:
            return None
        if isinstance(found, Entry):
            node = st.overlay.node(found.node) if found.node is not None else None
            if node is None or node.kind != DIR:
                return None
            dir_id = node.id
        elif found.kind != DIR:
            return None
        else:
            dir_id = found.id
    return dir_id


def live_entry(st: "State", path: str) -> Entry | None:
    """The row of what stands at a path, if it has one."""
    folder, name = split_path(path)
    dir_id = live_folder(st, folder)
    return st.overlay.entry(dir_id, name) if dir_id is not None else None


def takes_over(entry: Entry) -> bool:
    """True of a row that is published: what stands at its path then goes over all that was removed there."""
    return entry.dirty and not entry.local_only


def hand_over(st: "State", left: Entry | None, path: str, versions: Sequence[str]) -> None:
    """`versions` were published at `path` by a row that is not there any more: what stands there now has seen them."""
    entry = live_entry(st, path)
    if entry is not None and entry is not left and not entry.is_resolved_sibling:
        entry.add_seen(versions)
        st.put_entry(entry)


# ---- where the engine has, or will have, folders


ANSWERS_MAX = 10_000


class FolderSeal(NamedTuple):
    """A folder is made, or renamed from a path, by a seal that is not yet noted."""

    folder: int
    from_path: str | None
    path: str


def folder_seals(st: "State") -> list[FolderSeal]:
    """Those that shown does not reflect yet, in their order. To be read in one moment with the paths they are about."""
    refs = [ref for ref in st.overlay.seals.values() if ref.folder is not None]
    if not refs:
        return []
    taken = st.view.taken_after(int(st.overlay.meta("taken_upto") or 0), max(len(st.overlay.seals), ANSWERS_MAX))
    answered = {answer.seal_id for answer in taken}
    return [FolderSeal(ref.folder or 0, ref.from_path, ref.path) for ref in refs if ref.seal_id not in answered]


def path_behind(st: "State", dir_id: int, seals: Sequence[FolderSeal]) -> str | None:
    """Where the engine will have a directory once these are done; None if it does not know it then."""
    try:
        path: str | None = st.view.path_of(dir_id)
    except NotFound:
        path = None
    for seal in seals:
        if seal.folder == dir_id:
            path = seal.path
        elif seal.from_path is not None and path is not None and is_at_or_below(path, seal.from_path):
            path = seal.path + path[len(seal.from_path) :]
    return path


def is_at_or_below(path: str, folder: str) -> bool:
    return path == folder or is_below(path, folder)


class Places:
    """Where folders are, and those that are gone were, with the seals of this moment."""

    def __init__(self, st: "State") -> None:
        self._st = st
        self._sealed: dict[int, SealRef] = {}  # the folders that they make or rename
        for ref in st.overlay.seals.values():
            if ref.folder is not None:
                self._sealed[ref.folder] = ref

    def place_of(self, dir_id: int) -> Key | str | None:
        """The folder and name of a folder (name '': the folder it is part of by now), or its rel_path; None if nothing
        tells. Of one that is gone: where the engine will have it.
        """
        st = self._st
        node = st.overlay.node(dir_id)
        if node is not None and node.key is not None:
            return node.key
        known = st.overlay.gone.get(dir_id)
        if known is not None and not known[1]:
            return known
        row, ref = st.view.row(dir_id), self._sealed.get(dir_id)
        if ref is not None and (row is None or ref.from_path is not None):
            return self._sealed_place(dir_id, ref)
        if row is not None:
            return row.parent, row.name
        return known or st.overlay.attach.get(dir_id)

    def _sealed_place(self, dir_id: int, ref: SealRef) -> Key | str:
        name = split_path(ref.path)[1]
        for key in ref.keys:
            entry = self._st.overlay.entry(*key)
            if entry is not None and entry.moved_to is None and entry.name == name and entry.parent != dir_id:
                return key
        return ref.path

    def path_of(self, dir_id: int) -> str | None:
        """None if nothing tells."""
        names: list[str] = []
        for _ in range(DEPTH_MAX):
            if dir_id == ROOT_ID:
                return "/".join(reversed(names))
            place = self.place_of(dir_id)
            if place is None:
                place = self._st.overlay.attach.get(dir_id)
            if place is None or isinstance(place, str):
                return None if place is None else "/".join([place, *reversed(names)])
            dir_id = place[0]
            if place[1]:
                names.append(place[1])
        return None

    def is_in(self, dir_id: int, above: int) -> bool:
        """True if the folder is the folder `above`, or hangs below it and moves with it."""
        for _ in range(DEPTH_MAX):
            if dir_id in (above, ROOT_ID):
                break
            place = self.place_of(dir_id)
            if place is None or isinstance(place, str):
                return False
            dir_id = place[0]
        return dir_id == above
