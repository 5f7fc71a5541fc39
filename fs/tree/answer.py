"""One answer of the engine, and what it does to the entries and the node of its seal.

An answer applies only to an entry and a node that hold its seal_id, and a row goes only by the answer for exactly the
state it holds.
"""

import contextlib
from collections.abc import Sequence

from fs.tree import access, keepers, links, local_xattrs, stat, whole
from fs.tree.model import DIR, FILE, SPECIAL, Entry, Invalidation, Key, LocalTimes, Node, SealRef
from fs.tree.standing import hand_over, live_entry
from fs.tree.state import State
from fs.tree.whereabouts import is_reachable
from sync.core.errors import NotFound
from sync.state.rows import ShownRow, Taken, value_number

RETRY_REFUSED = 30.0  # s


def version_of(ref: SealRef, answer: Taken) -> str | None:
    """The version that holds what the seal froze; None if nothing was ever published of it."""
    return answer.version if answer.answer == "queued" else ref.last


class Note:
    """One answer. `apply` is all of it; for those of a file with several names note.py takes the steps by itself."""

    def __init__(self, st: State, ref: SealRef, answer: Taken) -> None:
        self._st = st
        self._ref = ref
        self.is_refused = answer.answer == "refused"
        self._is_queued = answer.answer == "queued"
        self._version = version_of(ref, answer)
        self._seen: tuple[str, ...] = (
            (self._version,) if self._version is not None else ()
        )  # by all that share the seal
        node = st.overlay.node(ref.node) if ref.node is not None else None
        self.node = node if node is not None and node.seal_id == ref.seal_id else None
        self.is_node_as_sealed = self.node is not None and self.node.gen == self.node.sealed_gen
        self._may_drop = True
        self._is_hidden = False  # others have removed the folder of what was published
        self._kept_value: int | None = None  # the content token of a complete layer

    def apply(self) -> list[Invalidation]:
        if self.node is not None:
            self.settle_node(self.node)
            self._may_drop = not self.node.links  # it had one name when it was sealed
        return self.settle()

    def held(self) -> list[Entry]:
        """The entries that this answer is for. What any of them has seen, and this version, is seen by all."""
        ref, entry_at = self._ref, self._st.overlay.entry
        held = [entry for key in ref.keys if (entry := entry_at(*key)) and entry.seal_id == ref.seal_id]
        if ref.op != "movedir" and self._version is not None:
            self._seen = tuple(dict.fromkeys([*(seen for entry in held for seen in entry.seen), self._version]))
        if len(held) > 1:
            shows = (entry for entry in held if entry.node is not None)
            self._is_hidden = any(not is_reachable(self._st, entry.parent) for entry in shows)
        return held

    def unchanged_keys(self) -> list[Key]:
        """Those of its entries, and its node, that are as they were sealed."""
        return [entry.key for entry in self.held() if self.is_node_as_sealed and entry.gen == entry.sealed_gen]

    def settle(self, *, may_drop: bool = True) -> list[Invalidation]:
        """The entries; the node is settled."""
        self._may_drop = self._may_drop and may_drop
        found: list[Invalidation] = []
        for entry in self.held():
            found += self.settle_entry(entry)
        self.finish()
        return found

    def finish(self) -> None:
        """Behind the entries: what else the answer settles."""
        st, ref, node = self._st, self._ref, self.node
        if node is None and ref.layer is not None:  # nobody shows it any more, refused or not
            st.overlay.drop_file(ref.layer, remove=True)
        if ref.from_path is not None and self._is_queued:
            hand_over(st, None, ref.from_path, st.view.dead_heads(ref.from_path))
        if ref.from_path is not None and self.is_refused:
            self._wait_again(ref.from_path)
        if node is not None and node.lost_path is not None and node.stored and node.key is None:
            self._settle_lost(node)
        if node is not None and self._is_queued:
            self._name_origin(node)
        st.overlay.seals.drop(ref.seal_id)

    def _wait_again(self, path: str) -> None:
        """What has taken the name of the directory waits for it as before: it has not left."""
        st = self._st
        node = st.overlay.node(self._ref.folder) if self._ref.folder is not None else None
        left = live_entry(st, path)
        if node is not None and node.key is not None and left is not None and left.key != node.key:
            st.waits_no_more(left.key, left.moved_node)
            left.moved_node = node.id
            st.left_by.setdefault(node.id, set()).add(left.key)
            st.put_entry(left)

    # ---- the node

    def settle_node(self, node: Node) -> None:
        st = self._st
        node.seal_id = node.sealed_gen = None
        layer = node.layer
        if not self.is_refused and node.kind == FILE:
            if layer is not None:
                target = whole.place(st, layer, self._ref.size, self._version)
                self._kept_value = target.value if target is not None else None
                kept = target is not None and whole.keep(st, layer, self._ref.size, target)
                if node.handles:
                    with contextlib.suppress(FileNotFoundError):
                        layer.fd()
                layer.close()
                st.overlay.drop_file(layer.id, remove=not kept)
                node.layer = None
            node.base = self._version if self._version is not None else node.base
        if node.stored:
            st.overlay.put_node(node)

    # ---- the entries

    def settle_entry(self, entry: Entry) -> list[Invalidation]:
        st, ref = self._st, self._ref
        is_as_sealed = entry.gen == entry.sealed_gen
        entry.seal_id = entry.sealed_gen = None
        is_special = self._is_special(entry)
        is_as_sealed = is_as_sealed and (entry.node is None or is_special or self.is_node_as_sealed)
        if self.is_refused:
            if is_as_sealed:  # what stands there now may well be taken
                st.retry_at[entry.key] = st.env.monotonic() + RETRY_REFUSED
            return self._stay(entry)
        if ref.op == "movedir" and entry.moved_to is not None:  # even if the directory has gone back there since
            st.noted_at[entry.key] = st.env.monotonic()
            return self._settle_left(entry, is_as_sealed)
        self.take(entry)
        if not is_as_sealed:
            return self._stay(entry)
        if not self._may_drop and entry.node is not None and not is_special:
            st.retry_at[entry.key] = st.env.monotonic() + RETRY_REFUSED  # with the other names, which have to wait
            return self._stay(entry)
        if is_special:
            return self._stay_here(entry)
        if ref.op == "movedir" and entry.node == ref.node and self._differs_from_shown(entry):
            return self._stay(entry)
        return self._drop(entry)

    def take(self, entry: Entry) -> None:
        """What the entry knows from now on."""
        st, ref = self._st, self._ref
        entry.seal_id = entry.sealed_gen = None
        st.noted_at[entry.key] = st.env.monotonic()
        if self._version is not None:
            entry.add_seen(self._seen)
            entry.last = self._version
            self._hand_over(entry, ref.path, self._seen)
        if entry.moved_from == ref.moved_from:
            entry.moved_from = None

    def _hand_over(self, entry: Entry, path: str, versions: Sequence[str]) -> None:
        """What stands where the row was, when this was published, has seen it: the person knew of it."""
        st = self._st
        is_gone = st.gone.has(entry.parent)
        if is_gone and (entry.node is not None or self._is_hidden):
            return  # it is hidden by what others have done
        if is_gone or self._path_of(entry) != path:
            hand_over(st, entry, path, versions)

    def _path_of(self, entry: Entry) -> str | None:
        try:
            return self._st.path_at(entry.key)
        except NotFound:
            return None

    def _differs_from_shown(self, entry: Entry) -> bool:
        """A renamed directory was published as shown had it: what was changed of itself goes out after that."""
        node, row = self.node, self._st.view.lookup(*entry.key)
        if node is None or row is None:
            return False
        here = (node.mode, node.xattrs or {}, node.owner, node.owner_group)
        return here != (row.mode, self._st.view.xattrs(row), row.owner, row.group)

    def _settle_left(self, entry: Entry, is_as_sealed: bool) -> list[Invalidation]:
        """The old name of a moved directory: what stands there now has seen that it went."""
        st, ref = self._st, self._ref
        if entry.moved_node == ref.node:
            entry.moved_node = None
            st.waits_no_more(entry.key, ref.node)
        entry.moved_to = None
        if is_as_sealed and entry.node is None:
            return self._drop(entry)
        dead = st.view.dead_heads(st.path_at(entry.key))
        entry.add_seen(dead)
        entry.last = dead[0] if dead else None
        return self._stay(entry)

    def _stay(self, entry: Entry) -> list[Invalidation]:
        self._st.put_entry(entry)
        self._st.pending[entry.key] = self._st.env.monotonic()
        return []

    def _is_special(self, entry: Entry) -> bool:
        node = self._st.overlay.node(entry.node) if entry.node is not None else None
        return node is not None and node.kind in SPECIAL

    def _stay_here(self, entry: Entry) -> list[Invalidation]:
        """What had the name of a special file is gone for all: nothing of the row is to be published any more."""
        entry.local_only, entry.dirty, entry.resolved = True, False, False
        self._st.put_entry(entry)
        self._st.pending.pop(entry.key, None)
        return []

    def _drop(self, entry: Entry) -> list[Invalidation]:
        """The row holds nothing that shown does not."""
        st = self._st
        node = st.overlay.node(entry.node) if entry.node is not None else None
        row = st.view.lookup(*entry.key)
        if row is not None and node is not None and row.kind == DIR and node.kind == DIR and row.id != node.id:
            keepers.rehang(st, node.id, row.id)
        if node is not None and node.kind == DIR and row is None and st.overlay.has_rows(node.id):
            return self._keep(entry)
        st.drop_entry(entry)
        st.subfolders.forget(entry.parent)
        if node is None:
            gone = [Invalidation(entry.parent, entry.name, row.id, "entry")] if row is not None else []
            return gone
        return self.drop_node(entry, node, row)

    def _keep(self, entry: Entry) -> list[Invalidation]:
        """Published, and removed elsewhere since: the folder stays for what is below it here."""
        st = self._st
        entry.dirty = entry.resolved = False
        st.put_entry(entry)
        st.pending.pop(entry.key, None)
        st.keepers.add(entry.key)
        return []

    def drop_node(self, entry: Entry, node: Node, row: ShownRow | None) -> list[Invalidation]:
        st = self._st
        node.set_keys(())
        if node.kind == DIR:
            self._leave_dir(entry, node, row if row is not None and row.kind == DIR else None)
        value = self.value(row)
        node.value, node.seen = value, entry.seen
        st.overlay.drop_node(node)
        if row is not None and row.kind == node.kind != DIR and (number := links.number_of(st, row)) != node.id:
            st.inodes.renumber(number, node.id)
        if row is not None:
            self._keep_owner(node, row)
        if row is not None and row.kind == node.kind:
            local_xattrs.move(st, node.id, row.number)
        else:
            st.overlay.local_xattrs.put(node.id, None)
        known = st.inodes.known.get(node.id)
        if known is not None:
            known.told, known.size, known.mtime_ns = value, node.size if node.kind != DIR else 0, node.mtime_ns
        if row is None:
            node.nameless = True
            return [Invalidation(entry.parent, entry.name, node.id, "gone")]
        if row.kind != node.kind or (node.kind == DIR and row.id != node.id):
            return [Invalidation(entry.parent, entry.name, node.id, "entry")]
        if row.value != value:
            is_open = node.handles > 0
            return [Invalidation(entry.parent, entry.name, node.id, "entry" if is_open else "data")]
        st.inodes.noted.add((node.id, entry.key))
        access.left(st, row, node)
        shown, was = stat.row_attr(st, row, node.id), stat.node_attr(st, node)
        if shown[:7] != was[:7] or shown.mtime_ns != was.mtime_ns or shown.blocks != was.blocks:
            return [Invalidation(entry.parent, entry.name, node.id, "attr")]
        return []

    def value(self, row: ShownRow | None) -> int:
        """The content token of what was published, or of what is shown if nothing had to be."""
        st, version = self._st, self._version
        if version is None:
            return row.value if row is not None else 0
        if row is not None and (row.value == self._kept_value or version in st.view.seen_of(row)):
            return row.value
        try:
            return value_number(st.view.manifest(version))
        except NotFound:
            return 0

    def _leave_dir(self, entry: Entry, node: Node, row: ShownRow | None) -> None:
        """A directory without a row of its own: its times stay as they were, its rows below still find their path."""
        st = self._st
        if row is not None and (node.mtime_ns > row.mtime_ns or node.ctime_ns > row.ctime_ns):
            st.keep_times(row.id, LocalTimes(node.mtime_ns, node.ctime_ns, row.version or 0))
        elif row is not None:
            st.overlay.times.put(row.id, None)
        if row is not None and st.overlay.has_rows(row.id):
            st.overlay.attach.put(row.id, st.view.path_of(row.id))
        elif not st.overlay.has_rows(node.id):
            st.overlay.attach.put(node.id, None)
        elif row is None:  # something else has its name by now
            st.overlay.attach.put(node.id, st.path_at(entry.key))
            st.gone.add(node.id)

    def _keep_owner(self, node: Node, row: ShownRow) -> None:
        """What was nothing to publish shown does not know either: the owner, and when that was changed."""
        st = self._st
        owner = (node.uid, node.gid)
        is_shown = st.ownership.of_row(row, owner) == st.ownership.of_row(row, None)
        st.overlay.owners.put(row.number, None if is_shown else owner)
        if row.kind != DIR and node.ctime_ns > row.ctime_ns and row.value == node.value:
            st.keep_times(row.number, LocalTimes(node.mtime_ns, node.ctime_ns, row.version or 0))

    def _settle_lost(self, node: Node) -> None:
        """A nameless node that was published: it stays only as long as it is open."""
        st = self._st
        if self.is_refused:
            st.retry_at[node.id] = st.env.monotonic() + RETRY_REFUSED
        elif self._is_queued and self._version is not None:
            node.lost_seen = (*node.lost_seen, self._version)
        if self.is_refused or not self.is_node_as_sealed:
            st.pending[node.id] = st.env.monotonic()
            st.overlay.put_node(node)
            return
        node.seen, node.value = node.lost_seen, self.value(None)
        node.lost_path = None
        st.pending.pop(node.id, None)
        st.overlay.drop_node(node)

    def _name_origin(self, node: Node) -> None:
        """The node was renamed before the version it was published as had a name."""
        st = self._st
        for entry in st.overlay.entries_of(node):
            if entry.moved_from == (self._ref.path, "") and self._version is not None:
                entry.moved_from = (self._ref.path, self._version)
                st.overlay.put_entry(entry)
