"""Names to inodes. Never waits for anything: uncached lookups of one directory are serial."""

from collections.abc import Sequence

from fs.ops.volume import Volume, name_of
from fs.tree.model import Attr
from sync.core.errors import NotFound


def lookup(volume: Volume, parent: int, name: bytes) -> Attr | None:
    """What stands there; the kernel then knows it once more. None if nothing does."""
    try:
        return volume.tree.look(parent, name_of(name))
    except NotFound:
        return None


def forget(volume: Volume, forgotten: Sequence[tuple[int, int]]) -> None:
    """The kernel has dropped inodes, each known so many times less."""
    for ino, count in forgotten:
        volume.tree.forget(ino, count)
