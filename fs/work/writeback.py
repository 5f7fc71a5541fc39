"""Early writeback: what is written straight on to a large file starts for the disk while the program still writes.

The seal syncs every file soon after its close anyhow, so hardly a byte goes to the disk that would not have gone; but
the disk is busy meanwhile, and who syncs the file finds little left to wait for: 1 GiB and its fsync took 1.9 times as
long as on ext4, and take 1.2 to 1.4 times as long.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from fs.work.workfile import WorkFile

RUN_BYTES: Final = 8 << 20  # bytes written one behind the other that are worth a request; half or twice is as good
_SYNC_FILE_RANGE_WRITE: Final = 2  # fcntl.h: start, wait for nothing; errors stay for the next fsync

SyncRange = Callable[[int, int, int], object]  # descriptor, offset and length in bytes


class Writeback:
    """`start` is for another thread, everything else for the one of the request loop. What is lost costs only time."""

    def __init__(self, sync_range: SyncRange | None = None) -> None:
        """sync_range: the kernel's sync_file_range by default; nothing is done where there is none."""
        self._sync_range = sync_range or _kernel_sync_range()
        self._due: dict[int, tuple[int, int, int]] = {}  # work file -> its descriptor, ours; start and end of the run

    @property
    def is_due(self) -> bool:
        """True if `start` has something to do."""
        return bool(self._due)

    def wrote(self, file: WorkFile, start: int, end: int) -> None:
        """Bytes [start, end) of the file have been written."""
        begin = file.run_start if start == file.run_end else start
        if end - begin >= RUN_BYTES:
            fd, before, until = self._due.pop(file.id, (-1, 0, 0))  # not there: never, or the thread has it
            if fd < 0:
                with suppress(OSError):  # no descriptor is left: the write itself went well
                    fd = os.dup(file.fd())
            elif until == begin:
                begin = before  # the disk is slower than the program: one request, and one descriptor, a file
            if fd >= 0:
                self._due[file.id] = (fd, begin, end)
            begin = end
        file.run_start, file.run_end = begin, end

    def start(self) -> None:
        """Have the kernel begin to write what is due. Blocks while the disk takes no more requests."""
        for fd, start, end in self._take():
            try:
                self._sync_range(fd, start, end - start)
            finally:
                os.close(fd)

    def drop(self) -> None:
        """Forget what is due."""
        for fd, _, _ in self._take():
            os.close(fd)

    def _take(self) -> Iterator[tuple[int, int, int]]:
        with suppress(KeyError):
            while True:
                yield self._due.popitem()[1]


def _kernel_sync_range() -> SyncRange:
    try:
        function = ctypes.CDLL(None).sync_file_range
    except AttributeError:
        return lambda fd, offset, length: None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return lambda fd, offset, length: function(fd, offset, length, _SYNC_FILE_RANGE_WRITE)
