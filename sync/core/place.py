"""Which names what a path shows gets in its directory: file against directory, and the names of siblings."""

import re
from collections.abc import Callable, Iterator
from enum import Enum

import blake3
import msgspec

from sync.core.manifest import Kind, split_version_id
from sync.core.paths import PART_MAX
from sync.core.show import NameShown, Shown, Sibling

IMPLIED_MODE = 0o755  # of a directory that has no live record and is there because something lives below it
_MACHINE_NAME_MAX = 63
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


class Implied(Enum):
    """The directory that is there because something lives below it: no version, mode IMPLIED_MODE."""

    IMPLIED = "implied"


IMPLIED = Implied.IMPLIED


class Placed(msgspec.Struct, frozen=True):
    """What stands under NAME, a directory or a file (or symlink) or nothing, and what stands beside it."""

    dir: NameShown | Implied | None = None
    file: NameShown | None = None
    siblings: tuple[Sibling, ...] = ()


def place(shown: Shown, has_descendants: bool) -> Placed:
    """A directory, recorded or implied by live descendants, keeps NAME; the file that would show there is a sibling."""
    name = shown.name
    if name is not None and name.version.manifest.kind is Kind.DIR:
        return Placed(dir=name, siblings=shown.siblings)
    if not has_descendants:
        return Placed(file=name, siblings=shown.siblings)
    if name is None:
        return Placed(dir=IMPLIED, siblings=shown.siblings)
    beside = Sibling(name.version.id, name.version.manifest, name.also)
    return Placed(dir=IMPLIED, siblings=(beside, *shown.siblings))


def sibling_name(name: str, machine_name: str, taken: Callable[[str], bool], version_id: str) -> str:
    """NAME.MACHINE.conflict, or NAME.MACHINE-<6 hex>.conflict if that is taken; the hex digits come from version_id.

    NAME is cut at a character so that all of it fits into 255 bytes. A machine_name comes from another machine: what is
    not allowed in one is replaced.
    """
    machine = _NOT_IN_NAMES.sub("_", machine_name)[:_MACHINE_NAME_MAX] or "unknown"
    found = _fit(name, f".{machine}.conflict")
    digits = _digits(version_id)
    while taken(found):
        found = _fit(name, f".{machine}-{next(digits)}.conflict")
    return found


def _fit(name: str, suffix: str) -> str:
    room = PART_MAX - len(suffix)  # the suffix is ASCII
    raw = name.encode()
    return (name if len(raw) <= room else raw[:room].decode(errors="ignore")) + suffix


def _digits(version_id: str) -> Iterator[str]:
    """Six hex digits of the identity's hash; should those be taken too, others without end."""
    yield split_version_id(version_id)[2][:6]
    number = 0
    while True:
        number += 1
        yield blake3.blake3(f"{version_id} {number}".encode()).hexdigest()[:6]
