"""Renaming."""

import errno

from fs.ops.volume import Volume, name_of

RENAME_NOREPLACE = 1


def rename(volume: Volume, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> None:
    """flags: 0 or RENAME_NOREPLACE; all others are EINVAL, as on file systems that lack them."""
    if flags & ~RENAME_NOREPLACE:
        raise OSError(errno.EINVAL, "of the flags of rename only RENAME_NOREPLACE is known")
    volume.tree.rename(parent, name_of(name), new_parent, name_of(new_name), noreplace=bool(flags & RENAME_NOREPLACE))
