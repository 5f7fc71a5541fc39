"""Directories: listing, making, removing; and names that are removed or made without content."""

import stat
from collections.abc import Iterator

from fs.ops.openfolder import OpenFolder
from fs.ops.recent import Listed, Listing
from fs.ops.volume import Volume, name_of
from fs.tree.model import DIR, Attr

DOTS = b".", b".."
PAGE = 200  # names read at a time: about what one request of a new kernel holds
PAGE_MIN = 32  # older ones ask for 25


def opendir(volume: Volume, ino: int) -> int:
    """A handle for reading the directory. Stale (ESTALE) if it is gone: the kernel looks the name up again."""
    if volume.recent.listing(ino) is None:
        volume.tree.check_folder(ino)
    handle = volume.new_handle()
    volume.folders[handle] = OpenFolder(ino)
    return handle


def read_dir(volume: Volume, handle: int, cookie: int) -> Iterator[Listed]:
    """The names behind `cookie` (0: from the beginning), as they are now, in a stable order, the dots first.

    A name that is there all the time comes exactly once, whatever is made or removed meanwhile. The caller takes as
    many as fit and reports each with `listed`. A cookie stays the position behind the same name for as long as the
    directory is open.
    """
    folder = volume.folders[handle]
    known = volume.recent.listing(folder.ino) if cookie <= len(DOTS) else None
    dots: list[Listed] = []
    if cookie < len(DOTS):
        dots = known.dots if known is not None else _dots(volume, folder.ino)
        yield from dots[cookie:]
    place = max(cookie - len(DOTS), 0)
    if cookie and place == folder.end:
        return
    taken = folder.taken  # of what the last request was offered: this one will hold as many
    after = folder.go_on(place)
    if after is None:
        return
    is_new = folder.is_new
    if known is not None and (is_new or folder.is_listed_as(known.names)):
        if is_new:
            folder.number(known.names)
        folder.end, folder.taken = len(known.names), len(known.names)
        yield from known.entries
        return
    if not cookie and volume.tree.was_read(folder.ino):
        volume.recent.forget()
    page_size = max(PAGE_MIN, min(taken + taken // 4, PAGE)) if place and taken else PAGE
    began = volume.recent.begin()
    last = place  # the number of the last name
    while True:
        page = volume.tree.read_dir(folder.ino, after, page_size)
        is_last = len(page) < page_size
        names = [name for name, _ in page]
        numbers = folder.number(names)
        entries = [
            Listed(name.encode(), attr, number + len(DOTS)) for (name, attr), number in zip(page, numbers, strict=True)
        ]
        if is_last and not after and cookie == 0 and is_new:
            volume.recent.keep(began, folder.ino, Listing(names, entries, dots))
        for entry in entries:
            yield entry
            folder.taken += 1
        last = numbers[-1] if numbers else last
        if is_last:
            folder.end = last
            return
        after = names[-1]


def _dots(volume: Volume, ino: int) -> list[Listed]:
    """The directory itself and the one above. Nobody takes more of them than number and kind."""
    numbers = ino, volume.tree.parent_of(ino)
    attrs = (Attr(number, DIR, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0) for number in numbers)
    return [Listed(name, attr, place) for place, (name, attr) in enumerate(zip(DOTS, attrs, strict=True), 1)]


def listed(volume: Volume, entry: Listed) -> None:
    """The kernel took this name and its inode: that counts as a lookup, but for the dots."""
    if entry.cookie > len(DOTS):
        volume.tree.remember(entry.attr)


def releasedir(volume: Volume, handle: int) -> None:
    del volume.folders[handle]


def mkdir(volume: Volume, parent: int, name: bytes, mode: int, uid: int, gid: int) -> Attr:
    """mode: permission bits, umask applied. In a set-group-ID folder the group and that bit are inherited."""
    above, group = volume.tree.mode_and_group(parent)
    if above & stat.S_ISGID:
        gid, mode = group, mode | stat.S_ISGID
    return volume.tree.create(parent, name_of(name), DIR, mode, uid, gid, "")


def rmdir(volume: Volume, parent: int, name: bytes) -> None:
    volume.tree.rmdir(parent, name_of(name))


def unlink(volume: Volume, parent: int, name: bytes) -> None:
    """The name goes; what is open lives on until its last handle closes."""
    volume.tree.unlink(parent, name_of(name))
