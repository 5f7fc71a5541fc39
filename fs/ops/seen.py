"""Attributes that are made up when somebody asks by name: what `tcfs status` would say of one file.

No listing of attributes has them, so what copies attributes (`cp -a`, `rsync -X`, `tar --xattrs`) does not meet them;
file managers ask by name. `user.openvfs.*` are those that Dolphin's overlay for files on demand reads
(https://github.com/opencloud-eu/openvfs).
"""

import errno
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import trio

from fs.ops.volume import Volume
from fs.tree.model import FILE
from fs.tree.seen import Seen
from fs.tree.seen import seen as seen_of
from sync.core.errors import NotFound
from sync.core.filestate import VIRTUAL_PREFIXES, FileState, Locality, file_state, locality_of

PREFIXES = tuple(prefix.encode() for prefix in VIRTUAL_PREFIXES)
PIN = b"user.tcfs.pin"
LOOKS_AT_ONCE = 64  # chunks looked for between two requests; more take a thread

_VERBS = {b"1": "pin", b"0": "unpin"}
_HYDRATED, _DEHYDRATED = 0, 1  # OpenVFS::Constants::States
_UNSPECIFIED, _ALWAYS_LOCAL, _EXCLUDED = 0, 2, 4  # OpenVFS::Constants::PinStates
_PIN_STATES = {_UNSPECIFIED: "unspecified", _ALWAYS_LOCAL: "alwayslocal", _EXCLUDED: "excluded"}


async def getxattr(volume: Volume, ino: int, name: bytes) -> bytes | None:
    """The value of an attribute whose name begins with one of PREFIXES; None if there is none. Stale as getattr."""
    make = _ATTRIBUTES.get(name)
    if make is None:
        return None
    seen = seen_of(volume.tree.state, ino)
    if volume.policies.words and _is_pinned(volume, ino):
        seen = seen._replace(facts=seen.facts._replace(is_pinned=True))
    value = await make(volume, ino, seen)
    return value.encode() if isinstance(value, str) else value


async def setxattr(volume: Volume, ino: int, name: bytes, value: bytes) -> None:
    """Pin or unpin: NoDaemon, TimedOut; NotFound of what was removed. EINVAL for another value than 1 or 0.

    Any other attribute is EOPNOTSUPP, which `cp -a` passes over: it may bring some from another program's cloud folder.
    """
    if name != PIN:
        raise OSError(errno.EOPNOTSUPP, f"{name.decode(errors='replace')} cannot be set")
    if value not in _VERBS:
        raise OSError(errno.EINVAL, "a pin is 1 or 0")
    if volume.tree.attr(ino).nlink == 0:  # a policy belongs to a path, and it has none
        raise NotFound(f"inode {ino} has no name any more")
    path = "/" + volume.tree.path_of(ino)
    with volume.invalidations.request(ino):  # the kernel holds the inode
        await volume.client.call(_VERBS[value], {"paths": [path], "cwd": "/", "literal": True})


async def removexattr(volume: Volume, ino: int, name: bytes) -> None:
    """Unpin; ENODATA if it is not pinned."""
    if name == PIN and not _is_pinned(volume, ino):
        raise OSError(errno.ENODATA, "not pinned")
    await setxattr(volume, ino, name, b"0")


def _is_pinned(volume: Volume, ino: int) -> bool:
    try:
        return volume.policies.is_pinned(volume.tree.path_of(ino))
    except NotFound:  # no name leads there: no policy does
        return False


async def _locality(volume: Volume, seen: Seen) -> Locality:
    if seen.kind != FILE or seen.base is None:
        return Locality.ALL
    chunks = volume.reader.absent_from_whole(seen.base)
    if chunks is None:
        return Locality.NONE  # not even the list of its chunks
    look = partial(locality_of, chunks, volume.reader.cached.has_chunk)
    if len(chunks) <= LOOKS_AT_ONCE:
        return look()
    return await trio.to_thread.run_sync(look, limiter=volume.disk_threads)


async def _state_of(volume: Volume, seen: Seen) -> FileState:
    facts = seen.facts
    decided = facts.is_excluded or facts.is_conflict or facts.is_dirty
    return file_state(facts, Locality.ALL if decided else await _locality(volume, seen))


async def _state(volume: Volume, ino: int, seen: Seen) -> str:
    return (await _state_of(volume, seen)).value


async def _pin(volume: Volume, ino: int, seen: Seen) -> str:
    return "1" if seen.facts.is_pinned else "0"


async def _version(volume: Volume, ino: int, seen: Seen) -> str | None:
    if seen.version is None:
        return None
    manifest = volume.tree.state.view.manifest(seen.version)
    return f"{manifest.machine_name}:{manifest.seq}"


async def _written_by(volume: Volume, ino: int, seen: Seen) -> str | None:
    if seen.version is not None:
        return volume.tree.state.view.manifest(seen.version).machine_name
    return volume.tree.state.view.machine_name if seen.facts.is_dirty or seen.facts.is_excluded else None


async def _hash(volume: Volume, ino: int, seen: Seen) -> str | None:
    if seen.kind != FILE or seen.version is None:
        return None
    return volume.tree.state.view.manifest(seen.version).content_id


def _pin_state(seen: Seen) -> int:
    if seen.facts.is_excluded:
        return _EXCLUDED
    return _ALWAYS_LOCAL if seen.facts.is_pinned else _UNSPECIFIED


async def _is_here(volume: Volume, seen: Seen) -> bool:
    return await _locality(volume, seen) is Locality.ALL


async def _openvfs_data(volume: Volume, ino: int, seen: Seen) -> bytes | None:
    if seen.kind != FILE:
        return None
    is_here = await _is_here(volume, seen)
    return msgspec.msgpack.encode(
        {
            "etag": seen.version or "changed",
            "fileid": str(ino),
            "size": volume.tree.attr(ino).size,
            "state": _HYDRATED if is_here else _DEHYDRATED,
            "pinstate": _pin_state(seen),
        }
    )


async def _openvfs_state(volume: Volume, ino: int, seen: Seen) -> str | None:
    if seen.kind != FILE:
        return None
    return "hydrated" if await _is_here(volume, seen) else "virtual"


async def _openvfs_pin_state(volume: Volume, ino: int, seen: Seen) -> str:
    return _PIN_STATES[_pin_state(seen)]


async def _openvfs_real_size(volume: Volume, ino: int, seen: Seen) -> str | None:
    return str(volume.tree.attr(ino).blocks * 512) if seen.kind == FILE else None


_ATTRIBUTES: dict[bytes, Callable[[Volume, int, Seen], Awaitable[str | bytes | None]]] = {
    b"user.tcfs.state": _state,
    b"user.tcfs.pin": _pin,
    b"user.tcfs.version": _version,
    b"user.tcfs.written_by": _written_by,
    b"user.tcfs.hash": _hash,
    b"user.openvfs.data": _openvfs_data,
    b"user.openvfs.state": _openvfs_state,
    b"user.openvfs.pinstate": _openvfs_pin_state,
    b"user.openvfs.realsize": _openvfs_real_size,
}
