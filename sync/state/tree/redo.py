"""The redo log of tree.db: what has changed since its last commit, on a file of fixed size beside it.

A commit to SQLite for each file that is closed costs more than all else that a small file costs. So the mount appends
the changed rows here, which survives its death just as well, and commits many of them at once some milliseconds later.
Every commit changes the stamp in tree.db (meta `redo`), and with it all records written before are void: they count
only on top of just that state of tree.db after which they were written, a lost one included (power cut).
"""

import os
import struct
import zlib
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from sync.core.errors import BadConfig, Unsupported

SIZE: Final = 1 << 20  # bytes, given by the file system at the start: a record never finds the disk full
STAMP_KEY: Final = "redo"  # of meta
STAMP_SIZE: Final = 16
_HEADER: Final = struct.Struct(">II16s")  # bytes of the payload, CRC-32 of stamp and payload, stamp

Batch = tuple[str, list[tuple[Any, ...]]]  # table and what becomes of the rows: "node+" put, "node-" gone; the rows


_ENTRY_SEAL: Final = slice(8, 11)  # of an entry's row: gen, seal_id, sealed_gen
_ENTRY_MOVED_NODE: Final = 13
_NODE_SEAL: Final = slice(14, 17)  # of a node's row, the same
_NODE_KIND, _NODE_BASE, _NODE_LOST_PATH, _NODE_UNFLUSHED = 1, 11, 17, 19

Sealed = tuple[int, bytes | None, int | None]  # gen, seal_id, sealed_gen


class LoggedEntry(NamedTuple):
    """A name that was logged. node None: it is absent here, and moved_node may have moved away from there."""

    parent: int
    name: str
    node: int | None
    moved_node: int | None
    dirty: bool
    local_only: bool
    resolved: bool
    sealed: Sealed


class LoggedNode(NamedTuple):
    """What stands behind names, or behind none: then lost_path says what it is a version of."""

    kind: int
    base: str | None
    sealed: Sealed
    lost_path: str | None
    unflushed: bool


class Logged(NamedTuple):
    """What the records of a stamp come to; b'': there is no log."""

    stamp: bytes
    entries: dict[tuple[int, str], LoggedEntry]
    nodes: dict[int, LoggedNode]
    entries_gone: Set[tuple[int, str]] = frozenset()
    nodes_gone: Set[int] = frozenset()


NOTHING_LOGGED: Final = Logged(b"", {}, {})


class Contents(NamedTuple):
    """damage: why there may have been more records than these, '' if there were not."""

    records: list[list[Batch]]
    damage: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[tuple[str, list[tuple[Any, ...]]]])


def log_path(tree_db: Path | str) -> Path:
    return Path(f"{tree_db}-redo")


class RedoLog:
    """The writer. One thread, one process (that of mount.lock)."""

    def __init__(self, path: Path) -> None:
        """OSError where the file cannot have its size."""
        self._stamp = b""
        self._checksum = 0  # of the stamp, which goes before each payload
        self._offset = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(self._fd, 0, SIZE)
        except BaseException:
            self.close()
            raise

    def restart(self, stamp: bytes) -> None:
        """tree.db was committed with this stamp: records begin anew."""
        self._stamp, self._offset, self._checksum = stamp, 0, zlib.crc32(stamp)

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
        header = _HEADER.pack(len(payload), zlib.crc32(payload, self._checksum), self._stamp)
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

    Nothing if there is no log. BadConfig if it cannot be read, Unsupported for a record of another program.
    """
    try:
        with path.open("rb") as file:
            while len(head := file.read(_HEADER.size)) == _HEADER.size:
                size, checksum, found = _HEADER.unpack(head)
                if found != stamp or size > SIZE:
                    return
                payload = file.read(size)
                if zlib.crc32(payload, zlib.crc32(stamp)) != checksum:
                    return
                yield _decode(path, payload)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(path, error) from error


def read_whole(path: Path, stamp: bytes) -> Contents:
    """The records that count, as above, and whether more of them were written once.

    The last record alone cannot be told from one that a kill has cut off in the middle: nobody was told of that one.
    """
    if not any(stamp):
        return Contents([], "")  # of a tree.db that was just made: no record bears that
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Contents([], "")
    except OSError as error:
        raise unreadable(path, error) from error
    records, offset = [], 0
    while offset + _HEADER.size <= len(data):
        size, checksum, found = _HEADER.unpack_from(data, offset)
        start = offset + _HEADER.size
        payload = data[start : start + size]
        if found != stamp or size > SIZE or zlib.crc32(payload, zlib.crc32(stamp)) != checksum:
            break
        records.append(_decode(path, payload))
        offset = start + size
    is_void = not records and len(data) >= _HEADER.size and _HEADER.unpack_from(data)[2] != stamp
    if data.find(stamp, offset + _HEADER.size) >= 0:
        return Contents(records, f"{path} is damaged at byte {offset}")
    if 0 < len(data) < SIZE and not is_void:
        return Contents(records, f"{path} ends after {len(data)} of {SIZE} bytes")
    return Contents(records, "")


def unreadable(path: Path, error: OSError) -> BadConfig:
    hint = (
        "make it readable for who runs tcfs; or move it away: then what was closed in the last moments before the mount"
        " ended is lost"
    )
    return BadConfig(f"{path} cannot be read: {error.strerror or error}", path=str(path), hint=hint)


def not_ours(path: Path, reason: object) -> Unsupported:
    """Of a log, or of a record in it, that is whole and that this program cannot use."""
    hint = (
        "start the mount once with the tcfs that wrote it; or move it away: then what was closed in the last moments"
        " before the mount ended is lost"
    )
    return Unsupported(f"{path} was written by another version of tcfs: {reason}", path=str(path), hint=hint)


def _decode(path: Path, payload: bytes) -> list[Batch]:
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_ours(path, error) from error


def read_logged(path: Path) -> Logged:
    """The stamp that the log bears, and what its records come to. Errors as of `read`.

    To be read before tree.db: if that bears another stamp by then it has all of this itself.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
    except FileNotFoundError:
        return NOTHING_LOGGED
    except OSError as error:
        raise unreadable(path, error) from error
    stamp = _HEADER.unpack(head)[2] if len(head) == _HEADER.size else b""
    entries: dict[tuple[int, str], LoggedEntry | None] = {}  # None: the row is gone
    nodes: dict[int, LoggedNode | None] = {}
    for batches in read(path, stamp):
        try:
            for name, rows in batches:
                if name == "entry+":
                    entries.update(((row[0], row[1]), _entry(row)) for row in rows)
                elif name == "entry-":
                    entries.update(dict.fromkeys(((row[0], row[1]) for row in rows), None))
                elif name == "node+":
                    nodes.update((row[0], _node(row)) for row in rows)
                elif name == "node-":
                    nodes.update(dict.fromkeys((row[0] for row in rows), None))
        except (IndexError, TypeError) as error:
            raise not_ours(path, error) from error
    return Logged(
        stamp,
        {key: entry for key, entry in entries.items() if entry is not None},
        {number: node for number, node in nodes.items() if node is not None},
        {key for key, entry in entries.items() if entry is None},
        {number for number, node in nodes.items() if node is None},
    )


def _entry(row: tuple[Any, ...]) -> LoggedEntry:
    parent, name, node, dirty, local_only, resolved = row[:6]
    sealed = row[_ENTRY_SEAL]
    return LoggedEntry(
        parent, name, node, row[_ENTRY_MOVED_NODE], bool(dirty), bool(local_only), bool(resolved), sealed
    )


def _node(row: tuple[Any, ...]) -> LoggedNode:
    lost_path, unflushed = row[_NODE_LOST_PATH], bool(row[_NODE_UNFLUSHED])
    return LoggedNode(row[_NODE_KIND], row[_NODE_BASE], row[_NODE_SEAL], lost_path, unflushed)
