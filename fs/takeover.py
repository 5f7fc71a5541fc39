"""Taking the place of a dead mount without a gap: the new one is mounted beneath it, then the dead one is taken away.

Between an unmount and a mount the bare folder would show, and what programs write there is in no fleet. Needs root and
Linux 6.5 (move_mount(2) with MOVE_MOUNT_BENEATH); the mount system calls have the same numbers on all architectures.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

_MOVE_MOUNT: Final = 429
_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432
_CLOEXEC: Final = 1  # FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6  # FSCONFIG_...
_NOSUID_NODEV: Final = 2 | 4  # MOUNT_ATTR_...
_FROM_DESCRIPTOR_BENEATH: Final = 0x4 | 0x200  # MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH
_AT_FDCWD: Final = -100
_MNT_DETACH: Final = 2


def take_place(mountpoint: Path) -> int | None:
    """A descriptor of /dev/fuse whose mount stands at `mountpoint` now, where a dead one stood. None, and nothing has
    changed, if this kernel or this user cannot do that.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        return None
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        mount = _new_mount(fuse)
        try:
            _call(_MOVE_MOUNT, mount, b"", _AT_FDCWD, os.fsencode(mountpoint), _FROM_DESCRIPTOR_BENEATH)
        finally:
            os.close(mount)
        detach(mountpoint)
    except OSError:
        os.close(fuse)
        return None
    return fuse


def detach(mountpoint: Path) -> None:
    """Unmount the topmost mount there, lazily. OSError if there is none, or this user may not."""
    _checked(_libc().umount2(os.fsencode(mountpoint), _MNT_DETACH))


def _new_mount(fuse: int) -> int:
    """A mount that is attached nowhere yet, with the options that libfuse gives."""
    context = _call(_FSOPEN, b"fuse", _CLOEXEC)
    try:
        strings = {
            b"source": b"tcfs",
            b"subtype": b"tcfs",
            b"fd": b"%d" % fuse,
            b"rootmode": b"40000",
            b"user_id": b"%d" % os.getuid(),
            b"group_id": b"%d" % os.getgid(),
        }
        for key, value in strings.items():
            _call(_FSCONFIG, context, _SET_STRING, key, value, 0)
        for flag in (b"allow_other", b"default_permissions"):
            _call(_FSCONFIG, context, _SET_FLAG, flag, None, 0)
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, _NOSUID_NODEV)
    finally:
        os.close(context)


def _call(number: int, *arguments: int | bytes | None) -> int:
    words = [ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value) for value in arguments]
    return _checked(_libc().syscall(ctypes.c_long(number), *words))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
