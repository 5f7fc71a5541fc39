"""What a person sees of a file at a glance: one state, one glyph, and the names of the attributes that tell it.

The attributes are made up when somebody asks (`user.tcfs.*`, `user.openvfs.*`); so no file ever has one of these names,
none is published, and none is set on another machine.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

VIRTUAL_PREFIXES: Final = ("user.tcfs.", "user.openvfs.")


class FileState(enum.StrEnum):
    """The first of these that holds is shown, from EXCLUDED down."""

    EXCLUDED = "excluded"  # stays on this machine: ignored, or a thing that cannot be published
    CONFLICT = "conflict"  # another version stands against it
    DIRTY = "dirty"  # changed here, and not in the store yet
    PINNED = "pinned"  # to be kept on this machine, and all of it is here
    LOCAL = "local"  # all of it is here
    PARTIAL = "partial"  # some of it is here
    ONLINE_ONLY = "online-only"  # none of it is here


GLYPHS: Final = {
    FileState.EXCLUDED: "x",
    FileState.CONFLICT: "!",
    FileState.DIRTY: "*",
    FileState.PINNED: "+",
    FileState.LOCAL: "=",
    FileState.PARTIAL: "~",
    FileState.ONLINE_ONLY: ".",
}


class Locality(enum.Enum):
    """How much of a content is on this machine."""

    NONE = 0
    SOME = 1
    ALL = 2


class Facts(NamedTuple):
    """What decides about the state."""

    is_excluded: bool = False
    is_conflict: bool = False
    is_dirty: bool = False
    is_pinned: bool = False


def file_state(facts: Facts, locality: Locality) -> FileState:
    """A pinned file that is not all here yet says how much of it is."""
    if facts.is_excluded:
        return FileState.EXCLUDED
    if facts.is_conflict:
        return FileState.CONFLICT
    if facts.is_dirty:
        return FileState.DIRTY
    if locality is Locality.ALL:
        return FileState.PINNED if facts.is_pinned else FileState.LOCAL
    return FileState.PARTIAL if locality is Locality.SOME else FileState.ONLINE_ONLY


def locality_of(chunks: Sequence[str], has_chunk: Callable[[str], bool]) -> Locality:
    """Of a content that is not there as a whole file. No more looks than needed: two different answers are SOME."""
    found: bool | None = None
    for chunk in dict.fromkeys(chunks):
        is_here = has_chunk(chunk)
        if found is not None and is_here != found:
            return Locality.SOME
        found = is_here
    return Locality.NONE if found is False else Locality.ALL


def is_virtual(name: str) -> bool:
    """True for the name of an attribute that is made up when somebody asks."""
    return name.startswith(VIRTUAL_PREFIXES)
