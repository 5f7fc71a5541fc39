"""Telling the kernel to forget. Everything that it caches is cached without a time limit, so each change from elsewhere
comes with an invalidation; ESTALE guards the gap until that has arrived.

An invalidation can wait for requests that are being answered, so none is sent from the thread that answers them: they
are queued here and delivered by one other thread (`take`, then `deliver`). The tree has been changed before; nobody
waits for the delivery, least of all under a lock.
"""

import errno
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from fs.tree.model import Invalidation

BATCH_MAX = 1000  # items of one trip to the thread: the trip costs as much as 30 of them

# Not there, in use by a mount below, not empty: the kernel has dropped what it had in each case.
_DONE = frozenset({errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY})
_UNMOUNTED = frozenset({errno.ENOTCONN, errno.ENODEV, errno.EBADF, errno.EINVAL})

log = logging.getLogger(__name__)


class Kernel(Protocol):
    """The calls of pyfuse3 that are used here; OSError when the kernel says no."""

    def invalidate_inode(self, inode: int, attr_only: bool = ...) -> None: ...

    def invalidate_entry(self, inode_p: int, name: bytes, deleted: int = ...) -> None: ...

    def notify_store(self, inode: int, offset: int, data: bytes) -> None: ...


class Invalidations:
    """The queue. All but `deliver` belongs to the thread of the request loop."""

    def __init__(self, kernel: Kernel, is_known: Callable[[int], bool]) -> None:
        """is_known: whether the kernel has been told of an inode; asked in any thread."""
        self._kernel = kernel
        self._is_known = is_known
        self._queue: dict[Invalidation, None] = {}
        self._in_flight: Counter[int] = Counter()
        self.delivered = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, items: Iterable[Invalidation]) -> None:
        """Queue what a change of the tree made stale; the change is committed already. Equal items are sent once."""
        for item in items:
            self._queue.setdefault(item)

    @contextmanager
    def request(self, ino: int) -> Iterator[None]:
        """A read or fsync of `ino` waits for something: items that would wait for it are held back meanwhile."""
        self._in_flight[ino] += 1
        try:
            yield
        finally:
            self._in_flight[ino] -= 1
            if not self._in_flight[ino]:
                del self._in_flight[ino]

    def is_busy(self, ino: int) -> bool:
        """True while a request of this inode waits for something."""
        return ino in self._in_flight

    def take(self) -> list[Invalidation]:
        """Up to BATCH_MAX items that need not wait, in order; empty if there are none now."""
        batch: list[Invalidation] = []
        for item in self._queue:
            if item.kind in ("data", "gone") and item.ino in self._in_flight:
                continue
            batch.append(item)
            if len(batch) == BATCH_MAX:
                break
        for item in batch:
            del self._queue[item]
        return batch

    def deliver(self, batch: list[Invalidation]) -> None:
        """Send a batch; in the notifier's thread. Returns when the kernel has done it; failures are logged."""
        for item in batch:
            self._send(item)
        # An entry the kernel did not know leaves its folder's times as they were, so those are named by themselves.
        for parent in {item.parent for item in batch if item.kind in ("entry", "new", "gone")}:
            self._send(Invalidation(0, "", parent, "attr"))
        self.delivered += len(batch)

    def give(self, ino: int, data: bytes) -> None:
        """All bytes of a file that nobody has open yet: the one call for the thread of the request loop, as nothing
        can hold a page of it. The kernel may refuse: then it asks for them.
        """
        try:
            self._kernel.notify_store(ino, 0, data)
        except OSError as error:
            log.debug("the kernel did not take the pages of %d: %s", ino, error)

    def _send(self, item: Invalidation) -> None:
        try:
            if item.kind == "attr" or (item.kind == "new" and self._is_known(item.ino)):
                # A new name that the kernel has asked for by now is left: with it all that is below would be dropped,
                # and who works there, or watches there, would see it as removed.
                self._kernel.invalidate_inode(item.ino, attr_only=True)
            elif item.kind == "data":
                self._kernel.invalidate_inode(item.ino, attr_only=False)
            elif item.kind == "gone":
                self._kernel.invalidate_entry(item.parent, item.name.encode(), item.ino)
            else:
                self._kernel.invalidate_entry(item.parent, item.name.encode())
        except OSError as error:
            if error.errno in _UNMOUNTED:
                log.debug("not told to the kernel, the mount is gone: %s", item)
            elif error.errno not in _DONE:
                log.error("the kernel refused an invalidation: %s: %s", item, error)
