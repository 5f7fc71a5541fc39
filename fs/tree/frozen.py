"""Frozen: the items of one seal round: what is frozen of a change, and what its row says of the versions before."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fs.tree import standing, whereabouts
from fs.tree.model import DIR, ROOT_ID, Entry, Key, Node, SealRef, merge_seen
from fs.tree.rows import json_text
from fs.tree.state import Pending, State
from fs.work.workfile import WorkFile
from sync.core.errors import NotFound
from sync.core.paths import PATH_MAX, join_path, split_path

NUMBER_DIGITS = 10
PUT, REMOVE, MOVEDIR = "put", "remove", "movedir"


@dataclass(slots=True, eq=False)
class SealItem:
    """One frozen state. row: the columns of `seal` behind seal_id and round."""

    ref: SealRef
    row: tuple[Any, ...]
    layer: WorkFile | None
    freed: list[Key] = field(default_factory=list)  # whiteouts that waited for this node
    changed: list[tuple[Entry | Node, str, object, object]] = field(default_factory=list)  # (.., before, now)

    def change(self, row: Entry | Node, **values: object) -> None:
        """What is given back if the round is taken back."""
        for name, value in values.items():
            self.changed.append((row, name, getattr(row, name), value))
            setattr(row, name, value)


class Known(NamedTuple):
    """What a seal says of the versions before. As the columns of `seal`."""

    seen: tuple[str, ...]
    last: str | None
    resolved: bool


class Frozen:
    """Freezes what fs/tree/freeze.py says is next. items: in the order of the round."""

    def __init__(self, st: State) -> None:
        self.items: list[SealItem] = []
        self.renames: set[bytes] = set()  # seal_ids of the directories that this round takes to their places
        self.aside: dict[int, str] = {}  # directories that have stepped aside, and from which path
        self.places = whereabouts.Places(st)
        self.since: dict[Pending, float] = {}  # when what is frozen had changed
        self._st = st
        self._dir_ids_text: dict[int, str] = {}
        self._moves = [seal for seal in whereabouts.folder_seals(st) if seal.from_path is not None]
        self._apart: int | None = None  # a directory that moves: what hangs below it comes behind that

    def path_at(self, entry: Entry) -> str:
        """NotFound if nothing leads there, or ever did."""
        folder = self._st.gone.path_of(entry.parent) if self._st.gone else None
        return join_path(folder, entry.name) if folder is not None else self._st.path_at(entry.key)

    def left_at(self, entry: Entry, path: str) -> list[Entry]:
        """The whiteouts that gone folders left for this path, but for those that move with a directory in the way."""
        st = self._st
        if not st.gone:
            return []
        found = [left for left in st.gone.whiteouts_at(*split_path(path)) if left is not entry]
        if self._apart is not None:
            found = [left for left in found if not self.places.is_in(left.parent, self._apart)]
        return found

    def from_path(self, path: str, node: Node) -> str | None:
        """Where the engine will have the directory when it comes to this row; None: there, or not known at all."""
        shown = whereabouts.path_behind(self._st, node.id, self._moves)
        return shown if shown != path else None

    def is_in(self, dir_id: int, above: int) -> bool:
        """True if the engine has one directory in the other when it comes to this row."""
        path, folder = (whereabouts.path_behind(self._st, one, self._moves) for one in (dir_id, above))
        return path is not None and folder is not None and whereabouts.is_at_or_below(path, folder)

    def put(self, path: str, entry: Entry, node: Node, group: bytes | None = None) -> SealItem:
        """Freeze what an entry shows, as a change of `path`.

        group: None: the file has one name; b"": this is the first of several; else the seal_id of that.
        """
        if entry.moved_from is not None and entry.moved_from[0] == path:
            entry.moved_from = None  # back again
        from_path = self.from_path(path, node) if node.kind == DIR else None
        item = self._item(MOVEDIR if from_path is not None else PUT, path, entry, node, from_path, group)
        item.ref.keys.append(entry.key)
        self._take_over(item, entry, path)
        entry.seal_id, entry.sealed_gen, entry.moved_to = item.ref.seal_id, entry.gen, None
        self._st.overlay.put_entry(entry)
        self.no_longer_pending(entry.key)
        if not group:
            self._free_left(item, path, node, from_path)
        if from_path is not None:
            self.renames.add(item.ref.seal_id)
            self._moves.append(whereabouts.FolderSeal(node.id, from_path, path))
        elif entry.origin is not None:
            item.change(entry, origin=None)
        return item

    def no_longer_pending(self, key: Pending) -> None:
        at = self._st.pending.pop(key, None)
        if at is not None:
            self.since[key] = at

    def step_aside(self, dir_id: int) -> None:
        """Move a directory that the engine knows out of the way, to the top; `put` takes it on from there."""
        st = self._st
        node, from_path = st.overlay.node(dir_id), whereabouts.path_behind(st, dir_id, self._moves)
        assert node is not None and from_path is not None, "it is about to be sealed, and the engine knows it"
        path = self._free_path(from_path)
        ref = SealRef(st.env.random_bytes(16), 0, path, MOVEDIR, None, None)
        ref.from_path, ref.folder = from_path, node.id
        item = SealItem(ref, self._row(ref, None, node, Known((), None, False)), None)
        self.items.append(item)
        st.overlay.seals[ref.seal_id] = ref
        self._moves.append(whereabouts.FolderSeal(node.id, from_path, path))
        self.aside[node.id] = from_path
        for key in st.left_by.get(node.id, ()):
            left = st.overlay.entry(*key)
            if left is not None and left.moved_node == node.id and left.node is not None:
                self._leave_nothing(item, left, from_path)

    def _free_path(self, from_path: str) -> str:
        """A path at the top, where no folder is that has to go as well, and which nobody has or is about to make before
        this is published: so any number, and a long one unless what is below would have too long a path then.
        """
        st, length = self._st, len(from_path.encode())
        more = NUMBER_DIGITS - length
        is_long = more > 0 and max(length, st.view.longest_below(from_path)) + more > PATH_MAX
        digits = length if is_long else NUMBER_DIGITS
        while True:
            path = f"{int.from_bytes(st.env.random_bytes(8)) % 10**digits:0{digits}}"
            if standing.live_entry(st, path) is None and st.view.resolve_path(path) is None:
                return path
            digits = min(digits + is_long, NUMBER_DIGITS)  # a short one is soon taken

    def put_lost(self, node: Node, path: str) -> None:
        """A node without a name, whose content is to be seen behind that path."""
        self._item(PUT, path, None, node, None)

    def remove(self, path: str, entry: Entry) -> None:
        """Freeze a removal; nothing if it is on its way."""
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
            json_text(known.seen), known.last, int(known.resolved), None, entry.moved_to, "", None, "", "",
        )  # fmt: skip
        item = SealItem(ref, row, None)
        self._take_over(item, entry, path)
        entry.seal_id, entry.sealed_gen = seal_id, entry.gen
        st.overlay.put_entry(entry)
        self.no_longer_pending(entry.key)
        st.overlay.seals[seal_id] = ref
        self.items.append(item)

    def remove_apart(self, dir_id: int, path: str, left: Entry) -> None:
        """Freeze the removal of what is in the way of a directory, and nothing that moves with that."""
        self._apart = dir_id
        self.remove(path, left)
        self._apart = None

    def remove_in_front(self, dir_id: int, path: str, left: Entry) -> None:
        """A whiteout that nothing has taken over in this round, though its directory's rename is in it."""
        places = [place for place, item in enumerate(self.items) if item.ref.folder == dir_id and item.ref.from_path]
        if places and left.seal_id is None:
            self.remove_apart(dir_id, path, left)
            self.items.insert(places[-1], self.items.pop())  # when it stepped aside others were still in its way

    # ---- inside

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
            item.change(left, moved_to=self._moved_to(left, node) or path)
            origin = self.aside.get(node.id, from_path)
            if left.node is not None and origin is not None:
                self._leave_nothing(item, left, origin)
            elif origin is not None and self.path_at(left) == origin:
                left.seal_id, left.sealed_gen = item.ref.seal_id, left.gen
                item.ref.keys.append(key)
                self.no_longer_pending(key)
            st.overlay.put_entry(left)

    def _leave_nothing(self, item: SealItem, left: Entry, from_path: str) -> None:
        """What stands at the old name of a directory that is renamed comes where nothing is."""
        if left.seal_id is None and self.path_at(left) == from_path:
            item.change(left, last=None)
            self._st.overlay.put_entry(left)

    def _moved_to(self, left: Entry, node: Node) -> str | None:
        """Which of several names of a file is the one that was moved."""
        if not node.links:
            return None
        old = self.path_at(left)
        found = (entry for entry in self._st.overlay.entries_of(node) if (entry.moved_from or ("", ""))[0] == old)
        entry = next(found, None)
        return self.path_at(entry) if entry is not None else None

    def _item(
        self, op: str, path: str, entry: Entry | None, node: Node, from_path: str | None, group: bytes | None = None
    ) -> SealItem:  # fmt: skip
        """Freeze the node: its work file becomes the layer, later writes go to a new one. group: as of put."""
        st = self._st
        is_first = not group  # else the node is frozen, by the first of its names
        layer = self._layer_of(node)
        seal_id = st.env.random_bytes(16)
        if entry is not None:
            known = self._known(entry, path)
        else:
            known = Known(node.lost_seen, self._last_of(node, path), False)
        if is_first:
            node.seal_id, node.sealed_gen = seal_id, node.gen
            node.owner, node.owner_group = st.ownership.published(node)
            st.unshown.discard(node.id)
        held = layer.id if layer is not None and is_first else None
        ref = SealRef(seal_id, 0, path, op, held, known.last, node.size)
        ref.node, ref.from_path = node.id if is_first else None, from_path
        ref.group = seal_id if group == b"" else group
        ref.folder = node.id if node.kind == DIR else None
        ref.moved_from = entry.moved_from if entry is not None else None
        row = self._row(ref, entry, node, known)
        item = SealItem(ref, row, layer if is_first else None)
        if is_first:
            now = st.env.monotonic()
            item.change(node, first_write=None, last_seal=now, interrupted=False, unflushed=False)
            st.overlay.put_node(node)
        st.overlay.seals[seal_id] = ref
        self.items.append(item)
        return item

    def _last_of(self, node: Node, path: str) -> str | None:
        """What a node without a name had behind that path before. What was only moved there had nothing: to the engine
        it would be unchanged, and with the removal of its old name it would be nowhere.
        """
        if node.base is None or node.layer is not None:
            return node.base
        try:
            was_there = self._st.view.manifest(node.base).rel_path == path
        except NotFound:  # to the engine, too: it will say so
            was_there = True
        return node.base if was_there else None

    def _layer_of(self, node: Node) -> WorkFile | None:
        """Its local bytes, which nobody writes to any more."""
        if node.work is not None:
            if node.handles or not node.work.stored:
                node.work.fd()
            node.layer, node.work = node.work, None
            node.layer.seal()
            self._st.overlay.put_file(node.layer)
            if not node.handles:
                node.layer.close()
        return node.layer

    def _row(self, ref: SealRef, entry: Entry | None, node: Node, known: Known) -> tuple[Any, ...]:
        """Of a node; entry None: of one that has no name."""
        st, layer = self._st, node.layer
        return (
            ref.op, ref.path, ref.from_path,
            ref.folder or (ref.node if entry is not None else None),
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
            node.link_id if entry is not None else "",
            ref.group,
            node.owner, node.owner_group,
        )  # fmt: skip

    def _free_at(self, entry: Entry, path: str) -> list[Entry]:
        return [left for left in self.left_at(entry, path) if left.seal_id is None]

    def _known(self, entry: Entry, path: str) -> Known:
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
            self.no_longer_pending(left.key)

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
