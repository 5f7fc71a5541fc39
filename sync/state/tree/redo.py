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


_ENTRY_SEAL: Final = slice(8, 11)  # of an entry's row: gen, seal_id, sealed_gen
_NODE_SEAL: Final = slice(14, 17)  # of a node's row, the same
_NODE_KIND, _NODE_LOST_PATH, _NODE_UNFLUSHED = 1, 17, 19


class LoggedEntry(NamedTuple):
    """A name that was logged. node None: it is absent here. is_dirty: to be published. sealed: gen, seal_id and
    sealed_gen.
    """

    parent: int
    name: str
    node: int | None
    is_dirty: bool
    sealed: tuple[int, bytes | None, int | None]


class LoggedNode(NamedTuple):
    """What stands behind names, or behind none: then lost_path says what it is a version of. sealed: as above."""

    kind: int
    sealed: tuple[int, bytes | None, int | None]
    lost_path: str | None
    unflushed: bool


class Logged(NamedTuple):
    """What the records of a stamp put, each as the last of them says; b'': there is no log."""

    stamp: bytes
    entries: list[LoggedEntry]
    nodes: dict[int, LoggedNode]


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


def read_logged(path: Path) -> Logged:
    """The stamp that the log bears, and what its records put.

    To be read before tree.db: if that bears another stamp by then it has all of this itself.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
    except FileNotFoundError:
        return Logged(b"", [], {})
    stamp = _HEADER.unpack(head)[2] if len(head) == _HEADER.size else b""
    entries: dict[tuple[int, str], LoggedEntry] = {}
    nodes: dict[int, LoggedNode] = {}
    for batches in read(path, stamp):
        for name, rows in batches:
            for row in rows:
                if name == "entry+":
                    entry = _entry(row)
                    entries[entry.parent, entry.name] = entry
                elif name == "entry-":
                    entries.pop((row[0], row[1]), None)
                elif name == "node+":
                    nodes[row[0]] = _node(row)
                elif name == "node-":
                    nodes.pop(row[0], None)
    return Logged(stamp, list(entries.values()), nodes)


def _entry(row: tuple[Any, ...]) -> LoggedEntry:
    parent, name, node, dirty, local_only = row[:5]
    return LoggedEntry(parent, name, node, bool(dirty and not local_only), row[_ENTRY_SEAL])


def _node(row: tuple[Any, ...]) -> LoggedNode:
    return LoggedNode(row[_NODE_KIND], row[_NODE_SEAL], row[_NODE_LOST_PATH], bool(row[_NODE_UNFLUSHED]))
