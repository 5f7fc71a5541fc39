"""Plain folders as a push finds them: a streaming walk in the order of the names' bytes."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from sync.core.errors import BadPath
from sync.core.ignore import Ignore
from sync.core.manifest import Kind
from sync.core.paths import STAYS_BY_NAME, join_path, parse_rel_path
from sync.plain.temps import is_temp
from sync.plain.xattrs import NO_XATTRS, Found, read_xattrs
from sync.worker.content import FileStat

GROUP_ENTRIES: Final = 512  # what one hop to a thread brings back


class LocalEntry(msgspec.Struct, frozen=True):
    """A file, folder or symlink of this machine and the rel_path it would have."""

    path: str  # absolute
    remote: str
    kind: Kind
    stat: FileStat
    target: str = ""
    xattrs: Found = NO_XATTRS
    device: int = 0
    names: int = 1  # st_nlink, of a file or symlink


class Skipped(msgspec.Struct, frozen=True):
    """What a push leaves out, and why. is_error: the person asked for it and does not get it."""

    path: str
    reason: str
    is_error: bool


class Ignored(msgspec.Struct, frozen=True):
    """What was met below a folder and stays on this machine by its name; of an ignored folder only itself is told."""

    path: str


Left = Skipped | Ignored


def walk(root: Path, remote: str, left_out: Mapping[str, str], ignore: Ignore) -> Iterator[list[LocalEntry | Left]]:
    """What `root` and everything below it are, a folder before its content, in groups.

    remote: the rel_path of root; '' stands for the fleet's root, which gets no entry itself. Symlinks are entries,
    never followed. left_out: absolute real paths, of a mount for one, and what they are; nothing at or below one is
    touched. A root that is a file comes whatever it is called: it was asked for. OSError if root is not there.
    """
    group: list[LocalEntry | Left] = []
    for item in _walk(root, remote, left_out, ignore):
        group.append(item)
        if len(group) >= GROUP_ENTRIES:
            yield group
            group = []
    if group:
        yield group


def _walk(root: Path, remote: str, left_out: Mapping[str, str], ignore: Ignore) -> Iterator[LocalEntry | Left]:
    for place in (root, *root.parents):
        if reason := left_out.get(str(place)):
            yield Skipped(str(root), reason if place == root else f"is in {place}, which {reason}", is_error=True)
            return
    if remote:
        parse_rel_path(remote)
    top = _entry(str(root), remote, root.lstat()) if remote else None
    if isinstance(top, Skipped):
        yield Skipped(top.path, top.reason, is_error=True)  # it was asked for by its name
        return
    if top is not None:
        if top.kind is Kind.DIR and ignore.is_ignored(remote, True):
            yield Skipped(top.path, STAYS_BY_NAME, is_error=False)
            return
        yield top
        if top.kind is not Kind.DIR:
            return
    stack = [(remote, _listing(str(root)))]
    while stack:
        folder, names = stack[-1]
        found = next(names, None)
        if found is None:
            stack.pop()
        elif isinstance(found, Skipped):
            yield found
        else:
            item = _child(found, folder, left_out, ignore)
            if item is None:
                continue
            yield item
            if isinstance(item, LocalEntry) and item.kind is Kind.DIR:
                stack.append((item.remote, _listing(item.path)))


def _listing(folder: str) -> Iterator["os.DirEntry[str] | Skipped"]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        return iter([Skipped(folder, error.strerror or str(error), is_error=True)])
    return iter(found)


def _child(
    found: "os.DirEntry[str]", folder: str, left_out: Mapping[str, str], ignore: Ignore
) -> LocalEntry | Left | None:
    if reason := left_out.get(found.path):  # before anything asks for its type
        return Skipped(found.path, reason, is_error=False)
    if is_temp(found.name):  # of a pull that is under way, or was killed
        return None
    try:
        remote = parse_rel_path(join_path(folder, found.name))
        if ignore.is_ignored(remote, found.is_dir(follow_symlinks=False)):
            return Ignored(found.path)
        return _entry(found.path, remote, found.stat(follow_symlinks=False))
    except BadPath as error:
        return Skipped(repr(found.path), error.message, is_error=True)
    except OSError as error:
        return Skipped(found.path, error.strerror or str(error), is_error=not isinstance(error, FileNotFoundError))


def _entry(path: str, remote: str, found: os.stat_result) -> LocalEntry | Skipped:
    info = FileStat.of(found)
    if stat.S_ISLNK(found.st_mode):
        target = os.readlink(path)  # noqa: PTH115 - Path would tidy the target up
        try:
            target.encode()
        except UnicodeEncodeError:
            return Skipped(repr(path), "points to a name that is not valid UTF-8", is_error=True)
        return LocalEntry(path, remote, Kind.SYMLINK, info, target, NO_XATTRS, found.st_dev, found.st_nlink)
    if stat.S_ISDIR(found.st_mode):
        return LocalEntry(path, remote, Kind.DIR, info, xattrs=read_xattrs(path))
    if stat.S_ISREG(found.st_mode):
        return LocalEntry(path, remote, Kind.FILE, info, "", read_xattrs(path), found.st_dev, found.st_nlink)
    return Skipped(path, "is a socket, pipe or device", is_error=False)
