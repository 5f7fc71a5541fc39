"""What a file that is written to loses: set-user-ID and set-group-ID, the rights it gives to who runs it.

The kernel sees to it wherever it asks for every change by itself. What is written past its pages, and a file that an
open empties, it leaves to us.
"""

import stat
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from fs.ops.volume import Volume
from fs.tree.model import Invalidation, Node

BITS: Final = stat.S_ISUID | stat.S_ISGID


class Caller(NamedTuple):
    """Who asks. more_groups: supplementary ones; asked for only where they count."""

    uid: int
    gid: int
    more_groups: Callable[[], Collection[int]] = tuple

    def is_in(self, group: int) -> bool:
        return group == self.gid or group in self.more_groups()


def lose(volume: Volume, ino: int, node: Node, caller: Caller | None = None) -> None:
    """Take them from a node that is writable, unless root asks (CAP_FSETID). Set-group-ID without group execution goes
    if somebody outside of the group asks. caller: None if nobody knows who asks: then nobody may leave what may go.
    """
    if not node.mode & BITS or (caller is not None and caller.uid == 0):
        return
    lost = stat.S_ISUID
    if node.mode & stat.S_ISGID and (
        node.mode & stat.S_IXGRP or (caller is not None and not caller.is_in(volume.tree.mode_and_group(ino)[1]))
    ):
        lost |= stat.S_ISGID
    if node.mode & lost:
        volume.tree.setattr(ino, mode=node.mode & ~lost)
        volume.invalidations.add([Invalidation(0, "", ino, "attr")])
