"""The rules that the tree keeps in memory, and those of its rows (sync/state/tree/check.py), for tests."""

from pathlib import Path

from fs.tree.model import DIR, ROOT_ID, Entry, Node
from fs.tree.state import State
from sync.core.errors import NotFound


def check_state(st: State) -> list[str]:
    """What is wrong, a line each; empty if all is well. Reads everything, changes nothing."""
    problems: list[str] = []
    entries, nodes = st.overlay.all_entries(), st.overlay.all_nodes()
    shown_by: dict[int, Entry] = {}
    for entry in entries:
        problems += _check_entry(st, entry)
        if entry.node is not None:
            first, node = shown_by.get(entry.node), st.overlay.node(entry.node)
            if first is not None and (node is None or node.kind == DIR):
                problems.append(f"node {entry.node} stands under two names: {first.key} and {entry.key}")
            shown_by[entry.node] = entry
    for node in nodes:
        problems += _check_node(st, node, shown_by.get(node.id))
    problems += _check_left(st, entries)
    used = {file.id for node in nodes for file in node.files} | {
        ref.layer for ref in st.overlay.seals.values() if ref.layer is not None
    }
    if not st.overlay.has_changes:
        problems += [f"work file {work_id} belongs to nothing" for work_id in st.overlay.stored_work_ids() - used]
        problems += st.overlay.broken_rows()
    return problems


def _check_entry(st: State, entry: Entry) -> list[str]:
    found: list[str] = []
    name = f"entry {entry.key}"
    try:
        st.path_at(entry.key)
    except NotFound:
        found.append(f"{name} hangs below a folder that nothing leads to")
    node = st.overlay.node(entry.node) if entry.node is not None else None
    if entry.node is not None and (node is None or entry.key not in node.keys or not node.stored):
        found.append(f"{name} shows node {entry.node}, which does not say so")
    if entry.seal_id is not None and entry.seal_id not in st.overlay.seals:
        found.append(f"{name} holds a seal that is not there")
    if (entry.seal_id is None) != (entry.sealed_gen is None):
        found.append(f"{name} has half a seal")
    if entry.local_only and (entry.dirty or entry.node is None):
        found.append(f"{name} is local-only and dirty, or a whiteout")
    is_waiting = entry.seal_id is not None or (node is not None and node.seal_id is not None)
    if entry.dirty and not entry.local_only and not is_waiting and entry.key not in st.pending:
        found.append(f"{name} is dirty and nothing will seal it")
    if entry.is_keeper and entry.key not in st.keepers and node is not None and node.kind == DIR:
        found.append(f"{name} keeps a folder and is not known to")
    return found


def _check_left(st: State, entries: list[Entry]) -> list[str]:
    waiting = {(entry.moved_node, entry.key) for entry in entries if entry.moved_node is not None}
    known = {(node_id, key) for node_id, keys in st.left_by.items() for key in keys}
    found = [f"entry {key} is said to wait for node {node_id}" for node_id, key in known - waiting]
    found += [f"entry {key} waits for node {node_id}, and is not known to" for node_id, key in waiting - known]
    found += [
        f"nothing waits for node {node_id}, and a place is kept for it"
        for node_id, keys in st.left_by.items()
        if not keys
    ]
    return found


def _check_node(st: State, node: Node, entry: Entry | None) -> list[str]:
    found: list[str] = []
    name = f"node {node.id}"
    found += [
        f"{name} has lost {key}"
        for key in node.keys
        if (shows := st.overlay.entry(*key)) is None or shows.node != node.id
    ]
    if entry is None and node.lost_path is None and node.id != ROOT_ID:
        found.append(f"{name} has no name and is not to be published")
    if node.seal_id is not None and node.seal_id not in st.overlay.seals:
        found.append(f"{name} holds a seal that is not there")
    # A layer below a work file: the disk was too full to join them.
    if node.layer is not None and node.seal_id is None and node.work is None:
        found.append(f"{name} has a layer that no seal holds")
    for file in node.files:
        if file.spans.end > node.size and file is node.work:
            found.append(f"{name}: work file {file.id} reaches beyond its size")
        if file.stored and len(file.spans) and file is node.work:
            path = Path(file.path)
            size = path.stat().st_size if path.exists() else -1
            if size < file.spans.end:
                found.append(f"{name}: work file {file.id} is shorter than its ranges")
    return found
