"""What was told of a calm tree, to be told again without looking: `git status` lists the same folders all day.

Valid only as long as nothing at all has changed. Whatever changes the tree here calls `forget`; what the engine
commits is seen by the data version of fleet.db (https://sqlite.org/pragma.html#pragma_data_version).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from fs.tree.model import Attr

NAMES_MAX = 20_000  # kept in all, a few hundred bytes each


@dataclass(slots=True, eq=False)
class Listed:
    """One name of a listing. cookie: where the next request goes on behind it. reply: `attr` as the kernel gets it."""

    name: bytes
    attr: Attr
    cookie: int
    reply: Any = None


class Listing(NamedTuple):
    """A whole directory that fits into one request. entries: of the names; dots: `.` and `..`."""

    names: list[str]
    entries: list[Listed]
    dots: list[Listed]


class Recent:
    """Belongs to the thread of the request loop."""

    def __init__(self, data_version: Callable[[], int]) -> None:
        """data_version: another number after each commit of another process to fleet.db."""
        self._data_version = data_version
        self._version = -1
        self._listings: dict[int, Listing] = {}
        self._attrs: dict[int, Attr] = {}

    def forget(self) -> None:
        """Something may have changed."""
        if self._attrs or self._listings:
            self._attrs.clear()
            self._listings.clear()

    def attr(self, ino: int) -> Attr | None:
        """What stat shows of the inode, if it was told by a listing of late."""
        return self._attrs.get(ino) if self._attrs and self._is_valid() else None

    def listing(self, ino: int) -> Listing | None:
        """A directory that was listed of late."""
        return self._listings.get(ino) if self._listings and self._is_valid() else None

    def begin(self) -> int:
        """To be called before a directory is read that `keep` is told of."""
        self._is_valid()
        return self._version

    def keep(self, began: int, ino: int, listing: Listing) -> None:
        """began: from `begin`. What was read while fleet.db changed is not kept."""
        if began != self._data_version():
            return
        if len(self._attrs) + len(listing.names) > NAMES_MAX:
            self.forget()
        self._listings[ino] = listing
        for entry in listing.entries:
            self._attrs[entry.attr.ino] = entry.attr

    def _is_valid(self) -> bool:
        """Empties it, and says False, if fleet.db has changed."""
        version = self._data_version()
        if version == self._version:
            return True
        self._version = version
        self.forget()
        return False
