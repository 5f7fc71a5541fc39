"""What a process that lives long, and works in many threads, has glibc's malloc do. Elsewhere nothing of it is done."""

import ctypes
import mmap
from pathlib import Path
from typing import Final

from sync.env import Env

ARENAS: Final = 1  # glibc's own is 8 a core
MAPPED_FROM: Final = 32 << 20  # bytes; the most that glibc takes for this
KEPT_FREE: Final = 128 << 20  # bytes at the end of an arena; more of them go back at once
GIVE_BACK_S: Final = 10.0  # between two looks at how much there is
GROWN: Final = 16 << 20  # bytes since the last time that are worth giving back
LOOKS_MAX: Final = 12  # after so many it is done anyhow: what was in use the last time may be free by now
_M_TRIM_THRESHOLD: Final = -1  # this and the next from malloc.h
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def set_up_malloc() -> None:
    """Before the first thread.

    Each thread would get an arena of its own, and what a check of everything has left free in one is of no use to the
    others: tcfsd grew with each fsck. Nor does it go back: malloc_trim cuts off the end of the main arena only, so a
    second one keeps what the largest job of a thread has taken. Contention is no matter where one thread at a time runs
    Python. And memory for chunks, 1 MiB now and 4 the next moment, would go back to the kernel and come again, empty,
    page by page: a fifth of the time of a large fetch.
    """
    glibc = _glibc()
    if glibc is not None:
        glibc.mallopt(_M_ARENA_MAX, ARENAS)
        glibc.mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM)
        glibc.mallopt(_M_TRIM_THRESHOLD, KEPT_FREE)


async def keep_small(env: Env) -> None:
    """Now and then give back what is free: what set_up_malloc keeps, and the gaps between the rest."""
    glibc, settled, looks = _glibc(), 0, 0
    while glibc is not None:
        await env.sleep(GIVE_BACK_S)
        looks += 1
        if resident() > settled + GROWN or looks == LOOKS_MAX:
            await env.run_io(glibc.malloc_trim, 0)
            settled, looks = resident(), 0


def resident() -> int:
    """Bytes of memory that this process has; 0 where the kernel does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    except (OSError, IndexError, ValueError):
        return 0


def _glibc() -> ctypes.CDLL | None:
    try:
        found = ctypes.CDLL(None)
        found.mallopt, found.malloc_trim  # noqa: B018
    except (OSError, AttributeError):
        return None
    return found
