"""The redo log of tree.db: what has changed since its last commit, on a file of fixed size beside it.

A commit to SQLite for each file that is closed costs more than all else that a small file costs. So the mount appends
the changed rows here, which survives its death just as well, and commits many of them at once some milliseconds later.
Every commit changes the stamp in tree.db (meta `redo`), and with it all records written before are void: they count
only on top of just that state of tree.db after which they were written, a lost one included (power cut).
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

SIZE: Final = 1 << 20  # bytes, given by the file system at the start: a record never finds the disk full
STAMP_KEY: Final = "redo"  # of meta
STAMP_SIZE: Final = 16
_HEADER: Final = struct.Struct(">II16s")  # bytes of the payload, CRC-32 of stamp and payload, stamp

Batch = tuple[str, list[tuple[Any, ...]]]  # table and what becomes of the rows: "node+" put, "node-" gone; the rows


class LoggedEntry(NamedTuple):
    """A name that was logged. node None: it is absent here. is_dirty: to be published."""

    parent: int
    name: str
    node: int | None
    is_dirty: bool


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[tuple[str, list[tuple[Any, ...]]]])


def log_path(tree_db: Path | str) -> Path:
    return Path(f"{tree_db}-redo")


class RedoLog:
    """The writer. One thread, one process (that of mount.lock)."""

    def __init__(self, path: Path) -> None:
        """OSError where the file cannot have its size."""
        self._stamp = b""
        self._offset = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(self._fd, 0, SIZE)
        except BaseException:
            self.close()
            raise

    def restart(self, stamp: bytes) -> None:
        """tree.db was committed with this stamp: records begin anew."""
        self._stamp, self._offset = stamp, 0

    def append(self, batches: list[Batch]) -> bool:
        """False if it was not taken, for want of space or because the disk refuses: then tree.db has to take it.

        A value that no file can hold is as good as refused.
        """
        try:
            payload = _encoder.encode(batches)
        except (OverflowError, UnicodeError):
            return False
        size = _HEADER.size + len(payload)
        if self._offset + size > SIZE or not self._stamp:
            return False
        header = _HEADER.pack(len(payload), zlib.crc32(payload, zlib.crc32(self._stamp)), self._stamp)
        try:
            if os.pwritev(self._fd, (header, payload), self._offset) != size:
                return False
        except OSError:
            return False
        self._offset += size
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read(path: Path, stamp: bytes) -> Iterator[list[Batch]]:
    """The records that count on top of tree.db with that stamp, in their order, up to the first that is none.

    Nothing if there is no log.
    """
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        while len(head := file.read(_HEADER.size)) == _HEADER.size:
            size, checksum, found = _HEADER.unpack(head)
            if found != stamp or size > SIZE:
                return
            payload = file.read(size)
            if zlib.crc32(payload, zlib.crc32(stamp)) != checksum:
                return
            yield _decoder.decode(payload)


def logged_entries(path: Path) -> tuple[bytes, list[LoggedEntry]]:
    """The stamp that the log bears, and the names in its records, each as the last of them says.

    To be read before tree.db: if that bears another stamp by then it has all of this itself.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
    except FileNotFoundError:
        return b"", []
    stamp = _HEADER.unpack(head)[2] if len(head) == _HEADER.size else b""
    found: dict[tuple[int, str], LoggedEntry] = {}
    for batches in read(path, stamp):
        for name, rows in batches:
            if name == "entry+":
                for parent, entry, node, dirty, local_only, *_ in rows:
                    found[parent, entry] = LoggedEntry(parent, entry, node, bool(dirty and not local_only))
            elif name == "entry-":
                for parent, entry in rows:
                    found.pop((parent, entry), None)
    return stamp, list(found.values())
