"""Starting: taking up what the last mount left, whatever it was doing when it ended.

Seals that were begun and not committed are taken back. Files that were being written are interrupted: kept and shown,
sealed after their next close or when asked for. What a power cut may have torn is set apart from its published NAME
(torn.py). Work files without a row go. Under another fleet.db every number of
the old one is replaced before anything is served.
"""

import logging
import os
from functools import partial
from pathlib import Path

from fs.tree import reattach, release, torn
from fs.tree.model import FILE, Node
from fs.tree.overlay import remove_files
from fs.tree.state import State
from fs.tree.unlayer import unlayer
from fs.work.workfile import WorkFile
from sync.state.home import FleetPaths
from sync.state.tree import aside

log = logging.getLogger(__name__)


def recover(st: State, paths: FleetPaths) -> None:
    """Make memory and tree.db fit each other and this boot of the machine; ends with a full commit, or, on a disk where
    that cannot be, with all of it open for the next one.
    """
    overlay = st.overlay
    part = aside.unfinished(paths.state_dir)
    _remove_orphans(st, paths, part)
    is_other_boot = overlay.meta("boot_id") != st.env.boot_id()
    epoch = st.view.epoch
    if overlay.meta("fleet_epoch") not in (None, epoch):
        reattach.to_other_fleet_db(st)
    if overlay.meta("fleet_epoch") != epoch:
        overlay.set_meta("fleet_epoch", epoch)
        overlay.set_meta("taken_upto", 0)
        overlay.set_meta("feed_cursor", st.view.feed_last())
    for node in overlay.all_nodes():
        _recover_node(st, node, is_other_boot, part)
    for folder in aside.finish(paths.state_dir):
        log.error("what no row of tree.db leads to is in %s: %s", folder, aside.HINT)
    _recover_entries(st)
    used = {file.id for node in overlay.all_nodes() for file in node.files}
    used |= {ref.layer for ref in overlay.seals.values() if ref.layer is not None}
    for work_id in overlay.stored_work_ids() - used:
        overlay.drop_file(work_id, remove=True)
    overlay.set_meta("boot_id", st.env.boot_id())
    overlay.try_commit(full=True)


def _recover_node(st: State, node: Node, is_other_boot: bool, part: Path | None) -> None:
    """part: where to put what rows may be missing of, with a redo log that was damaged; None: it was not."""
    if node.seal_id is not None and node.seal_id not in st.overlay.seals:
        node.seal_id = node.sealed_gen = None
        st.overlay.put_node(node)
    for file in node.files:
        _recover_file(st, node, file, part)
    unlayer(st, node)
    if is_other_boot and not node.synced and not torn.set_apart(st, node):
        node.unflushed = True  # what was written may not have reached the disk: never to be published by itself
        node.synced = True
        st.overlay.put_node(node)
    if node.kind == FILE and node.unflushed:
        node.interrupted = True
    node.close_files()
    if node.lost_path is not None:
        st.pending[node.id] = st.env.monotonic()


def _recover_file(st: State, node: Node, file: WorkFile, part: Path | None) -> None:
    """A file that is missing or shorter than its ranges reads as zeros there; a layer that was noted is just gone. What
    was written behind the ranges never counted: it goes, so that a complete file is nothing but its content. If rows
    may be missing, whatever lies outside of the ranges is kept beside.
    """
    try:
        size = Path(file.path).stat().st_size
    except FileNotFoundError:
        if node.seal_id is not None and file is node.layer:
            return
        Path(file.path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        size = 0
    if node.seal_id is not None and file is node.layer:
        return
    if part is not None and size:
        st.overlay.room.commit(partial(aside.put_rest, part, Path(file.path), file.spans))
    if size == file.spans.end:
        return
    os.truncate(file.path, file.spans.end)
    if size < file.spans.end:
        node.unflushed = True
        st.overlay.put_node(node)


def _recover_entries(st: State) -> None:
    now = st.env.monotonic()
    for entry in st.overlay.all_entries():
        if entry.seal_id is not None and entry.seal_id not in st.overlay.seals:
            entry.seal_id = entry.sealed_gen = None
            st.overlay.put_entry(entry)
        node = st.overlay.node(entry.node) if entry.node is not None else None
        if entry.node is not None and node is None:
            st.drop_entry(entry)
            continue
        if entry.moved_node is not None:
            st.left_by.setdefault(entry.moved_node, set()).add(entry.key)
        if entry.is_keeper:
            st.keepers.add(entry.key)
        elif entry.is_resolved_sibling:
            st.siblings_gone.add(entry.key)
        elif entry.dirty and not entry.local_only and entry.seal_id is None:
            st.pending[entry.key] = now
    for node in st.overlay.all_nodes():
        if node.id != 1 and st.overlay.entry_of(node) is None and node.lost_path is None:
            release.release_node(st, node)
    st.gone.restore()


def _remove_orphans(st: State, paths: FleetPaths, part: Path | None) -> None:
    """Work files without a row go, to where the redo log was put if rows were lost with that."""
    kept = st.overlay.stored_work_ids()
    gone: list[Path] = []
    for folder in paths.work_dir.iterdir() if paths.work_dir.is_dir() else ():
        for path in folder.iterdir() if folder.is_dir() else ():
            try:
                is_kept = int(path.name, 16) in kept
            except ValueError:
                continue  # not one of ours
            if not is_kept:
                gone.append(path)
    if part is not None:
        aside.put_files(part, gone)
    elif gone:
        st.overlay.wal.sync()  # what the mount that was killed committed last may not be on the disk
        remove_files([str(path) for path in gone])
