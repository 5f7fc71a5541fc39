"""What open, rename and the other calls on names must answer: every combination, asked of a real file system.

A case is a folder with a few things in it, and steps (differ_side.py) in that folder. What a plain file system answers,
and what stands in the folder afterwards, is what is right; nothing of that is written down here.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from differ_side import RENAME_NOREPLACE, Outcome, Side, Step

RENAME_EXCHANGE = 2
RENAME_FLAGS = (0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_NOREPLACE | RENAME_EXCHANGE)
OPTIONS = (os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_DIRECTORY, os.O_NOFOLLOW)
SELDOM = (os.O_SYNC, os.O_DSYNC, os.O_NONBLOCK, os.O_NOATIME, os.O_PATH, os.O_DIRECT)
ACCESS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)
CONTENT = b"0123456789"

# kind -> what stands in the folder: a path with "/" at its end is a folder, a pair is a symlink, all else are files
KINDS: dict[str, tuple[str | tuple[str, str], ...]] = {
    "absent": (),
    "file": ("x",),
    "empty": ("x/",),
    "folder": ("x/", "x/below"),
    "to_file": ("file", ("x", "file")),
    "to_folder": ("folder/", "folder/below", ("x", "folder")),
    "dangling": (("x", "nowhere"),),
    "to_itself": (("x", "x"),),
}


@dataclass(frozen=True)
class Case:
    """things: what is there before, in order; steps: what is done."""

    name: str
    things: tuple[str | tuple[str, str], ...]
    steps: tuple[Step, ...]


def opens() -> Iterator[Case]:
    """Every flag of open(2) with every kind of thing, by its name and by its name with a slash behind."""
    for kind, things in KINDS.items():
        for access, *chosen in product(ACCESS, *((0, option) for option in OPTIONS)):
            flags = access | sum(chosen)
            for path in ("x", "x/"):
                yield Case(f"open-{kind}-{flags:o}-{path}", things, _used(path, flags))


def odd_opens() -> Iterator[Case]:
    """The flags that programs use seldom, one at a time, with every two of the others."""
    for kind, things in KINDS.items():
        for access, one, other, seldom in product(ACCESS, (0, *OPTIONS), (0, *OPTIONS), SELDOM):
            if one <= other:
                flags = access | one | other | seldom
                # Sizes that O_DIRECT takes differ from disk to disk.
                steps = _used("x", flags) if seldom != os.O_DIRECT else (("open", 0, "x", flags, 0o640), ("fstat", 0))
                yield Case(f"open-{kind}-{flags:o}", things, steps)


def _used(path: str, flags: int) -> tuple[Step, ...]:
    return (
        ("open", 0, path, flags, 0o640), ("fstat", 0), ("read", 0, 4), ("pwrite", 0, 2, 7, 3),
        ("write", 0, 9, 2), ("seek", 0, 0, os.SEEK_CUR), ("ftruncate", 0, 5), ("close", 0),
    )  # fmt: skip


def renames() -> Iterator[Case]:
    """Every kind of thing over every kind of thing."""
    for (old, olds), (new, news) in product(KINDS.items(), KINDS.items()):
        things = (
            "from/", *(_below("from", thing) for thing in olds), "to/", *(_below("to", thing) for thing in news),
        )  # fmt: skip
        for flag, end in product(RENAME_FLAGS, ("", "/")):
            source, target = f"from/x{end}", f"to/x{end}"
            steps: tuple[Step, ...] = (
                ("open", 0, "to/x", os.O_RDONLY), ("open", 1, "from/x", os.O_RDONLY),
                ("renameat2", source, target, flag), ("fstat", 0), ("fstat", 1), ("read", 0, 20), ("read", 1, 20),
                ("lstat", "to/x"), ("lstat", "from/x"),
            )  # fmt: skip
            yield Case(f"rename-{old}-{new}-{flag}{end}", things, steps)


def odd_renames() -> Iterator[Case]:
    """Over itself, below itself, over what it lies in, and names that cannot be."""
    things = ("a/", "a/b/", "a/b/c/", "a/b/f", "f", ("l", "f"))
    for old, new in product(("a", "a/b", "a/b/f", "f", "l", "", ".", "a/.", "a/b/.."), repeat=2):
        for flag in RENAME_FLAGS:
            yield Case(f"rename-{old}-{new}-{flag}", things, (("renameat2", old, new, flag), ("lstat", new)))


def names() -> Iterator[Case]:
    """The other calls on names."""
    for kind, things in KINDS.items():
        for path in ("x", "x/", "x/y", "x/.", "x/.."):
            for step in (
                ("mkdir", path), ("rmdir", path), ("unlink", path), ("symlink", "t", path), ("truncate", path, 3),
                ("truncate", path, 30), ("readlink", path), ("listdir", path), ("stat", path), ("lstat", path),
                ("chmod", path, 0o600), ("utimens", path, 10**18), ("setxattr", path, "user.a", 1, 5, 0),
                ("getxattr", path, "user.a"), ("listxattr", path), ("removexattr", path, "user.a"),
            ):  # fmt: skip
                yield Case(f"{step[0]}-{kind}-{path}", things, (step, ("lstat", "x")))
    for name in ("n" * 255, "n" * 256, "\xfc" * 127, "\xfc" * 128, "n" * 5000):
        for step in (
            ("mkdir", name), ("open", 0, name, os.O_WRONLY | os.O_CREAT), ("symlink", "t", name), ("lstat", name),
            ("rename", "x", name), ("unlink", name), ("rmdir", name), ("renameat2", name, "x", 0),
        ):  # fmt: skip
            yield Case(f"{step[0]}-long-{len(name)}", ("x",), (step,))
    for size in (1, 4094, 4095, 4096):
        yield Case(f"symlink-{size}", (), (("symlink", "t" * size, "x"), ("lstat", "x"), ("readlink", "x")))
    yield Case("symlink-empty", (), (("symlink", "", "x"),))


def _below(folder: str, thing: str | tuple[str, str]) -> str | tuple[str, str]:
    return (f"{folder}/{thing[0]}", thing[1]) if isinstance(thing, tuple) else f"{folder}/{thing}"


def furnish(root: Path, case: Case) -> None:
    """Make what is there before, in a new folder."""
    root.mkdir()
    for thing in case.things:
        if isinstance(thing, tuple):
            (root / thing[0]).symlink_to(thing[1])
        elif thing.endswith("/"):
            (root / thing).mkdir()
        else:
            (root / thing).write_bytes(CONTENT)


def answers(root: Path, case: Case) -> list[Outcome]:
    """What the steps answer in a furnished folder, and then the whole of it, which is removed."""
    side = Side(str(root), helper=False)
    try:
        found = [side.do(step) for step in case.steps]
        found.append(side.tree())
    finally:
        side.close()
        shutil.rmtree(root)
    return found


def difference(case: Case, right: list[Outcome], got: list[Outcome]) -> str:
    """Where the answers part, '' if nowhere."""
    for step, theirs, ours in zip((*case.steps, ("tree",)), right, got, strict=True):
        if theirs != ours:
            return f"{case.name}: {step!r}\n  plain:   {theirs!r}\n  mounted: {ours!r}"
    return ""
