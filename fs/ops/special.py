"""Fifos, sockets and device nodes: made and kept here, never published. What they do is the kernel's business."""

import errno
import stat

from fs.ops.volume import Volume, name_of
from fs.tree.model import BLOCK_DEVICE, CHAR, FIFO, FILE, SOCKET, Attr

_KINDS = {
    0: FILE,
    stat.S_IFREG: FILE,
    stat.S_IFIFO: FIFO,
    stat.S_IFSOCK: SOCKET,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK_DEVICE,
}
_DEVICES = (CHAR, BLOCK_DEVICE)
_PERMISSIONS = 0o7777


def mknod(volume: Volume, parent: int, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Attr:
    """mode: type and permission bits with the caller's umask applied; EINVAL for a type that mknod does not make. rdev:
    of a device, as stat shows it. Nobody but who may do so has come as far as this: the kernel has asked.
    """
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind is None:
        raise OSError(errno.EINVAL, "nothing that mknod makes")
    above, group = volume.tree.mode_and_group(parent)
    gid = group if above & stat.S_ISGID else gid
    number = rdev if kind in _DEVICES else 0
    return volume.tree.create(parent, name_of(name), kind, mode & _PERMISSIONS, uid, gid, "", number)
