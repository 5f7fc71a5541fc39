"""Values of the overlay: nodes, entries, and what stat shows of them."""

import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fs.work.workfile import WorkFile
from sync.state.rows import BLOCK_DEVICE, CHAR, DIR, FIFO, FILE, ROOT_ID, SOCKET, SPECIAL, SYMLINK

__all__ = [
    "BLOCK_DEVICE",
    "CHAR",
    "DIR",
    "FIFO",
    "FILE",
    "ROOT_ID",
    "SOCKET",
    "SPECIAL",
    "SYMLINK",
    "Ahead",
    "Attr",
    "Cut",
    "Entry",
    "Folder",
    "Invalidation",
    "Key",
    "LocalTimes",
    "Node",
    "SealRef",
]

MODE_BITS: Final = 0o7777
BLOCK: Final = 512  # what st_blocks counts
SPARE_NAMES: Final = 500  # gone or new, before a folder's names are brought in order as a whole

Key = tuple[int, str]  # inode of the folder, name


class Attr(NamedTuple):
    """What stat shows. size in bytes, times in ns; told: the content token (shown.value), 0 for a node of ours.

    valid_s: uid and gid may be others after so many seconds; None: only if something is changed.
    """

    ino: int
    kind: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    blocks: int
    told: int
    rdev: int = 0
    valid_s: float | None = None


class LocalTimes(NamedTuple):
    """Times of a shown row that only this machine knows. version: shown.version at that moment, 0 = none."""

    mtime_ns: int
    ctime_ns: int
    version: int


class Invalidation(NamedTuple):
    """What the kernel has to forget. kind:

    attr: the attributes of `ino`; data: its attributes and pages; entry: `name` in `parent` is another thing now;
    new: it is `ino` now, which the kernel did not know when this was written, and which has no other name;
    gone: `name` in `parent` is no more (`ino` stood there).
    """

    parent: int
    name: str
    ino: int
    kind: str


@dataclass(slots=True, eq=False)
class Node:
    """What is behind an entry: a row of `node` (see the schema for the meaning of its columns), or, with stored
    False, a file that is only open: clean, or nameless and not to be published.
    """

    id: int
    kind: int
    mode: int
    uid: int
    gid: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    target: str = ""
    xattrs: dict[str, str] | None = None
    base: str | None = None
    layer: WorkFile | None = None
    work: WorkFile | None = None
    gen: int = 0
    seal_id: bytes | None = None
    sealed_gen: int | None = None
    lost_path: str | None = None
    lost_seen: tuple[str, ...] = ()
    unflushed: bool = False
    synced: bool = True
    rdev: int = 0
    link_id: str = ""
    owner: str = ""
    owner_group: str = ""
    # kept in memory only
    stored: bool = False
    key: Key | None = None  # the entry that shows it
    links: tuple[Key, ...] = ()  # the others: its further names
    handles: int = 0
    busy: int = 0  # write handles not flushed since they were opened or written to
    value: int = 0  # shown.value of what was opened, of a clean node
    seen: tuple[str, ...] = ()  # what NAME showed when a clean node was opened
    nameless: bool = False  # no name leads here any more
    unlinked: bool = False  # ... by the user's will: nothing of it is published
    writers: int = 0  # handles that have written since their own last flush
    fresh: bool = False  # new, or truncated, by a handle that is still open
    interrupted: bool = False  # the mount died between a write and the flush
    row_unflushed: bool = True  # unflushed, as of the last commit
    first_write: float | None = None  # monotonic s, of this dirty stretch
    last_write: float = 0.0
    last_seal: float = 0.0
    is_cut: bool = False  # a thread is making its work file shorter
    ahead: bool | None = None  # large: False while a thread brings it to the disk, True when that is done

    @property
    def keys(self) -> tuple[Key, ...]:
        """The entries of all its names."""
        return () if self.key is None else (self.key, *self.links)

    def set_keys(self, keys: Sequence[Key]) -> None:
        self.key, self.links = (keys[0], tuple(keys[1:])) if keys else (None, ())

    def change_key(self, old: Key, new: Key) -> None:
        """An entry of it has another place."""
        self.set_keys([new if key == old else key for key in self.keys])

    @property
    def files(self) -> tuple[WorkFile, ...]:
        """Its local bytes, newest first."""
        work, layer = self.work, self.layer
        if layer is None:
            return () if work is None else (work,)
        return (layer,) if work is None else (work, layer)

    def close_files(self) -> None:
        for file in self.files:
            file.close()


@dataclass(slots=True, frozen=True, eq=False)
class Cut:
    """A work file to be made shorter. Called once, in any thread, while nobody writes to it; OSError. sync: what has to
    come to the disk before.
    """

    node: Node
    fd: int
    size: int
    sync: Callable[[], None] | None = None

    def __call__(self) -> None:
        try:
            if self.sync is not None:
                self.sync()
            os.ftruncate(self.fd, self.size)
        finally:
            os.close(self.fd)


@dataclass(slots=True, frozen=True, eq=False)
class Ahead:
    """A large file to be brought to the disk before it is sealed. Called once, in any thread; OSError. fd: of the file,
    ours.
    """

    node: Node
    file: WorkFile
    fd: int

    def __call__(self) -> None:
        try:
            self.file.sync(self.fd)
        finally:
            os.close(self.fd)


@dataclass(slots=True, eq=False)
class Entry:
    """A row of `entry`. node None: a whiteout."""

    parent: int
    name: str
    node: int | None
    dirty: bool = True
    local_only: bool = False
    resolved: bool = False
    seen: tuple[str, ...] = ()
    last: str | None = None
    gen: int = 1
    seal_id: bytes | None = None
    sealed_gen: int | None = None
    moved_from: tuple[str, str] | None = None
    moved_to: str | None = None
    moved_node: int | None = None
    origin: str | None = None

    @property
    def key(self) -> Key:
        return (self.parent, self.name)

    @property
    def is_keeper(self) -> bool:
        """True for a folder that shown has lost and that stays for what is below it here."""
        return self.node is not None and not self.dirty and not self.local_only

    @property
    def is_resolved_sibling(self) -> bool:
        """True for the whiteout of a sibling; `last` is the version that the sibling shows."""
        return self.node is None and not self.dirty

    def add_seen(self, identities: Sequence[str]) -> None:
        self.seen = merge_seen(self.seen, identities)


@dataclass(slots=True, eq=False)
class Folder:
    """The overlay rows of one directory."""

    entries: dict[str, Entry] = field(default_factory=dict)
    _names: list[str] | None = None  # sorted; some may be gone; None: to be sorted when needed
    _new: list[str] = field(default_factory=list)  # not yet among them

    def add(self, entry: Entry) -> None:
        if self._names is not None and entry.name not in self.entries:
            self._new.append(entry.name)
        self.entries[entry.name] = entry

    def sorted_names(self) -> list[str]:
        """Every name, sorted, and perhaps some that have gone. Costs little while few have come since the last time, so
        that a listing, page by page, takes no longer than its length while others make and remove names.
        """
        names = self._names
        if names is None or len(names) > len(self.entries) * 9 // 8 + SPARE_NAMES:
            names = self._names = sorted(self.entries)
        elif len(self._new) > SPARE_NAMES:
            known = set(names)
            names += dict.fromkeys(name for name in self._new if name not in known)
            names.sort()
        else:
            for name in self._new:
                place = bisect_left(names, name)
                if place == len(names) or names[place] != name:
                    names.insert(place, name)
        self._new.clear()
        return names


@dataclass(slots=True, eq=False)
class SealRef:
    """A seal that is not yet noted, and who holds it."""

    seal_id: bytes
    ord: int
    path: str
    op: str
    layer: int | None
    last: str | None
    size: int = 0
    from_path: str | None = None
    moved_from: tuple[str, str] | None = None
    keys: list[Key] = field(default_factory=list)
    node: int | None = None
    folder: int | None = None  # of a put or movedir of a folder: its number, even if it is removed here
    group: bytes | None = None  # of one of several names of a file: see schema/010_link.sql


def merge_seen(seen: tuple[str, ...], identities: Sequence[str]) -> tuple[str, ...]:
    """Both, each once, in order."""
    new = tuple(identity for identity in identities if identity not in seen)
    return seen + new if new else seen
