"""Which paths lie inside a mount of ours, found without touching anything below it.

A process of the fleet that asked its own mount for anything would wait for itself. So paths are resolved part by part,
the symlinks outside followed by hand, and the walk stops at the mount point.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

FSTYPE = "fuse.tcfs"
MOUNTS = Path("/proc/self/mounts")
_LINKS_MAX = 40  # as the kernel: more symlinks on the way are a loop


class InMount(NamedTuple):
    mountpoint: str
    rel_path: str  # '' = the mount point itself


def mounted(table: Path = MOUNTS) -> dict[str, str]:
    """Every mount point of this host -> its file system type, topmost last mounted. Empty where there is no /proc."""
    try:
        text = os.fsdecode(table.read_bytes())
    except FileNotFoundError:
        return {}
    rows = (line.split(" ") for line in text.splitlines())
    return {_unescape(row[1]): row[2] for row in rows if len(row) > 2}


def resolve(
    path: str, cwd: str, mountpoints: Collection[str], quote: Callable[[str], str] | None = None
) -> InMount | str:
    """Where an absolute or relative path leads: into one of the mounts, or else its absolute real path.

    Names that do not exist stay as they are; '..' leaves a mount again by its lexical parent.
    quote: done to those names of a rel_path that are not written in `path`, but come from cwd or a symlink.
    """
    parts = _names(os.path.join(cwd, path))[::-1]  # noqa: PTH118
    written = len(_names(path))  # of parts the first ones, which are gone through last
    here: list[str] = []
    links = 0
    while parts:
        inside = "/" + "/".join(here) in mountpoints
        part = parts.pop()
        if part == "..":
            del here[-1:]
            continue
        if inside:
            names = [part, *parts[::-1]]
            if quote is not None:
                own = max(0, len(names) - written)
                names[:own] = map(quote, names[:own])
            rest = _inside(names)
            if rest is not None:
                return InMount("/" + "/".join(here), rest)
            parts = _outside([part, *parts[::-1]])[::-1]
            del here[-1:]
            continue
        here.append(part)
        place = "/" + "/".join(here)
        if place in mountpoints:
            continue
        target = _link_target(place)
        if target is None or links >= _LINKS_MAX:
            continue
        links += 1
        here = [] if target.startswith("/") else here[:-1]
        written = min(written, len(parts))
        parts.extend(_names(target)[::-1])
    place = "/" + "/".join(here)
    return InMount(place, "") if place in mountpoints else place


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _inside(parts: list[str]) -> str | None:
    """The path of these parts below a mount point; None if they leave it."""
    kept: list[str] = []
    for part in parts:
        if part != "..":
            kept.append(part)
        elif kept:
            kept.pop()
        else:
            return None
    return "/".join(kept)


def _outside(parts: list[str]) -> list[str]:
    """What is left of parts after they have left the mount point by a '..' too many."""
    depth = 0
    for index, part in enumerate(parts):
        depth += -1 if part == ".." else 1
        if depth < 0:
            return parts[index + 1 :]
    return []


def _link_target(place: str) -> str | None:
    try:
        if stat.S_ISLNK(os.lstat(place).st_mode):
            return os.readlink(place)  # noqa: PTH115
    except OSError:
        return None
    return None


def _unescape(field: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field


class Holder(NamedTuple):
    """A process that keeps a mount busy; rel_path: what of it, '' for the mount point itself; how: 'open' and so on."""

    pid: int
    program: str
    rel_path: str
    how: str

    def __str__(self) -> str:
        return f"{self.program} ({self.pid}): {self.rel_path or '.'} {self.how}"


def holders(mountpoint: str, proc: Path = Path("/proc")) -> list[Holder]:
    """Each process that has something below the mount point open, mapped, or as its working or root directory; of each
    only the first such thing.

    Only reads links in /proc: nothing below the mount is touched. Processes of other users stay unknown.
    """
    processes = sorted((entry for entry in _entries(proc) if entry.name.isdigit()), key=lambda entry: int(entry.name))
    found = ((process, next(_held(process, mountpoint), None)) for process in processes)
    return [Holder(int(process.name), _name_of(process), *held) for process, held in found if held is not None]


def _held(process: Path, mountpoint: str) -> Iterator[tuple[str, str]]:
    """What a process holds below the mount point, and how."""
    links = [(process / "cwd", "is its working directory"), (process / "root", "is its root directory")]
    links += [(link, "is open") for link in _entries(process / "fd")]
    for link, how in links:
        target = _target(link)
        if target is not None and _is_at_or_below(target, mountpoint):
            yield _shown(target, mountpoint), how
    try:
        maps = os.fsdecode((process / "maps").read_bytes()).splitlines()
    except OSError:  # of another user, or gone
        return
    for line in maps:
        _, slash, path = line.partition("/")
        if slash and _is_at_or_below("/" + path.replace("\\012", "\n"), mountpoint):
            yield _shown("/" + path, mountpoint), "is mapped"


def _is_at_or_below(target: str, mountpoint: str) -> bool:
    return target == mountpoint or target.startswith(mountpoint + "/")


def _shown(target: str, mountpoint: str) -> str:
    return target[len(mountpoint) + 1 :]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _target(link: Path) -> str | None:
    try:
        return os.readlink(link)  # noqa: PTH115
    except OSError:  # of another user, or gone
        return None


def _name_of(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "?"
