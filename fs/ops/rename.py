"""Renaming."""

import errno

from fs.ops.volume import Volume, name_of

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2


def rename(volume: Volume, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
    """flags: 0, RENAME_NOREPLACE or RENAME_EXCHANGE; all others are EINVAL, as on file systems that lack them."""
    if flags == RENAME_EXCHANGE:
        volume.tree.exchange(parent, name_of(name), new_parent, name_of(new_name))
        return
    if flags & ~RENAME_NOREPLACE:
        raise OSError(errno.EINVAL, "rename knows NOREPLACE or EXCHANGE and no other flag")
    volume.tree.rename(parent, name_of(name), new_parent, name_of(new_name), noreplace=bool(flags & RENAME_NOREPLACE))
