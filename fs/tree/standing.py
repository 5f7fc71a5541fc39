"""What stands at a path now, and has seen what was published there."""

from collections.abc import Sequence

from fs.tree.model import DIR, ROOT_ID, Entry
from fs.tree.state import State
from sync.core.paths import split_path
from sync.state.rows import ShownRow


def folder_number(st: State, found: Entry | ShownRow) -> int | None:
    """The number of the folder that stands at a name; None if something else does, or nothing."""
    if isinstance(found, ShownRow):
        return found.id if found.kind == DIR else None
    node = st.overlay.node(found.node) if found.node is not None else None
    return node.id if node is not None and node.kind == DIR else None


def live_folder(st: State, path: str) -> int | None:
    """The number of the folder that stands at a path; None if none does."""
    dir_id: int | None = ROOT_ID
    for name in path.split("/") if path else ():
        found = st.show(dir_id, name) if dir_id is not None else None
        dir_id = folder_number(st, found) if found is not None else None
    return dir_id


def live_entry(st: State, path: str) -> Entry | None:
    """The row of what stands at a path, if it has one."""
    folder, name = split_path(path)
    dir_id = live_folder(st, folder)
    return st.overlay.entry(dir_id, name) if dir_id is not None else None


def takes_over(entry: Entry) -> bool:
    """True of a row that is published: what stands at its path then goes over all that was removed there."""
    return entry.dirty and not entry.local_only


def hand_over(st: State, left: Entry | None, path: str, versions: Sequence[str]) -> None:
    """`versions` were published at `path` by a row that is not there any more: what stands there now has seen them."""
    entry = live_entry(st, path)
    if entry is not None and entry is not left and not entry.is_resolved_sibling:
        entry.add_seen(versions)
        st.put_entry(entry)
