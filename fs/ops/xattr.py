"""Extended attributes: user.* is published; trusted.*, security.* and POSIX ACLs stay here; there are no others."""

import errno
import stat
from collections.abc import Callable, Collection

from fs.ops.volume import Volume
from sync.core.filestate import is_virtual

USER = b"user."
TRUSTED = b"trusted."
NAME_MAX = 255  # bytes
VALUE_MAX = 65_536  # bytes, as Linux has it

_NAMESPACES = (USER, TRUSTED, b"security.")
_ACCESS_ACL = b"system.posix_acl_access"
_ACLS = frozenset({_ACCESS_ACL, b"system.posix_acl_default"})
_ASKED = _ACLS | {b"security.capability", b"security.selinux"}


def is_kept(name: bytes) -> bool:
    """False for what does not exist here: EOPNOTSUPP. OSError EINVAL for a namespace without a name."""
    if name.startswith(_NAMESPACES):
        if name.endswith(b".") and name.count(b".") == 1:
            raise OSError(errno.EINVAL, "an attribute without a name")
        return True
    return name in _ACLS


def is_absent(volume: Volume, name: bytes) -> bool:
    """True if it is one of those that the kernel, `ls -l` and `cp -a` ask for of every file, and nothing at all has one
    that stays here.
    """
    return name in _ASKED and not volume.tree.has_local_xattrs


def getxattr(volume: Volume, ino: int, name: bytes) -> bytes | None:
    """The value of an attribute that is_kept; None if there is none."""
    return volume.tree.getxattr(ino, name.decode())


def setxattr(
    volume: Volume, ino: int, name: bytes, value: bytes, uid: int, gid: int, more_groups: Callable[[], Collection[int]]
) -> None:
    """EOPNOTSUPP for what is not kept; Stale (ESTALE) if the inode's version has moved. uid, gid, more_groups: of who
    asks; an ACL takes the set-group-ID bit as chmod does, unless it comes from root or a member of the group.
    """
    _check(name)
    if len(name) > NAME_MAX or len(value) > VALUE_MAX:
        raise OSError(errno.ERANGE if len(name) > NAME_MAX else errno.E2BIG, "too long")
    volume.tree.setxattr(ino, name.decode(), value)
    if uid != 0 and name == _ACCESS_ACL:
        mode, group = volume.tree.mode_and_group(ino)
        if mode & stat.S_ISGID and group != gid and group not in more_groups():
            volume.tree.setattr(ino, mode=mode & ~stat.S_ISGID)


def listxattr(volume: Volume, ino: int, uid: int) -> list[bytes]:
    """uid: of who asks; others than root do not see trusted.* What is made up nobody sees, nor what a member's journal
    may bring under such a name.
    """
    names = [name.encode() for name in volume.tree.listxattr(ino) if not is_virtual(name)]
    return names if uid == 0 else [name for name in names if not name.startswith(TRUSTED)]


def removexattr(volume: Volume, ino: int, name: bytes) -> None:
    """ENODATA if there is none, but for ACLs; EOPNOTSUPP for what is not kept."""
    _check(name)
    volume.tree.removexattr(ino, name.decode())


def _check(name: bytes) -> None:
    if not is_kept(name):
        raise OSError(errno.EOPNOTSUPP, "no such namespace")
