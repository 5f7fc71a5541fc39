"""What a file was when it was looked at."""

import os
from typing import NamedTuple


class FileKey(NamedTuple):
    """Any change of a file's bytes makes another key, and so does any other file in its place."""

    device: int
    inode: int
    mtime_ns: int
    size: int

    @classmethod
    def of(cls, info: os.stat_result) -> "FileKey":
        return cls(info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size)
