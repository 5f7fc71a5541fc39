"""After a power cut: what was written over a published file and never synced stands beside it, not in its place.

Such bytes may be half of the new content, half of the old one, and zeros. NAME shows what was safe: what is published,
or what was sealed and is on its way. What the disk has kept of the rest becomes a version of its own that has seen
nothing, so it is concurrent with whatever NAME shows, a sibling everywhere. It goes out behind NAME's own version: of
two versions of one machine the earlier one leads (sync/core/show.py). Where NAME's version is another machine's, it is
published once more.
"""

import os
from typing import NamedTuple

from fs.tree.model import FILE, Entry, Node
from fs.tree.state import State
from fs.work.workfile import absorb_below
from sync.core.errors import NotFound
from sync.core.manifest import Kind, split_version_id
from sync.state.ballast import is_full


class _Safe(NamedTuple):
    """What NAME shows again, above the sealed layer if there is one. is_foreign: the version is another machine's."""

    base: str | None
    size: int
    mtime_ns: int
    is_foreign: bool


def set_apart(st: State, node: Node) -> bool:
    """Part a file's unsynced bytes from its NAME. False, and nothing is changed, if NAME was never published, or the
    disk is too full: then the file is an interrupted one.
    """
    entry = st.overlay.entry_of(node)
    if node.kind != FILE or node.work is None or entry is None or entry.local_only:
        return False
    try:
        path, safe = st.path_at(entry.key), _safe(st, entry, node)
    except NotFound:
        return False
    if safe is None or not _is_alone(st, node):
        return False
    torn = Node(
        st.overlay.new_ino(), FILE, node.mode, node.uid, node.gid, node.size, node.atime_ns, node.mtime_ns,
        node.ctime_ns, xattrs=node.xattrs, base=node.base, work=node.work, gen=1, lost_path=path, nameless=True,
        owner=node.owner, owner_group=node.owner_group,
    )  # fmt: skip
    node.work.node_id = torn.id
    st.overlay.put_file(node.work)
    st.overlay.put_node(torn)
    st.pending[torn.id] = st.env.monotonic()
    node.base, node.size, node.mtime_ns, node.work = safe.base, safe.size, safe.mtime_ns, None
    node.unflushed, node.interrupted, node.synced = False, False, True
    node.gen += 1
    st.overlay.put_node(node)
    entry.resolved = entry.resolved or safe.is_foreign
    st.touch(entry)
    return True


def _safe(st: State, entry: Entry, node: Node) -> _Safe | None:
    """None if there is nothing that NAME could show instead. NotFound."""
    ref = st.overlay.seals.get(node.seal_id) if node.seal_id is not None else None
    if ref is not None:
        return _Safe(node.base, ref.size, st.overlay.seals.sealed_mtime(ref.seal_id), False)
    if entry.seal_id is not None:
        return None  # of something else that stood here
    row = st.view.lookup(*entry.key)
    if entry.moved_from is None and row is not None and not row.sibling:
        if row.kind != FILE:
            return None
        version = st.view.seen_of(row)[0]
        entry.add_seen(st.view.seen_of(row))
        entry.last = version
        return _Safe(version, row.size, row.mtime_ns, _is_foreign(st, version))
    if node.base is None:
        return None
    manifest = st.view.manifest(node.base)
    if manifest.kind is not Kind.FILE:
        return None
    return _Safe(node.base, manifest.file_size, manifest.mtime_ns, False)


def _is_foreign(st: State, version: str) -> bool:
    return split_version_id(version)[0] != st.view.machine_id


def _is_alone(st: State, node: Node) -> bool:
    """The work file shows all of the file but the base. False if the disk is too full for what the layer holds."""
    if node.layer is None or node.work is None:
        return True
    try:
        absorb_below(node.work, node.layer)
    except OSError as error:
        if is_full(error):
            return False
        raise
    os.fdatasync(node.work.fd())
    node.layer.close()
    node.work.close()
    return True
