"""Store: where a fleet's objects live. Six methods; all else is a wrapper or a function on top.

Keys are relative paths of parts `[A-Za-z0-9][A-Za-z0-9._~-]*`, joined by '/', and sort bytewise. Objects appear whole
or not at all. Reading fails in four ways that callers tell apart: ObjectMissing, Integrity (the medium fails),
StoreAway (RequestFailed if trying again may help at once) and NotAuthorised. Writing fails with StoreAway,
ReadOnly or NoSpace.
"""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from sync.core.errors import BadInput

Buffer = bytes | bytearray | memoryview
Data = Buffer | Sequence[Buffer]

FLEET_OBJECT = "fleet.json"  # a directory store is there when this can be read

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,254}(/[A-Za-z0-9][A-Za-z0-9._~-]{0,254})*", re.ASCII)


class ObjectInfo(msgspec.Struct, frozen=True):
    """size in bytes; mtime_ns by the store's own clock."""

    key: str
    size: int
    mtime_ns: int


class Store(Protocol):
    @property
    def url(self) -> str:
        """As it stands in fleet.toml."""

    @property
    def is_exclusive(self) -> bool:
        """False: put_if_absent checks first and then puts, so that two writers at one moment may both succeed."""

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes [start, start + length), to its end if length is None; fewer where the object ends."""

    async def put(self, key: str, data: Data) -> None:
        """Make or replace the object as a whole. Durable when it returns. Doing it twice does no harm."""

    async def put_if_absent(self, key: str, data: Data) -> bool:
        """Make the object unless something has that key. True: made; False: something is there. Durable either way.

        After a failed attempt that reached the store, a second one answers False: compare the bytes.
        """

    def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Objects whose keys begin with `prefix` (any string) and sort after `start_after`, in bytewise order.

        What is put or deleted meanwhile may be listed or not. StoreAway rather than a list that is cut short.
        """

    async def delete(self, key: str) -> None:
        """Deleting what is not there does nothing."""

    async def stat(self, key: str) -> ObjectInfo: ...

    async def check(self) -> None:
        """Return if the store answers and holds a fleet, else StoreAway (or NotAuthorised)."""

    async def aclose(self) -> None:
        """Let connections and files go. Nothing may be asked afterwards."""


def check_key(key: str) -> str:
    """The key, unchanged; BadInput if it is none."""
    if not _KEY.fullmatch(key):
        raise BadInput(f"not an object key: {key!r}")
    return key


def parts_of(data: Data) -> Sequence[Buffer]:
    """Data as a sequence of buffers, none of them copied."""
    return [data] if isinstance(data, bytes | bytearray | memoryview) else data


def size_of(data: Data) -> int:
    """Bytes."""
    return sum(memoryview(part).nbytes for part in parts_of(data))


def check_range(start: int, length: int | None) -> None:
    if start < 0 or (length is not None and length < 0):
        raise BadInput(f"not a range: {start}, {length}")
