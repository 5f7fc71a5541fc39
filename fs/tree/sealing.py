"""Sealing: when changes are frozen for publishing, and the round that does it.

`begin` freezes (in memory), `SealRound.sync` brings the bytes to the disk (in a thread), `finish` commits the seals.
One round at a time. A crash in between leaves nothing behind that `recover` does not take back.
"""

import ctypes
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fs.tree import keepers
from fs.tree.freeze import Freezer
from fs.tree.frozen import SealItem
from fs.tree.model import FILE, Ahead, Entry, Key, Node
from fs.tree.state import Pending, State
from fs.tree.unlayer import unlayer
from fs.work.durable import sync_path
from sync.core.errors import NotFound
from sync.core.paths import is_below

AFTER_CLOSE = 0.02  # seconds, as all times here
QUIET = 0.5  # for what was published in the last 2 s
OPEN_PUBLISHED = 30.0  # open for writing, since the last seal
OPEN_NEW_QUIET = 30.0  # new and open, without a write
OPEN_NEW_MAX = 300.0
SINGLE_SYNCS = 16  # from here on one syncfs is cheaper than a fdatasync each
ASK_AGAIN = 0.5  # for what a name service has not said yet
LARGE = 64 << 20  # bytes that no round waits for: they are brought to the disk before
FREEZE_TRIES = 4
ROUND_MAX = 2000  # changes of a round that timers start: freezing more would hold up the request loop


class SealDue(NamedTuple):
    """ready: how many changes may be sealed now. next: monotonic s at which to ask again, None: after a change.

    large: files that are brought to the disk first.
    """

    ready: int
    next: float | None
    large: list[Node]


@dataclass(slots=True, eq=False)
class SealRound:
    """What one round has frozen. The lists name what it left out, by rel_path.

    busy: open for writing; interrupted: the mount died while they were written, or while what had moved away from there
    was; waiting: for an answer, or for another of these; missing: asked for, and nothing of that name is here; unsaved:
    tree.db cannot hold them.
    """

    items: list[SealItem] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)  # those of the files
    folder: Path = Path()
    busy: list[str] = field(default_factory=list)
    interrupted: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unsaved: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.items)

    def sync(self) -> None:
        """Bring the frozen bytes to the disk; OSError if the disk refuses. To be called in a thread."""
        if len(self.files) >= SINGLE_SYNCS:
            _syncfs(self.folder)
            return
        for path in self.files:
            sync_path(path, data_only=True)
        for folder in self.folders:
            sync_path(folder)


def seal_due(st: State, now: float) -> SealDue:
    """What the rules of time say; now: Env.monotonic(). Changes that wait for an answer count only when it has come."""
    ready, soonest = 0, None
    large: list[Node] = []
    for key, changed_at in st.pending.items():
        at, node = _due_at(st, key, changed_at)
        if at is None:
            continue
        if at > now:
            soonest = at if soonest is None or at < soonest else soonest
        elif node is not None and _is_large(node):
            large.append(node)
        else:
            ready += 1
    return SealDue(ready, soonest, large)


def sync_ahead(node: Node) -> Ahead:
    """What brings a large file to the disk, and then `ahead_done`, before it is sealed."""
    file = node.work
    assert file is not None
    node.ahead = False
    fd = os.dup(file.fd())
    if not node.handles:
        node.close_files()
    return Ahead(node, file, fd)


def ahead_done(ahead: Ahead) -> None:
    """What was written meanwhile is not worth another one."""
    ahead.node.ahead = True


def _is_large(node: Node) -> bool:
    """True if a round would wait long for it."""
    is_new = node.kind == FILE and node.ahead is None and not node.synced
    return is_new and node.work is not None and node.work.spans.total >= LARGE


def begin(
    st: State, paths: Sequence[str] | None = None, *, only_due: bool = False, include_busy: bool = False
) -> SealRound:
    """Freeze what is dirty: below `paths` (None: everywhere). Then SealRound.sync in a thread, then `finish`, or
    `abort` if that failed.

    Timers: only_due, what the rules of time allow. A push of paths: include_busy, files open for writing, and
    interrupted ones, as they are now. wait, down, unmount: neither.
    """
    with st.view.snapshot():  # where folders are, and which seals have brought them there, are of one moment
        return _begin(st, paths, only_due=only_due, include_busy=include_busy)


def _begin(st: State, paths: Sequence[str] | None, *, only_due: bool, include_busy: bool) -> SealRound:
    seal_round = SealRound(folder=st.overlay.work_dir)
    now = st.env.monotonic()
    chosen = list(st.pending)
    if only_due:
        chosen = list(islice((key for key in chosen if _is_due(st, key, now)), ROUND_MAX))
    if paths is not None:
        chosen = [key for key in chosen if _is_meant(st, key, paths)]
        seal_round.missing = [path for path in paths if not _exists(st, path)]

    def allows(node: Node) -> bool:
        return _may_freeze(st, node, now) if only_due else include_busy or not (node.busy or node.interrupted)

    seal_round.items = _freeze(st, allows, chosen).items
    if seal_round.items:
        st.env.fault("tree.after_freeze")
    seal_round.files = [item.layer.path for item in seal_round.items if item.layer is not None]
    seal_round.folders = st.overlay.work_folders.to_sync(seal_round.files)
    for item in seal_round.items:
        node = st.overlay.node(item.ref.node) if item.ref.node is not None else None
        if node is not None:
            node.ahead = None
    if not only_due:
        left = [key for key in chosen if key in st.pending]
        held = set() if include_busy else _held_by_interrupted(st, left)
        for key in left:
            _report(st, seal_round, key, include_busy, key in held)
    return seal_round


def _freeze(st: State, allows: Callable[[Node], bool], chosen: Sequence[Pending]) -> Freezer:
    """Who steps aside and cannot go all the way stays where he is, and so does who waits with him: the round is frozen
    anew, so that none of this keeps others.
    """
    staying: set[int] = set()
    for tries in reversed(range(FREEZE_TRIES)):
        freezer = Freezer(st, allows, staying if tries else None)
        try:
            for key in chosen:
                freezer.add(key)
            freezer.finish()
        except BaseException:
            abort(st, SealRound(freezer.items))
            raise
        if not freezer.is_halfway:
            break
        staying |= freezer.left_out()
        abort(st, SealRound(freezer.items))
        st.pending.update((key, at) for key, at in freezer.since.items() if key in st.pending)
    return freezer


def finish(st: State, seal_round: SealRound) -> None:
    """The bytes are on disk: commit the seals, durably."""
    if not seal_round.items:
        return
    st.overlay.work_folders.synced(seal_round.folders)
    number = int(st.overlay.meta("round") or 0) + 1
    st.overlay.set_meta("round", number)
    for item in seal_round.items:
        st.overlay.seals.put((item.ref.seal_id, number, *item.row), item.ref)
        node = st.overlay.node(item.ref.node) if item.ref.node is not None else None
        if node is not None and node.seal_id == item.ref.seal_id and node.work is None:
            node.synced = True
            st.overlay.put_node(node)
        for key in item.freed:
            left = st.overlay.entry(*key)
            if left is not None and left.moved_node == item.ref.node and left.key not in item.ref.keys:
                left.moved_node = None
                st.overlay.put_entry(left)
                st.waits_no_more(key, item.ref.node)
    if st.gone:
        _adopt(st, seal_round)
    st.env.fault("tree.before_seal_commit")
    st.overlay.commit(full=True)
    st.env.fault("tree.after_seal_commit")


def _adopt(st: State, seal_round: SealRound) -> None:
    """What was removed with a folder, and did not go out, belongs to the new folder of that path from now on.

    The engine is about to hang up there what it hides, and with that folder it will move.
    """
    adopted: list[tuple[int, int, str]] = []
    for item in seal_round.items:
        ref = item.ref
        if ref.folder is None or ref.from_path is not None:
            continue
        if st.view.row(ref.folder) is None or st.view.path_of(ref.folder) == ref.path:
            adopted += [(dir_id, ref.folder, ref.path) for dir_id in st.gone.at(ref.path) if dir_id != ref.folder]
    for dir_id, new_id, path in adopted:
        keepers.adopt(st, dir_id, new_id, path)


def abort(st: State, seal_round: SealRound) -> None:
    """The disk refused: take the round back, its changes are dirty as before. Nothing of it was committed."""
    now = st.env.monotonic()
    for item in seal_round.items:
        ref = item.ref
        st.overlay.seals.withdraw(ref.seal_id)
        _wait_again(st, item)
        _give_back(st, item)
        for key in ref.keys:
            entry = st.overlay.entry(*key)
            if entry is not None and entry.seal_id == ref.seal_id:
                entry.seal_id = entry.sealed_gen = None
                st.overlay.put_entry(entry)
                st.pending[key] = now
        node = st.overlay.node(ref.node) if ref.node is not None else None
        if node is not None and node.seal_id == ref.seal_id:
            node.seal_id = node.sealed_gen = None
            st.overlay.put_node(node)
            unlayer(st, node)
            if node.lost_path is not None:
                st.pending[node.id] = now
        elif item.layer is not None:
            st.overlay.drop_file(item.layer.id, remove=True)
    seal_round.items = []


def _wait_again(st: State, item: SealItem) -> None:
    """The whiteouts that `finish` let go wait for their node as before."""
    node = item.ref.node
    if node is None:
        return
    for key in item.freed:
        left = st.overlay.entry(*key)
        if left is not None and left.moved_node is None and key not in item.ref.keys:
            left.moved_node = node
            st.left_by.setdefault(node, set()).add(key)
            st.overlay.put_entry(left)


def _give_back(st: State, item: SealItem) -> None:
    """What freezing has changed beside, as far as it has not changed since."""
    for row, name, value, frozen in reversed(item.changed):
        if isinstance(row, Entry):
            is_same = st.overlay.entry(*row.key) is row
        else:
            is_same = st.overlay.node(row.id) is row and row.gen == row.sealed_gen
        if is_same and getattr(row, name) == frozen:
            setattr(row, name, value)
            st.overlay.put_entry(row) if isinstance(row, Entry) else st.overlay.put_node(row)


# ---- when


def _is_due(st: State, key: Pending, now: float) -> bool:
    at, node = _due_at(st, key, st.pending[key])
    return at is not None and at <= now and (node is None or not _is_large(node))


def _due_at(st: State, key: Pending, changed_at: float) -> tuple[float | None, Node | None]:
    """When the change may be sealed, None: not by time alone; and its node, None: a removal."""
    if isinstance(key, int):
        node = st.overlay.node(key)
        if node is None or node.seal_id is not None:
            return None, None
    else:
        entry = st.overlay.entry(*key)
        if entry is None or not entry.dirty or entry.local_only or entry.seal_id is not None:
            return None, None
        node = st.overlay.node(entry.node) if entry.node is not None else None
        if node is not None and node.seal_id is not None:
            return None, None
    if node is not None and st.overlay.is_unsaved(node.id):
        return None, None
    at = changed_at + AFTER_CLOSE
    if node is not None and node.kind == FILE:
        if node.interrupted or node.is_cut or node.ahead is False:
            return None, None
        if node.busy:
            at = _open_due_at(st, node)
    if st.ownership.names is not None and _is_asked(st, key, node):
        at = max(at, st.env.monotonic() + ASK_AGAIN)
    if st.was_noted_recently(key) or (st.left_by and node is not None and _left_recent(st, node)):
        at = max(at, changed_at + QUIET)
    return max(at, st.retry_at.get(key, 0.0)), node


def _is_asked(st: State, key: Pending, node: Node | None) -> bool:
    """True while a name service is asked whose the node is, or whose what goes before it: a folder above it, or what
    left the name.
    """
    if node is not None and st.ownership.is_asked(node):
        return True
    entry = st.overlay.entry(*key) if not isinstance(key, int) and st.ownership.is_asking() else None
    if entry is None:
        return False
    left = st.overlay.node(entry.moved_node) if entry.moved_node is not None else None
    if left is not None and st.ownership.is_asked(left):
        return True
    place: Key | None = entry.key
    while place is not None and (above := st.overlay.node(place[0])) is not None:
        if above.key in st.pending and st.ownership.is_asked(above):
            return True
        place = above.key
    return False


def _left_recent(st: State, node: Node) -> bool:
    """True if the name that it left waits: together the two are a move, to others too."""
    return any(st.was_noted_recently(key) for key in st.left_by.get(node.id, ()))


def _open_due_at(st: State, node: Node) -> float:
    entry = st.overlay.entry_of(node)
    is_published = node.lost_path is not None or (entry is not None and entry.last is not None)
    since = node.first_write if node.first_write is not None else st.env.monotonic()
    if is_published and not node.fresh:
        return max(node.last_seal, since) + OPEN_PUBLISHED
    return min(max(node.last_write, since) + OPEN_NEW_QUIET, since + OPEN_NEW_MAX)


def _may_freeze(st: State, node: Node, now: float) -> bool:
    if node.interrupted or node.ahead is False or _is_large(node):
        return False
    return not node.busy or _open_due_at(st, node) <= now


# ---- what


def _path(st: State, key: Pending) -> str:
    if isinstance(key, int):
        node = st.overlay.node(key)
        return (node.lost_path if node is not None else None) or ""
    try:
        return st.path_at(key)
    except NotFound:
        return key[1]


def _is_meant(st: State, key: Pending, paths: Sequence[str]) -> bool:
    path = _path(st, key)
    return any(path == wanted or is_below(path, wanted) for wanted in paths)


def _exists(st: State, path: str) -> bool:
    """True if something is, or was, at a rel_path: a whiteout can be asked for too."""
    return not path or st.find(path) is not None


def _held_by_interrupted(st: State, keys: Sequence[Pending]) -> set[Pending]:
    """Those of the removals that wait for an interrupted file: what moved away from there, or from below."""
    removals = {key: entry for key in keys if not isinstance(key, int) and (entry := _removal(st, key))}
    held: set[Pending] = {key for key, entry in removals.items() if _has_moved_interrupted(st, entry)}
    if held:
        paths = [_path(st, key) for key in held]
        held |= {key for key in removals if any(is_below(path, _path(st, key)) for path in paths)}
    return held


def _removal(st: State, key: tuple[int, str]) -> Entry | None:
    entry = st.overlay.entry(*key)
    return entry if entry is not None and entry.node is None else None


def _has_moved_interrupted(st: State, entry: Entry) -> bool:
    node = st.overlay.node(entry.moved_node) if entry.moved_node is not None else None
    return node is not None and node.interrupted


def _report(st: State, seal_round: SealRound, key: Pending, include_busy: bool, is_held: bool) -> None:
    entry = st.overlay.entry(*key) if not isinstance(key, int) else None
    node = st.overlay.node(key) if isinstance(key, int) else None
    if entry is not None and entry.node is not None:
        node = st.overlay.node(entry.node)
    if node is not None and st.overlay.is_unsaved(node.id):
        seal_round.unsaved.append(_path(st, key))
    elif node is not None and node.busy and not include_busy:
        seal_round.busy.append(_path(st, key))
    elif is_held or (node is not None and node.interrupted and not include_busy):
        seal_round.interrupted.append(_path(st, key))
    else:
        seal_round.waiting.append(_path(st, key))


# ---- disk


def _syncfs(folder: Path) -> None:
    """All of the file system that holds `folder`; everything where the C library has no syncfs."""
    syncfs: Callable[[int], int] | None = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if syncfs(fd) != 0:
            number = ctypes.get_errno() or errno.EIO
            raise OSError(number, os.strerror(number))
    finally:
        os.close(fd)
