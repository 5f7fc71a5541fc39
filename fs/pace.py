"""Pace: sealing and noting give way while programs keep the mount busy.

Each round costs a sync of the disk and a commit, and the disk and the processors are those that a big copy needs, too.
So while many changes come in, rounds are few and large; on a calm mount nothing waits. `is_held` never says yes for
longer than HOLD_S after the last round, nor once MANY changes wait, nor while somebody waits for a round.
"""

from collections.abc import Callable

BUSY_SPAN_S = 0.1
BUSY_CHANGES = 40  # in BUSY_SPAN_S: a copy makes thousands, an editor that saves makes ten
HOLD_S = 5.0  # seconds; the kernel itself keeps what is not synced to itself for 5 to 30
SHARE = 4  # a round may take one part in so many of the time, if the mount is busy
MANY = 6_000  # changes that are worth a round in any case: what publishes them has a processor of its own meanwhile


class Pace:
    """Belongs to one thread."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.changes = 0  # counted up by whoever changes the tree
        self._at_mark = 0
        self._mark = monotonic()
        self._was_busy = False
        self._waiting = 0

    def asked(self) -> None:
        """Somebody waits for a round: nothing is held until `answered`."""
        self._waiting += 1

    def answered(self) -> None:
        self._waiting -= 1

    @property
    def is_busy(self) -> bool:
        """True if the last BUSY_SPAN_S was, or what has passed of the present one is. To be asked at least so often."""
        now, new = self._monotonic(), self.changes - self._at_mark
        spans = (now - self._mark) / BUSY_SPAN_S
        if spans >= 1.0:
            self._was_busy = new >= BUSY_CHANGES * spans
            self._mark, self._at_mark = now, self.changes
        return self._was_busy or new >= BUSY_CHANGES

    def is_held(self, last_round: float, ready: int) -> bool:
        """True while a round of `ready` changes should wait. last_round: monotonic s."""
        if self._waiting or ready >= MANY or self._monotonic() - last_round >= HOLD_S:
            return False
        return self.is_busy

    def must_rest(self, started: float, ended: float) -> bool:
        """True while the next round should not begin. started, ended: of the last one, monotonic s."""
        is_over = self._monotonic() - ended >= (ended - started) * (SHARE - 1)
        return not (is_over or self._waiting) and self.is_busy
