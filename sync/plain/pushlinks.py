"""Which link_id a push gives to a file of a plain folder: names of one inode get one, and keep it from push to push."""

from collections.abc import Callable

from sync.core.manifest import Kind, Manifest
from sync.plain.examine import Known
from sync.plain.walk import LocalEntry

Inode = tuple[int, int]  # device, number


class PushLinks:
    """Of one push."""

    def __init__(self, new_id: Callable[[], str], shown: Callable[[str], Manifest | None]) -> None:
        """shown: what the fleet has at a rel_path."""
        self._new_id = new_id
        self._shown = shown
        self._ids: dict[Inode, str] = {}
        self._inodes: dict[str, Inode] = {}

    def id_of(self, entry: LocalEntry, known: Known | None, last: Manifest | None) -> str:
        """'': the file has one name. last: the version of its last push or pull.

        A file that was linked, and where other names were not brought along, says nothing about that while it is the
        same inode.
        """
        if entry.kind is Kind.DIR:
            return ""
        if entry.names < 2:
            is_same = last is not None and known is not None and known.ino == entry.stat.ino
            return last.link_id if last is not None and is_same else ""
        inode = (entry.device, entry.stat.ino)
        found = self._ids.get(inode)
        if found is None:
            before = last if last is not None else self._shown(entry.remote)
            found = before.link_id if before is not None else ""
            if not found or found in self._inodes:  # two files by now
                found = self._new_id()
            self._ids[inode], self._inodes[found] = found, inode
        return found
