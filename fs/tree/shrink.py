"""Giving back the space of large files. The disk may take seconds for that, so it is not done by the request loop.

A file that keeps little is replaced by a new one, and the old one is removed like any other. What keeps more is cut by
a thread (`Cut`) while the request that asked for it waits: the kernel lets nobody write to the file meanwhile. It is
not frozen meanwhile either, so nothing else happens to it.

A power cut may take the commit that tells of the truncation: so what was synced is replaced, too, however small, or cut
behind a sync of that commit.
"""

import os

from fs.tree.model import Cut, Node
from fs.tree.state import State
from fs.work.workfile import WorkFile

AT_ONCE = 4 << 20  # bytes whose space is given back in passing: 1 ms
COPY_MAX = 1 << 20  # bytes that a new file takes over
COPY_RANGES = 100


def cut(st: State, node: Node, file: WorkFile, size: int) -> None:
    """Make the work file of a node that was truncated to `size` no longer than that: now, or, if something is kept, by
    a thread.
    """
    excess = file.excess(size)
    is_small, is_synced = excess <= AT_ONCE, file.was_synced and node.stored and excess > 0
    if (is_synced or not is_small) and _replace(st, node, file, size):
        return
    if file.stored:
        st.overlay.commit()  # before the bytes go: if the mount dies in between, the file is as it was, or truncated
    if not size or (is_small and not is_synced):
        file.cut(size)
    else:
        node.is_cut = True
        st.cuts.append(Cut(node, os.dup(file.fd()), size, st.overlay.wal.sync if is_synced else None))


def let_go(st: State, file: WorkFile) -> None:
    """Close the file of a node that is gone. Its name may be, too: then closing it frees its space."""
    if file.excess(0) <= AT_ONCE:
        file.close()
        return
    fd = file.take_fd()
    if fd >= 0:
        st.overlay.remove([fd])


def _replace(st: State, node: Node, file: WorkFile, size: int) -> bool:
    """Have another file hold what is kept; False if that is too much, or the disk takes no new file."""
    if file.spans.total > COPY_MAX or len(file.spans) > COPY_RANGES:
        return False
    new = st.overlay.new_file(node, file.limit_below)
    try:
        new.fd()
        for start, end in file.spans:
            new.write(start, os.pread(file.fd(), end - start, start))
        is_whole = new.spans == file.spans
    except OSError:
        is_whole = False
    if not is_whole:
        new.close()
        st.overlay.remove([new.path])
        return False
    node.work = new
    if node.stored:
        st.overlay.put_file(new)
    if node.unlinked:
        let_go(st, file)
    else:
        file.close()
    if node.stored or file.stored:
        st.overlay.drop_file(file.id, remove=True)  # not before the commit of rows that do without it
    else:
        st.overlay.remove([file.path])
    return True
