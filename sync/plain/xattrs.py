"""Extended attributes of plain files: user.* only, whatever a manifest says. The others belong to the machine.

Those that tell the state of a file here, or in another program's cloud folder, mean nothing elsewhere (`is_virtual`).
Where a file system has none, that is no trouble: nothing is known of them then. Any other error is told.
"""

import base64
import errno
import os
import sys
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from sync.core.filestate import is_virtual

PREFIX: Final = "user."
_HAS_THEM: Final = sys.platform == "linux"
_NOT_HERE: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
# The file, meanwhile: the caller's next step says so. Or the attribute: whoever changes them pushes again.
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODATA})


class Found(NamedTuple):
    """xattrs: name -> base64; None: they cannot be known here. trouble: what could not be read, '' if all could."""

    xattrs: dict[str, str] | None
    trouble: str = ""


NO_XATTRS: Final = Found({})


def read_xattrs(path: str) -> Found:
    """The user.* attributes of a file or folder; a symlink is not followed."""
    if not _HAS_THEM:
        return Found(None)
    found: dict[str, str] = {}
    trouble, name = "", "its attributes"
    try:
        for name in os.listxattr(path, follow_symlinks=False):
            if not travels(name):
                continue
            if _is_utf8(name):
                found[name] = base64.b64encode(os.getxattr(path, name, follow_symlinks=False)).decode()
            else:
                trouble = f"the attribute {name!r} is left out: its name is not valid UTF-8"
    except OSError as error:
        if error.errno in _NOT_HERE | _GONE:
            return Found(None)
        return Found(None, f"{name} cannot be read: {error.strerror or error}")
    return Found(found, trouble)


def names_of(descriptor: int) -> set[str]:
    """The attributes of an open file that travel; none where they cannot be listed."""
    if not _HAS_THEM:
        return set()
    try:
        return {name for name in os.listxattr(descriptor) if travels(name)}
    except OSError:
        return set()


def write_xattrs(descriptor: int, xattrs: Mapping[str, str], gone: Collection[str] = ()) -> str:
    """Give an open file or folder these attributes, base64 values, and take away those in `gone`.

    What could not be done, '' if all could.
    """
    if not _HAS_THEM:
        return ""
    wanted = {name: base64.b64decode(value) for name, value in xattrs.items()}
    failed: list[str] = []
    for name, data in [*wanted.items(), *((name, None) for name in gone)]:
        if not travels(name):
            continue
        try:
            if data is None:
                os.removexattr(descriptor, name)
            else:
                os.setxattr(descriptor, name, data)
        except OSError as error:
            if error.errno in _NOT_HERE:
                break
            if data is not None or error.errno != errno.ENODATA:
                failed.append(f"{name} cannot be written: {error.strerror or error}")
    return "; ".join(failed)


def travels(name: str) -> bool:
    """True for an attribute that is published and pulled."""
    return name.startswith(PREFIX) and not is_virtual(name)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
