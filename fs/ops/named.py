"""Operations on what a lookup named, for whoever would get ESTALE a second time: see fs/tree/named.py."""

import errno
import os
from collections.abc import Mapping

from fs.ops.open import opened
from fs.ops.volume import Volume
from fs.tree import named, stat
from fs.tree.model import Attr
from sync.core.filestate import is_virtual
from sync.state.rows import ShownRow

_WRITES = os.O_WRONLY | os.O_RDWR


def row_for(volume: Volume, caller: int, ino: int, *, is_last: bool) -> ShownRow | None:
    """What to serve to a caller who meets ESTALE; None if this is the first time: the kernel will look the name up.

    is_last: no other request of the same system call follows.
    """
    is_second = volume.retries.is_second(caller, ino, is_last=is_last)
    row = named.named_row(volume.tree.state, ino) if is_second else None
    if row is None:
        volume.retries.failed(caller)
    named.watch(volume.tree.state, bool(volume.retries))
    return row


def failed(volume: Volume, caller: int) -> None:
    """ESTALE is the answer: the kernel will look the name up."""
    volume.retries.failed(caller)
    named.watch(volume.tree.state, True)


def looked_up(volume: Volume, caller: int, attr: Attr) -> None:
    """Somebody who may be retrying has looked a name up."""
    volume.retries.looked_up(caller, attr.ino)
    named.watch(volume.tree.state, bool(volume.retries))


def served(volume: Volume, caller: int) -> None:
    """The last request of a system call that may have been a second attempt."""
    volume.retries.done(caller)
    named.watch(volume.tree.state, bool(volume.retries))


def open_file(volume: Volume, row: ShownRow, ino: int, flags: int) -> int:
    file = named.open_named(volume.tree.state, row, ino, write=bool(flags & _WRITES), truncate=bool(flags & os.O_TRUNC))
    return opened(volume, ino, file, flags)


def getattr_of(volume: Volume, row: ShownRow, ino: int) -> Attr:
    return stat.row_attr(volume.tree.state, row, ino)


def setattr_of(volume: Volume, row: ShownRow, ino: int, changes: Mapping[str, int]) -> Attr:
    return named.setattr_named(volume.tree.state, row, ino, **changes)


def readlink(volume: Volume, row: ShownRow) -> bytes:
    return named.target_of(volume.tree.state, row).encode()


def getxattr(volume: Volume, row: ShownRow, name: bytes) -> bytes:
    """ENODATA if there is none."""
    text = name.decode()
    value = None if is_virtual(text) else named.xattrs_of(volume.tree.state, row).get(text)
    if value is None:
        raise OSError(errno.ENODATA, "no such attribute")
    return value


def listxattr(volume: Volume, row: ShownRow) -> list[bytes]:
    return [name.encode() for name in sorted(named.xattrs_of(volume.tree.state, row)) if not is_virtual(name)]


def setxattr(volume: Volume, row: ShownRow, name: bytes, value: bytes | None) -> None:
    """None removes it."""
    named.setxattr_named(volume.tree.state, row, name.decode(), value)
