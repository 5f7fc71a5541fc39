"""Which opens are worth answering with the content at once: those of a program that reads small files as it opens them.

Pure. A program earns it by reading a small file from its beginning, for so many opens; then it is looked at once more.
"""

CREDITS = 32  # opens
PROGRAMS_MAX = 64
FILES_MAX = 100_000  # whose pages the kernel is believed to have
SMALL_MAX = 128 * 1024  # bytes: what the kernel would read in one request


class Eager:
    """Belongs to the thread of the request loop."""

    def __init__(self, *, is_off: bool = False) -> None:
        """is_off: the kernel would throw the pages away."""
        self._is_off = is_off
        self._credits: dict[int, int] = {}
        self._given: set[int] = set()

    def has_read(self, pid: int, ino: int) -> None:
        """A small file was read from its beginning."""
        self._keep(ino)
        if pid not in self._credits and len(self._credits) >= PROGRAMS_MAX:
            self._credits.clear()
        self._credits[pid] = CREDITS

    def wants(self, pid: int, ino: int) -> bool:
        """Whether to give the kernel the pages of a small file that this process opens now. Counts as done."""
        credits = self._credits.get(pid, 0)
        if not credits or self._is_off or ino in self._given:
            return False
        self._credits[pid] = credits - 1
        self._keep(ino)
        return True

    def _keep(self, ino: int) -> None:
        if len(self._given) >= FILES_MAX:
            self._given.clear()  # at worst something is given twice
        self._given.add(ino)
