"""Whose a file is: ids on this machine, names in the fleet.

With the setting sync_ownership the names of a version decide what stat shows, and what an id is called goes out with
the next version. Without it neither: names that a file has stay with it, whatever is changed of it here.
"""

import grp
import pwd
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple, TypeVar

from fs.tree.model import Node
from sync.core.manifest import OWNER_MAX
from sync.state.rows import ShownRow

T = TypeVar("T")

_ID_MAX: Final = 2**32 - 2  # the last one means "leave it as it is" to chown


class Names(NamedTuple):
    """What ids are called on a machine. None: there is no such id, or name."""

    user: Callable[[int], str | None]
    group: Callable[[int], str | None]
    uid: Callable[[str], int | None]
    gid: Callable[[str], int | None]


def system_names() -> Names:
    """Those of the system, each asked for once: it may ask a server."""
    return Names(
        user=cache(lambda uid: _or_none(lambda: pwd.getpwuid(uid).pw_name)),
        group=cache(lambda gid: _or_none(lambda: grp.getgrgid(gid).gr_name)),
        uid=cache(lambda user: _or_none(lambda: pwd.getpwnam(user).pw_uid)),
        gid=cache(lambda group: _or_none(lambda: grp.getgrnam(group).gr_gid)),
    )


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
        if self.names is None:
            return uid, gid
        return (
            _id(row.owner, self.names.uid, self.uid) if row.owner else uid,
            _id(row.group, self.names.gid, self.gid) if row.group else gid,
        )

    def published(self, node: Node) -> tuple[str, str]:
        """owner and group of the node's next version. A name that shows as the id which the node has stays, even an
        unknown one: nobody has changed it.
        """
        owner, group, names = node.owner, node.owner_group, self.names
        if names is None:
            return owner, group
        if not owner or _id(owner, names.uid, self.uid) != node.uid:
            owner = _sendable(names.user(node.uid)) or str(node.uid)
        if not group or _id(group, names.gid, self.gid) != node.gid:
            group = _sendable(names.group(node.gid)) or str(node.gid)
        return owner, group


def _sendable(name: str | None) -> str | None:
    """None for a name that no version can have: the system's may be any bytes, and of any length."""
    if name is None or len(name) > OWNER_MAX or not name.isprintable():
        return None
    return name


def _id(name: str, find: Callable[[str], int | None], unknown: int) -> int:
    """By name, else as the number it is; unknown: if nobody is called so here."""
    found = find(name)
    if found is None:
        is_number = name.isascii() and name.isdigit() and int(name) <= _ID_MAX
        return int(name) if is_number else unknown
    return found


def _or_none(find: Callable[[], T]) -> T | None:
    try:
        return find()
    except (KeyError, ValueError, OverflowError):  # there is none, or none can be
        return None
