"""rel_path: the name of a file inside the fleet. Exact bytes, valid UTF-8, never normalised, '/' between parts."""

import re

from sync.core.errors import BadPath

PART_MAX = 255  # bytes, as on ext4
PATH_MAX = 4096  # bytes
STAYS_BY_NAME = "stays on this machine by its name"  # what people are told of a path that is ignored

# Most paths, at once: short, ASCII, and no part that begins with a dot.
_ORDINARY = re.compile(r"(?=.{1,255}\Z)[ -\-0-~][ -.0-~]*(?:/[ -\-0-~][ -.0-~]*)*")


def parse_rel_path(text: str | bytes) -> str:
    """The rel_path, unchanged; BadPath if it is empty, absolute, leaves the root or breaks a limit."""
    if isinstance(text, str) and _ORDINARY.fullmatch(text):
        return text
    try:
        raw = text if isinstance(text, bytes) else text.encode()
        path = raw.decode()
    except UnicodeError as error:
        raise BadPath(f"not valid UTF-8: {text!r}", path=repr(text)) from error
    if not raw or len(raw) > PATH_MAX:
        raise BadPath("a path is 1 to 4096 bytes long", path=path)
    for part in raw.split(b"/"):
        if part in (b"", b".", b"..") or b"\0" in part:
            raise BadPath(f"not a path inside the fleet: {path!r}", path=path)
        if len(part) > PART_MAX:
            raise BadPath("a name is at most 255 bytes long", path=path)
    return path


def split_path(path: str) -> tuple[str, str]:
    """(parent, name); the parent of a top-level name is ''."""
    parent, _, name = path.rpartition("/")
    return parent, name


def join_path(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name


def parents_of(path: str) -> list[str]:
    """The folders that a path lies in, the nearest first; without the root."""
    found = []
    while (cut := path.rfind("/")) > 0:
        path = path[:cut]
        found.append(path)
    return found


def is_too_long(path: str) -> bool:
    """True of a path that could not be published."""
    return len(path.encode()) > PATH_MAX


def is_below(path: str, folder: str) -> bool:
    """True if path lies strictly below folder ('' is the root)."""
    return folder == "" or path.startswith(folder + "/")
