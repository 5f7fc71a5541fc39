"""How far to read ahead of a reader: 1, 2, 4, 8... chunks while it goes straight on, nothing once it jumps. Pure."""

MAX_AHEAD = 32  # chunks, about 32 MiB: window >= bandwidth times latency
ASK_MIN = 4  # chunks worth a request; by half a window at a time they come in bursts, with pauses between
FETCH_RUN = 16  # chunks asked for in one request, a manual read of a whole file too
SLACK = 1024 * 1024  # bytes: kernel readahead makes its requests in parallel, so they may arrive a little out of order


class Readahead:
    """The state of one open handle. Offsets and sizes in bytes, chunks by index."""

    __slots__ = ("_asked", "_expected", "_window")

    def __init__(self) -> None:
        self._expected = 0
        self._window = 1
        self._asked = 0  # chunks below this index have been asked for in this run

    def advance(self, offset: int, size: int, first: int, last: int, count: int) -> range:
        """The chunks to fetch ahead of a read of [offset, offset + size), which needs chunks first..last of `count`.

        Empty when the access is not sequential, or when everything in the window has been asked for already.
        """
        sequential = self._expected - SLACK <= offset <= self._expected + SLACK
        if not sequential:
            self._window = 1
            self._asked = 0
            self._expected = offset + size
            return range(0)
        self._expected = max(self._expected, offset + size)
        begin = max(last + 1, self._asked)
        end = min(last + 1 + self._window, count)
        is_enough = end - begin >= min(ASK_MIN, self._window // 2)
        if begin >= end or (self._asked > last + 1 and not is_enough and end < count):
            return range(0)
        self._asked = end
        self._window = min(self._window * 2, MAX_AHEAD)
        return range(begin, end)
