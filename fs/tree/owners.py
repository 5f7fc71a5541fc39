"""Whose a file is: ids on this machine, names in the fleet.

With the setting sync_ownership the names of a version decide what stat shows, and what an id is called goes out with
the next version. Without it neither: names that a file has stay with it, whatever is changed of it here.

A node's names are those of the version it came from; a chown takes them away. So a node without names is one that was
made, or given away, here: only then what its ids are called is looked up, when it is published.
"""

from typing import Final, NamedTuple, Protocol, TypeVar

from fs.tree.model import Node
from sync.core.manifest import OWNER_MAX
from sync.state.rows import ShownRow

K = TypeVar("K", contravariant=True)
V = TypeVar("V", covariant=True)

WAIT_S: Final = 30.0  # for what an id is called; then a file is published without saying whose it is
_ID_MAX: Final = 2**32 - 2  # the last one means "leave it as it is" to chown


class Lookup(Protocol[K, V]):
    """What a name service says, which may take its time: nobody waits for the answer."""

    def find(self, key: K) -> V | None:
        """None: there is none, or no answer yet."""

    def valid_s(self, key: K) -> float | None:
        """For how long what `find` says is to be believed, s; None: for good."""

    def asked_s(self, key: K) -> float | None:
        """For how long a first answer has been waited for, s; None: `find` says what it was."""

    def is_asking(self) -> bool:
        """True while any answer is on its way."""


class Names(NamedTuple):
    """What ids are called on a machine, and the other way round."""

    user: Lookup[int, str]
    group: Lookup[int, str]
    uid: Lookup[str, int]
    gid: Lookup[str, int]


class Ownership(NamedTuple):
    """uid, gid: the owner of what has none here. names: None = the setting is off."""

    uid: int
    gid: int
    names: Names | None = None

    def of_row(self, row: ShownRow, local: tuple[int, int] | None) -> tuple[int, int]:
        """uid and gid that stat shows of a row. local: what only this machine knows, instead of the row's own."""
        uid, gid = local or (row.uid, row.gid)
        uid = self.uid if uid is None else uid
        gid = self.gid if gid is None else gid
        return self._by_name(row.owner, row.group, uid, gid)

    def of_node(self, node: Node) -> tuple[int, int]:
        return self._by_name(node.owner, node.owner_group, node.uid, node.gid)

    def _by_name(self, owner: str, group: str, uid: int, gid: int) -> tuple[int, int]:
        names = self.names
        if names is None:
            return uid, gid
        return _shown(owner, names.uid, self.uid, uid), _shown(group, names.gid, self.gid, gid)

    def valid_s(self, owner: str, group: str) -> float | None:
        """For how long what is shown of these names is to be believed, s; None: until another version comes."""
        names = self.names
        if names is None or not (owner or group):
            return None
        asked = (names.uid.valid_s(owner) if owner else None, names.gid.valid_s(group) if group else None)
        return min((seconds for seconds in asked if seconds is not None), default=None)

    def give(self, node: Node, uid: int | None, gid: int | None) -> None:
        """chown; None: that one stays. A name that is known to show as the id stays, even one that nobody here has."""
        names = self.names
        if uid is not None:
            node.owner = node.owner if names is None or _shows(node.owner, names.uid, uid, self.uid) else ""
            node.uid = uid
        if gid is not None:
            kept = names is None or _shows(node.owner_group, names.gid, gid, self.gid)
            node.owner_group = node.owner_group if kept else ""
            node.gid = gid

    def is_asked(self, node: Node) -> bool:
        """True while it is worth waiting for what the node's ids are called, before it is published."""
        names = self.names
        if names is None:
            return False
        is_user_asked = not node.owner and _awaited(names.user, node.uid)
        is_group_asked = not node.owner_group and _awaited(names.group, node.gid)  # both at the same time
        return is_user_asked or is_group_asked

    def is_asking(self) -> bool:
        """True while what an id is called is asked for."""
        return self.names is not None and (self.names.user.is_asking() or self.names.group.is_asking())

    def published(self, node: Node) -> tuple[str, str]:
        """owner and group of the node's next version; empty where that says nothing, and the one before counts."""
        names = self.names
        if names is None:
            return node.owner, node.owner_group
        return node.owner or _name(names.user, node.uid), node.owner_group or _name(names.group, node.gid)


def _shown(name: str, find: Lookup[str, int], unknown: int, local: int) -> int:
    """local: the id that counts where there is no name, or no answer yet."""
    if not name:
        return local
    found = _id(name, find, unknown)
    return found if find.asked_s(name) is None else local


def _shows(name: str, find: Lookup[str, int], number: int, unknown: int) -> bool:
    return bool(name) and _id(name, find, unknown) == number and find.asked_s(name) is None


def _awaited(find: Lookup[int, str], number: int) -> bool:
    if find.find(number) is not None:
        return False
    asked_s = find.asked_s(number)
    return asked_s is not None and asked_s < WAIT_S


def _name(find: Lookup[int, str], number: int) -> str:
    name = _sendable(find.find(number))
    if name is None:
        return str(number) if find.asked_s(number) is None else ""
    return name


def _sendable(name: str | None) -> str | None:
    """None for a name that no version can have: the system's may be any bytes, and of any length."""
    if name is None or len(name) > OWNER_MAX or not name.isprintable():
        return None
    return name


def _id(name: str, find: Lookup[str, int], unknown: int) -> int:
    """By name, else as the number it is; unknown: if nobody is called so here."""
    found = find.find(name)
    if found is None:
        is_number = name.isascii() and name.isdigit() and int(name) <= _ID_MAX
        return int(name) if is_number else unknown
    return found
