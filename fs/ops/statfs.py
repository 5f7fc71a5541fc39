"""df: the disk that holds what is written here before it is published."""

import os

from fs.ops.volume import Volume


def statfs(volume: Volume) -> os.statvfs_result:
    return volume.tree.statfs()
