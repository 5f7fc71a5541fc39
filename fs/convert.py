"""Between what pyfuse3 gives and takes, and what the operations in fs/ops do."""

import stat
from collections.abc import Collection

import pyfuse3
from pyfuse3 import EntryAttributes, SetattrFields

from fs.tree.model import BLOCK_DEVICE, CHAR, DIR, FIFO, FILE, SOCKET, SYMLINK, Attr

BLOCK_SIZE = 128 * 1024  # what programs take as a good size of reads and writes
PERMISSIONS = 0o7777

_TYPE_BITS = {
    FILE: stat.S_IFREG,
    DIR: stat.S_IFDIR,
    SYMLINK: stat.S_IFLNK,
    FIFO: stat.S_IFIFO,
    SOCKET: stat.S_IFSOCK,
    CHAR: stat.S_IFCHR,
    BLOCK_DEVICE: stat.S_IFBLK,
}


def entry_of(attr: Attr, valid_s: float) -> EntryAttributes:
    """valid_s: for how long the kernel may believe it, s."""
    entry = EntryAttributes()
    entry.st_ino = attr.ino
    entry.entry_timeout = valid_s
    entry.attr_timeout = valid_s if attr.valid_s is None else min(attr.valid_s, valid_s)
    entry.st_mode = _TYPE_BITS[attr.kind] | attr.mode
    entry.st_nlink = attr.nlink
    entry.st_uid = attr.uid
    entry.st_gid = attr.gid
    entry.st_size = attr.size
    entry.st_blocks = attr.blocks
    entry.st_blksize = BLOCK_SIZE
    entry.st_atime_ns = attr.atime_ns
    entry.st_mtime_ns = attr.mtime_ns
    entry.st_ctime_ns = attr.ctime_ns
    if attr.rdev:
        entry.st_rdev = attr.rdev
    return entry


def changes_of(attr: EntryAttributes, fields: SetattrFields) -> dict[str, int]:
    """What is to be changed, by the names of setattr_of."""
    changes: dict[str, int] = {}
    if fields.update_mode:
        changes["mode"] = attr.st_mode & PERMISSIONS
    if fields.update_uid:
        changes["uid"] = attr.st_uid
    if fields.update_gid:
        changes["gid"] = attr.st_gid
    if fields.update_size:
        changes["size"] = attr.st_size
    if fields.update_atime:
        changes["atime_ns"] = attr.st_atime_ns
    if fields.update_mtime:
        changes["mtime_ns"] = attr.st_mtime_ns
    return changes


def groups_of(pid: int) -> Collection[int]:
    """Supplementary groups; none of a process that cannot be seen from here."""
    try:
        return pyfuse3.get_sup_groups(pid)
    except OSError:
        return ()
