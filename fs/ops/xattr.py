"""Extended attributes: the namespace user.*, and a quick no to all others."""

import errno

from fs.ops.volume import Volume

USER = b"user."
NAME_MAX = 255  # bytes
VALUE_MAX = 65_536  # bytes, as Linux has it


def getxattr(volume: Volume, ino: int, name: bytes) -> bytes:
    """ENODATA if there is none. The kernel asks for security.capability before every write: that never goes further."""
    if not name.startswith(USER):
        raise OSError(errno.ENODATA, "only user.* is kept")
    value = volume.tree.getxattr(ino, name.decode())
    if value is None:
        raise OSError(errno.ENODATA, "no such attribute")
    return value


def setxattr(volume: Volume, ino: int, name: bytes, value: bytes) -> None:
    """EOPNOTSUPP outside user.*; Stale (ESTALE) if the inode's version has moved."""
    if not name.startswith(USER):
        raise OSError(errno.EOPNOTSUPP, "only user.* is kept")
    if len(name) > NAME_MAX or len(value) > VALUE_MAX:
        raise OSError(errno.ERANGE if len(name) > NAME_MAX else errno.E2BIG, "too long")
    volume.tree.setxattr(ino, name.decode(), value)


def listxattr(volume: Volume, ino: int) -> list[bytes]:
    return [name.encode() for name in volume.tree.listxattr(ino)]


def removexattr(volume: Volume, ino: int, name: bytes) -> None:
    """ENODATA if there is none."""
    if not name.startswith(USER):
        raise OSError(errno.ENODATA, "only user.* is kept")
    volume.tree.removexattr(ino, name.decode())
