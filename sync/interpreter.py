"""How Python itself is set up in our processes."""

import contextlib
import gc
import sys
from typing import Final

GC_THRESHOLD: Final = 50_000  # new objects between two collections; Python's own is 700
SWITCH_INTERVAL_S: Final = 0.0005  # Python's own is 5 ms
ARENAS: Final = 2  # of malloc; glibc's own is 8 a core
_M_ARENA_MAX: Final = -8  # malloc.h of glibc


def calm_interpreter() -> None:
    """For work on many small values in several threads; each of our processes calls it once, at its start.

    Hardly anything here is a cycle, while rows live long: a tenth of a push went into looking for garbage. And a thread
    that comes back from the disk shall not wait 5 ms for the one that computes.
    """
    gc.set_threshold(GC_THRESHOLD)
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def few_arenas() -> None:
    """For a process that lives long and works in many threads; before the first of them. Does nothing without glibc.

    Each thread would get an arena of its own, and what a check of everything has left free in one is of no use to the
    others: tcfsd grew with each fsck. Contention is no matter where one thread at a time runs Python.
    """
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # some milliseconds: not for those who do not call this

        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
