"""What the kernel has a number of, though nothing stands for that any more: who watches it has to hear that it is gone.

The kernel says so of a name that goes while it has the thing there. But whoever looks at a name makes it forget what
was there, and with a folder goes all that it has below, without a word. So what was left is kept in mind until those
who watch have been looked for.
"""

from collections.abc import Iterable

from fs.tree import stat
from fs.tree.model import DIR, Attr, Key
from fs.tree.state import State
from sync.state.changes import Place

PERMISSIONS = 0o755  # of what is gone: whoever is in such a folder may still look at it


def keep_in_mind(st: State, places: Iterable[Place]) -> None:
    """The feed has told of these: what the kernel has of what stood there is left, or may be."""
    for place in places:
        was, row = place.was, place.row
        if was is None or (row is not None and (row.id, row.value) == (was.id, was.value)):
            continue
        for ino in (was.id, st.inodes.number(was.id)):
            if ino in st.inodes.known:
                st.inodes.left[ino] = (place.item.parent, place.item.name)


def take(st: State) -> dict[int, Key]:
    """The numbers that are left, and where that stood; each is told of once."""
    taken, st.inodes.left = st.inodes.left, {}
    return {ino: key for ino, key in taken.items() if is_left(st, ino)}


def is_left(st: State, ino: int) -> bool:
    """True if the kernel has the number, and no name leads there: at most somebody has it open. Of what was changed or
    removed here the kernel knows by itself.
    """
    known, node = st.inodes.known.get(ino), st.overlay.node(ino)
    if known is None or ino in st.inodes.removed or (node is not None and (node.stored or node.unlinked)):
        return False
    row_id = st.inodes.row_id(ino)
    row = st.view.row(row_id) if row_id is not None else None
    if row is None or (node is not None and node.nameless):
        return True
    return row.kind != DIR and row.value != (node.value if node is not None else known.told)


def attr_of(st: State, ino: int, nlink: int) -> Attr | None:
    """What the kernel was told of a number, with so many names. None if it has forgotten it."""
    known, node = st.inodes.known.get(ino), st.overlay.node(ino)
    if known is None:
        return None
    if node is not None:
        return stat.node_attr(st, node)._replace(nlink=nlink)
    return Attr(
        ino, known.kind, PERMISSIONS, nlink, st.uid, st.gid,
        known.size, known.mtime_ns, known.mtime_ns, known.mtime_ns, 0, known.told,
    )  # fmt: skip
