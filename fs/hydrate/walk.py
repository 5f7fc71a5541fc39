"""Whether a program walks through a folder reading: then its small files are worth bringing ahead. Pure.

Only fetches count: a program that lists, or reads what is local, is never noticed.
"""

from collections import OrderedDict
from collections.abc import Callable

FILES_OF_ONE = 2  # small files of a folder that one process had to wait for
FILES_OF_ANY = 4  # or several: a build starts a process for each
WITHIN_S = 10.0
AGAIN_S = 60.0  # a folder that was asked for is not asked for again so soon
FOLDERS_KEPT = 512


class Walks:
    """Remembers the folders of the last fetches. now: monotonic, s."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: OrderedDict[int, list[tuple[float, int, int]]] = OrderedDict()  # folder -> (when, pid, file)
        self._asked: OrderedDict[int, float] = OrderedDict()

    def note(self, pid: int, folder: int, file: int) -> bool:
        """A small file has to be fetched for a process; True if its folder should be brought now."""
        now = self._now()
        asked = self._asked.get(folder)
        if asked is not None and now - asked < AGAIN_S:
            return False
        seen = [item for item in self._seen.pop(folder, []) if now - item[0] < WITHIN_S and item[2] != file]
        seen.append((now, pid, file))
        if sum(1 for item in seen if item[1] == pid) < FILES_OF_ONE and len(seen) < FILES_OF_ANY:
            self._seen[folder] = seen
            if len(self._seen) > FOLDERS_KEPT:
                self._seen.popitem(last=False)
            return False
        self._asked[folder] = now
        self._asked.move_to_end(folder)
        if len(self._asked) > FOLDERS_KEPT:
            self._asked.popitem(last=False)
        return True
