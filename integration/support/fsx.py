"""Random operations on one file, each checked against the same bytes kept in memory (after Apple's fsx of 1991).

    python -P integration/support/fsx.py FILE [--seed N] [--operations N] [--size BYTES]

Reads, writes, appends, truncates both ways, shared and private mappings, fsync, a second handle, dropped pages, closing
and opening again, and saving by a rename over the file. What a caller does in between (publish, evict, kill) comes
through `settle`, which is called while nothing is open.
"""

import argparse
import hashlib
import mmap
import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

PAGE = mmap.PAGESIZE
SIZE_MAX = 1 << 18
LENGTH_MAX = 1 << 15
KEPT = 60  # operations told of when something is wrong
WHOLE_EVERY = 2_000  # operations between two looks at the whole file


class Wrong(AssertionError):
    """The file does not hold what was written."""


class Exerciser:
    """One file. `model` is what it must hold."""

    def __init__(
        self, path: Path, seed: int, *, size_max: int = SIZE_MAX, settle: Callable[[], None] | None = None,
        settle_every: int = 0,
    ) -> None:  # fmt: skip
        """settle: called every `settle_every` operations while the file is closed."""
        self.path = path
        self.model = bytearray(path.read_bytes() if path.exists() else b"")
        self.done = 0
        self._random = random.Random(seed)
        self._size_max = size_max
        self._settle = settle
        self._settle_every = settle_every
        self._recent: deque[str] = deque(maxlen=KEPT)
        self._noise = b"".join(hashlib.blake2b(number.to_bytes(4, "big")).digest() for number in range(4096))
        self._kinds = [kind for kind, _ in _TABLE]
        self._weights = [weight for _, weight in _TABLE]
        self._fd = self._other = -1

    def run(self, operations: int) -> None:
        """Wrong at the first byte that is not right."""
        self._open()
        try:
            kinds = self._random.choices(self._kinds, self._weights, k=operations)
            for number, kind in enumerate(kinds, 1):
                getattr(self, f"_{kind}")()
                self.done += 1
                if number % WHOLE_EVERY == 0:
                    self._whole()
                if self._settle_every and number % self._settle_every == 0:
                    self._pause()
            self._whole()
        finally:
            self._close()
        self._compare(0, self.path.read_bytes(), len(self.model), "read after the end")

    # ---- operations

    def _read(self) -> None:
        start, size = self._place(inside=False)
        fd = self._fd if self._random.random() < 0.7 else self._other
        self._say(f"pread {start}+{size}{'' if fd == self._fd else ' (other)'}")
        self._compare(start, os.pread(fd, size, start), size, "read")

    def _write(self) -> None:
        start, size = self._place(inside=False)
        if start > len(self.model) and self._random.random() < 0.8:
            start = self._random.randrange(len(self.model) + 1)  # holes now and then only
        data = self._data(size)
        self._say(f"pwrite {start}+{size}")
        self._put(start, data)
        assert os.pwrite(self._fd, data, start) == size

    def _append(self) -> None:
        data = self._data(self._random.randrange(1, 5000))
        if len(self.model) + len(data) > self._size_max:
            return
        self._say(f"append {len(data)}")
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            self._put(len(self.model), data)
            assert os.write(fd, data) == len(data)
        finally:
            os.close(fd)

    def _truncate(self) -> None:
        size = self._random.randrange(self._size_max) if self._random.random() < 0.5 else self._around_end()
        self._cut(size)
        if self._random.random() < 0.5:
            self._say(f"ftruncate {size}")
            os.ftruncate(self._fd, size)
        else:
            self._say(f"truncate {size}")
            os.truncate(self.path, size)

    def _mapread(self) -> None:
        start, size = self._place(inside=True)
        if not size:
            return
        self._say(f"mapread {start}+{size}")
        below = start % PAGE
        with mmap.mmap(self._fd, below + size, prot=mmap.PROT_READ, offset=start - below) as mapped:
            self._compare(start, mapped[below:], size, "mapping")

    def _mapwrite(self) -> None:
        start, size = self._place(inside=True)
        if not size:
            return
        below, data, flush = start % PAGE, self._data(size), self._random.random() < 0.5
        self._say(f"mapwrite {start}+{size}{' msync' if flush else ''}")
        with mmap.mmap(self._fd, below + size, offset=start - below) as mapped:
            mapped[below:] = data
            if flush:
                mapped.flush()
            self._put(start, data)
            if self._random.random() < 0.3:
                self._compare(start, os.pread(self._other, size, start), size, "read beside a mapping")

    def _mapprivate(self) -> None:
        start, size = self._place(inside=True)
        if not size:
            return
        self._say(f"mapprivate {start}+{size}")
        below = start % PAGE
        with mmap.mmap(self._fd, below + size, flags=mmap.MAP_PRIVATE, offset=start - below) as mapped:
            mapped[below:] = self._data(size)

    def _fsync(self) -> None:
        self._say("fsync")
        os.fsync(self._fd)

    def _drop(self) -> None:
        self._say("drop pages")
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def _stat(self) -> None:
        for size in (os.fstat(self._fd).st_size, os.stat(self.path).st_size):
            if size != len(self.model):
                self._fail(f"size {size}, not {len(self.model)}")

    def _reopen(self) -> None:
        self._say("close, open")
        self._close()
        self._open()

    def _renew(self) -> None:
        """Opened anew with O_TRUNC."""
        self._say("open O_TRUNC")
        self._close()
        os.close(os.open(self.path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC))
        self.model.clear()
        self._open()
        data = self._data(self._random.randrange(self._size_max))
        self._put(0, data)
        assert os.write(self._fd, data) == len(data)

    def _save(self) -> None:
        """A new file, renamed over this one, whose handle must keep what it had."""
        self._say("save by rename")
        temp = self.path.with_name(f"{self.path.name}.new")
        old, self.model = bytes(self.model), bytearray(self._data(self._random.randrange(self._size_max)))
        temp.write_bytes(self.model)
        temp.replace(self.path)
        if os.pread(self._other, len(old) + 1, 0) != old:
            self._fail("the handle of the replaced file has lost its content")
        self._close()
        self._open()

    # ---- helpers

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._other = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def _close(self) -> None:
        for fd in (self._fd, self._other):
            if fd >= 0:
                os.close(fd)
        self._fd = self._other = -1

    def _pause(self) -> None:
        assert self._settle is not None
        self._say("settle")
        self._close()
        self._settle()
        self._open()
        self._stat()

    def _place(self, *, inside: bool) -> tuple[int, int]:
        """Where, and how many bytes; inside: within the file, else it may be as large as it may get."""
        rnd = self._random
        limit = len(self.model) if inside else self._size_max
        if not limit:
            return 0, 0
        start = rnd.randrange(limit) if rnd.random() < 0.7 else min(self._around_end(), limit - 1)
        if rnd.random() < 0.3:
            start -= start % PAGE
        size = rnd.randrange(1, LENGTH_MAX) if rnd.random() < 0.3 else rnd.randrange(1, 3 * PAGE)
        return start, min(size, limit - start)

    def _around_end(self) -> int:
        return min(max(len(self.model) + self._random.randrange(-PAGE, PAGE), 0), self._size_max)

    def _data(self, size: int) -> bytes:
        start = self._random.randrange(len(self._noise) // 2)
        data = self._noise[start : start + size]
        while len(data) < size:
            data += self._noise[: size - len(data)]
        return data

    def _put(self, start: int, data: bytes) -> None:
        if start > len(self.model):
            self.model += bytes(start - len(self.model))
        self.model[start : start + len(data)] = data

    def _cut(self, size: int) -> None:
        del self.model[size:]
        self.model += bytes(size - len(self.model))

    def _whole(self) -> None:
        self._stat()
        self._compare(0, os.pread(self._other, len(self.model) + 1, 0), len(self.model), "read of all")

    def _compare(self, start: int, got: bytes, size: int, how: str) -> None:
        right = self.model[start : start + size]
        if got == right:
            return
        if len(got) != len(right):
            self._fail(f"{how} at {start}: {len(got)} bytes, not {len(right)}")
        place = next(n for n, (a, b) in enumerate(zip(got, right, strict=True)) if a != b)
        count = sum(a != b for a, b in zip(got, right, strict=True))
        zeros = " (zeros)" if not any(got[place : place + 16]) else ""
        self._fail(f"{how} at {start}: {count} of {len(right)} bytes wrong, the first at {start + place}{zeros}")

    def _say(self, what: str) -> None:
        self._recent.append(f"{self.done}: {what}")

    def _fail(self, what: str) -> None:
        raise Wrong("\n".join([*self._recent, f"operation {self.done}: {what}"]))


_TABLE = (
    ("read", 300), ("write", 300), ("append", 20), ("truncate", 40), ("mapread", 80), ("mapwrite", 80),
    ("mapprivate", 10), ("fsync", 3), ("drop", 15), ("stat", 40), ("reopen", 25), ("renew", 2), ("save", 2),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=SIZE_MAX, help="the file's largest")
    arguments = parser.parse_args()
    began = time.monotonic()
    exerciser = Exerciser(arguments.file, arguments.seed, size_max=arguments.size)
    try:
        exerciser.run(arguments.operations)
    except Wrong as wrong:
        print(wrong)
        return 1
    print(f"{exerciser.done} operations, {exerciser.done / (time.monotonic() - began):.0f} a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
