"""Freezing: which changes go into one seal round, and in which order. What their rows say: fs/tree/frozen.py.

The engine replays a round in order, so a folder comes before what is in it, the move of a directory before what takes
its old name, what was moved before the removal of its old name, and removals last, the deepest first. A change whose
turn cannot come yet (something before it waits for an answer, or is being written) is left out and waits as well.

A path has at most one seal on its way: the next one has to say that it has seen that version.

Paths that are used again (see gone.py): what stands at a path takes over the whiteouts that were left for that path;
one that is on its way is waited for. What was removed below the path of a renamed directory comes before that rename,
and what was removed below the path of a new file goes out with it, even if what was moved away cannot go out yet.

Directories that wait for one another in a circle (two that have swapped their names, one that went into a new folder of
its old name): one of them steps aside first, to a name at the top that is gone again when the round has been replayed.
"""

from collections.abc import Callable, Container, Iterable
from itertools import chain, islice

from fs.tree import links, standing
from fs.tree.frozen import MOVEDIR, Frozen, SealItem
from fs.tree.layers import DEPTH_MAX
from fs.tree.model import DIR, FILE, ROOT_ID, SPECIAL, Entry, Key, Node, SealRef
from fs.tree.state import Pending, State
from fs.tree.unlayer import unlayer
from sync.core.errors import NotFound
from sync.core.paths import join_path


class Freezer:
    """One round. `allows` says of a file's node whether it may be frozen as it is now."""

    def __init__(self, st: State, allows: Callable[[Node], bool], staying: Container[int] | None = ()) -> None:
        """staying: directories that must not step aside; None: none may, and what waits in a circle is left out."""
        self._st = st
        self._allows = allows
        self._staying = staying
        self._done: dict[Pending, bool] = {}
        # What is being decided, and the directory that is to leave a name by that, if it is waited for because of that.
        self._open: dict[Key, int | None] = {}
        self._circles: set[int] = set()  # one directory of each circle that was met
        self._ready_dirs: dict[int, bool] = {ROOT_ID: True}
        self._frozen = Frozen(st)
        self.items = self._frozen.items
        self._under_way = {ref.path for ref in st.overlay.seals.values() if ref.op != MOVEDIR and ref.keys}
        self._removed_behind = {ref.folder for ref in st.overlay.seals.values() if self._is_removed(ref)}
        self._removals: list[tuple[str, Entry]] = []
        # Whiteouts below a directory's new path that others take over: the directories, and the paths of now.
        self._behind: dict[Key, list[tuple[int, str, Entry]]] = {}
        self._forced: set[Key] = set()  # whiteouts that do not wait for what was moved away: their path is used again

    def add(self, key: Pending) -> None:
        if isinstance(key, int):
            self._add_lost(key)
            return
        entry = self._st.overlay.entry(*key)
        if entry is not None:
            self._emit(entry)

    def finish(self) -> list[SealItem]:
        """The items in their order, frozen."""
        done = -1
        while self._circles or (self._forced and done < self._count):
            if done == self._count:  # what is left waits for itself
                for dir_id in sorted(self._circles):
                    self._frozen.step_aside(dir_id)
            done = self._count
            self._add_late()
        for path, entry in sorted(self._removals, key=lambda item: item[0].count("/"), reverse=True):
            self._frozen.remove(path, entry)
        for dir_id, path, left in chain.from_iterable(self._behind.values()):
            self._frozen.remove_in_front(dir_id, path, left)
        return self.items

    @property
    def _count(self) -> int:
        return len(self.items) + len(self._removals)

    @property
    def is_halfway(self) -> bool:
        """True if a directory has stepped aside and cannot go on from there in this round: that is to be taken back."""
        return any(True for _ in self._not_sealed(self._frozen.aside))

    def left_out(self) -> set[int]:
        """The directories that could not go to their places, or not all of the way."""
        nodes = {entry.node for key, is_ready in self._done.items() if not is_ready and (entry := self._entry(key))}
        return {*self._not_sealed(self._frozen.aside), *(node_id for node_id in nodes if node_id is not None)}

    @property
    def since(self) -> dict[Pending, float]:
        return self._frozen.since

    def _not_sealed(self, node_ids: Iterable[int]) -> Iterable[int]:
        nodes = ((node_id, self._st.overlay.node(node_id)) for node_id in node_ids)
        return (node_id for node_id, node in nodes if node is None or node.seal_id is None)

    def _entry(self, key: Pending) -> Entry | None:
        return self._st.overlay.entry(*key) if not isinstance(key, int) else None

    # ---- order

    def _emit(self, entry: Entry, leaver: int | None = None) -> bool:
        """True if the entry's state is in this round, or was sealed before as it is now, or need not be.

        leaver: the directory behind it, if it is asked for because that is to leave a name.
        """
        if entry.key in self._done:
            if entry.key in self._open:
                self._found_circle(entry.key, leaver)
            return self._done[entry.key]
        self._done[entry.key] = False  # a circle waits
        depth = len(self._open)
        self._open[entry.key] = leaver
        ready = self._try(entry)
        while len(self._open) > depth:
            self._open.popitem()
        self._done[entry.key] = ready
        return ready

    def _try(self, entry: Entry) -> bool:
        st = self._st
        if not standing.takes_over(entry):
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
        if not self._is_ready(node):
            return False
        self._frozen.put(path, entry, node)
        return True

    def _try_names(self, node: Node) -> bool:
        """The same for all names of a file: they go out together, or none does."""
        entries = [entry for entry in self._st.overlay.entries_of(node) if standing.takes_over(entry)]
        self._done.update((entry.key, False) for entry in entries)
        for entry in entries:
            self._open.setdefault(entry.key, None)
        found: list[tuple[str, Entry]] = []
        for entry in entries:
            path = self._free_path(entry, node) if entry.seal_id is None else None
            if path is None or entry.seal_id is not None or not self._may_go(entry, node, path):
                return False
            found.append((path, entry))
        if not self._is_ready(node):
            return False
        group: bytes | None = b"" if len(found) > 1 else None
        for path, entry in found:
            item = self._frozen.put(path, entry, node, group)
            group = group or (item.ref.seal_id if len(found) > 1 else None)
            self._done[entry.key] = True
        return True

    def _is_ready(self, node: Node) -> bool:
        """Before a node is frozen, under all its names. False if the disk is too full for that, or if a name service
        has not said yet whose it is.
        """
        if self._st.ownership.is_asked(node):
            return False
        if node.link_id:
            links.settle_id(self._st, node)
        return node.kind != FILE or unlayer(self._st, node)

    def _free_path(self, entry: Entry, node: Node | None) -> str | None:
        """The path under which the entry can go out as far as folders and other rows are concerned; None if not yet."""
        if not self._dir_ready(entry.parent) or (node is not None and self._st.overlay.is_unsaved(node.id)):
            return None
        try:
            path = self._frozen.path_at(entry)
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
        if ref is not None and node is None and ref.op == MOVEDIR and entry.key in ref.keys:
            return entry.gen == entry.sealed_gen  # part of the move of the directory that left this name
        if ref is None or entry.key not in ref.keys or ref.node != (node.id if node is not None else None):
            return False
        return ref.path == self._frozen.path_at(entry)

    def _dir_ready(self, dir_id: int) -> bool:
        """True if the engine will know the folder at its present path when it comes to this round's next row."""
        if dir_id not in self._ready_dirs:
            for above in self._undecided(dir_id):
                self._ready_dirs[above] = self._is_dir_ready(above)
        return self._ready_dirs[dir_id]

    def _undecided(self, dir_id: int) -> list[int]:
        """The folder and those above it, the topmost first: each asks for the one above, and they may be thousands."""
        found: list[int] = []
        while dir_id not in self._ready_dirs and len(found) < DEPTH_MAX:
            found.append(dir_id)
            place = self._place_of(dir_id)
            if place is None or isinstance(place, str):
                break
            dir_id = place[0]
        return found[::-1]

    def _place_of(self, dir_id: int) -> Key | str | None:
        return self._frozen.places.place_of(dir_id) if self._st.gone else self._st.place_of(dir_id)

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
        entry = standing.live_entry(st, join_path(folder, left.name)) if folder is not None else None
        return entry if entry is not None and entry is not left and standing.takes_over(entry) else None

    def _may_take_over(self, entry: Entry, path: str) -> bool:
        """False if something that gone folders left for this path is on its way, or a directory has still to leave."""
        for left in self._frozen.left_at(entry, path):
            if self._is_on_its_way(left) or not self._dir_left(left, entry) or self._is_on_its_way(left):
                return False
        return True

    def _is_on_its_way(self, left: Entry) -> bool:
        """What goes with a directory that this round moves away is nothing to wait for."""
        return left.seal_id is not None and left.seal_id not in self._frozen.renames

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
        if node is not None and is_move and self._frozen.from_path(path, node) is None:
            return True
        goes_through: bool | None = None
        for below, left in st.gone.whiteouts_below(path):
            if is_move and node is not None:
                if left.moved_node == node.id or self._frozen.places.is_in(left.parent, node.id):
                    continue  # part of this rename, or removed in what moves
                above = self._above(left)
                if above is not None and not self._has_left(left, above):
                    return False
                if above is not None and self._dir_left(left, above) and left.seal_id is None:
                    if goes_through is None:
                        goes_through = self._goes_through(node)
                    if goes_through and left.moved_node not in self._frozen.aside:
                        self._frozen.remove_apart(node.id, below, left)
                    self._behind.setdefault(left.key, []).append((node.id, below, left))
                    continue
            elif left.key in self._behind:
                continue
            if not self._emit(left) and (node is None or not self._force(left)):
                return False
            if left.seal_id is not None and left.gen != left.sealed_gen:
                return False
            if is_move and node is not None:
                self._frozen.remove_apart(node.id, below, left)
        return True

    def _goes_through(self, node: Node) -> bool:
        """True if the engine has something in the directory that goes on from there once this has moved, and would take
        along what it meets.
        """
        others = (self._st.overlay.node(other) for other in self._st.left_by if other != node.id)
        return any(
            other is not None
            and self._must_leave(other)
            and self._frozen.is_in(other.id, node.id)
            and not self._frozen.places.is_in(other.id, node.id)
            for other in others
        )

    def _has_left(self, left: Entry, above: Entry) -> bool:
        """False of a directory that left a name and is to come back there below one that is moved around that name."""
        node = self._st.overlay.node(left.moved_node) if left.moved_node is not None else None
        comes_back = node is not None and node.id == above.node and self._must_leave(node)
        return not comes_back or self._emit(above, above.node)

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
        target = self._left_for(entry)
        if target is None:
            node_id, entry.moved_node = entry.moved_node, None
            self._st.overlay.put_entry(entry)
            self._st.waits_no_more(entry.key, node_id)
            return True
        if not self._waits_for_left(entry):
            return True  # neither needs the other's old name
        known = {target.key: target}  # what left, what left the name that took, and so on: hundreds of folders rotate
        while self._waits_for_left(target) and (following := self._left_for(target)) is not None:
            if following.key in known or following.key in self._done:
                break
            known[following.key] = target = following
        return [self._emit(target, target.node) for target in reversed(known.values())][-1]

    def _left_for(self, entry: Entry) -> Entry | None:
        """Where the node that left this name is now; None if it will never go out."""
        node = self._st.overlay.node(entry.moved_node) if entry.moved_node is not None else None
        target = self._st.overlay.entry_of(node) if node is not None else None
        return None if target is None or target is entry or target.local_only else target

    def _waits_for_left(self, entry: Entry) -> bool:
        """False if what stands at a name now does not need that what left it goes out before."""
        if entry.moved_node in self._frozen.aside:
            return False
        node = self._st.overlay.node(entry.moved_node) if entry.moved_node is not None else None
        return entry.node is None or (node is not None and self._must_leave(node))

    def _must_leave(self, node: Node) -> bool:
        """True of a directory that the engine knows: what takes its name comes behind its rename."""
        if node.kind != DIR or node.id in self._frozen.aside:
            return False
        return node.seal_id is not None or self._st.view.row(node.id) is not None

    # ---- circles

    def _found_circle(self, key: Key, leaver: int | None) -> None:
        """What stands at `key` waits for itself: keep in mind which directory could step out of that."""
        leavers = [leaver]
        for waiting, left_by in reversed(self._open.items()):
            if waiting == key:
                break
            leavers.append(left_by)
        if self._circles.isdisjoint(leavers):
            free = (one for one in leavers if one is not None and self._may_step_aside(one))
            self._circles.update(islice(free, 1))

    def _may_step_aside(self, dir_id: int) -> bool:
        """True if the engine knows the directory, and nothing of it is on its way."""
        node = self._st.overlay.node(dir_id)
        if self._staying is None or dir_id in self._staying:
            return False
        if node is None or node.seal_id is not None or not self._must_leave(node):
            return False
        entry = self._st.overlay.entry_of(node)
        return entry is not None and entry.seal_id is None and not self._st.overlay.is_unsaved(dir_id)

    def _add_late(self) -> None:
        """Once more what could not go out so far."""
        self._circles.clear()
        self._ready_dirs = {dir_id: True for dir_id, is_ready in self._ready_dirs.items() if is_ready}
        late = [key for key, is_ready in self._done.items() if not is_ready]
        for key in late:
            del self._done[key]
        for key in late:
            self.add(key)

    def _add_lost(self, ino: int) -> None:
        node = self._st.overlay.node(ino)
        if node is None or node.lost_path is None or node.seal_id is not None:
            return
        if self._st.ownership.is_asked(node) or node.is_cut or self._st.overlay.is_unsaved(ino):
            return
        if not (self._allows(node) and unlayer(self._st, node)):
            return
        if not node.lost_seen and not self._name_ready(node.lost_path):
            return
        self._frozen.put_lost(node, node.lost_path)
        self._frozen.no_longer_pending(ino)

    def _name_ready(self, path: str) -> bool:
        """True if what stands at a path is in this round, or needs no seal: what a power cut tore comes behind it."""
        found = self._st.find(path)
        return not isinstance(found, Entry) or not found.dirty or found.local_only or self._emit(found)
