"""Inode numbers: what the kernel knows, and which number stands for a shown row now.

A shown row has its id as number until its content moves while somebody has the old one open: then it is told under a
new odd number, in memory, and the old number stays with what was opened.
"""

from dataclasses import dataclass

from fs.tree.model import Key, Node


@dataclass(slots=True, eq=False)
class Known:
    """An inode the kernel remembers. count: lookups not yet forgotten; told, size, mtime_ns, and nlink of a file: what
    it was last told. has_pages: the kernel was given some of its content since all of that was dropped.
    """

    kind: int
    count: int
    told: int
    size: int
    mtime_ns: int
    nlink: int = 1
    has_pages: bool = False


class Inodes:
    """All in memory; after a restart the kernel asks anew and shown's numbers count."""

    def __init__(self) -> None:
        self.known: dict[int, Known] = {}
        self.removed: dict[int, Node] = {}  # directories that were removed here, and that somebody may have open
        self.noted: set[tuple[int, Key]] = (
            set()
        )  # what was made here, and where, until the feed is read that tells of it
        self.left: dict[int, Key] = {}  # what may be nothing any more though the kernel has it, and where it was
        self._row_of: dict[int, int] = {}  # a number of ours -> the shown row it stands for
        self._number_of: dict[int, int] = {}  # shown row -> the number that stands for it now

    def remember(self, ino: int, kind: int, told: int, size: int, mtime_ns: int, nlink: int = 1) -> None:
        """The kernel is told of an inode by a lookup, or an operation that counts as one."""
        known = self.known.get(ino)
        if self.removed:
            self.removed.pop(ino, None)  # the number stands for something again
        if known is None:
            self.known[ino] = Known(kind, 1, told, size, mtime_ns, nlink)
        else:
            known.count += 1
            known.told, known.size, known.mtime_ns, known.nlink = told, size, mtime_ns, nlink

    def count_again(self, ino: int) -> bool:
        """One more lookup of an inode, whatever stands at its name now. False if the kernel does not know it."""
        known = self.known.get(ino)
        if known is not None:
            known.count += 1
        return known is not None

    def gave_pages(self, ino: int) -> None:
        """The kernel was given content of the inode, or gave us some and has it, too."""
        known = self.known.get(ino)
        if known is not None:
            known.has_pages = True

    def has_pages(self, ino: int) -> bool:
        """The kernel may keep content of the inode that it was given."""
        known = self.known.get(ino)
        return known is not None and known.has_pages

    def lost_pages(self, ino: int) -> None:
        """What the kernel has of its content is about to be dropped."""
        known = self.known.get(ino)
        if known is not None:
            known.has_pages = False

    def told(self) -> list[tuple[int, int]]:
        """Every inode the kernel knows, with the token of the content that it was told (0: none, or one of ours)."""
        return [(ino, known.told) for ino, known in self.known.items()]

    def forget(self, ino: int, count: int) -> bool:
        """True if the kernel does not know the inode any more."""
        known = self.known.get(ino)
        if known is None:
            return True
        known.count -= count
        if known.count > 0:
            return False
        del self.known[ino]
        self.removed.pop(ino, None)
        return True

    def number(self, row_id: int) -> int:
        return self._number_of.get(row_id, row_id)

    def row_id(self, ino: int) -> int | None:
        """The shown row that this number stands for now; None if it stood for one that is told under another number."""
        row_id = self._row_of.get(ino, ino)
        return row_id if self._number_of.get(row_id, row_id) == ino else None

    def renumber(self, row_id: int, ino: int) -> None:
        """From now on the row is told as `ino`."""
        self._number_of[row_id] = ino
        self._row_of[ino] = row_id

    def drop(self, ino: int) -> None:
        """Neither the kernel nor an open file uses the number any more."""
        row_id = self._row_of.pop(ino, None)
        if row_id is not None and self._number_of.get(row_id) == ino:
            del self._number_of[row_id]
