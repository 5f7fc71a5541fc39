"""Freezing: which changes go into one seal round, in which order, and what their rows say.

The engine replays a round in order, so a folder comes before what is in it, the move of a directory before what takes
its old name, what was moved before the removal of its old name, and removals last, the deepest first. A change whose
turn cannot come yet (something before it waits for an answer, or is being written) is left out and waits as well.

A path has at most one seal on its way: the next one has to say that it has seen that version.

Paths that are used again (see gone.py): what stands at a path takes over the whiteouts that were left for that path;
one that is on its way is waited for. What was removed below the path of a renamed directory comes before that rename,
and what was removed below the path of a new file goes out with it, even if what was moved away cannot go out yet.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fs.tree import gone
from fs.tree.model import DIR, FILE, ROOT_ID, SPECIAL, Entry, Key, Node, SealRef, merge_seen
from fs.tree.rows import json_text
from fs.tree.state import Pending, State
from fs.tree.unlayer import unlayer
from fs.work.workfile import WorkFile
from sync.core.errors import NotFound
from sync.core.paths import join_path, split_path

PUT, REMOVE, MOVEDIR = "put", "remove", "movedir"


@dataclass(slots=True, eq=False)
class SealItem:
    """One frozen state. row: the columns of `seal` behind seal_id and round."""

    ref: SealRef
    row: tuple[Any, ...]
    layer: WorkFile | None
    freed: list[Key] = field(default_factory=list)  # whiteouts that waited for this node


class Known(NamedTuple):
    """What a seal says of the versions before. As the columns of `seal`."""

    seen: tuple[str, ...]
    last: str | None
    resolved: bool


class Freezer:
    """One round. `allows` says of a file's node whether it may be frozen as it is now."""

    def __init__(self, st: State, allows: Callable[[Node], bool]) -> None:
        self._st = st
        self._allows = allows
        self._done: dict[Pending, bool] = {}
        self._ready_dirs: dict[int, bool] = {ROOT_ID: True}
        self._dir_ids_text: dict[int, str] = {}
        self._places = gone.Places(st)
        self._moves = [seal for seal in gone.folder_seals(st) if seal.from_path is not None]
        self._under_way = {ref.path for ref in st.overlay.seals.values() if ref.op != MOVEDIR and ref.keys}
        self._removed_behind = {ref.folder for ref in st.overlay.seals.values() if self._is_removed(ref)}
        self._removals: list[tuple[str, Entry]] = []
        self._apart: int | None = None  # a directory that moves: what hangs below it comes behind that
        self._behind: list[tuple[int, str, Entry]] = []  # whiteouts below a directory's new path that others take over
        self._forced: set[Key] = set()  # whiteouts that do not wait for what was moved away: their path is used again
        self.items: list[SealItem] = []

    def add(self, key: Pending) -> None:
        if isinstance(key, int):
            self._add_lost(key)
            return
        entry = self._st.overlay.entry(*key)
        if entry is not None:
            self._emit(entry)

    def finish(self) -> list[SealItem]:
        """The items in their order, frozen."""
        if self._forced:  # what waited for these in a circle
            late = [key for key, is_ready in self._done.items() if not is_ready]
            for key in late:
                del self._done[key]
            for key in late:
                self.add(key)
        for path, entry in sorted(self._removals, key=lambda item: item[0].count("/"), reverse=True):
            self._freeze_removal(path, entry)
        for dir_id, path, left in self._behind:
            self._freeze_in_front(dir_id, path, left)
        return self.items

    # ---- order

    def _emit(self, entry: Entry) -> bool:
        """True if the entry's state is in this round, or was sealed before as it is now, or need not be."""
        if entry.key in self._done:
            return self._done[entry.key]
        self._done[entry.key] = False  # a circle waits
        ready = self._try(entry)
        self._done[entry.key] = ready
        return ready

    def _try(self, entry: Entry) -> bool:
        st = self._st
        if not gone.takes_over(entry):
            return True
        above = self._above(entry) if st.gone else None
        if above is not None:
            return self._emit(above)
        node = self._published(entry)
        if entry.seal_id is not None or (node is not None and node.seal_id is not None):
            return self._is_sealed_as_is(entry, node)
        if node is not None and node.links:
            return self._try_names(node)
        path = self._free_path(entry, node)
        if path is None:
            return False
        if entry.seal_id is not None:
            return True  # sealed with the move of the directory that left this name
        if not self._may_go(entry, node, path):
            return False
        if node is None:
            self._removals.append((path, entry))
            return True
        if node.kind == FILE and not unlayer(st, node):
            return False
        self._freeze(path, entry, node)
        return True

    def _try_names(self, node: Node) -> bool:
        """The same for all names of a file: they go out together, or none does."""
        entries = [entry for entry in self._st.overlay.entries_of(node) if gone.takes_over(entry)]
        self._done.update((entry.key, False) for entry in entries)
        found: list[tuple[str, Entry]] = []
        for entry in entries:
            path = self._free_path(entry, node) if entry.seal_id is None else None
            if path is None or entry.seal_id is not None or not self._may_go(entry, node, path):
                return False
            found.append((path, entry))
        if node.kind == FILE and not unlayer(self._st, node):
            return False
        group: bytes | None = b"" if len(found) > 1 else None
        for path, entry in found:
            item = self._freeze(path, entry, node, group)
            group = group or (item.ref.seal_id if len(found) > 1 else None)
            self._done[entry.key] = True
        return True

    def _free_path(self, entry: Entry, node: Node | None) -> str | None:
        """The path under which the entry can go out as far as folders and other rows are concerned; None if not yet."""
        if not self._dir_ready(entry.parent) or (node is not None and self._st.overlay.is_unsaved(node.id)):
            return None
        try:
            path = self._path_at(entry)
        except NotFound:
            return None
        if path in self._under_way:
            return None  # another row's, which has moved on since
        if entry.moved_node is not None and not self._left_ready(entry) and entry.key not in self._forced:
            return None
        return path

    def _may_go(self, entry: Entry, node: Node | None, path: str) -> bool:
        if node is not None and node.kind == FILE and (node.is_cut or not self._allows(node)):
            return False
        return not self._st.gone or (self._may_take_over(entry, path) and self._clear(path, node))

    def _published(self, entry: Entry) -> Node | None:
        """What others are to see at the name. Of a special file they see that what had its name is gone."""
        node = self._st.overlay.node(entry.node) if entry.node is not None else None
        return None if node is not None and node.kind in SPECIAL else node

    def _is_sealed_as_is(self, entry: Entry, node: Node | None) -> bool:
        """True if the un-noted seal froze the entry at the place where it is now."""
        seal_id = entry.seal_id if entry.seal_id is not None else node.seal_id if node is not None else None
        ref = self._st.overlay.seals.get(seal_id) if seal_id is not None else None
        if ref is None or entry.key not in ref.keys or ref.node != (node.id if node is not None else None):
            return False
        return ref.path == self._path_at(entry)

    def _path_at(self, entry: Entry) -> str:
        """NotFound if nothing leads there, or ever did."""
        folder = self._st.gone.path_of(entry.parent) if self._st.gone else None
        return join_path(folder, entry.name) if folder is not None else self._st.path_at(entry.key)

    def _dir_ready(self, dir_id: int) -> bool:
        """True if the engine will know the folder at its present path when it comes to this round's next row."""
        if dir_id not in self._ready_dirs:
            for above in self._undecided(dir_id):
                self._ready_dirs[above] = self._is_dir_ready(above)
        return self._ready_dirs[dir_id]

    def _undecided(self, dir_id: int) -> list[int]:
        """The folder and those above it, the topmost first: each asks for the one above, and they may be thousands."""
        found: list[int] = []
        while dir_id not in self._ready_dirs and len(found) < gone.DEPTH_MAX:
            found.append(dir_id)
            place = self._place_of(dir_id)
            if place is None or isinstance(place, str):
                break
            dir_id = place[0]
        return found[::-1]

    def _place_of(self, dir_id: int) -> Key | str | None:
        return self._places.place_of(dir_id) if self._st.gone else self._st.place_of(dir_id)

    def _is_dir_ready(self, dir_id: int) -> bool:
        place = self._place_of(dir_id)
        if dir_id in self._removed_behind:
            return False  # what was in it is found where the engine puts it, when that is noted
        if place is None or isinstance(place, str):
            return True  # gone from shown; its remembered path is all there is
        ready = self._dir_ready(place[0])
        entry = self._st.overlay.entry(*place) if place[1] else None
        if ready and entry is not None and entry.node == dir_id:
            ready = self._emit(entry)
        return ready

    def _is_removed(self, ref: SealRef) -> bool:
        """True of a directory that was removed here behind this seal, which makes the engine know or move it."""
        if ref.folder is None:
            return False
        node = self._st.overlay.node(ref.folder)
        is_gone = node is None or node.key is None
        return is_gone and (ref.op == MOVEDIR or self._st.view.row(ref.folder) is None)

    # ---- paths that are used again

    def _above(self, left: Entry) -> Entry | None:
        """What stands where a gone folder left a whiteout, if it is published itself: that takes the whiteout over."""
        st = self._st
        folder = st.gone.path_of(left.parent) if left.node is None and left.seal_id is None else None
        entry = gone.live_entry(st, join_path(folder, left.name)) if folder is not None else None
        return entry if entry is not None and entry is not left and gone.takes_over(entry) else None

    def _may_take_over(self, entry: Entry, path: str) -> bool:
        """False if something that gone folders left for this path is on its way, or a directory has still to leave."""
        for left in self._left_at(entry, path):
            if left.seal_id is not None or not self._dir_left(left, entry) or left.seal_id is not None:
                return False
        return True

    def _left_at(self, entry: Entry, path: str) -> list[Entry]:
        st = self._st
        if not st.gone:
            return []
        found = [left for left in st.gone.whiteouts_at(*split_path(path)) if left is not entry]
        if self._apart is not None:
            found = [left for left in found if not self._places.is_in(left.parent, self._apart)]
        return found

    def _free_at(self, entry: Entry, path: str) -> list[Entry]:
        return [left for left in self._left_at(entry, path) if left.seal_id is None]

    def _dir_left(self, left: Entry, entry: Entry) -> bool:
        """True if no directory has still to leave the name of `left` before `entry` may have it."""
        node = self._st.overlay.node(left.moved_node) if left.moved_node is not None else None
        return node is None or not self._must_leave(node) or node.id == entry.node or self._left_ready(left)

    def _clear(self, path: str, node: Node | None) -> bool:
        """Send off what was removed below `path`, which is to be absent (node None), a file, or a directory renamed to
        there. False if some of that has to wait, and this change with it. Else the engine would find a full directory.
        """
        st = self._st
        is_move = node is not None and node.kind == DIR
        if node is not None and is_move and self._from_path(path, node) is None:
            return True
        for below, left in st.gone.whiteouts_below(path):
            if is_move and node is not None:
                if left.moved_node == node.id or self._places.is_in(left.parent, node.id):
                    continue  # part of this rename, or removed in what moves
                above = self._above(left)
                if above is not None and self._dir_left(left, above) and left.seal_id is None:
                    self._behind.append((node.id, below, left))
                    continue
            if not self._emit(left) and (node is None or not self._force(left)):
                return False
            if left.seal_id is not None and left.gen != left.sealed_gen:
                return False
            if is_move and node is not None:
                self._freeze_apart(node.id, below, left)
        return True

    def _freeze_apart(self, dir_id: int, path: str, left: Entry) -> None:
        """Freeze the removal of what is in the way of a directory, and nothing that moves with that."""
        self._apart = dir_id
        self._freeze_removal(path, left)
        self._apart = None

    def _freeze_in_front(self, dir_id: int, path: str, left: Entry) -> None:
        """A whiteout that nothing has taken over in this round, though its directory's rename is in it."""
        places = [place for place, item in enumerate(self.items) if item.ref.folder == dir_id and item.ref.from_path]
        if places and left.seal_id is None:
            self._freeze_apart(dir_id, path, left)
            self.items.insert(places[0], self.items.pop())

    def _force(self, left: Entry) -> bool:
        """Emit a whiteout without what was moved away from there: the path is needed."""
        node = self._st.overlay.node(left.moved_node) if left.moved_node is not None else None
        if left.key in self._forced or (node is not None and self._must_leave(node)):
            return False
        self._forced.add(left.key)
        self._done.pop(left.key, None)
        return self._emit(left)

    def _left_ready(self, entry: Entry) -> bool:
        """Let the node that left this name go first. True if it has, or never will."""
        st = self._st
        node = st.overlay.node(entry.moved_node) if entry.moved_node is not None else None
        target = st.overlay.entry_of(node) if node is not None else None
        if node is None or target is None or target is entry or target.local_only:
            entry.moved_node = None
            st.overlay.put_entry(entry)
            return True
        if entry.node is not None and not self._must_leave(node):
            return True  # neither needs the other's old name
        return self._emit(target)

    def _must_leave(self, node: Node) -> bool:
        """True of a directory that the engine knows: what takes its name comes behind its rename."""
        return node.kind == DIR and (node.seal_id is not None or self._st.view.row(node.id) is not None)

    # ---- rows

    def _freeze(self, path: str, entry: Entry, node: Node, group: bytes | None = None) -> SealItem:
        """group: None: the file has one name; b"": this is the first of several; else the seal_id of that."""
        if entry.moved_from is not None and entry.moved_from[0] == path:
            entry.moved_from = None  # back again
        from_path = self._from_path(path, node) if node.kind == DIR else None
        item = self._item(MOVEDIR if from_path is not None else PUT, path, entry, node, from_path, group)
        item.ref.keys.append(entry.key)
        self._take_over(item, entry, path)
        entry.seal_id, entry.sealed_gen, entry.moved_to = item.ref.seal_id, entry.gen, None
        self._st.overlay.put_entry(entry)
        self._st.pending.pop(entry.key, None)
        if not group:
            self._free_left(item, path, node, from_path)
        if from_path is not None:
            self._moves.append(gone.FolderSeal(node.id, from_path, path))
        elif entry.origin is not None:
            entry.origin = None
        return item

    def _from_path(self, path: str, node: Node) -> str | None:
        """Where the engine will have the directory when it comes to this row; None: there, or not known at all."""
        shown = gone.path_behind(self._st, node.id, self._moves)
        return shown if shown != path else None

    def _free_left(self, item: SealItem, path: str, node: Node, from_path: str | None) -> None:
        """The names the node has left: the whiteout of a moved directory is part of the move, others go as removals.

        What stands there by now goes out by itself.
        """
        st = self._st
        for key in sorted(st.left_by.get(node.id, ())):
            left = st.overlay.entry(*key)
            if left is None or left.moved_node != node.id:
                continue
            item.freed.append(key)
            if left.seal_id is not None:
                continue
            left.moved_to = self._moved_to(left, node) or path
            if from_path is not None and self._path_at(left) == from_path:
                if left.node is None:
                    left.seal_id, left.sealed_gen = item.ref.seal_id, left.gen
                    item.ref.keys.append(key)
                    st.pending.pop(key, None)
                else:
                    left.last = None  # the rename leaves nothing there
            st.overlay.put_entry(left)

    def _moved_to(self, left: Entry, node: Node) -> str | None:
        """Which of several names of a file is the one that was moved."""
        if not node.links:
            return None
        old = self._path_at(left)
        found = (entry for entry in self._st.overlay.entries_of(node) if (entry.moved_from or ("", ""))[0] == old)
        entry = next(found, None)
        return self._path_at(entry) if entry is not None else None

    def _add_lost(self, ino: int) -> None:
        node = self._st.overlay.node(ino)
        if node is None or node.lost_path is None or node.seal_id is not None:
            return
        if node.is_cut or self._st.overlay.is_unsaved(ino) or not (self._allows(node) and unlayer(self._st, node)):
            return
        if not node.lost_seen and not self._name_ready(node.lost_path):
            return
        self._item(PUT, node.lost_path, None, node, None)
        self._st.pending.pop(ino, None)

    def _name_ready(self, path: str) -> bool:
        """True if what stands at a path is in this round, or needs no seal: what a power cut tore comes behind it."""
        found = self._st.find(path)
        return not isinstance(found, Entry) or not found.dirty or found.local_only or self._emit(found)

    def _item(
        self, op: str, path: str, entry: Entry | None, node: Node, from_path: str | None, group: bytes | None = None
    ) -> SealItem:  # fmt: skip
        """Freeze the node: its work file becomes the layer, later writes go to a new one. group: as of _freeze."""
        st = self._st
        is_first = not group  # else the node is frozen, by the first of its names
        if node.work is not None:
            if node.handles or not node.work.stored:
                node.work.fd()
            node.layer, node.work = node.work, None
            node.layer.seal()
            st.overlay.put_file(node.layer)
            if not node.handles:
                node.layer.close()
        layer = node.layer
        seal_id = st.env.random_bytes(16)
        known = self._known(entry, path) if entry is not None else Known(node.lost_seen, node.base, False)
        if is_first:
            node.seal_id, node.sealed_gen = seal_id, node.gen
            node.first_write, node.last_seal = None, st.env.monotonic()
            node.interrupted = node.unflushed = False
            st.overlay.put_node(node)
            st.unshown.discard(node.id)
        held = layer.id if layer is not None and is_first else None
        ref = SealRef(seal_id, 0, path, op, held, known.last, node.size)
        ref.node, ref.from_path = node.id if is_first else None, from_path
        ref.group = seal_id if group == b"" else group
        ref.folder = node.id if node.kind == DIR else None
        ref.moved_from = entry.moved_from if entry is not None else None
        row = (
            op, path, from_path,
            ref.node if entry is not None else None,
            self._dir_ids(entry.parent) if entry is not None else "[]",
            node.kind, node.mode,
            None if node.uid == st.uid else node.uid,
            None if node.gid == st.gid else node.gid,
            node.size, node.mtime_ns, node.ctime_ns, node.target,
            json_text(node.xattrs) if node.xattrs else None,
            node.base,
            layer.id if layer is not None else None,
            layer.limit_below if layer is not None else None,
            json_text(known.seen),
            known.last,
            int(known.resolved),
            json_text(ref.moved_from) if ref.moved_from is not None else None,
            None,
            node.link_id if ref.group is not None else "",
            ref.group,
        )  # fmt: skip
        item = SealItem(ref, row, layer if is_first else None)
        st.overlay.seals[seal_id] = ref
        self.items.append(item)
        return item

    def _freeze_removal(self, path: str, entry: Entry) -> None:
        st = self._st
        if entry.seal_id is not None:
            return
        seal_id = st.env.random_bytes(16)
        known = self._known(entry, path)
        ref = SealRef(seal_id, 0, path, REMOVE, None, known.last)
        ref.keys.append(entry.key)
        nothing = (None,) * 13
        row = (
            REMOVE, path, None, *nothing[:1], "[]", *nothing[1:],
            json_text(known.seen), known.last, int(known.resolved), None, entry.moved_to, "", None,
        )  # fmt: skip
        item = SealItem(ref, row, None)
        self._take_over(item, entry, path)
        entry.seal_id, entry.sealed_gen = seal_id, entry.gen
        st.overlay.put_entry(entry)
        st.pending.pop(entry.key, None)
        st.overlay.seals[seal_id] = ref
        self.items.append(item)

    def _known(self, entry: Entry, path: str) -> "Known":
        """What the row's seal says of the versions before: it takes over what gone folders left for this path. Which of
        them is the older does not matter: those were removed here by the person, and this is what the person wants.
        """
        seen, last, resolved = entry.seen, entry.last, entry.resolved
        for left in self._free_at(entry, path):
            if last is None:
                last = left.last
            elif not set(left.seen).issubset(seen):
                resolved = True  # to be published even if nothing else changed
            seen, resolved = merge_seen(seen, left.seen), resolved or left.resolved
        return Known(seen, last, resolved or (last is not None and self._is_made_anew(entry)))

    def _is_made_anew(self, entry: Entry) -> bool:
        """True of a folder whose number the engine has to take over: somebody may be in it."""
        node = self._st.overlay.node(entry.node) if entry.node is not None else None
        return node is not None and node.kind == DIR and self._st.view.row(node.id) is None

    def _take_over(self, item: SealItem, entry: Entry, path: str) -> None:
        """What gone folders left for this path goes with this seal."""
        for left in self._free_at(entry, path):
            left.seal_id, left.sealed_gen = item.ref.seal_id, left.gen
            item.ref.keys.append(left.key)
            self._st.overlay.put_entry(left)
            self._st.pending.pop(left.key, None)

    def _dir_ids(self, dir_id: int) -> str:
        """The numbers of the folders down to and with `dir_id`, without the root, as JSON."""
        text = self._dir_ids_text.get(dir_id)
        if text is None:
            text = self._dir_ids_text[dir_id] = json_text(self._find_dir_ids(dir_id))
        return text

    def _find_dir_ids(self, dir_id: int) -> list[int]:
        ids: list[int] = []
        while dir_id != ROOT_ID:
            ids.append(dir_id)
            self._st.unshown.discard(dir_id)
            place = self._st.place_of(dir_id)
            if place is None:
                return []
            dir_id = place[0]
        return ids[::-1]
