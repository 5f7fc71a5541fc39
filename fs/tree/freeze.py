"""Freezing: which changes go into one seal round, in which order, and what their rows say.

The engine replays a round in order, so a folder comes before what is in it, the move of a directory before what takes
its old name, what was moved before the removal of its old name, and removals last, the deepest first. A change whose
turn cannot come yet (something before it waits for an answer, or is being written) is left out and waits as well.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fs.tree.model import DIR, FILE, ROOT_ID, Entry, Key, Node, SealRef
from fs.tree.rows import json_text
from fs.tree.state import Pending, State
from fs.work.workfile import WorkFile, absorb
from sync.core.errors import NotFound
from sync.core.paths import is_below
from sync.state.ballast import is_full

PUT, REMOVE, MOVEDIR = "put", "remove", "movedir"


@dataclass(slots=True, eq=False)
class SealItem:
    """One frozen state. row: the columns of `seal` behind seal_id and round."""

    ref: SealRef
    row: tuple[Any, ...]
    layer: WorkFile | None
    freed: list[Key] = field(default_factory=list)  # whiteouts that waited for this node


class Freezer:
    """One round. `allows` says of a file's node whether it may be frozen as it is now."""

    def __init__(self, st: State, allows: Callable[[Node], bool]) -> None:
        self._st = st
        self._allows = allows
        self._done: dict[Pending, bool] = {}
        self._ready_dirs: dict[int, bool] = {ROOT_ID: True}
        self._dir_ids_text: dict[int, str] = {}
        self._moves = [(ref.from_path, ref.path) for ref in st.overlay.seals.values() if ref.op == MOVEDIR]
        self._moved_away = {ref.moved_dir for ref in st.overlay.seals.values() if self._is_gone(ref.moved_dir)}
        self._removals: list[tuple[str, Entry]] = []
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
        for path, entry in sorted(self._removals, key=lambda item: item[0].count("/"), reverse=True):
            self._freeze_removal(path, entry)
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
        if not entry.dirty or entry.local_only:
            return True
        node = st.overlay.node(entry.node) if entry.node is not None else None
        if entry.seal_id is not None or (node is not None and node.seal_id is not None):
            return self._is_sealed_as_is(entry, node)
        if not self._dir_ready(entry.parent) or (node is not None and st.overlay.is_unsaved(node.id)):
            return False
        try:
            path = st.path_at(entry.key)
        except NotFound:
            return False
        if entry.moved_node is not None and not self._left_ready(entry):
            return False
        if entry.seal_id is not None:
            return True  # sealed with the move of the directory that left this name
        if node is None:
            if not self._below_gone(entry):
                return False
            self._removals.append((path, entry))
            return True
        if node.kind == FILE and (node.is_cut or not (self._allows(node) and unlayer(st, node))):
            return False
        self._freeze(path, entry, node)
        return True

    def _is_sealed_as_is(self, entry: Entry, node: Node | None) -> bool:
        """True if the un-noted seal froze the entry at the place where it is now."""
        seal_id = entry.seal_id if entry.seal_id is not None else node.seal_id if node is not None else None
        ref = self._st.overlay.seals.get(seal_id) if seal_id is not None else None
        if ref is None or entry.key not in ref.keys or ref.node != entry.node:
            return False
        return ref.path == self._st.path_at(entry.key)

    def _dir_ready(self, dir_id: int) -> bool:
        """True if the engine will know the folder at its present path when it comes to this round's next row."""
        ready = self._ready_dirs.get(dir_id)
        if ready is None:
            place = self._st.place_of(dir_id)
            if dir_id in self._moved_away:
                ready = False  # removed behind its move: what was in it is found at the new path when that is noted
            elif place is None:
                ready = True  # gone from shown; its remembered path is all there is
            else:
                entry = self._st.overlay.entry(*place)
                ready = self._dir_ready(place[0])
                if ready and entry is not None and entry.node == dir_id:
                    ready = self._emit(entry)
            self._ready_dirs[dir_id] = ready
        return ready

    def _is_gone(self, dir_id: int | None) -> bool:
        """True of a directory that was removed here: no name leads to it."""
        node = self._st.overlay.node(dir_id) if dir_id is not None else None
        return dir_id is not None and (node is None or node.key is None)

    def _below_gone(self, entry: Entry) -> bool:
        """True if the removals of what was in a removed directory are in this round, or were sealed. Else the engine
        would find the directory full, and show it again.
        """
        row = self._st.view.lookup(*entry.key)
        if row is None or row.kind != DIR or self._st.place_of(row.id) != entry.key or not self._is_gone(row.id):
            return True
        folder = self._st.overlay.folder(row.id)
        for below in list(folder.entries.values()) if folder is not None else ():
            if not self._emit(below) or (below.seal_id is not None and below.gen != below.sealed_gen):
                return False
        return True

    def _left_ready(self, entry: Entry) -> bool:
        """Let the node that left this name go first. True if it has, or never will."""
        st = self._st
        node = st.overlay.node(entry.moved_node) if entry.moved_node is not None else None
        target = st.overlay.entry_of(node) if node is not None else None
        if node is None or target is None or target is entry or target.local_only:
            entry.moved_node = None
            st.overlay.put_entry(entry)
            return True
        if entry.node is not None and node.kind != DIR:
            return True  # two files: neither needs the other's old name
        return self._emit(target)

    # ---- rows

    def _freeze(self, path: str, entry: Entry, node: Node) -> None:
        from_path = self._from_path(path, node) if node.kind == DIR else None
        item = self._item(MOVEDIR if from_path is not None else PUT, path, entry, node, from_path)
        entry.seal_id, entry.sealed_gen, entry.moved_to = item.ref.seal_id, entry.gen, None
        item.ref.keys.append(entry.key)
        self._st.overlay.put_entry(entry)
        self._st.pending.pop(entry.key, None)
        self._free_left(item, path, node, from_path)
        if from_path is not None:
            self._moves.append((from_path, path))
        elif entry.origin is not None:
            entry.origin = None

    def _from_path(self, path: str, node: Node) -> str | None:
        """Where the engine will have the directory when it comes to this row; None: there, or not known at all."""
        try:
            shown = self._st.view.path_of(node.id)
        except NotFound:
            return None
        for old, new in self._moves:
            if old is not None and (shown == old or is_below(shown, old)):
                shown = new + shown[len(old) :]
        return shown if shown != path else None

    def _free_left(self, item: SealItem, path: str, node: Node, from_path: str | None) -> None:
        """The whiteouts the node has left: that of a moved directory is part of the move, the others go as removals."""
        st = self._st
        for key in sorted(st.left_by.get(node.id, ())):
            left = st.overlay.entry(*key)
            if left is None or left.moved_node != node.id:
                continue
            item.freed.append(key)
            if left.seal_id is not None:
                continue
            left.moved_to = path
            if from_path is not None and st.path_at(key) == from_path:
                left.seal_id, left.sealed_gen = item.ref.seal_id, left.gen
                item.ref.keys.append(key)
                if left.node is None:
                    st.pending.pop(key, None)
            st.overlay.put_entry(left)

    def _add_lost(self, ino: int) -> None:
        node = self._st.overlay.node(ino)
        if node is None or node.lost_path is None or node.seal_id is not None:
            return
        if node.is_cut or self._st.overlay.is_unsaved(ino) or not (self._allows(node) and unlayer(self._st, node)):
            return
        self._item(PUT, node.lost_path, None, node, None)
        self._st.pending.pop(ino, None)

    def _item(self, op: str, path: str, entry: Entry | None, node: Node, from_path: str | None) -> SealItem:
        """Freeze the node: its work file becomes the layer, later writes go to a new one."""
        st = self._st
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
        node.seal_id, node.sealed_gen = seal_id, node.gen
        node.first_write, node.last_seal = None, st.env.monotonic()
        node.interrupted = node.unflushed = False
        st.overlay.put_node(node)
        st.unshown.discard(node.id)
        last = entry.last if entry is not None else node.base
        ref = SealRef(seal_id, 0, path, op, layer.id if layer is not None else None, last, node.size)
        ref.node, ref.from_path = node.id, from_path
        ref.moved_dir = node.id if op == MOVEDIR else None
        ref.moved_from = entry.moved_from if entry is not None else None
        row = (
            op, path, from_path,
            node.id if entry is not None else None,
            self._dir_ids(entry.parent) if entry is not None else "[]",
            node.kind, node.mode,
            None if node.uid == st.uid else node.uid,
            None if node.gid == st.gid else node.gid,
            node.size, node.mtime_ns, node.ctime_ns, node.target,
            json_text(node.xattrs) if node.xattrs else None,
            node.base,
            layer.id if layer is not None else None,
            layer.limit_below if layer is not None else None,
            json_text(entry.seen if entry is not None else node.lost_seen),
            last,
            int(entry.resolved) if entry is not None else 0,
            json_text(ref.moved_from) if ref.moved_from is not None else None,
            None,
        )  # fmt: skip
        item = SealItem(ref, row, layer)
        st.overlay.seals[seal_id] = ref
        self.items.append(item)
        return item

    def _freeze_removal(self, path: str, entry: Entry) -> None:
        st = self._st
        if entry.seal_id is not None:
            return
        seal_id = st.env.random_bytes(16)
        ref = SealRef(seal_id, 0, path, REMOVE, None, entry.last)
        ref.keys.append(entry.key)
        entry.seal_id, entry.sealed_gen = seal_id, entry.gen
        st.overlay.put_entry(entry)
        st.pending.pop(entry.key, None)
        nothing = (None,) * 13
        row = (
            REMOVE, path, None, *nothing[:1], "[]", *nothing[1:],
            json_text(entry.seen), entry.last, int(entry.resolved), None, entry.moved_to,
        )  # fmt: skip
        st.overlay.seals[seal_id] = ref
        self.items.append(SealItem(ref, row, None))

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


def unlayer(st: State, node: Node) -> bool:
    """A layer that no seal holds takes writes again: what is above it goes into it.

    False if the disk is too full for that: both stay, and show the same as before.
    """
    layer = node.layer
    if layer is None or node.seal_id is not None:
        return True
    layer.unseal()
    if node.work is not None:
        try:
            absorb(layer, node.work)
        except OSError as error:
            layer.seal()
            if is_full(error):
                return False
            raise
        node.work.close()
        st.overlay.drop_file(node.work.id, remove=True)
    node.work, node.layer = layer, None
    st.overlay.put_file(layer)
    st.overlay.put_node(node)
    return True
