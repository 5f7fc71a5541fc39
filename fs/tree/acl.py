"""POSIX access control lists (acl(5)): what chmod, creating and setxattr do with them. Pure; the kernel checks them.

As an extended attribute: u32 version 2, then for each entry u16 tag, u16 permissions, u32 id, all little endian
(include/uapi/linux/posix_acl_xattr.h).
"""

import struct
from typing import Final, NamedTuple

ACCESS: Final = "system.posix_acl_access"
DEFAULT: Final = "system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

_VERSION: Final = 2
_HEAD: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_PLAIN: Final = struct.Struct("<IHHIHHIHHI")  # a list of three entries
_BITS: Final = 0o777


class AclEntry(NamedTuple):
    tag: int
    permissions: int
    id: int


Acl = tuple[AclEntry, ...]


def parse(value: bytes) -> Acl:
    """ValueError for what is none; the order, and that each entry is there once, is the kernel's to check."""
    if len(value) < _HEAD.size or (len(value) - _HEAD.size) % _ENTRY.size or _HEAD.unpack_from(value) != (_VERSION,):
        raise ValueError("not a POSIX ACL")
    found = tuple(AclEntry._make(entry) for entry in _ENTRY.iter_unpack(value[_HEAD.size :]))
    tags = [entry.tag for entry in found]
    if found and any(tags.count(tag) != 1 for tag in (USER_OBJ, GROUP_OBJ, OTHER)):
        raise ValueError("not a whole POSIX ACL")
    return found


def plain_mode(value: bytes) -> int | None:
    """mode_of what `parse` would find, if that is_mode and in the order in which the kernel has it: `cp -a` brings one
    with every file. None: ask `parse`.
    """
    if len(value) != _PLAIN.size:
        return None
    numbers: tuple[int, ...] = _PLAIN.unpack(value)
    version, user_tag, user, _, group_tag, group, _, other_tag, other, _ = numbers
    if version != _VERSION or user_tag != USER_OBJ or group_tag != GROUP_OBJ or other_tag != OTHER:
        return None
    return (user & 7) << 6 | (group & 7) << 3 | other & 7


def encode(acl: Acl) -> bytes:
    return _HEAD.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in acl)


def is_mode(acl: Acl) -> bool:
    """True if permission bits say all of it."""
    return all(entry.tag in (USER_OBJ, GROUP_OBJ, OTHER) for entry in acl)


def mode_of(acl: Acl) -> int:
    """The nine permission bits that go with it: those of the group are the mask, if there is one."""
    bits = {entry.tag: entry.permissions & 7 for entry in acl}
    return bits[USER_OBJ] << 6 | bits.get(MASK, bits[GROUP_OBJ]) << 3 | bits[OTHER]


def with_mode(acl: Acl, mode: int) -> Acl:
    """After chmod."""
    return _replaced(acl, {USER_OBJ: mode >> 6 & 7, _group_tag(acl): mode >> 3 & 7, OTHER: mode & 7})


def inherited(default: Acl, mode: int) -> Acl:
    """The access ACL of what is made with `mode` in a folder of that default ACL: nobody gets more than either says."""
    both = mode_of(default) & mode & _BITS
    return with_mode(default, both)


def _group_tag(acl: Acl) -> int:
    return MASK if any(entry.tag == MASK for entry in acl) else GROUP_OBJ


def _replaced(acl: Acl, permissions: dict[int, int]) -> Acl:
    return tuple(entry._replace(permissions=permissions.get(entry.tag, entry.permissions)) for entry in acl)
