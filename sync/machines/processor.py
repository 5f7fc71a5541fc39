"""How long a process had no processor: what keeps it from answering then is the machine, not the process itself.

Linux tells of each thread how long it ran, and how long it could have run and had to wait, in ns
(/proc/PID/task/TID/schedstat). A wait is counted when it is over.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PROCESSES = Path("/proc")


class ThreadTimes(NamedTuple):
    """is_runnable: it runs at this moment, or waits for a processor."""

    ran_ns: int
    waited_ns: int
    is_runnable: bool


def thread_times(pid: int, processes: Path = PROCESSES) -> dict[str, ThreadTimes]:
    """Of each thread of a process; nothing where the kernel does not tell, or the process is gone."""
    found = {}
    try:
        tasks = list((processes / str(pid) / "task").iterdir())
    except OSError:
        return {}
    for task in tasks:
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended, or the kernel does not tell
            ran_ns, waited_ns, _ = (task / "schedstat").read_text().split()
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            found[task.name] = ThreadTimes(int(ran_ns), int(waited_ns), state == "R")
    return found


def without_processor(before: Mapping[str, ThreadTimes], after: Mapping[str, ThreadTimes], seconds: float) -> float:
    """For how much of the `seconds` between these two looks the thread that waited longest had no processor.

    The longest wait counts, not that of the thread that is to answer: that one may wait for what another one holds.
    """
    waits = (_waited(before[name], after[name], seconds) for name in before.keys() & after.keys())
    return min(max(waits, default=0.0), seconds)


def _waited(before: ThreadTimes, after: ThreadTimes, seconds: float) -> float:
    if before.is_runnable and after.is_runnable and before.ran_ns == after.ran_ns != 0:
        return seconds  # it has not had one yet; zeros are those of a kernel that does not tell
    return (after.waited_ns - before.waited_ns) / 1e9
