"""Syncing by itself: what programs have written and nobody has synced comes to the disk within seconds.

What is closed and to be published is sealed, which syncs it, and mostly long before. This is for the rest: files that
stay open, and those that stay on this machine. `begin`, then `SyncRound.data` in a thread, `finish`, and
`SyncRound.rows` in a thread: the rows say that bytes are on the disk only after they are.
"""

from dataclasses import dataclass, field

from fs.tree.model import Node
from fs.tree.state import State
from fs.work.durable import FileSync, sync_path

FILES_MAX = 128  # of one round; each needs a descriptor


@dataclass(slots=True)
class SyncRound:
    """False if there is nothing to sync. synced: those of `files` that `data` has brought to the disk."""

    files: list[tuple[Node, FileSync]] = field(default_factory=list)
    synced: list[tuple[Node, FileSync]] = field(default_factory=list)
    wal_path: str = ""  # "": every commit is on the disk

    def __bool__(self) -> bool:
        return bool(self.files or self.wal_path)

    def data(self) -> None:
        """Bytes, and the names of work files. OSError if the disk refused some; the others are there."""
        failed: OSError | None = None
        for node, sync in self.files:
            try:
                sync.data()
                self.synced.append((node, sync))
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed

    def rows(self) -> None:
        """The commits so far."""
        if self.wal_path:
            sync_path(self.wal_path, data_only=True)


def begin(st: State) -> SyncRound:
    """What was unsynced at the call before, too, and whatever was committed since a sync of tree.db."""
    unsynced = {ino for ino in st.unsynced if _is_unsynced(st, ino)}
    due = sorted(unsynced & st.unsynced_before)[:FILES_MAX]
    st.unsynced = unsynced
    st.unsynced_before = unsynced.difference(due)
    found = SyncRound()
    for ino in due:
        node = st.overlay.node(ino)
        try:
            if node is not None:
                found.files.append((node, FileSync(node.files, st.overlay.work_folders, "", node.gen)))
        except FileNotFoundError:
            continue  # a layer that was noted without our having committed that
        finally:
            if node is not None and not node.handles and node.ahead is not False:
                node.close_files()
    if found.files or st.overlay.has_unsynced_commits:
        found.wal_path = st.overlay.wal.path
        st.overlay.has_unsynced_commits = False
    return found


def finish(st: State, sync_round: SyncRound) -> None:
    """Commit what says that bytes are on the disk. A file that was written to meanwhile is unsynced still. NoSpace."""
    for node, sync in sync_round.synced:
        sync.done()
        if node.stored and node.gen == sync.gen:
            node.synced = True
            st.unsynced.discard(node.id)
            st.overlay.put_node(node)
    st.overlay.commit()
    # Where the disk refused a file `rows` is not called: the next round does it, without that file.
    st.overlay.has_unsynced_commits = len(sync_round.synced) < len(sync_round.files)


def _is_unsynced(st: State, ino: int) -> bool:
    """What the disk has refused is not asked for again: a program's fsync tells, and all else goes on."""
    node = st.overlay.node(ino)
    if node is None or not node.stored or node.synced or node.work is None:
        return False
    return not any(file.sync_error for file in node.files)
