"""RENAME_EXCHANGE: two names change what is behind them, in one step, here and for everybody.

Each name is published as changed, both in one batch. A directory that the engine knows by its number is renamed, with
the other thing out of its way meanwhile; nobody sees anything of that in between, and no commit comes there.
"""

import errno

from fs.tree import linking, links, owning
from fs.tree.model import DIR, SPECIAL, Entry, Node
from fs.tree.names import check_name, check_parent, must_stay, node_behind
from fs.tree.rename import rename
from fs.tree.siblings import refuse_sibling
from fs.tree.state import State
from sync.core.errors import NotFound
from sync.core.paths import join_path

FREE_NAMES = 10_000  # numbers that are looked at


def exchange(st: State, parent: int, name: str, other_parent: int, other_name: str) -> None:
    """NotFound; ReadOnly for a sibling; OSError EINVAL for what is above the other. Where one is a directory that the
    engine knows, or that stays here as the other does not, all that rename refuses.
    """
    for folder, text in ((parent, name), (other_parent, other_name)):
        check_parent(st, folder)
        check_name(st, folder, text)
    kinds, are_known, are_local = _check(st, parent, name, other_parent, other_name)
    if (parent, name) == (other_parent, other_name):
        return
    if any(are_known) or (DIR in kinds and len(are_local) > 1):
        places = (parent, name), (other_parent, other_name)
        _by_renames(st, *(places if are_known[0] else reversed(places)))
        return
    (entry, node), (other, other_node) = _own(st, parent, name), _own(st, other_parent, other_name)
    if node is other_node:
        return  # both are names of one file
    linking.check_place(st, entry, *other.key)
    linking.check_place(st, other, *entry.key)
    entry.node, other.node = other_node.id, node.id
    node.change_key(entry.key, other.key)
    other_node.change_key(other.key, entry.key)
    _keep_here(st, entry, other_node, node)
    _keep_here(st, other, node, other_node)
    _settle(st, entry, other_node)
    _settle(st, other, node)
    for one in (node, other_node) if DIR not in kinds else ():
        links.decide_place(st, one)
    now_ns = st.stamp_ns()
    st.touch_dir(parent, now_ns)
    st.touch_dir(other_parent, now_ns)
    if DIR in kinds:
        st.subfolders.forget(parent)
        st.subfolders.forget(other_parent)
        st.forget_paths()


def _check(
    st: State, parent: int, name: str, other_parent: int, other_name: str
) -> tuple[set[int], list[bool], set[bool]]:
    """The kinds of what stands at the two names, which of the two is a directory that the engine knows, and whether
    they stay here.
    """
    kinds, are_local = set(), set()
    are_known: list[bool] = []
    for folder, text in ((parent, name), (other_parent, other_name)):
        found = st.show(folder, text)
        if found is None:
            raise NotFound(f"no such name: {text!r}")
        if isinstance(found, Entry):
            node = node_behind(st, found)
            kinds.add(node.kind)
            are_local.add(found.local_only)
            is_known = node.kind == DIR and (node.seal_id is not None or st.view.row(node.id) is not None)
        else:
            refuse_sibling(found)
            kinds.add(found.kind)
            are_local.add(False)
            is_known = found.kind == DIR
        are_known.append(is_known)
    paths = [join_path(st.path_of(parent), name), join_path(st.path_of(other_parent), other_name)]
    if paths[0].startswith(f"{paths[1]}/") or paths[1].startswith(f"{paths[0]}/"):
        raise OSError(errno.EINVAL, "one is above the other")
    return kinds, are_known, are_local


def _by_renames(st: State, known: tuple[int, str], other: tuple[int, str]) -> None:
    """By way of a name that nobody sees. What rename refuses leaves everything where it was."""
    aside = _free_name(st, other[0])
    done: list[tuple[tuple[int, str], tuple[int, str]]] = []
    try:
        for old, new in ((other, aside), (known, other), (aside, known)):
            rename(st, *old, *new)
            done.append((old, new))
    except Exception:
        for old, new in reversed(done):
            rename(st, *new, *old)
        raise


def _free_name(st: State, parent: int) -> tuple[int, str]:
    """A name that nothing has and that is shared like others; a short one: what is too long would stay here."""
    for name in map(str, range(FREE_NAMES)):
        if st.show(parent, name) is None and not st.is_local_name(parent, name, True):
            return parent, name
    raise OSError(errno.EXDEV, "what is shared and what is local-only cannot be exchanged")


def _own(st: State, parent: int, name: str) -> tuple[Entry, Node]:
    found = st.show(parent, name)
    if isinstance(found, Entry):
        return found, node_behind(st, found)
    if found is None:
        raise NotFound(f"no such name: {name!r}")
    return owning.own(st, parent, name, found)


def _keep_here(st: State, entry: Entry, node: Node, before: Node) -> None:
    """Special files stay on this machine, and what takes the name of one may not."""
    if node.kind in SPECIAL:
        if not entry.local_only and not must_stay(st, entry):
            entry.local_only, entry.dirty = True, False
            st.pending.pop(entry.key, None)
    elif before.kind in SPECIAL and entry.local_only:
        entry.local_only = st.is_local_name(entry.parent, entry.name, node.kind == DIR)
        entry.dirty = not entry.local_only


def _settle(st: State, entry: Entry, node: Node) -> None:
    entry.moved_from = None  # to everybody else it is a change of what the name holds
    if entry.moved_node == node.id:  # back again
        st.waits_no_more(entry.key, node.id)
        entry.moved_node = None
    node.gen += 1
    node.ctime_ns = st.stamp_ns()
    st.overlay.put_node(node)
    st.put_entry(entry)
    for one in st.overlay.entries_of(node):
        st.touch(one)
    known = st.inodes.known.get(node.id)
    if known is not None:
        known.told = 0
