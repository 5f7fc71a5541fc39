"""A finished temp file gets its name: never over something that came there meanwhile, as far as the system can help."""

import ctypes
import errno
import functools
import os
import sys
from typing import Any, Final

_NOREPLACE: Final = 1  # RENAME_NOREPLACE of linux/fs.h
_UNKNOWN: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
NO_LINKS: Final = frozenset({errno.EPERM, errno.EMLINK, errno.EXDEV}) | _UNKNOWN


def name_new(folder: int, temp: str, name: str) -> bool:
    """Rename within an open folder unless the name is taken: FileExistsError. False: the file system knows no such way.

    A symlink is renamed itself.
    """
    return _rename_noreplace(folder, temp, name) or _link(folder, temp, name)


def _rename_noreplace(folder: int, temp: str, name: str) -> bool:
    renameat2 = _renameat2()
    if renameat2 is None:
        return False
    if renameat2(folder, os.fsencode(temp), folder, os.fsencode(name), _NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:  # EINVAL: a network file system that cannot promise it
        return False
    raise OSError(number, os.strerror(number), name)


def _link(folder: int, temp: str, name: str) -> bool:
    try:
        os.link(temp, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return False
    os.unlink(temp, dir_fd=folder)
    return True


@functools.cache
def _renameat2() -> Any:
    """The function of the C library; None where it has none."""
    if sys.platform != "linux":
        return None
    found = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if found is not None:
        found.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return found
