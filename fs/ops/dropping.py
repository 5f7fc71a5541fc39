"""Direct writes that wait while the kernel drops its pages, and the kernel for our answers: see fs/ops/direct.py."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio


class Dropping:
    """ranges: inode -> the bytes that are being written directly."""

    def __init__(self) -> None:
        self.ranges: dict[int, tuple[int, int]] = {}
        self.is_ending = False
        self._over = trio.Event()  # the next one of them has ended
        self._then: Callable[[], None] = lambda: None

    @contextmanager
    def pages_of(self, ino: int, start: int, end: int) -> Iterator[None]:
        """The pages of an inode of which [start, end) was written are being dropped."""
        self.ranges[ino] = (start, end)
        try:
            yield
        finally:
            del self.ranges[ino]
            self._over.set()
            self._over = trio.Event()
            if self.is_ending and not self.ranges:
                self._then()

    async def over(self, ino: int) -> None:
        """Returns when no pages of the inode are being dropped."""
        while ino in self.ranges:
            await self._over.wait()

    def end(self, then: Callable[[], None]) -> None:
        """Begin no more of them, and call `then` when none is left: at once, if so."""
        self.is_ending, self._then = True, then
        if not self.ranges:
            then()
