"""How Python itself is set up in our processes."""

import gc
import sys
from typing import Final

GC_THRESHOLD: Final = 50_000  # new objects between two collections; Python's own is 700
SWITCH_INTERVAL_S: Final = 0.0005  # Python's own is 5 ms


def calm_interpreter() -> None:
    """For work on many small values in several threads; each of our processes calls it once, at its start.

    Hardly anything here is a cycle, while rows live long: a tenth of a push went into looking for garbage. And a thread
    that comes back from the disk shall not wait 5 ms for the one that computes.
    """
    gc.set_threshold(GC_THRESHOLD)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
