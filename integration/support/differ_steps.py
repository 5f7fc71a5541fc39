"""Random steps for a comparison of two file systems: few names, so that they meet again and again."""

import os
import random
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field

from differ_side import RENAME_EXCHANGE, RENAME_NOREPLACE, SLOTS, Step

NAMES = ("a", "b", "c", "d", "e", "ünï", "n" * 60)
WEIGHTS = (6, 6, 6, 5, 5, 1, 1)
DEPTH = 3
ACCESS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR)
MODES = (0o644, 0o600, 0o755, 0o777, 0o444, 0o4755, 0o2755, 0o1777)
# For files that may be open: a set-ID bit that was set since goes with root's writes, too (docs/SEMANTICS.md).
CHMODS = tuple(mode for mode in MODES if not mode & 0o6000)
FOLDER_MODES = (0o755, 0o755, 0o755, 0o700, 0o777, 0o555, 0o1777, 0o2775, 0o3770, 0o4711)
OWNERS = (0, 1000, 1001, -1)
TARGETS = ("a", "b", "c", "../a", "d/a", "a/b", "nowhere", ".", "..", "e/")
SIZES = (0, 1, 10, 100, 511, 4095, 4096, 4097, 10_000, 65_536, 131_073)
FAR = (1 << 20, 3 << 20, (3 << 20) + 17)
XATTRS = ("user.a", "user.b", "user.ünï")
NODES = (stat.S_IFIFO | 0o644, stat.S_IFIFO | 0o600, stat.S_IFSOCK | 0o755, stat.S_IFREG | 0o640)


@dataclass
class Steps:
    """known: paths that exist; given anew by the runner from time to time. The rest is what may come.

    links, nodes: hard links, and fifos and sockets, may be made. maps: shared mappings are written to.
    """

    seed: int
    links: bool = False
    nodes: bool = False
    maps: bool = True
    others: bool = True
    known: Sequence[str] = ()
    folders: Sequence[str] = ("",)
    _random: random.Random = field(init=False)
    _recent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._table = [(kind, weight) for kind, weight in _TABLE if self._may(kind)]
        self._kinds = [kind for kind, _ in self._table]
        self._weights = [weight for _, weight in self._table]

    def _may(self, kind: str) -> bool:
        if kind == "link":
            return self.links
        if kind == "mknod":
            return self.nodes
        return self.maps or not kind.startswith("map")

    def next(self) -> Step:
        """The next step."""
        pick = self._random.random()
        if self.others and pick < 0.12:
            return ("other", self._plain())
        if pick < 0.16:
            step = self._plain()
            paths = [part for part in step[1:] if isinstance(part, str) and part and part not in XATTRS]
            return ("watch", self._random.choice(paths), step) if paths and not step[0].startswith("map") else step
        if pick < 0.165:
            return self._burst()
        return self._plain()

    # ---- what steps are made of

    def _name(self) -> str:
        return self._random.choices(NAMES, WEIGHTS)[0]

    def _path(self) -> str:
        """A path that may well exist."""
        rnd = self._random
        pick = rnd.random()
        if pick < 0.35 and self.known:
            return rnd.choice(self.known)
        if pick < 0.6 and self._recent:
            return rnd.choice(self._recent)
        return self._new()

    def _new(self) -> str:
        """A path that may well be free, or not."""
        rnd = self._random
        folder = rnd.choice(self.folders) if rnd.random() < 0.85 else rnd.choice(["a", "b/c", "c/d", "a/a/a"])
        if folder.count("/") >= DEPTH:
            folder = ""
        path = f"{folder}/{self._name()}" if folder else self._name()
        self._recent.append(path)
        if len(self._recent) > 12:
            del self._recent[0]
        return path

    def _slot(self) -> int:
        return self._random.randrange(SLOTS)

    def _size(self) -> int:
        rnd = self._random
        return rnd.choice(SIZES) if rnd.random() < 0.7 else rnd.randrange(20_000)

    def _offset(self) -> int:
        rnd = self._random
        return rnd.choice(FAR) if rnd.random() < 0.03 else self._size()

    def _byte(self) -> int:
        return self._random.randrange(500)

    def _time(self) -> int:
        return 10**18 + self._random.randrange(10**9) * 1_000_000_007 % (5 * 10**17)

    def _flags(self) -> int:
        rnd = self._random
        flags = rnd.choice(ACCESS)
        if rnd.random() < 0.6:
            flags |= os.O_CREAT
        for flag, chance in (
            (os.O_EXCL, 0.1), (os.O_TRUNC, 0.15), (os.O_APPEND, 0.2), (os.O_DIRECTORY, 0.04), (os.O_NOFOLLOW, 0.1),
            (os.O_SYNC, 0.03), (os.O_DSYNC, 0.03),
        ):  # fmt: skip
            if rnd.random() < chance:
                flags |= flag
        if flags & os.O_EXCL and not flags & os.O_CREAT:
            flags &= ~os.O_EXCL  # undefined for anything but devices
        if flags & os.O_DIRECTORY:
            flags &= ~os.O_CREAT  # kernels disagree
        return flags | self._nonblock()

    def _nonblock(self) -> int:
        """Nobody waits for the other end of a fifo."""
        return os.O_NONBLOCK if self.nodes else 0

    # ---- steps

    def _plain(self) -> Step:
        kind = self._random.choices(self._kinds, self._weights)[0]
        return self._make(kind)

    def _make(self, kind: str) -> Step:
        rnd = self._random
        match kind:
            case "open":
                return ("open", self._slot(), self._path(), self._flags(), rnd.choice(MODES))
            case "opendir":
                return ("open", self._slot(), rnd.choice(self.folders), os.O_RDONLY | os.O_DIRECTORY)
            case "openat":
                return ("openat", self._slot(), self._slot(), self._name(), self._flags())
            case "mkdirat" | "unlinkat":
                return (kind, self._slot(), self._name())
            case "dup":
                return ("dup", self._slot(), self._slot())
            case "reopen":
                return ("reopen", self._slot(), self._slot(), rnd.choice(ACCESS) | self._nonblock())
            case "close" | "fsync" | "fdatasync" | "fstat" | "flistdir" | "flistxattr" | "drop" | "maphold" | "unmap":
                return (kind, self._slot())
            case "read":
                return ("read", self._slot(), self._size())
            case "write":
                return ("write", self._slot(), self._byte(), self._size())
            case "pread" | "mapread":
                return (kind, self._slot(), self._offset(), self._size())
            case "pwrite" | "mapprivate" | "mappoke":
                return (kind, self._slot(), self._offset(), self._byte(), self._size())
            case "mapwrite":
                return (kind, self._slot(), self._offset(), self._byte(), self._size(), rnd.randrange(2))
            case "seek":
                return ("seek", self._slot(), self._offset(), rnd.choice((os.SEEK_SET, os.SEEK_CUR, os.SEEK_END)))
            case "ftruncate":
                return ("ftruncate", self._slot(), self._offset())
            case "fchmod":
                return ("fchmod", self._slot(), rnd.choice(CHMODS))
            case "fchown":
                return ("fchown", self._slot(), rnd.choice(OWNERS), rnd.choice(OWNERS))
            case "directread":
                return ("directread", self._slot(), rnd.randrange(20), rnd.randrange(1, 12))
            case "directwrite":
                return ("directwrite", self._slot(), rnd.randrange(20), self._byte(), rnd.randrange(1, 12))
            case "copyrange":
                return ("copyrange", self._slot(), self._offset(), self._slot(), self._offset(), self._size())
            case "fsetxattr":
                return ("fsetxattr", self._slot(), rnd.choice(XATTRS), self._byte(), rnd.randrange(300))
            case "futimens":
                return ("futimens", self._slot(), self._time())
            case "mkdir":
                return ("mkdir", self._new(), rnd.choice(FOLDER_MODES))
            case "rmdir":
                return ("rmdir", rnd.choice(self.folders) or "a")
            case "rename":
                return ("rename", self._path(), self._path())
            case "renamedir":
                return ("rename", rnd.choice(self.folders) or "b", self._new())
            case "renameat2":
                return ("renameat2", self._path(), self._path(), rnd.choice((RENAME_NOREPLACE, RENAME_EXCHANGE)))
            case "symlink":
                return ("symlink", rnd.choice(TARGETS), self._new())
            case "link":
                return ("link", self._path(), self._new())
            case "mknod":
                return ("mknod", self._new(), rnd.choice(NODES))
            case "truncate":
                return ("truncate", self._path(), self._offset())
            case "chmod":
                return ("chmod", self._path(), rnd.choice(CHMODS))
            case "chmoddir":
                return ("chmod", rnd.choice(self.folders), rnd.choice(MODES))
            case "chown":
                return ("chown", self._path(), rnd.choice(OWNERS), rnd.choice(OWNERS))
            case "utimens":
                return ("utimens", self._path(), self._time())
            case "setxattr":
                return (
                    kind,
                    self._path(),
                    rnd.choice(XATTRS),
                    self._byte(),
                    rnd.randrange(300),
                    rnd.choice((0, 0, 1, 2)),
                )
            case "getxattr" | "removexattr":
                return (kind, self._path(), rnd.choice(XATTRS))
            case "save":
                return ("save", self._path(), self._byte(), self._size(), rnd.randrange(2))
            case _:
                return (kind, self._path())

    def _burst(self) -> Step:
        """Threads that make, write and remove files of their own, or write to parts of their own of one file."""
        rnd = self._random
        lists: list[list[Step]] = []
        folder = rnd.choice(self.folders)
        for number in range(3):
            name = f"{folder}/t{number}" if folder else f"t{number}"
            slot = 100 + number
            lists.append(
                [
                    ("open", slot, name, os.O_RDWR | os.O_CREAT, 0o644),
                    ("pwrite", slot, self._offset(), self._byte(), self._size()),
                    ("rename", name, f"{name}x"),
                    ("pread", slot, 0, 100_000),
                    ("ftruncate", slot, self._size()),
                    ("fsync", slot) if number == 0 else ("fstat", slot),
                    ("close", slot),
                    ("readfile", f"{name}x"),
                    ("unlink", f"{name}x"),
                ]
            )
        return ("burst", lists)


_TABLE = (
    ("open", 150), ("opendir", 8), ("openat", 10), ("mkdirat", 4), ("unlinkat", 4), ("dup", 8), ("reopen", 8),
    ("close", 60), ("read", 40), ("write", 60), ("pread", 50), ("pwrite", 70), ("seek", 20), ("ftruncate", 25),
    ("fsync", 4), ("fdatasync", 2), ("fstat", 40), ("fchmod", 8), ("futimens", 8), ("flistdir", 8), ("drop", 10),
    ("fsetxattr", 6), ("flistxattr", 4), ("fchown", 6), ("directread", 8), ("directwrite", 12), ("copyrange", 10),
    ("mapread", 12), ("mapwrite", 15), ("mapprivate", 4), ("maphold", 5), ("mappoke", 5), ("unmap", 4),
    ("mkdir", 45), ("rmdir", 20), ("unlink", 45), ("rename", 55), ("renamedir", 18), ("renameat2", 20), ("symlink", 18),
    ("link", 25), ("mknod", 10), ("readlink", 8), ("stat", 30), ("lstat", 40), ("listdir", 20), ("truncate", 20),
    ("chmod", 12), ("chmoddir", 5), ("chown", 12), ("utimens", 15), ("setxattr", 15), ("getxattr", 10),
    ("listxattr", 10), ("removexattr", 8), ("readfile", 30), ("save", 15),
)  # fmt: skip
