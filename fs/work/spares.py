"""Spares: empty work files made ahead of need, while programs make many files.

To make a file takes a disk longer than all the rest of what a small new file takes here, and a thread can do it.
"""

import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from fs.work.workfile import create_file

AT_ONCE = 64
BUSY_AFTER = 16  # files that had to be made in need, before any are made ahead


class Spares:
    """`make` is for another thread, everything else for the one of the request loop. What a kill leaves has no row."""

    def __init__(self) -> None:
        self._ready: deque[tuple[int, str, int]] = deque()  # number, path, descriptor
        self._taken = 0  # or not there, since the last `order`

    @property
    def are_wanted(self) -> bool:
        """True if `order` should be made."""
        return self._taken >= BUSY_AFTER and len(self._ready) < AT_ONCE

    def __len__(self) -> int:
        return len(self._ready)

    def take(self) -> tuple[int, str, int] | None:
        """Number, path and descriptor of a spare; the caller owns the file now. None: there is none."""
        self._taken += 1
        return self._ready.popleft() if self._ready else None

    def ordered(self) -> None:
        """`make` is about to be called."""
        self._taken = 0

    def make(self, files: Sequence[tuple[int, str]]) -> None:
        """Make files of these numbers and paths; none of the rest where the disk refuses one."""
        with suppress(OSError):  # whoever needs the next one is told
            for number, path in files:
                fd = create_file(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                self._ready.append((number, path, fd))

    def drop(self) -> list[str | int]:
        """Give up what was not needed: paths to remove, and descriptors to close."""
        dropped: list[str | int] = []
        while self._ready:
            dropped += self._ready.popleft()[1:]
        return dropped
