"""Who was answered ESTALE and is looking the name up once more; the kernel does that once, unseen by the program."""

from collections.abc import Callable

RETRY_S = 1.0  # the kernel does not wait: it is back within microseconds
WAITING_MAX = 1000


class Retries:
    """By thread, as the kernel names the caller. Belongs to the thread of the request loop."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._waiting: dict[int, tuple[float, int]] = {}  # caller -> since when; what its last lookup named, 0: nothing

    def __bool__(self) -> bool:
        """True while somebody may be retrying: then lookups are to be told."""
        return bool(self._waiting)

    def failed(self, caller: int) -> None:
        """ESTALE is the answer."""
        if len(self._waiting) < WAITING_MAX:
            self._waiting[caller] = (self._monotonic(), 0)

    def looked_up(self, caller: int, ino: int) -> None:
        """A lookup of somebody has named an inode."""
        now = self._monotonic()
        waiting = self._waiting.get(caller)
        if waiting is not None:
            self._waiting[caller] = (waiting[0], ino)
        for other in [other for other, (since, _) in self._waiting.items() if now - since > RETRY_S]:
            del self._waiting[other]

    def done(self, caller: int) -> None:
        """The caller's request has been served: should the next one meet ESTALE, that is a first time again."""
        self._waiting.pop(caller, None)

    def is_second(self, caller: int, ino: int, *, is_last: bool) -> bool:
        """True if the caller was answered ESTALE a moment ago, and its new lookup has named this inode."""
        since, found = self._waiting.get(caller, (0.0, 0))
        if is_last:
            self._waiting.pop(caller, None)
        return found == ino and self._monotonic() - since <= RETRY_S
