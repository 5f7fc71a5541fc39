"""The situations: every operation on every kind of thing, by every user, in every kind of folder. Nothing here says
what has to come out: that is what ext4 does.
"""

import fcntl
import os
import stat
from collections.abc import Iterator

from actor import AT_SYMLINK_FOLLOW, UTIME_NOW, UTIME_OMIT
from posixkit import Case, Step

KINDS = ("file", "dir", "fifo", "char", "block", "socket", "link", "dangling")
OPENABLE = ("file", "dir", "fifo", "char", "socket", "link", "dangling")
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE = 1, 2, 8, 16
LONG = b"n" * 255
ALICE, BOB, CAROL = 65534, 65533, 65532


def make(kind: str, name: bytes, owner: int = 0, mode: int | None = None) -> list[Step]:
    """The steps with which root makes a thing."""
    steps: list[Step] = []
    if kind == "file":
        steps = [("root", "open", "made", name, os.O_CREAT | os.O_WRONLY, 0o644), ("root", "write", "made", b"content")]
        steps += [("root", "close", "made")]
    elif kind == "dir":
        steps = [("root", "mkdir", name)]
    elif kind == "fifo":
        steps = [("root", "mkfifo", name)]
    elif kind == "char":
        steps = [("root", "mknod", name, stat.S_IFCHR | 0o644, 1, 3)]
    elif kind == "block":
        steps = [("root", "mknod", name, stat.S_IFBLK | 0o644, 1, 2)]
    elif kind == "socket":
        steps = [("root", "bind", name)]
    elif kind == "link":
        steps = [*make("file", name + b".target", owner), ("root", "symlink", name + b".target", name)]
    elif kind == "dangling":
        steps = [("root", "symlink", b"nowhere", name)]
    if owner:
        steps.append(("root", "lchown", name, owner, owner))
    if mode is not None and kind not in ("link", "dangling"):
        steps.append(("root", "chmod", name, mode))
    return steps


def case(name: str, *parts: Step | list[Step]) -> Case:
    steps: list[Step] = []
    for part in parts:
        steps += part if isinstance(part, list) else [part]
    return Case(name, tuple(steps))


# ---- modes and owners


def chmod() -> Iterator[Case]:
    for kind in KINDS:
        for user in ("root", "alice", "bob", "carol"):
            for mode in (0o111, 0o7777, 0o2755, 0o1644, 0o0):
                yield case(
                    f"chmod {kind} {mode:o} {user}", make(kind, b"x", ALICE), (user, "chmod", b"x", mode)
                )  # fmt: skip
    yield case("chmod missing", ("root", "chmod", b"x", 0o644))
    yield case(
        "fchmod", make("file", b"x", ALICE), ("alice", "open", "f", b"x", os.O_RDONLY), ("alice", "fchmod", "f", 0o4711)
    )
    yield case(
        "chmod sgid outside the group",
        make("file", b"x"),
        ("root", "chown", b"x", ALICE, BOB),
        ("alice", "chmod", b"x", 0o2755),
    )
    yield case(
        "chmod sgid of a folder outside the group",
        make("dir", b"x"),
        ("root", "chown", b"x", ALICE, BOB),
        ("alice", "chmod", b"x", 0o2755),
    )
    yield case(
        "chmod of an open removed file",
        make("file", b"x"),
        ("root", "open", "f", b"x", os.O_RDWR),
        ("root", "unlink", b"x"),
        ("root", "fchmod", "f", 0o600),
        ("root", "fstat", "f"),
    )


def chown() -> Iterator[Case]:
    for kind in KINDS:
        for user in ("root", "alice", "bob", "carol"):
            for uid, gid in ((ALICE, ALICE), (BOB, BOB), (-1, BOB), (BOB, -1), (-1, -1), (CAROL, ALICE), (-1, ALICE)):
                for follow in ("chown", "lchown"):
                    yield case(
                        f"{follow} {kind} {uid}:{gid} {user}", make(kind, b"x", ALICE), (user, follow, b"x", uid, gid)
                    )
    for kind in ("file", "dir", "fifo"):
        for mode in (0o6777, 0o4755, 0o2755, 0o2644, 0o6644, 0o1777, 0o0):
            for user in ("root", "alice"):
                for uid, gid in ((ALICE, ALICE), (-1, ALICE), (-1, -1), (BOB, BOB)):
                    yield case(
                        f"chown {kind} {mode:o} {uid}:{gid} {user}",
                        make(kind, b"x", ALICE, mode),
                        (user, "chown", b"x", uid, gid),
                    )
    for user in ("carol", "alice"):
        yield case(
            f"chown own file to own group {user}",
            make("file", b"x"),
            ("root", "chown", b"x", CAROL, CAROL),
            ("root", "chmod", b"x", 0o6755),
            (user, "chown", b"x", -1, ALICE),
        )
    yield case("fchown", make("file", b"x"), ("root", "open", "f", b"x", os.O_RDONLY), ("root", "fchown", "f", 5, 6))


# ---- sizes


def truncate() -> Iterator[Case]:
    for kind in KINDS:
        if kind == "char":
            continue
        for user in ("root", "alice", "bob"):
            yield case(f"truncate {kind} {user}", make(kind, b"x", ALICE), (user, "truncate", b"x", 3))
    for size in (0, 3, 7, 8, 5000, 1 << 20):
        yield case(f"truncate to {size}", make("file", b"x"), ("root", "truncate", b"x", size))
        yield case(
            f"ftruncate to {size}",
            make("file", b"x"),
            ("root", "open", "f", b"x", os.O_RDWR),
            ("root", "ftruncate", "f", size),
            ("root", "fstat", "f"),
        )
        yield case(
            f"ftruncate read-only to {size}",
            make("file", b"x"),
            ("root", "open", "f", b"x", os.O_RDONLY),
            ("root", "ftruncate", "f", size),
        )
    yield case("truncate below 0", make("file", b"x"), ("root", "truncate", b"x", -1))
    yield case("truncate beyond all", make("file", b"x"), ("root", "truncate", b"x", (1 << 63) - 1))
    yield case("truncate a trailing slash", make("file", b"x"), ("root", "truncate", b"x/", 0))
    yield case("truncate missing", ("root", "truncate", b"x", 0))
    for mode in (0o6777, 0o4755, 0o2644, 0o6755):
        for user in ("root", "alice"):
            for size in (0, 7, 9):
                yield case(
                    f"truncate {mode:o} {size} {user}",
                    make("file", b"x", 0, mode | 0o022),
                    (user, "truncate", b"x", size),
                )
                yield case(
                    f"ftruncate {mode:o} {size} {user}",
                    make("file", b"x", 0, mode | 0o022),
                    (user, "open", "f", b"x", os.O_WRONLY),
                    (user, "ftruncate", "f", size),
                )
    yield case(
        "ftruncate of a removed file",
        make("file", b"x"),
        ("root", "open", "f", b"x", os.O_RDWR),
        ("root", "unlink", b"x"),
        ("root", "ftruncate", "f", 100),
        ("root", "fstat", "f"),
    )
    yield case(
        "ftruncate after chmod 0",
        make("file", b"x", ALICE),
        ("alice", "open", "f", b"x", os.O_RDWR),
        ("alice", "chmod", b"x", 0),
        ("alice", "ftruncate", "f", 1),
    )


def fallocate() -> Iterator[Case]:
    for offset, size in ((0, 100), (5, 1), (100, 5000), (0, 0), (-1, 5), (3, 1 << 20)):
        yield case(
            f"posix_fallocate {offset} {size}",
            make("file", b"x"),
            ("root", "open", "f", b"x", os.O_RDWR),
            ("root", "posix_fallocate", "f", offset, size),
        )
    for offset, size in ((0, 5), (0, 5000), (7, 100), (9000, 100)):
        yield case(
            f"posix_fallocate write-only {offset} {size}",
            make("file", b"x"),
            ("root", "open", "f", b"x", os.O_WRONLY),
            ("root", "posix_fallocate", "f", offset, size),
        )
    yield case(
        "posix_fallocate read-only",
        make("file", b"x"),
        ("root", "open", "f", b"x", os.O_RDONLY),
        ("root", "posix_fallocate", "f", 0, 10),
    )
    for mode in (0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE, COLLAPSE, ZERO_RANGE):
        yield case(
            f"fallocate {mode}",
            make("file", b"x"),
            ("root", "open", "f", b"x", os.O_RDWR),
            ("root", "fallocate", "f", mode, 0, 4096),
        )


# ---- making


def creating() -> Iterator[Case]:
    makers: dict[str, tuple[str, tuple[object, ...]]] = {
        "mkdir": ("mkdir", (0o777,)),
        "mkfifo": ("mkfifo", (0o666,)),
        "mknod file": ("mknod", (stat.S_IFREG | 0o666,)),
        "mknod fifo": ("mknod", (stat.S_IFIFO | 0o666,)),
        "mknod socket": ("mknod", (stat.S_IFSOCK | 0o666,)),
        "mknod char": ("mknod", (stat.S_IFCHR | 0o666, 1, 3)),
        "mknod block": ("mknod", (stat.S_IFBLK | 0o666, 7, 300)),
        "open": ("open", (os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)),
    }

    def step(user: str, what: str, path: bytes) -> Step:
        name, arguments = makers[what]
        return (user, name, "new", path, *arguments) if name == "open" else (user, name, path, *arguments)

    for what in makers:
        for user in ("root", "alice", "carol"):
            yield case(f"{what} {user}", step(user, what, b"x"))
            for mask in (0o22, 0o77, 0o777, 0o151):
                yield case(f"{what} {user} umask {mask:o}", (user, "umask", mask), step(user, what, b"x"))
            yield case(
                f"{what} in a set-group-ID folder {user}", make("dir", b"d", ALICE, 0o2777), step(user, what, b"d/x")
            )
            yield case(f"{what} in another's folder {user}", make("dir", b"d", BOB, 0o755), step(user, what, b"d/x"))
            yield case(
                f"{what} in a folder without x {user}", make("dir", b"d", ALICE, 0o666), step(user, what, b"d/x")
            )
        for kind in KINDS:
            yield case(f"{what} over {kind}", make(kind, b"x"), step("root", what, b"x"))
            yield case(f"{what} below {kind}", make(kind, b"d"), step("root", what, b"d/x"))
        yield case(f"{what} missing parent", step("root", what, b"d/x"))
        yield case(f"{what} long name", step("root", what, LONG), step("root", what, LONG + b"n"))
        yield case(
            f"{what} long name below",
            make("dir", b"d"),
            step("root", what, b"d/" + LONG),
            step("root", what, b"d/" + LONG + b"n"),
        )
        yield case(
            f"{what} loop",
            ("root", "symlink", b"b", b"a"),
            ("root", "symlink", b"a", b"b"),
            step("root", what, b"a/x"),
            step("root", what, b"b"),
        )
        yield case(f"{what} trailing slash", step("root", what, b"x/"))
        yield case(f"{what} dots", step("root", what, b"."), step("root", what, b".."), step("root", what, b""))
    for mode in (0o7777, 0o1777, 0o2755, 0o4755):
        yield case(f"mkdir {mode:o}", ("root", "mkdir", b"x", mode))
        yield case(f"mkdir {mode:o} alice", ("alice", "mkdir", b"x", mode))
        yield case(
            f"mkdir {mode:o} set-group-ID",
            make("dir", b"d", ALICE, 0o2777),
            ("bob", "mkdir", b"d/x", mode),
            ("carol", "mkdir", b"d/y", mode),
        )
        yield case(f"open {mode:o}", ("root", "open", "f", b"x", os.O_CREAT | os.O_RDWR, mode))
        yield case(
            f"open {mode:o} set-group-ID",
            make("dir", b"d", BOB, 0o2777),
            ("alice", "open", "f", b"d/x", os.O_CREAT | os.O_RDWR, mode),
            ("bob", "open", "f", b"d/y", os.O_CREAT | os.O_RDWR, mode),
        )
    for user in ("root", "alice"):
        yield case(f"bind {user}", ("root", "umask", 0o22), (user, "bind", b"s"), (user, "unlink", b"s"))


def symlink() -> Iterator[Case]:
    for size in (1, 255, 1000, 4094, 4095, 4096):
        yield case(f"symlink {size}", ("root", "symlink", b"t" * size, b"x"), ("root", "readlink", b"x"))
    yield case("symlink empty", ("root", "symlink", b"", b"x"))
    for kind in KINDS:
        yield case(f"symlink over {kind}", make(kind, b"x"), ("root", "symlink", b"t", b"x"))
        yield case(f"symlink below {kind}", make(kind, b"d"), ("root", "symlink", b"t", b"d/x"))
        yield case(f"readlink {kind}", make(kind, b"x"), ("root", "readlink", b"x"))
    for user in ("root", "alice"):
        yield case(
            f"symlink in a set-group-ID folder {user}", make("dir", b"d", BOB, 0o2777), (user, "symlink", b"t", b"d/x")
        )
        yield case(
            f"symlink in another's folder {user}", make("dir", b"d", BOB, 0o755), (user, "symlink", b"t", b"d/x")
        )
    yield case("symlink long", ("root", "symlink", b"t", LONG), ("root", "symlink", b"t", LONG + b"n"))
    yield case(
        "through 40 symlinks",
        make("file", b"l0"),
        [("root", "symlink", f"l{n}".encode(), f"l{n + 1}".encode()) for n in range(42)],
        ("root", "stat", b"l40"),
        ("root", "stat", b"l41"),
    )


def link() -> Iterator[Case]:
    for kind in KINDS:
        for user in ("root", "alice", "bob"):
            yield case(
                f"link {kind} {user}",
                make(kind, b"x", ALICE),
                (user, "link", b"x", b"y"),
                (user, "link", b"y", b"z"),
                (user, "unlink", b"x"),
            )
            yield case(
                f"link follow {kind} {user}", make(kind, b"x", ALICE), (user, "link", b"x", b"y", AT_SYMLINK_FOLLOW)
            )
        yield case(f"link over {kind}", make("file", b"x"), make(kind, b"y"), ("root", "link", b"x", b"y"))
        yield case(f"link below {kind}", make("file", b"x"), make(kind, b"d"), ("root", "link", b"x", b"d/y"))
    two = [*make("file", b"x"), ("root", "link", b"x", b"y")]
    yield case(
        "link is one inode",
        two,
        ("root", "chmod", b"y", 0o600),
        ("root", "truncate", b"x", 2),
        ("root", "chown", b"y", 7, 8),
        ("root", "utimens", b"x", (1000, 5), (2000, 6)),
    )
    yield case(
        "link, open and unlink",
        two,
        ("root", "open", "f", b"x", os.O_RDWR),
        ("root", "unlink", b"x"),
        ("root", "fstat", "f"),
        ("root", "unlink", b"y"),
        ("root", "fstat", "f"),
        ("root", "write", "f", b"more"),
    )
    yield case("rename over the other name", two, ("root", "rename", b"x", b"y"), ("root", "rename", b"y", b"x"))
    yield case("rename over one of two", two, make("file", b"z"), ("root", "rename", b"z", b"y"))
    yield case(
        "rename one of two away", two, make("dir", b"d"), ("root", "rename", b"x", b"d/x"), ("root", "unlink", b"y")
    )
    yield case("link missing", ("root", "link", b"x", b"y"))
    yield case("link long", make("file", b"x"), ("root", "link", b"x", LONG), ("root", "link", b"x", LONG + b"n"))
    yield case(
        "link by descriptor", make("file", b"x"), ("root", "open", "f", b"x", os.O_RDWR), ("root", "link_fd", "f", b"y")
    )
    yield case(
        "link of a removed file",
        make("file", b"x"),
        ("root", "open", "f", b"x", os.O_RDWR),
        ("root", "unlink", b"x"),
        ("root", "link_fd", "f", b"y"),
    )
    yield case(
        "link into another's folder",
        make("file", b"x", ALICE),
        make("dir", b"d", BOB, 0o755),
        ("alice", "link", b"x", b"d/y"),
    )
    yield case(
        "xattrs of two names", two, ("root", "setxattr", b"x", "user.a", b"1"), ("root", "getxattr", b"y", "user.a")
    )


# ---- opening, reading, writing


def opening() -> Iterator[Case]:
    bits = (os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY)
    combinations = [sum(bit for n, bit in enumerate(bits) if number >> n & 1) for number in range(1 << len(bits))]
    for access in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        for flags in combinations:
            for kind in (*OPENABLE, "missing", "below a file"):
                if kind == "char" and flags & (os.O_CREAT | os.O_APPEND):
                    continue
                path = b"x/y" if kind == "below a file" else b"x"
                made = make("file", b"x") if kind == "below a file" else make(kind, b"x")
                after: list[Step] = [("root", "write", "f", b"!")] if kind in ("file", "missing") else []
                yield case(
                    f"open {access} {flags:o} {kind}",
                    made,
                    ("root", "open", "f", path, access | flags | os.O_NONBLOCK, 0o640),
                    after,
                )
    for mode in (0o0, 0o400, 0o200, 0o600, 0o040, 0o020, 0o060, 0o004, 0o002, 0o006, 0o1777):
        for user in ("alice", "bob", "carol", "root"):
            for access in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC):
                for kind in ("file", "dir"):
                    yield case(
                        f"open {kind} {mode:o} {access:o} {user}",
                        make(kind, b"x", ALICE, mode),
                        (user, "open", "f", b"x", access),
                    )
            yield case(
                f"access {mode:o} {user}",
                make("file", b"x", ALICE, mode),
                *[(user, "access", b"x", how) for how in range(8)],
            )
            yield case(
                f"list {mode:o} {user}",
                make("dir", b"x", ALICE, mode),
                (user, "listdir", b"x"),
                (user, "stat", b"x/y"),
                (user, "chdir", b"x"),
            )
    yield case(
        "append",
        make("file", b"x"),
        ("root", "open", "f", b"x", os.O_WRONLY | os.O_APPEND),
        ("root", "write", "f", b"1"),
        ("root", "lseek", "f", 0, 0),
        ("root", "write", "f", b"2"),
        ("root", "truncate", b"x", 3),
        ("root", "write", "f", b"3"),
    )
    yield case(
        "removed and open",
        make("file", b"x"),
        ("root", "open", "f", b"x", os.O_RDWR),
        ("root", "unlink", b"x"),
        ("root", "fstat", "f"),
        ("root", "write", "f", b"new"),
        ("root", "lseek", "f", 0, 0),
        ("root", "read", "f", 100),
        ("root", "close", "f"),
    )
    yield case(
        "read and write",
        make("file", b"x"),
        ("root", "open", "f", b"x", os.O_RDWR),
        ("root", "write", "f", b"ab"),
        ("root", "fsync", "f"),
        ("root", "pwrite", "f", b"far", 100_000),
        ("root", "lseek", "f", 0, os.SEEK_END),
        ("root", "write", "f", b""),
        ("root", "close", "f"),
    )
    for flags in (os.O_DIRECT, 0):
        yield case(
            f"whole blocks {flags}",
            ("root", "open", "f", b"x", os.O_CREAT | os.O_RDWR | flags, 0o644),
            ("root", "direct_write", "f", 8192, 0),
            ("root", "direct_write", "f", 4096, 4096),
            ("root", "direct_read", "f", 8192, 4096),
            ("root", "fstat", "f"),
            ("root", "close", "f"),
        )
    for mode in (0o6777, 0o4777, 0o2777, 0o2766, 0o6766):
        for user in ("root", "alice", "bob"):
            for flags in (0, os.O_DIRECT):
                yield case(
                    f"write {mode:o} {user} {flags}",
                    make("file", b"x", ALICE, mode),
                    (user, "open", "f", b"x", os.O_WRONLY | flags),
                    (user, "direct_write", "f", 4096, 0),
                    (user, "fstat", "f"),
                )
    for shared in (True, False):
        yield case(
            f"map {shared}",
            make("file", b"x"),
            ("root", "open", "f", b"x", os.O_RDWR),
            ("root", "map", "f", b"mapped!", shared),
            ("root", "read", "f", 20),
            ("root", "close", "f"),
        )
        yield case(
            f"map read-only {shared}",
            make("file", b"x"),
            ("root", "open", "f", b"x", os.O_RDONLY),
            ("root", "map", "f", b"content", shared, False),
            ("root", "map", "f", b"content", shared),
        )
    yield case(
        "read moves atime",
        make("file", b"x"),
        ("root", "utimens", b"x", (1000, 0), (2000, 0)),
        ("root", "open", "f", b"x", os.O_RDONLY),
        ("root", "read", "f", 10),
        ("root", "read", "f", 10),
        ("root", "close", "f"),
    )
    yield case(
        "listing moves atime",
        make("dir", b"x"),
        ("root", "utimens", b"x", (1000, 0), (2000, 0)),
        ("root", "listdir", b"x"),
    )
    yield case(
        "listing an open removed folder",
        make("dir", b"x"),
        ("root", "open", "f", b"x", os.O_RDONLY),
        ("root", "rmdir", b"x"),
        ("root", "fstat", "f"),
        ("root", "listdir_fd", "f"),
    )


def locks() -> Iterator[Case]:
    opened: list[Step] = [
        *make("file", b"x", ALICE, 0o666),
        ("alice", "open", "f", b"x", os.O_RDWR),
        ("bob", "open", "f", b"x", os.O_RDWR),
    ]
    yield case(
        "flock",
        opened,
        ("alice", "flock", "f", fcntl.LOCK_EX),
        ("bob", "flock", "f", fcntl.LOCK_SH | fcntl.LOCK_NB),
        ("alice", "flock", "f", fcntl.LOCK_UN),
        ("bob", "flock", "f", fcntl.LOCK_SH | fcntl.LOCK_NB),
        ("alice", "flock", "f", fcntl.LOCK_SH | fcntl.LOCK_NB),
    )
    yield case(
        "fcntl",
        opened,
        ("alice", "lockf", "f", fcntl.LOCK_EX, 10, 0),
        ("bob", "lockf", "f", fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5),
        ("bob", "lockf", "f", fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10),
        ("alice", "close", "f"),
        ("bob", "lockf", "f", fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5),
    )


def programs() -> Iterator[Case]:
    running: list[Step] = [("root", "program", b"x"), ("root", "start", b"x")]
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC):
        yield case(f"open a running program {flags:o}", running, ("root", "open", "f", b"x", flags))
    yield case("truncate a running program", running, ("root", "truncate", b"x", 5))
    yield case("change a running program", running, ("root", "chmod", b"x", 0o700), ("root", "utimes_now", b"x"))
    yield case("remove a running program", running, ("root", "unlink", b"x"), ("root", "program", b"x"))
    yield case("replace a running program", running, make("file", b"y"), ("root", "rename", b"y", b"x"))
    opened: Step = ("root", "open", "f", b"x", os.O_WRONLY)
    yield case("start what is being written", ("root", "program", b"x"), opened, ("root", "start", b"x"))
    for mode in (0o644, 0o711, 0o4755, 0o100):
        for user in ("root", "alice"):
            chmod_it: Step = ("root", "chmod", b"x", mode)
            yield case(f"start {mode:o} {user}", ("root", "program", b"x"), chmod_it, (user, "start", b"x"))


# ---- removing and renaming


def removing() -> Iterator[Case]:
    for kind in KINDS:
        for user in ("root", "alice", "bob"):
            for operation in ("unlink", "rmdir"):
                yield case(f"{operation} {kind} {user}", make(kind, b"x", ALICE), (user, operation, b"x"))
                for mode in (0o755, 0o777, 0o1777, 0o733, 0o555):
                    yield case(
                        f"{operation} {kind} {user} in {mode:o}",
                        make("dir", b"d", BOB, mode),
                        make(kind, b"d/x", ALICE),
                        (user, operation, b"d/x"),
                    )
        for operation in ("unlink", "rmdir"):
            yield case(f"{operation} below {kind}", make(kind, b"d"), ("root", operation, b"d/x"))
            yield case(f"{operation} {kind} with a slash", make(kind, b"x"), ("root", operation, b"x/"))
    yield case(
        "rmdir full",
        make("dir", b"x"),
        make("file", b"x/y"),
        ("root", "rmdir", b"x"),
        ("root", "unlink", b"x/y"),
        ("root", "rmdir", b"x"),
    )
    yield case(
        "rmdir full of folders",
        make("dir", b"x"),
        make("dir", b"x/y"),
        ("root", "rmdir", b"x"),
        ("root", "rmdir", b"x/y"),
    )
    yield case(
        "rmdir dots", make("dir", b"x"), ("root", "rmdir", b"x/."), ("root", "rmdir", b"x/.."), ("root", "rmdir", b".")
    )
    for name in (b"x", LONG, LONG + b"n", b"a/b", b"\xff\xfe", b"x\n", "ü".encode()):
        yield case(
            f"remove missing {name[:9]!r}", ("root", "unlink", name), ("root", "rmdir", name), ("root", "stat", name)
        )


def renaming() -> Iterator[Case]:
    for kind in KINDS:
        for other in (*KINDS, "missing", "full"):
            made = [*make("dir", b"y"), *make("file", b"y/z")] if other == "full" else make(other, b"y")
            yield case(f"rename {kind} over {other}", make(kind, b"x"), made, ("root", "rename", b"x", b"y"))
            yield case(
                f"rename {kind} over {other} elsewhere",
                make("dir", b"d"),
                make(kind, b"x"),
                [
                    (
                        *step[:2],
                        *[
                            b"d/" + arg
                            if (arg in (b"y", b"y/z", b"y.target") and n == len(step[2:]) - 1)
                            or (arg in (b"y", b"y/z", b"y.target") and step[1] != "symlink")
                            else arg
                            for n, arg in enumerate(step[2:])
                        ],
                    )
                    for step in made
                ],
                ("root", "rename", b"x", b"d/y"),
            )
            for flags in (NOREPLACE, EXCHANGE, NOREPLACE | EXCHANGE, 8):
                yield case(
                    f"renameat2 {flags} {kind} over {other}",
                    make(kind, b"x"),
                    made,
                    ("root", "renameat2", b"x", b"y", flags),
                )
        yield case(f"rename {kind} to itself", make(kind, b"x"), ("root", "rename", b"x", b"x"))
        yield case(f"rename {kind} below itself", make(kind, b"x"), ("root", "rename", b"x", b"x/y"))
        yield case(
            f"rename {kind} long",
            make(kind, b"x"),
            ("root", "rename", b"x", LONG),
            ("root", "rename", LONG, LONG + b"n"),
        )
        for operation in (("rename", b"x", b"y/"), ("rename", b"x/", b"y")):
            yield case(f"rename {kind} {operation}", make(kind, b"x"), ("root", *operation))
    for user in ("root", "alice", "bob", "carol"):
        for mode in (0o755, 0o777, 0o1777, 0o555):
            for kind in ("file", "dir"):
                for owner in (ALICE, BOB):
                    yield case(
                        f"rename {kind} of {owner} {user} out of {mode:o}",
                        make("dir", b"d", BOB, mode),
                        make("dir", b"e", 0, 0o777),
                        make(kind, b"d/x", owner),
                        (user, "rename", b"d/x", b"e/x"),
                    )
                    yield case(
                        f"rename {kind} of {owner} {user} into {mode:o}",
                        make("dir", b"d", BOB, mode),
                        make("dir", b"e", 0, 0o777),
                        make(kind, b"e/x", owner),
                        (user, "rename", b"e/x", b"d/x"),
                    )
                    yield case(
                        f"rename over {kind} of {owner} {user} in {mode:o}",
                        make("dir", b"d", BOB, mode),
                        make("dir", b"e", 0, 0o777),
                        make(kind, b"e/x", ALICE),
                        make(kind, b"d/x", owner),
                        (user, "rename", b"e/x", b"d/x"),
                    )
                    yield case(
                        f"exchange {kind} of {owner} {user} in {mode:o}",
                        make("dir", b"d", BOB, mode),
                        make("dir", b"e", 0, 0o777),
                        make("file", b"e/x", ALICE),
                        make(kind, b"d/x", owner),
                        (user, "renameat2", b"e/x", b"d/x", EXCHANGE),
                    )
    tree = [
        *make("dir", b"a"),
        *make("dir", b"a/b"),
        *make("file", b"a/b/f"),
        *make("dir", b"c"),
        *make("file", b"c/g"),
    ]
    yield case("rename a folder into another", tree, ("root", "rename", b"a/b", b"c/b"), ("root", "listdir", b"c/b"))
    yield case(
        "rename a folder below itself", tree, ("root", "rename", b"a", b"a/b/a"), ("root", "rename", b"a/b", b"a")
    )
    yield case(
        "exchange folders",
        tree,
        ("root", "renameat2", b"a/b", b"c", EXCHANGE),
        ("root", "listdir", b"a/b"),
        ("root", "listdir", b"c"),
        ("root", "renameat2", b"a/b", b"c", EXCHANGE),
    )
    yield case(
        "exchange with what is above",
        tree,
        ("root", "renameat2", b"a", b"a/b", EXCHANGE),
        ("root", "renameat2", b"a/b", b"a", EXCHANGE),
        ("root", "renameat2", b"a/b/f", b"a", EXCHANGE),
    )
    yield case(
        "exchange a file and a folder",
        tree,
        ("root", "renameat2", b"a/b/f", b"c", EXCHANGE),
        ("root", "listdir", b"a/b/f"),
        ("root", "renameat2", b"a/b/f", b"c", EXCHANGE),
    )
    yield case(
        "exchange with missing",
        tree,
        ("root", "renameat2", b"a", b"m", EXCHANGE),
        ("root", "renameat2", b"m", b"a", EXCHANGE),
    )
    yield case("exchange with itself", tree, ("root", "renameat2", b"a", b"a", EXCHANGE))
    yield case("whiteout", make("file", b"x"), ("root", "renameat2", b"x", b"y", WHITEOUT))
    yield case("rename missing", ("root", "rename", b"x", b"y"), ("root", "rename", b"x", b"d/y"))
    yield case(
        "rename dots",
        make("dir", b"d"),
        ("root", "rename", b"d/.", b"e"),
        ("root", "rename", b"d/..", b"e"),
        ("root", "rename", b"d", b"."),
    )
    yield case(
        "rename over an open file",
        make("file", b"x"),
        make("file", b"y"),
        ("root", "open", "f", b"y", os.O_RDWR),
        ("root", "rename", b"x", b"y"),
        ("root", "fstat", "f"),
        ("root", "write", "f", b"old"),
    )
    yield case(
        "rename, then make again",
        make("file", b"x"),
        ("root", "rename", b"x", b"y"),
        make("file", b"x"),
        ("root", "rename", b"y", b"x"),
    )


# ---- times, attributes, names


def utimens() -> Iterator[Case]:
    now, omit = (0, UTIME_NOW), (0, UTIME_OMIT)
    for kind in KINDS:
        for user in ("root", "alice", "bob"):
            for times in (
                ((1000, 1), (2000, 999_999_999)),
                (now, now),
                (omit, (5, 0)),
                ((5, 0), omit),
                (omit, omit),
                (now, omit),
                (omit, now),
                ((5, 0), now),
            ):
                for follow in (True, False):
                    yield case(
                        f"utimens {kind} {times} {follow} {user}",
                        make(kind, b"x", ALICE),
                        (user, "utimens", b"x", *times, follow),
                    )
    for mode in (0o666, 0o444, 0o222, 0o0):
        for user in ("alice", "bob"):
            yield case(
                f"touch {mode:o} {user}",
                make("file", b"x", ALICE, mode),
                (user, "utimes_now", b"x"),
                (user, "utimens", b"x", (1, 2), (3, 4)),
                (user, "utimens", b"x", omit, omit),
            )
    for seconds in (0, -1, 1 << 31, (1 << 32) + 5, -(1 << 31)):
        yield case(f"utimens {seconds}", make("file", b"x"), ("root", "utimens", b"x", (seconds, 0), (seconds, 500)))
    yield case(
        "utimens bad",
        make("file", b"x"),
        ("root", "utimens", b"x", (0, 1_000_000_000), (0, 0)),
        ("root", "utimens", b"x", (0, 0), (0, -1)),
    )


def xattrs() -> Iterator[Case]:
    names = (
        "user.a",
        "user." + "n" * 250,
        "user." + "n" * 251,
        "user.",
        "trusted.a",
        "security.a",
        "system.a",
        "a",
        "other.a",
    )
    for kind in KINDS:
        for user in ("root", "alice", "bob"):
            for name in ("user.a", "trusted.a", "security.a"):
                yield case(
                    f"xattr {name} {kind} {user}",
                    make(kind, b"x", ALICE),
                    (user, "setxattr", b"x", name, b"value", 0, False),
                    (user, "getxattr", b"x", name, None, False),
                    ("root", "listxattr", b"x", False),
                    (user, "listxattr", b"x", False),
                    (user, "removexattr", b"x", name, False),
                )
    for name in names:
        yield case(
            f"xattr {name[:12]} {len(name)}",
            make("file", b"x"),
            ("root", "getxattr", b"x", name),
            ("root", "removexattr", b"x", name),
            ("root", "setxattr", b"x", name, b"v"),
            ("root", "getxattr", b"x", name),
            ("root", "listxattr", b"x"),
            ("root", "removexattr", b"x", name),
            ("root", "getxattr", b"x", name),
        )
    for flags in (os.XATTR_CREATE, os.XATTR_REPLACE):
        yield case(
            f"xattr flags {flags}",
            make("file", b"x"),
            ("root", "setxattr", b"x", "user.a", b"1", flags),
            ("root", "setxattr", b"x", "user.b", b"1"),
            ("root", "setxattr", b"x", "user.b", b"2", flags),
            ("root", "getxattr", b"x", "user.b"),
        )
    yield case(
        "xattr sizes",
        make("file", b"x"),
        ("root", "setxattr", b"x", "user.a", b"12345"),
        ("root", "getxattr", b"x", "user.a", 0),
        ("root", "getxattr", b"x", "user.a", 4),
        ("root", "getxattr", b"x", "user.a", 5),
        ("root", "listxattr_size", b"x", 0),
        ("root", "listxattr_size", b"x", 3),
        ("root", "listxattr_size", b"x", 100),
    )
    for size in (0, 1, 3000, 40_000, 65_537):
        yield case(
            f"xattr of {size}",
            make("file", b"x"),
            ("root", "setxattr", b"x", "user.a", b"v" * size),
            ("root", "getxattr", b"x", "user.a"),
        )
    for mode in (0o600, 0o640, 0o200, 0o400):
        yield case(
            f"xattr needs {mode:o}",
            make("file", b"x", ALICE, mode),
            ("root", "setxattr", b"x", "user.a", b"1"),
            ("alice", "setxattr", b"x", "user.a", b"2"),
            ("carol", "getxattr", b"x", "user.a"),
            ("bob", "getxattr", b"x", "user.a"),
            ("bob", "setxattr", b"x", "user.a", b"2"),
            ("alice", "getxattr", b"x", "user.a"),
        )
    yield case(
        "xattr in a sticky folder",
        make("dir", b"x", ALICE, 0o1777),
        ("bob", "setxattr", b"x", "user.a", b"1"),
        ("alice", "setxattr", b"x", "user.a", b"1"),
    )
    yield case(
        "capability goes with a write",
        make("file", b"x", 0, 0o755),
        ("root", "setxattr", b"x", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")),
        ("root", "open", "f", b"x", os.O_WRONLY),
        ("root", "write", "f", b"1"),
        ("root", "listxattr", b"x"),
    )


def names() -> Iterator[Case]:
    for name in (
        b"\xff\xfe",
        b"a\xc3",
        "\u0105".encode(),
        b"a\nb",
        b" ",
        b"...",
        b"-",
        b"a" * 200,
        "ü".encode() * 127,
        b"con:",
        b"a\\b",
        b"\x01",
    ):
        yield case(
            f"name {name[:9]!r}",
            make("file", name),
            ("root", "listdir", b"."),
            ("root", "rename", name, b"x"),
            ("root", "mkdir", name),
            ("root", "symlink", name, b"y"),
            ("root", "readlink", b"y"),
        )
    deep = b"/".join([b"d" * 200] * 19)
    steps: list[Step] = [("root", "mkdir", deep[: n * 201 + 200]) for n in range(19)]
    rest = 4095 - len(deep) - 1
    yield case(
        "path of 4095 bytes",
        steps,
        ("root", "open", "f", deep + b"/" + b"f" * rest, os.O_CREAT | os.O_RDWR),
        ("root", "stat", deep + b"/" + b"f" * rest),
        ("root", "unlink", deep + b"/" + b"f" * rest),
        ("root", "mkdir", deep + b"/" + b"f" * rest),
        ("root", "mkdir", deep + b"/" + b"f" * (rest + 1)),
    )
    yield case(
        "path beyond 4096 bytes",
        steps,
        ("root", "chdir", deep),
        [
            ("root", "mkdir", b"e" * 250),
            ("root", "chdir", b"e" * 250),
            *make("file", b"f" * 100),
            ("root", "rename", b"f" * 100, b"g" * 200),
            ("root", "truncate", b"g" * 200, 3),
            ("root", "symlink", b"t", b"s"),
            ("root", "listdir", b"."),
        ],
    )


def what_cannot_be() -> Iterator[Case]:
    """What the kernel or pyfuse3 do not give a mount of ours: see differences.py."""
    opened = [
        *make("file", b"x"),
        *make("file", b"y"),
        ("root", "open", "f", b"x", os.O_RDWR),
        ("root", "open", "g", b"y", os.O_RDWR),
    ]
    yield case("O_TMPFILE", ("root", "open", "f", b".", os.O_TMPFILE | os.O_RDWR))
    yield case(
        "SEEK_DATA",
        opened,
        ("root", "truncate", b"x", 1 << 20),
        ("root", "pwrite", "f", b"x", 1 << 19),
        ("root", "lseek", "f", 8192, os.SEEK_DATA),
    )
    yield case("SEEK_HOLE", opened, ("root", "truncate", b"x", 1 << 20), ("root", "lseek", "f", 0, os.SEEK_HOLE))
    yield case("FICLONE", opened, ("root", "clone", "f", "g"))
    yield case("FS_IOC_GETFLAGS", opened, ("root", "getflags", "f"))
    yield case("birth time", opened, ("root", "has_birth_time", b"x"))
    yield case("syncfs", opened, ("root", "syncfs", "f"))
    fifo: Step = ("root", "open", "f", b"p", os.O_RDWR | os.O_NONBLOCK)
    yield case("fifo: write", ("root", "mkfifo", b"p"), fifo, ("root", "write", "f", b"some"), ("root", "read", "f", 9))


GROUPS = {
    "chmod": chmod,
    "chown": chown,
    "truncate": truncate,
    "fallocate": fallocate,
    "creating": creating,
    "symlink": symlink,
    "link": link,
    "opening": opening,
    "locks": locks,
    "programs": programs,
    "removing": removing,
    "renaming": renaming,
    "utimens": utimens,
    "xattrs": xattrs,
    "names": names,
    "what_cannot_be": what_cannot_be,
}
