"""WorkFile: the local bytes of one node, a sparse file and the byte ranges of it that count.

What the ranges do not cover shows what lies below (a sealed layer or the base version) up to `limit_below`, and zeros
behind that. The file system's own holes are never consulted.
"""

import errno
import os
from pathlib import Path

from sync.core.ranges import RangeSet

Buffer = bytes | bytearray | memoryview

_COPY_BYTES = 1 << 20
_ROWS_SPARE = 64  # stored rows beyond twice the ranges before they are written anew


class WorkFile:
    """Written through `write` and `truncate` until it is sealed; then only read.

    is_named: its name is known to be on the disk. was_synced: what the disk has of tree.db may rely on its bytes.
    stored: its row stands in tree.db. The `rows_*` methods say what must be written there so that the rows describe the
    file; rows may overlap, what counts is their union. run_start, run_end: what Writeback remembers of the file.
    sync_error: the errno of a sync that the disk refused, else 0. The kernel tells it once, and takes the bytes for
    written then: whoever asks later must hear of it, too, for as long as they are these bytes.
    """

    __slots__ = (
        "_fd",
        "_rows",
        "_tail",
        "_touched",
        "id",
        "is_named",
        "limit_below",
        "node_id",
        "path",
        "rewrite",
        "run_end",
        "run_start",
        "sealed",
        "spans",
        "stored",
        "sync_error",
        "was_synced",
    )

    def __init__(
        self, work_id: int, node_id: int, path: Path | str, limit_below: int, *, sealed: bool = False, fd: int = -1
    ) -> None:
        """fd: of the file, if it is there already."""
        self.id = work_id
        self.node_id = node_id
        self.path = os.fspath(path)
        self.limit_below = limit_below
        self.sealed = sealed
        self.spans = RangeSet()
        self.stored = False
        self.is_named = self.was_synced = False
        self.rewrite = False
        self.run_start = self.run_end = self.sync_error = 0
        self._fd = fd
        self._touched: RangeSet | None = self.spans  # what has no rows yet: at first that is all
        self._tail = (0, 0)
        self._rows = 0

    def restore(self, spans: list[tuple[int, int]]) -> None:
        """Take over the ranges as they are stored."""
        for start, end in spans:
            self.spans.add(start, end)
        self.stored = self.was_synced = True
        self._touched = None
        self._rows = len(spans)

    def fd(self) -> int:
        """An open descriptor; made, with its file, at the first call. OSError if a stored file is missing."""
        if self._fd < 0:
            flags = (os.O_RDONLY if self.sealed else os.O_RDWR) | os.O_CLOEXEC | os.O_NOFOLLOW
            if self.stored or self.sealed:
                self._fd = os.open(self.path, flags)
            else:
                self._fd = create_file(self.path, flags)
        return self._fd

    def close(self) -> None:
        """Give the descriptor back; the next use opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def sync(self, fd: int) -> None:
        """The bytes are on the disk. In any thread, with a descriptor of the file that stays open meanwhile. OSError,
        also if the disk has refused some before.
        """
        if self.sync_error:
            raise OSError(self.sync_error, f"{os.strerror(self.sync_error)} (an earlier sync of it)", self.path)
        try:
            os.fdatasync(fd)
        except OSError as error:
            self.sync_error = error.errno or errno.EIO
            raise

    def seal(self) -> None:
        """No more writes. The descriptor stays open for reading."""
        self.sealed = self.was_synced = True

    def unseal(self) -> None:
        """Take writes again, which nobody else reads yet."""
        self.sealed = False
        self.close()

    def write(self, offset: int, data: Buffer) -> int:
        """Bytes written, fewer than given only if the disk gave out in between. OSError if nothing was written."""
        fd = self.fd()
        done = os.pwrite(fd, data, offset)
        while done < len(data):
            try:
                done += os.pwrite(fd, memoryview(data)[done:], offset + done)
            except OSError:
                break
        self.cover(offset, offset + done)
        return done

    def cover(self, start: int, end: int) -> None:
        """[start, end) holds data now."""
        if start < end:
            self.spans.add(start, end)
            if self._touched is None:
                self._touched = RangeSet()
            if self._touched is not self.spans:
                self._touched.add(start, end)

    def truncate(self, size: int) -> None:
        """Nothing at or behind `size` counts any more, here or below, whatever the size becomes later. See `cut`."""
        self.spans.truncate(size)
        self.limit_below = min(self.limit_below, size)
        self.rewrite = True
        self._touched = None
        if size == 0:
            self.sync_error = 0

    def excess(self, size: int) -> int:
        """How many bytes of the file lie behind `size`."""
        return max(os.fstat(self.fd()).st_size - size, 0) if self.stored or self._fd >= 0 else 0

    def cut(self, size: int) -> None:
        """Give back the space of what `truncate` has taken out of the ranges."""
        if self.excess(size):
            os.ftruncate(self.fd(), size)

    def take_fd(self) -> int:
        """The descriptor, if one is open, else -1; from now on it is the caller's to close."""
        fd, self._fd = self._fd, -1
        return fd

    def is_complete(self, size: int) -> bool:
        """True if the file alone is the whole content of `size` bytes."""
        return size == 0 or self.spans.covers(0, size)

    def rows_to_write(self) -> tuple[bool, list[tuple[int, int, int]]]:
        """(all stored rows go first, rows (work, start, end) to put; an equal start keeps the larger end)."""
        if self.rewrite or self._rows > _ROWS_SPARE + 2 * len(self.spans):
            return True, [(self.id, start, end) for start, end in self.spans]
        rows = []
        for start, end in self._touched or ():
            if start == self._tail[1] and self._tail[1]:
                start = self._tail[0]
            rows.append((self.id, start, end))
        return False, rows

    def rows_written(self, all_rows: bool, rows: list[tuple[int, int, int]]) -> None:
        """What rows_to_write gave has been committed."""
        self.stored = True
        self.rewrite = False
        self._touched = None
        kept = 0 if all_rows else self._rows - (1 if rows and self._tail[1] and rows[0][1] == self._tail[0] else 0)
        self._rows = kept + len(rows)
        self._tail = rows[-1][1:] if rows else (0, 0)


def absorb(lower: WorkFile, upper: WorkFile) -> None:
    """Make `lower`, which takes writes, show what `upper` above it shows. `upper` keeps its bytes.

    Bytes are copied only to where `upper` hides `lower`, so until the rows say otherwise nothing has changed.
    """
    source, target = upper.fd(), lower.fd()
    for start, end in upper.spans:
        position = start
        while position < end:
            data = os.pread(source, min(_COPY_BYTES, end - position), position)
            if not data:
                data = bytes(min(_COPY_BYTES, end - position))
            view = memoryview(data)
            while view:
                count = os.pwrite(target, view, position)
                position += count
                view = view[count:]
    lower.spans.truncate(upper.limit_below)
    lower.limit_below = min(lower.limit_below, upper.limit_below)
    for start, end in upper.spans:
        lower.spans.add(start, end)
    lower.rewrite = True


def absorb_below(upper: WorkFile, lower: WorkFile) -> None:
    """Make `upper`, which takes writes, show by itself what it shows above `lower`, but for what lies below both.

    `lower` keeps its bytes. Until the rows say otherwise nothing has changed.
    """
    source, target = lower.fd(), upper.fd()
    for start, end in upper.spans.gaps(0, upper.limit_below):
        for position, stop in lower.spans.intersect(start, end):
            while position < stop:
                data = os.pread(source, min(_COPY_BYTES, stop - position), position)
                if not data:
                    data = bytes(min(_COPY_BYTES, stop - position))
                position += os.pwrite(target, data, position)
    for start, end in upper.spans.gaps(0, upper.limit_below):
        for position, stop in lower.spans.intersect(start, end):
            upper.spans.add(position, stop)
    upper.limit_below = min(upper.limit_below, lower.limit_below)
    upper.rewrite = True


def create_file(path: str, flags: int) -> int:
    """A descriptor of a new file; its folder is made if need be."""
    try:
        return os.open(path, flags | os.O_CREAT, 0o600)
    except FileNotFoundError:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, flags | os.O_CREAT, 0o600)
