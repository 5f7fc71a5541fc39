"""What a program can see to be otherwise than on ext4, and why. docs/SEMANTICS.md says the same to people."""

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

from posixkit import Difference


class Known(NamedTuple):
    """`is_it` says of a difference whether it is this one. group: where it must occur."""

    name: str
    group: str
    reason: str
    is_it: Callable[[Difference], bool]


def _answer(number: int) -> tuple[str, str]:
    return ("error", errno.errorcode[number])


def _answers(operation: str, number: int) -> Callable[[Difference], bool]:
    return lambda d: d.step[1] == operation and d.field == "outcome" and d.mount == _answer(number)


def _is_in(case: str) -> Callable[[Difference], bool]:
    return lambda d: d.case.startswith(case) and d.field in ("outcome", "content")


KNOWN = (
    Known("fallocate", "fallocate", "libfuse 3.14 offers it to C programs only", _answers("fallocate", errno.ENOTSUP)),
    Known(
        "posix_fallocate",
        "fallocate",
        "the C library writes zeros instead: it reads first, and changes nothing where the file has bytes already",
        lambda d: d.step[1] == "posix_fallocate" and d.field in ("atime", "mtime", "ctime"),
    ),
    Known(
        "posix_fallocate of a file opened for writing only",
        "fallocate",
        "the same: what it has to read it cannot",
        lambda d: d.case.startswith("posix_fallocate write-only") and d.mount == _answer(errno.EBADF),
    ),
    Known(
        "set-group-ID without group execution",
        "truncate",
        "the kernel tells a mount of the others only",
        lambda d: d.field == "mode" and int(d.mount, 8) & ~int(d.plain, 8) == 0o2000 and not int(d.mount, 8) & 0o010,
    ),
    Known(
        "O_RDONLY | O_TRUNC of a running program",
        "programs",
        "the kernel has the mount truncate it before it answers ETXTBSY",
        lambda d: d.case == f"open a running program {os.O_TRUNC:o}" and d.field in ("size", "mtime", "ctime"),
    ),
    Known(
        "names that are not UTF-8",
        "names",
        "they could not be published",
        lambda d: d.field == "outcome" and d.mount == _answer(errno.EILSEQ),
    ),
    Known(
        "device nodes",
        "opening",
        "the mount is nodev: files come from other machines",
        lambda d: d.step[1] == "open" and d.case.endswith(" char") and d.mount == _answer(errno.EACCES),
    ),
    Known("O_TMPFILE", "what_cannot_be", "pyfuse3 does not offer it", _is_in("O_TMPFILE")),
    Known("holes", "what_cannot_be", "pyfuse3 does not offer lseek: a file is one run of data", _is_in("SEEK_")),
    Known("RENAME_WHITEOUT", "renaming", "the kernel does not pass it on", _answers("renameat2", errno.EINVAL)),
    Known("birth time", "what_cannot_be", "it comes with a request that libfuse 3.14 does not know", _is_in("birth")),
    Known(
        "times of a fifo",
        "what_cannot_be",
        "the kernel moves them on no mount, and tells it nothing",
        lambda d: d.case == "fifo: write" and d.field in ("mtime", "ctime"),
    ),
    Known("ioctl", "what_cannot_be", "pyfuse3 does not offer it", _answers("getflags", errno.ENOTTY)),
    Known(
        "times before 1901-12-13T20:45:52",
        "utimens",
        "ext4 has no earlier ones; here the nanoseconds of that very second are kept, too",
        lambda d: d.case.startswith("utimens -2147483648") and d.field == "mtime",
    ),
    Known(
        "large attributes",
        "xattrs",
        "ext4 has room for one block of them; here each may have 64 KiB",
        lambda d: d.case == "xattr of 40000" and d.plain == _answer(errno.ENOSPC),
    ),
)


def known(difference: Difference) -> Known | None:
    """Which of the known differences this is."""
    return next((each for each in KNOWN if each.is_it(difference)), None)
