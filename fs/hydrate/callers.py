"""Which programs may not make content come: those named in no_hydrate (indexers, thumbnailers).

Asked only when something would have to be fetched, so nothing that is local ever costs a look into /proc.
"""

from collections import OrderedDict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

PROGRAMS_MAX = 100
COMM_MAX = 15  # bytes of a process's name that the kernel keeps


def matching(patterns: Sequence[str], comm: str, exe: str) -> str | None:
    """The name of a program that one of the patterns means; None if none does.

    comm: as the kernel has it, cut to 15 bytes: then the beginning of a pattern is enough. exe: the name of the file
    that runs, '' if that cannot be seen.
    """
    for pattern in patterns:
        if exe and fnmatchcase(exe, pattern):
            return exe
        if fnmatchcase(comm, pattern) or (len(comm.encode()) >= COMM_MAX and fnmatchcase(comm, pattern[:COMM_MAX])):
            return exe if exe.startswith(comm) else comm
    return None


class Refusal(NamedTuple):
    """Of one program and reason: how often, and the last one. at: unix s."""

    program: str
    reason: str
    times: int
    path: str
    at: int


class Refusals:
    """Who was refused content since the start, for `doctor`; the programs heard of last are kept."""

    def __init__(self) -> None:
        self._all: OrderedDict[tuple[str, str], Refusal] = OrderedDict()
        self._untold: dict[tuple[str, str], None] = {}

    def note(self, program: str, reason: str, path: str, now: float) -> bool:
        """True if it is the first one of this program."""
        key = (program, reason)
        before = self._all.pop(key, None)
        self._all[key] = Refusal(program, reason, before.times + 1 if before is not None else 1, path, int(now))
        self._untold[key] = None
        if len(self._all) > PROGRAMS_MAX:
            gone, _ = self._all.popitem(last=False)
            self._untold.pop(gone, None)
        return before is None

    def take_untold(self) -> list[Refusal]:
        """Those that have changed since the last call."""
        untold, self._untold = self._untold, {}
        return [self._all[key] for key in untold]

    def tell_again(self) -> None:
        """To somebody who has heard of none."""
        self._untold = dict.fromkeys(self._all)


class Callers:
    """Looks processes up by the number that comes with a request, which is that of a thread."""

    def __init__(self, patterns: Sequence[str], proc: Path = Path("/proc")) -> None:
        self._patterns = tuple(patterns)
        self._proc = proc
        matching(self._patterns, "", "")  # has them compiled: the first to read something cold need not wait for that

    def refused(self, pid: int) -> str | None:
        """The program's name if it is on the list. None for all others, and for one that has ended by now."""
        if not self._patterns or pid <= 0:
            return None
        process = self._leader(pid)
        comm = _text(process / "comm")
        if comm is None:
            return None
        try:
            exe = (process / "exe").readlink().name.removesuffix(" (deleted)")
        except OSError:
            exe = ""  # a process of another user
        return matching(self._patterns, comm, exe)

    def name(self, pid: int) -> str:
        """What a process is called, '?' if it has ended."""
        return (_text(self._leader(pid) / "comm") if pid > 0 else None) or "?"

    def _leader(self, pid: int) -> Path:
        """The folder of the process: a thread may have a name of its own."""
        for line in (_text(self._proc / str(pid) / "status") or "").splitlines():
            if line.startswith("Tgid:"):
                return self._proc / line.split()[1]
        return self._proc / str(pid)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").rstrip("\n")
    except OSError:
        return None
