"""Another fleet.db: its numbers are not those that the overlay's rows hang below.

Shown directories are found again by the paths that `attach` remembers. Nodes of files get new odd numbers. Seals stay
in the log under their new numbers; the new engine has no answers, so all of them are published again, each against
what it had seen.
"""

import msgspec

from fs.tree import keepers
from fs.tree.model import DIR, ROOT_ID, SPECIAL, Entry
from fs.tree.state import State
from sync.core.paths import join_path

_numbers = msgspec.json.Decoder(list[int])


def to_other_fleet_db(st: State) -> None:
    """Renumber what the old fleet.db had numbered. Part of the transaction of recovery."""
    overlay = st.overlay
    entries, nodes = overlay.all_entries(), overlay.all_nodes()
    numbers: dict[int, int] = {ROOT_ID: ROOT_ID}
    orphans: dict[int, str] = {}
    for dir_id, path in sorted(overlay.attach.items(), key=lambda item: item[1].count("/")):
        row = st.view.resolve_path(path)
        if row is not None and row.kind == DIR and not row.sibling:
            numbers[dir_id] = row.id
        else:
            orphans[dir_id] = path
    for entry in entries:  # renamed here, and not yet published
        row = st.view.resolve_path(entry.origin) if entry.origin is not None and entry.node is not None else None
        if row is not None and row.kind == DIR and row.id not in numbers.values():
            numbers[entry.node or 0] = row.id
    for node in nodes:
        if node.id not in numbers and (node.id % 2 == 0 or st.view.row(node.id) is not None):
            numbers[node.id] = overlay.new_ino()
    for dir_id in orphans:
        numbers.setdefault(dir_id, overlay.new_ino())
    _move_nodes(st, numbers)
    attached = dict(overlay.attach)
    for dir_id in attached:
        overlay.attach.put(dir_id, None)
    for dir_id, path in attached.items():
        overlay.attach.put(numbers[dir_id], path)
    _move_entries(st, entries, numbers)
    for dir_id in orphans:
        if overlay.node(numbers[dir_id]) is None:
            keepers.keep(st, numbers[dir_id])
    for row_id in list(overlay.owners):
        overlay.owners.put(row_id, None)
    _keep_xattrs(st, numbers)
    for row_id in list(overlay.times):
        overlay.times.put(row_id, None)
    for dir_id in list(overlay.gone):
        overlay.gone.put(dir_id, None)
    _move_seals(st, numbers)
    st.forget_paths()


def _keep_xattrs(st: State, numbers: dict[int, int]) -> None:
    """Of nodes, under their new numbers. Which shown row had the others is not known any more."""
    overlay = st.overlay
    known = dict(overlay.local_xattrs)
    for number in known:
        overlay.local_xattrs.put(number, None)
    for number, names in known.items():
        if overlay.node(numbers.get(number, number)) is not None:
            overlay.local_xattrs.put(numbers.get(number, number), names)


def _move_nodes(st: State, numbers: dict[int, int]) -> None:
    overlay = st.overlay
    moved = [node for node in overlay.all_nodes() if numbers.get(node.id, node.id) != node.id]
    for node in moved:
        overlay.drop_node(node)
    for node in moved:
        node.id = numbers[node.id]
        for file in node.files:
            file.node_id = node.id
            overlay.put_file(file)
        overlay.put_node(node)
    for node in {id(node): node for node in [*moved, *overlay.all_nodes()]}.values():
        node.set_keys([(numbers.get(parent, parent), name) for parent, name in node.keys])


def _move_entries(st: State, entries: list[Entry], numbers: dict[int, int]) -> None:
    for entry in entries:
        st.overlay.drop_entry(entry)
    for entry in sorted(entries, key=lambda entry: entry.node is None):
        entry.parent = numbers.get(entry.parent, entry.parent)
        if entry.node is not None:
            entry.node = numbers.get(entry.node, entry.node)
        if entry.moved_node is not None:
            entry.moved_node = numbers.get(entry.moved_node, entry.moved_node)
        other = st.overlay.entry(*entry.key)
        if other is None:
            st.overlay.put_entry(entry)
        elif entry.node is None:  # two folders that were at one path one after the other are one now
            other.add_seen(entry.seen)
        else:
            _lose_name(st, entry)


def _lose_name(st: State, entry: Entry) -> None:
    """Another file has the entry's name: what is behind it is published beside that."""
    node = st.overlay.node(entry.node) if entry.node is not None else None
    folder = st.overlay.attach.get(entry.parent)
    if node is None or node.kind == DIR or node.kind in SPECIAL or folder is None:
        return
    if node.links:  # what is behind it has another name
        key = entry.key
        node.set_keys([other for other in node.keys if other != key])
        return
    node.key = None
    node.nameless = True
    node.lost_path, node.lost_seen = join_path(folder, entry.name), entry.seen
    st.overlay.put_node(node)


def _move_seals(st: State, numbers: dict[int, int]) -> None:
    for ref in st.overlay.seals.values():
        ref.keys = list(dict.fromkeys((numbers.get(parent, parent), name) for parent, name in ref.keys))
        if ref.node is not None:
            ref.node = numbers.get(ref.node, ref.node)
        if ref.folder is not None:
            ref.folder = numbers.get(ref.folder, ref.folder)
    rows = []
    for seal_id, node, dir_ids in st.overlay.seals.numbers():
        ids = [numbers.get(number, number) for number in _numbers.decode(dir_ids)]
        rows.append((numbers.get(node, node) if node is not None else None, ids, seal_id))
    st.overlay.seals.renumber(rows)
