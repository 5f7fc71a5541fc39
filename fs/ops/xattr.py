"""Extended attributes: the namespace user.*, and a quick no to all others."""

import errno

from fs.ops.volume import Volume

USER = b"user."
NAME_MAX = 255  # bytes
VALUE_MAX = 65_536  # bytes, as Linux has it


def is_kept(name: bytes) -> bool:
    """False for the namespaces that do not exist here: reading and setting are EOPNOTSUPP.

    The kernel asks for security.capability before every write. `ls -l` asks for two of these for every file, unless the
    first answer of a file system is this one: then it never asks again.
    """
    return name.startswith(USER)


def getxattr(volume: Volume, ino: int, name: bytes) -> bytes | None:
    """The value of an attribute that is_kept; None if there is none."""
    return volume.tree.getxattr(ino, name.decode())


def setxattr(volume: Volume, ino: int, name: bytes, value: bytes) -> None:
    """EOPNOTSUPP outside user.*; Stale (ESTALE) if the inode's version has moved."""
    if not is_kept(name):
        raise OSError(errno.EOPNOTSUPP, "only user.* is kept")
    if len(name) > NAME_MAX or len(value) > VALUE_MAX:
        raise OSError(errno.ERANGE if len(name) > NAME_MAX else errno.E2BIG, "too long")
    volume.tree.setxattr(ino, name.decode(), value)


def listxattr(volume: Volume, ino: int) -> list[bytes]:
    return [name.encode() for name in volume.tree.listxattr(ino)]


def removexattr(volume: Volume, ino: int, name: bytes) -> None:
    """ENODATA if there is none."""
    if not is_kept(name):
        raise OSError(errno.ENODATA, "only user.* is kept")
    volume.tree.removexattr(ino, name.decode())
