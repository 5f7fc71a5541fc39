"""Names: looking up, listing, making and removing them."""

from bisect import bisect_right

from fs.tree import links, local_xattrs, owning, siblings, stat
from fs.tree.model import DIR, FILE, MODE_BITS, ROOT_ID, SPECIAL, SYMLINK, Attr, Entry, Node
from fs.tree.state import State
from sync.core.errors import AlreadyExists, BadPath, NotEmpty, NotFound, Stale
from sync.core.paths import PART_MAX, join_path
from sync.state.rows import ShownRow

PAGE = 400  # shown rows read at once


def lookup(st: State, parent: int, name: str) -> Attr:
    """What stands at a name, told to the kernel (counts as one lookup). NotFound."""
    attr = look(st, parent, name)
    if attr is None:
        raise NotFound(f"no such name: {name!r}")
    return attr


def look(st: State, parent: int, name: str) -> Attr | None:
    """As lookup; None if there is nothing, which is so of each name before it is made."""
    attr = find(st, parent, name)
    if attr is not None:
        st.inodes.remember(attr.ino, attr.kind, attr.told, attr.size, attr.mtime_ns, attr.nlink)
    return attr


def find(st: State, parent: int, name: str) -> Attr | None:
    """As look, without counting."""
    entry = st.overlay.entry(parent, name)
    if entry is not None:
        node = st.overlay.node(entry.node) if entry.node is not None else None
        return stat.node_attr(st, node) if node is not None else None
    row = st.shown(parent, name)
    if row is None:
        return None
    ino = stat.told_number(st, row)
    if st.named_rows is not None:
        st.named_rows[ino] = row
    return stat.row_attr(st, row, ino)


def kind_at(st: State, parent: int, name: str) -> int | None:
    """What stands at a name, without counting a lookup; None if nothing does."""
    try:
        found = find(st, parent, name)
    except NotFound:
        return None
    return found.kind if found is not None else None


def node_behind(st: State, entry: Entry) -> Node:
    """NotFound for a whiteout."""
    node = st.overlay.node(entry.node) if entry.node is not None else None
    if node is None:
        raise NotFound(f"no such name: {entry.name!r}")
    return node


def attr(st: State, ino: int) -> Attr:
    """What stat shows of an inode. Stale if nothing has that number any more, or other content than was told."""
    node = st.overlay.node(ino)
    if node is not None and (node.stored or node.unlinked):
        return stat.node_attr(st, node)
    if ino in st.inodes.removed:
        return stat.node_attr(st, st.inodes.removed[ino])
    row_id = st.inodes.row_id(ino)
    row = st.view.row(row_id) if row_id is not None else None
    if node is not None:
        if row is not None and not node.nameless and row.value == node.value:
            return stat.row_attr(st, row, ino)
        return stat.node_attr(st, node)
    known = st.inodes.known.get(ino)
    if row is None or (known is not None and known.told != row.value and row.kind != DIR):
        raise Stale(f"inode {ino} is gone, or stands for other content")
    return stat.row_attr(st, row, ino)


def mode_and_group(st: State, ino: int) -> tuple[int, int]:
    """Permission bits and group; of a folder for what is made in it. Stale as attr."""
    node = st.overlay.node(ino)
    if node is not None and node.stored:
        return node.mode, st.ownership.of_node(node)[1]
    found = attr(st, ino)
    return found.mode, found.gid


def xattrs_of(st: State, ino: int) -> dict[str, str]:
    """Names to base64 values; Stale if there is no such inode any more."""
    node = st.overlay.node(ino)
    if node is not None and (node.stored or node.nameless):
        return node.xattrs or {}
    row_id = st.inodes.row_id(ino)
    row = st.view.row(row_id) if row_id is not None else None
    if row is None:
        if node is not None:
            return node.xattrs or {}
        if ino in st.inodes.removed:
            return st.inodes.removed[ino].xattrs or {}
        raise Stale(f"inode {ino} is gone")
    return st.xattrs_of(row) or {}


def shown_row(st: State, ino: int, *, check_told: bool) -> ShownRow:
    """The shown row of an inode without a node; Stale if it is gone, or (check_told) not of the content told."""
    row_id = st.inodes.row_id(ino)
    row = st.view.row(row_id) if row_id is not None else None
    row = links.visible(st, row) if row is not None else None
    if row is None:
        raise Stale(f"inode {ino} is not shown any more")
    known = st.inodes.known.get(ino)
    if check_told and known is not None and known.told != row.value:
        raise Stale(f"the content of inode {ino} has moved on")
    if links.has_lost_names(st, row, known):
        raise Stale(f"a name of inode {ino} has moved on")
    return row


def read_dir(st: State, ino: int, after: str, limit: int) -> list[tuple[str, Attr]]:
    """At most `limit` names behind `after` ('': from the start), sorted, with what stat shows. No lookups counted."""
    if ino in st.inodes.removed:
        return []
    if st.dir_kind(ino) != DIR:
        raise NotADirectoryError(20, "not a directory")
    folder = st.overlay.folder(ino)
    own = folder.sorted_names() if folder is not None else []
    found: list[tuple[str, Attr]] = []
    position, shown_all = bisect_right(own, after), False
    hidden = folder.entries if folder is not None else {}
    page = min(PAGE, limit)
    while len(found) < limit and not (shown_all and position >= len(own)):
        rows = [] if shown_all else st.view.children(ino, after, page)
        shown_all = len(rows) < page
        horizon = None if shown_all else rows[-1].name
        wanted = limit - len(found)
        live = [row for row in rows if row.name not in hidden] if hidden else rows
        merged: dict[str, Attr] = {row.name: stat.row_attr(st, row, stat.told_number(st, row)) for row in live[:wanted]}
        while wanted and position < len(own) and (horizon is None or own[position] <= horizon):
            entry = hidden.get(own[position])
            position += 1
            if entry is not None and entry.node is not None:
                merged[entry.name] = stat.node_attr(st, node_behind(st, entry))
                wanted -= 1
        found += sorted(merged.items())
        page = min(2 * page, PAGE)  # there may be nothing but whiteouts
        after = horizon if horizon is not None else after
    return found[:limit]


def is_empty(st: State, ino: int) -> bool:
    return not read_dir(st, ino, "", 1)


def check_name(st: State, parent: int, name: str) -> str:
    """The rel_path of a name that is to be made; BadPath, or ENAMETOOLONG if it breaks a limit. A path may be longer
    than what can be published: what has such a one stays on this machine.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise BadPath(f"not a name: {name!r}")
    if not name.isascii():
        try:
            length = len(name.encode())
        except UnicodeEncodeError as error:
            raise BadPath(f"not valid UTF-8: {name!r}") from error
    else:
        length = len(name)
    if length > PART_MAX:
        raise OSError(36, "File name too long")
    return join_path(st.path_of(parent), name)


def check_parent(st: State, parent: int) -> None:
    """Stale if there is no such directory here; NotFound if it was removed here, and is only open."""
    if parent in st.inodes.removed:
        raise NotFound(f"directory {parent} was removed")
    try:
        if st.dir_kind(parent) != DIR:
            raise NotADirectoryError(20, "not a directory")
    except NotFound as error:
        raise Stale(f"directory {parent} is gone") from error


def create(
    st: State, parent: int, name: str, kind: int, mode: int, uid: int, gid: int, target: str = "", rdev: int = 0
) -> Attr:  # fmt: skip
    """Make a file, directory, symlink or special file; told to the kernel (counts as one lookup). AlreadyExists,
    BadPath, NoSpace.
    """
    return stat.node_attr(st, make(st, parent, name, kind, mode, uid, gid, target, rdev))


def make(
    st: State, parent: int, name: str, kind: int, mode: int, uid: int, gid: int, target: str = "", rdev: int = 0
) -> Node:  # fmt: skip
    """As create."""
    check_parent(st, parent)
    path = check_name(st, parent, name)
    entry = st.overlay.entry(parent, name)
    row = st.shown(parent, name) if entry is None else None
    if row is not None or (entry is not None and entry.node is not None):
        raise AlreadyExists(f"the name is taken: {name!r}")
    st.overlay.room.need()
    if entry is None:
        entry = Entry(parent, name, None, seen=tuple(st.view.dead_heads(path)))
        is_local = kind in SPECIAL or st.is_local_folder(parent)
        entry.local_only = is_local or st.is_local_path(path, kind == DIR)
        entry.dirty = not entry.local_only
        entry.gen = 0
    else:
        renew_whiteout(st, entry)
    now_ns = st.stamp_ns()
    size = len(target.encode()) if kind == SYMLINK else 0
    node = Node(
        st.overlay.new_ino(), kind, mode & MODE_BITS, uid, gid, size, now_ns, now_ns, now_ns, target, key=(parent, name)
    )  # fmt: skip
    node.gen, node.rdev = 1, rdev
    if st.overlay.local_xattrs:
        local_xattrs.inherit(st, parent, node)
    entry.node = node.id
    if kind == DIR:
        st.unshown.add(node.id)
        st.subfolders.moved(parent, 1)
    st.overlay.put_node(node)
    st.attach_folder(parent)
    st.touch(entry)
    st.touch_dir(parent, now_ns)
    st.inodes.remember(node.id, kind, 0, size, now_ns)
    return node


def renew_whiteout(st: State, entry: Entry) -> None:
    """A whiteout gets something behind it again. That of a sibling becomes the row of a name of its own."""
    if entry.is_resolved_sibling:
        st.siblings_gone.discard(entry.key)
        entry.last, entry.seen = None, tuple(st.view.dead_heads(st.path_at(entry.key)))
        entry.dirty = True


def unlink(st: State, parent: int, name: str) -> None:
    """Remove a file or symlink. NotFound; IsADirectoryError for a directory. Removing a sibling resolves it."""
    found = st.show(parent, name)
    if found is None:
        raise NotFound(f"no such name: {name!r}")
    if isinstance(found, Entry):
        if node_behind(st, found).kind == DIR:
            raise IsADirectoryError(21, "is a directory")
        take_away(st, found)
    elif found.kind == DIR:
        raise IsADirectoryError(21, "is a directory")
    elif found.sibling:
        siblings.remove(st, found)
    elif found.link is not None:
        take_away(st, owning.own(st, parent, name, found)[0])
    else:
        white_out(st, found)
    st.touch_dir(parent, st.stamp_ns())


def rmdir(st: State, parent: int, name: str) -> None:
    """Remove an empty directory. NotFound, NotEmpty; NotADirectoryError for anything else."""
    found = st.show(parent, name)
    if found is None:
        raise NotFound(f"no such name: {name!r}")
    node = node_behind(st, found) if isinstance(found, Entry) else None
    kind = node.kind if node is not None else found.kind if isinstance(found, ShownRow) else FILE
    if kind != DIR:
        raise NotADirectoryError(20, "not a directory")
    ino = node.id if node is not None else found.id if isinstance(found, ShownRow) else ROOT_ID
    if not is_empty(st, ino):
        raise NotEmpty(f"directory not empty: {name!r}")
    is_elsewhere = remember_place(st, ino)
    if isinstance(found, Entry):
        take_away(st, found)
    else:
        white_out(st, found)
    if is_elsewhere and isinstance(found, Entry):
        st.forget_paths()  # what was renamed before is not: the paths of what was below it are those of before
    else:
        st.forget_path(ino)
    st.subfolders.moved(parent, -1)
    st.subfolders.forget(ino)
    st.touch_dir(parent, st.stamp_ns())


def remember_place(st: State, dir_id: int) -> bool:
    """Whiteouts below a directory that goes away still have to know their paths, and who has it open what it was. True
    if the engine has it elsewhere.
    """
    is_elsewhere = st.gone.removed(dir_id)
    ino = st.inodes.number(dir_id)
    if ino in st.inodes.known:
        was, xattrs = attr(st, ino), xattrs_of(st, ino)
        st.inodes.removed[ino] = Node(
            ino, DIR, was.mode, was.uid, was.gid, 0, was.atime_ns, was.mtime_ns, st.stamp_ns(),
            xattrs=xattrs or None, nameless=True, unlinked=True,
        )  # fmt: skip
    return is_elsewhere


def white_out(st: State, row: ShownRow) -> Entry:
    """Hide a shown name behind a new whiteout."""
    entry = st.new_entry(row.parent, row.name, row)
    st.put_entry(entry)
    st.touch(entry)
    ino = st.inodes.number(row.id)
    node = st.overlay.nodes.get(ino)
    if node is not None and not node.stored:
        node.nameless = node.unlinked = True
    return entry


def take_away(st: State, entry: Entry) -> None:
    """Remove what is behind an own row: it becomes a whiteout, or goes if it has nothing to hide or to publish."""
    node = node_behind(st, entry)
    entry.node = None
    entry.origin = None
    entry.moved_from = None
    links.drop_name(st, node, entry.key)
    leave(st, entry)


def leave(st: State, entry: Entry) -> None:
    """What was behind the row is gone or elsewhere: keep a whiteout only where it hides or publishes something."""
    if entry.local_only or not must_stay(st, entry):
        st.drop_entry(entry)
        return
    if not entry.dirty:
        entry.dirty = True  # a keeper's name: shown had it once
        st.keepers.discard(entry.key)
    st.touch(entry)


def must_stay(st: State, entry: Entry) -> bool:
    """True if the removal of what is behind the row has something to hide or to publish."""
    if entry.last is not None or entry.seal_id is not None or entry.resolved or entry.moved_node is not None:
        return True
    if st.view.lookup(entry.parent, entry.name) is not None:
        return True
    return bool(st.gone) and bool(st.gone.whiteouts_at(st.path_of(entry.parent), entry.name))
