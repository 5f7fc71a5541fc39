"""Whether content may be fetched for an open file: the policy of its path, and the list of programs that may not.

Decided once an open file, when something would have to be fetched for the first time: what is local costs nothing.
"""

from fs.ops.volume import OpenHandle, Volume
from sync.core.errors import NeverFetched, NotFound, Refused, Stale
from sync.core.policy import DEFAULT, Policy
from sync.ipc import frames

_NEVER = "the policy of its path is 'never'"


def require(volume: Volume, handle: OpenHandle) -> None:
    """Refused (EAGAIN), or NeverFetched (ENODATA), unless what is missing of this file may be fetched."""
    if not may_fetch(volume, handle):
        kind = NeverFetched if handle.refused == _NEVER else Refused
        raise kind(f"not fetched: {handle.refused}", hint="'tcfs hydrate' brings it")


def may_fetch(volume: Volume, handle: OpenHandle) -> bool:
    if handle.refused is None:
        handle.refused = _reason(volume, handle)
    return not handle.refused


def opened(volume: Volume, handle: OpenHandle) -> None:
    """A file was opened: one that is to come as a whole then is asked for."""
    base = handle.file.node.base
    if base is None or not volume.policies.uses(Policy.ON_OPEN) or policy_of(volume, handle.ino) is not Policy.ON_OPEN:
        return
    chunks = volume.reader.chunks(base)
    if chunks is None or not may_fetch(volume, handle):
        return
    volume.client.prefetch_all(base, volume.reader.absent(base, range(len(chunks))))


def policy_of(volume: Volume, ino: int) -> Policy:
    """Of the path that leads to an inode now; the default if none does."""
    if not volume.policies.words:
        return DEFAULT
    try:
        return volume.policies.of(volume.tree.path_of(ino))
    except (NotFound, Stale):
        return DEFAULT


def _reason(volume: Volume, handle: OpenHandle) -> str:
    """Why nothing is fetched for a file; '' if it is. What is refused is told to the engine, for doctor."""
    program = volume.callers.refused(handle.pid)
    if program is not None:
        _note(volume, handle, program, "no_hydrate")
        return f"{program} is among no_hydrate"
    if policy_of(volume, handle.ino) is Policy.NEVER:
        _note(volume, handle, volume.callers.name(handle.pid), "never")
        return _NEVER
    return ""


def _note(volume: Volume, handle: OpenHandle, program: str, reason: str) -> None:
    """The first refusal of a program is told at once, the others each second."""
    try:
        path = volume.tree.path_of(handle.ino)
    except (NotFound, Stale):
        path = "?"
    if volume.refusals.note(program, reason, path, volume.env.now()) and volume.client.is_connected:
        for refused in volume.refusals.take_untold():
            volume.client.hint(frames.Refused(*refused))
