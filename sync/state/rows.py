"""Rows of fleet.db as values, and how a version becomes one."""

import sqlite3
from typing import Final, NamedTuple
from zlib import crc32

import blake3
import msgspec

from sync.core.errors import NotFound
from sync.core.manifest import KNOWN_REQUIREMENTS, Kind, Manifest, Version, VersionId, decode_manifest

ROOT_ID: Final = 1
FILE: Final = 1
DIR: Final = 2
SYMLINK: Final = 3
FIFO: Final = 4
SOCKET: Final = 5
CHAR: Final = 6
BLOCK_DEVICE: Final = 7
SPECIAL: Final = frozenset({FIFO, SOCKET, CHAR, BLOCK_DEVICE})  # kinds of nodes that are never published
IMPLIED_DIR_MODE: Final = 0o755
KIND_NUMBER: Final = {Kind.FILE: FILE, Kind.DIR: DIR, Kind.SYMLINK: SYMLINK}

_encode = msgspec.json.Encoder(order="sorted").encode
_was = msgspec.json.Decoder(tuple[int, int, int, int, int, int, int, int])


class ShownRow(NamedTuple):
    """One row of `shown`, columns in the table's order (see schema/004_shown.sql). size in bytes, times in ns.

    kind: FILE, DIR or SYMLINK. version: number in the table `version`; None for the root and implied directories.
    uid, gid: None = the owner of the mount. also, xattrs: JSON as stored, None = none. link: of a file with several
    names the number of all of them, None: it has one. owner, group: names in the fleet, '' = it does not say.
    """

    id: int
    parent: int
    name: str
    kind: int
    size: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    uid: int | None
    gid: int | None
    version: int | None
    value: int
    also: str | None
    sibling: int
    xattrs: str | None
    link_id: str | None = None
    link: int | None = None
    nlink: int = 1
    owner: str = ""
    group: str = ""

    @property
    def number(self) -> int:
        """The inode number: names of one file have one."""
        return self.id if self.link is None else self.link


ROW_COLUMNS: Final = ", ".join(f'"{name}"' for name in ShownRow._fields)  # group is a word of SQL


class FeedItem(NamedTuple):
    """A place to look at again. parent and id are 0 where nothing ever stood. was: see Was, None: nothing was there."""

    n: int
    path: str
    parent: int
    name: str
    id: int
    was: str | None = None


class Was(NamedTuple):
    """What stood at a place: of a ShownRow what tells one state from another. version 0: none."""

    id: int
    kind: int
    size: int
    mode: int
    mtime_ns: int
    version: int
    value: int
    xattrs: int  # CRC-32 of their JSON, and of owner and group


def was_of(row: ShownRow) -> Was:
    xattrs = crc32(row.xattrs.encode()) if row.xattrs else 0
    if row.owner or row.group:
        xattrs = crc32(f"{row.owner}\0{row.group}".encode(), xattrs)
    return Was(row.id, row.kind, row.size, row.mode, row.mtime_ns, row.version or 0, row.value, xattrs)


def encode_was(row: ShownRow | None) -> str | None:
    """As a feed item has it."""
    return None if row is None else _encode(was_of(row)).decode()


def decode_was(text: str | None) -> Was | None:
    return None if text is None else Was._make(_was.decode(text))


class Taken(NamedTuple):
    """The answer to one seal: queued (version is its identity), unchanged, or refused (reason says why)."""

    n: int
    seal_id: bytes
    answer: str
    version: str | None
    reason: str | None


class Content(msgspec.Struct, frozen=True, tag_field="type", tag="version"):
    """Of a stored manifest what tells where the bytes lie; the fields are the Manifest's."""

    file_size: int = 0
    content_id: str = ""
    chunks: list[str] = []
    chunk_sizes: list[int] = []
    chunk_pages: list[str] = []
    requires: list[str] = []

    @property
    def is_readable(self) -> bool:
        """False for a version that requires what this program does not know: shown, but never misread."""
        return not self.requires or KNOWN_REQUIREMENTS.issuperset(self.requires)


decode_content: Final = msgspec.json.Decoder(Content).decode  # of a stored record, which is a manifest


class NodePlace(NamedTuple):
    """What shown takes over from the mount's node when its version is published.

    node_id: the inode number, None = give a new one. dir_ids: numbers for the folders above, top first, used where such
    a folder must be made. uid, gid: None = the owner of the mount.
    """

    node_id: int | None
    dir_ids: tuple[int, ...] = ()
    ctime_ns: int = 0
    uid: int | None = None
    gid: int | None = None


def value_number(manifest: Manifest) -> int:
    """shown.value of a version: equal numbers mean equal bytes; 0 for a directory."""
    if manifest.kind is Kind.DIR:
        return 0
    return _number_of(manifest.value)


def _number_of(value: tuple[str, str, str]) -> int:
    return int.from_bytes(blake3.blake3(_encode(value)).digest(8), "big", signed=True)


def file_value(content_id: str) -> int:
    """value_number of a file with that content."""
    return _number_of((Kind.FILE.value, content_id, ""))


def size_of(manifest: Manifest) -> int:
    """st_size: bytes of a file, length of a symlink's target in bytes, 0 for a directory."""
    if manifest.kind is Kind.SYMLINK:
        return len(manifest.target.encode())
    return manifest.file_size if manifest.kind is Kind.FILE else 0


def json_or_none(value: object) -> str | None:
    """Canonical JSON text of a list or dict; None if it is empty."""
    return _encode(value).decode() if value else None


def identity_of(machine_id: str, seq: int, digest: int) -> VersionId:
    """The identity of a stored version (the hash is a number in the table)."""
    return VersionId(f"{machine_id}:{seq}:{digest:08x}")


def decode_version(identity: VersionId, record: bytes) -> Version:
    """The version of a stored record; BadFormat if the record is no manifest."""
    return Version(identity, decode_manifest(record))


class MachineNumbers:
    """machine_id <-> the short number other tables use. Reads the table again when it meets an unknown one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ids: dict[int, str] = {}
        self._numbers: dict[str, int] = {}

    def reload(self) -> None:
        self._ids = dict(self._connection.execute("SELECT num, machine_id FROM machine"))
        self._numbers = {machine_id: number for number, machine_id in self._ids.items()}

    def number(self, machine_id: str) -> int | None:
        """None if this machine was never heard of."""
        if machine_id not in self._numbers:
            self.reload()
        return self._numbers.get(machine_id)

    def id(self, number: int) -> str:
        if number not in self._ids:
            self.reload()
        try:
            return self._ids[number]
        except KeyError:
            raise NotFound(f"no machine has the number {number}") from None
