"""A program that changes a mount and always knows what must be there, and one that watches another machine's mount.

    chaos.py write MOUNT FOLDER SEED PAUSE_MS   until stdin ends; prints a line for each step
    chaos.py watch MOUNT FOLDER                 until stdin ends; prints what it has seen, as JSON

FOLDER, in the mount, is theirs alone.

The writer's changes come from the seed alone. Should the mount die under it, it waits for the next one, and then what
is there must be what some prefix of its changes left: at least up to the last close or fsync that had returned, at most
up to the change that was cut off. It goes on from there, so that in the end all of its changes have been made.
"""

import contextlib
import errno
import hashlib
import json
import os
import random
import select
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any

Op = list[Any]
Item = tuple[Any, ...]  # ("f", mode, content) | ("l", target) | ("d", mode)
Tree = dict[str, Item]

MOVED = 3  # folders that are renamed as a whole once they are published
CHILDREN = 5
FILES_MAX = 60
PIECE = 4096  # bytes of one write
REMOUNT_S = 60.0


def body(tag: int, size: int) -> bytes:
    """`size` bytes that belong to this change and no other."""
    unit = b"%d." % tag
    return (unit * (size // len(unit) + 1))[:size]


# ---- what is to be done


def changes(seed: int) -> Iterator[tuple[Op, Tree]]:
    """Every change with the tree it leaves; without end. The first ones build what later ones move."""
    tree: Tree = {}
    rnd = random.Random(seed)
    for op in [*_built(), *_picked(rnd, tree)]:
        apply(tree, op)
        yield op, tree
    held: list[str] = []
    tag = 1000
    while True:
        for op in _next(rnd, tree, held, tag):
            apply(tree, op)
            yield op, tree
        tag += 10


def setup_length() -> int:
    """How many changes come first, to be published before anything is killed."""
    return len(_built())


def _built() -> list[Op]:
    ops: list[Op] = [["mkdir", "run"]]
    for m in range(MOVED):
        ops.append(["mkdir", f"run/build{m}"])
        ops += [["write", f"run/build{m}/c{n}", 10 * m + n, 3000 * n, False] for n in range(CHILDREN)]
        ops.append(["rename", f"run/build{m}", f"run/m{m}-0"])
    return ops


def _picked(rnd: random.Random, tree: Tree) -> list[Op]:
    del tree
    return [["mkdir", f"run/d{n}"] for n in range(rnd.randint(3, 5))]


def _next(rnd: random.Random, tree: Tree, held: list[str], tag: int) -> list[Op]:
    """One to three changes that are possible now. held: files that are open since a change of the past."""
    mine = {path: item for path, item in tree.items() if "/m" not in path and path not in held}
    files = sorted(path for path, item in mine.items() if item[0] == "f")
    folders = sorted(path for path, item in mine.items() if item[0] == "d" and path.startswith("run/d"))
    free_folders = [path for path in folders if not any(other.startswith(f"{path}/") for other in held)]
    size = rnd.choice([0, 1, 500, 5000, 20_000, 70_000, 400_000])
    new = f"{rnd.choice([*folders, 'run'])}/f{tag}" if rnd.random() < 0.8 else f"top{tag}"
    choice = rnd.random()
    if (choice < 0.30 and len(files) < FILES_MAX) or len(files) < 5:
        return [["write", new, tag, size, rnd.random() < 0.3]]
    path = rnd.choice(files)
    content = tree[path][2]
    if choice < 0.42:
        return [["write", path, tag, size, rnd.random() < 0.3]]
    if choice < 0.50:
        return [["patch", path, rnd.randint(0, len(content)), tag, size]]
    if choice < 0.55:
        return [["truncate", path, rnd.randint(0, len(content) + 1000)]]
    if choice < 0.63:
        return [["write", f"{path}.tmp", tag, size, True], ["rename", f"{path}.tmp", path]]
    if choice < 0.70:
        return [["rename", path, new]]
    if choice < 0.76:
        m = rnd.randrange(MOVED)
        old = next(name for name in tree if name.startswith(f"run/m{m}-") and name.count("/") == 1)
        return [["rename", old, f"run/m{m}-{tag}"]]
    if choice < 0.80 and free_folders:
        return [["rename", rnd.choice(free_folders), f"run/d{tag}"]]
    if choice < 0.84:
        return [["symlink", f"{path}-{tag}", f"run/l{tag % 7}"]] if f"run/l{tag % 7}" not in tree else []
    if choice < 0.86:
        return [["chmod", path, rnd.choice([0o600, 0o644, 0o755])]]
    if choice < 0.92:
        return _held(rnd, held, new, tag, size)
    if choice < 0.94 and len(folders) < 6:
        return [["mkdir", f"run/d{tag}"]]
    if choice < 0.96 and len(free_folders) > 3:
        folder = rnd.choice(free_folders)
        return [*(["unlink", name] for name in mine if name.startswith(f"{folder}/")), ["rmdir", folder]]
    links = [name for name, item in tree.items() if item[0] == "l"]
    gone = [rnd.choice([*files, *links]) for _ in range(len(files) // 20 + 1)]
    return [["unlink", name] for name in dict.fromkeys(gone)]


def _held(rnd: random.Random, held: list[str], new: str, tag: int, size: int) -> list[Op]:
    if held and rnd.random() < 0.6:
        path = held.pop(rnd.randrange(len(held)))
        return [["more", path, tag, size]]
    if len(held) >= 3:
        return []
    held.append(new)
    return [["hold", new, tag, size]]


def apply(tree: Tree, op: Op) -> None:
    """What the change leaves."""
    kind, path, *rest = op
    if kind == "mkdir":
        tree[path] = ("d", 0o755)
    elif kind in ("write", "hold"):
        mode = tree[path][1] if path in tree else 0o644
        tree[path] = ("f", mode, body(rest[0], rest[1]))
    elif kind in ("patch", "more", "truncate"):
        tree[path] = ("f", tree[path][1], list(stages(tree[path][2], op))[-1])
    elif kind == "chmod":
        tree[path] = ("f", rest[0], tree[path][2])
    elif kind == "symlink":
        tree[rest[0]] = ("l", path)
    elif kind in ("unlink", "rmdir"):
        del tree[path]
    elif kind == "rename":
        for name in [name for name in tree if name == path or name.startswith(f"{path}/")]:
            tree[rest[0] + name[len(path) :]] = tree.pop(name)


def stages(before: bytes | None, op: Op) -> Iterator[bytes]:
    """The contents that the file has, one after the other, while the change is made."""
    kind, _, *rest = op
    if kind in ("write", "hold"):
        new = body(rest[0], rest[1])
        for end in _cuts(0, len(new)):
            yield new[:end]
    elif kind in ("patch", "more"):
        assert before is not None
        at = rest[0] if kind == "patch" else len(before)
        new = body(rest[-2], rest[-1])
        for end in _cuts(at, len(new)):
            yield before[:at] + new[:end] + before[at + end :]
    elif kind == "truncate":
        assert before is not None
        yield before[: rest[0]].ljust(rest[0], b"\0")


def _cuts(at: int, size: int) -> list[int]:
    """How much of `size` bytes for offset `at` may be written: whole pieces, which the kernel cuts at pages."""
    pages = range(-at % PIECE, size, PIECE)
    return [*sorted({*range(0, size, PIECE), *pages}), size]


def expected(seed: int, count: int) -> tuple[Tree, dict[str, set[bytes]]]:
    """The tree after `count` changes; and every content that a file of each name (without its folder) has had.

    Between two changes, that is: what one open has left half is not among them. Folders are left out because another
    machine learns of a folder's rename before what was changed in it just then.
    """
    seen: dict[str, set[bytes]] = {}
    for number, (op, tree) in enumerate(changes(seed), 1):
        path = op[2] if op[0] == "rename" else op[1]
        if tree.get(path, ("",))[0] == "f":
            contents = seen.setdefault(_name(path), set())
            if op[0] == "rename":
                contents |= seen[_name(op[1])]
            contents.add(digest(tree[path][2]))
        if number == count:
            return dict(tree), seen
    raise AssertionError("changes end")


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


# ---- what is there


def scan(root: str, below: str = "") -> Tree:
    """Everything below root, with every byte."""
    found: Tree = {}
    with os.scandir(f"{root}/{below}") as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        path = f"{below}/{entry.name}" if below else entry.name
        mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
        if entry.is_symlink():
            found[path] = ("l", os.readlink(entry.path))
        elif entry.is_dir():
            found[path] = ("d", mode)
            found.update(scan(root, path))
        else:
            with open(entry.path, "rb") as file:
                found[path] = ("f", mode, file.read())
    return found


def difference(wanted: Tree, found: Tree) -> list[str]:
    """What differs, in words."""
    lines = []
    for path in sorted({*wanted, *found}):
        want, have = wanted.get(path), found.get(path)
        if want != have:
            lines.append(f"{path}: wanted {_brief(want)}, found {_brief(have)}")
    return lines


def _brief(item: Item | None) -> str:
    if item is None or item[0] != "f":
        return str(item)
    return f"file {item[1]:o} of {len(item[2])} bytes {item[2][:12]!r}..{item[2][-12:]!r}"


# ---- the writer


class Writer:
    def __init__(self, mountpoint: str, folder: str, seed: int, pause_s: float) -> None:
        self.mountpoint = mountpoint
        self.root = f"{mountpoint}/{folder}"
        self.pause_s = pause_s
        self.source = changes(seed)
        self.tree: Tree = {}
        self.done: list[tuple[Op, Tree]] = []  # since the last durable change: each with the tree before it
        self.open: dict[str, int] = {}
        self.count = 0
        self.rnd = random.Random(seed + 1)

    def run(self) -> None:
        redo: list[Op] = []
        setup = setup_length()
        os.makedirs(self.root, exist_ok=True)
        while not self._is_told_to_stop():
            if self.count == setup and not redo:
                self._await_line()
            op = redo.pop(0) if redo else next(self.source)[0]
            try:
                self._do(op)
            except OSError as error:
                say("error", self.count, error.errno, *op)
                redo = [*self._recovered(op), *redo]
                continue
            self._note(op)
            time.sleep(self.pause_s * self.rnd.random())
        for op in redo:
            self._do(op)
            self._note(op)
        for path in list(self.open):
            self._close(path)
        say("end", self.count)

    def _await_line(self) -> None:
        """The setup is made: go on when told."""
        say("setup", self.count)
        sys.stdin.readline()

    def _is_told_to_stop(self) -> bool:
        return self.count > setup_length() and bool(select.select([sys.stdin], [], [], 0)[0])

    def _note(self, op: Op) -> None:
        before = dict(self.tree)
        apply(self.tree, op)
        self.count += 1
        self.done.append((op, before))
        if op[0] in ("write", "patch", "hold", "more"):
            self.done.clear()  # a close or fsync has returned: it and all before it are promised
        say("done", self.count)

    def _do(self, op: Op) -> None:
        kind, path, *rest = op
        name = f"{self.root}/{path}"
        if kind == "mkdir":
            os.mkdir(name, 0o755)
        elif kind == "write":
            self._write(name, os.O_CREAT | os.O_TRUNC, 0, body(rest[0], rest[1]), sync=rest[2])
        elif kind == "patch":
            self._write(name, 0, rest[0], body(rest[1], rest[2]))
        elif kind == "truncate":
            os.truncate(name, rest[0])
        elif kind == "rename":
            os.rename(name, f"{self.root}/{rest[0]}")
        elif kind == "symlink":
            os.symlink(path, f"{self.root}/{rest[0]}")
        elif kind == "chmod":
            os.chmod(name, rest[0])
        elif kind == "unlink":
            os.unlink(name)
        elif kind == "rmdir":
            os.rmdir(name)
        elif kind == "hold":
            self.open[path] = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            _put(self.open[path], 0, body(rest[0], rest[1]))
            os.fsync(self.open[path])
        elif kind == "more":
            if path not in self.open:
                self.open[path] = os.open(name, os.O_WRONLY)
            _put(self.open[path], len(self.tree[path][2]), body(rest[0], rest[1]))
            self._close(path)

    def _write(self, name: str, flags: int, at: int, data: bytes, sync: bool = False) -> None:
        fd = os.open(name, os.O_WRONLY | flags, 0o644)
        try:
            _put(fd, at, data)
            if sync:
                os.fsync(fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(fd)
            raise
        os.close(fd)

    def _close(self, path: str) -> None:
        os.close(self.open.pop(path))

    # ---- after a death

    def _recovered(self, cut: Op) -> list[Op]:
        """Wait for the mount, check what is there, and say what has to be done again."""
        deadline = time.monotonic() + REMOUNT_S
        found = None
        while found is None:
            if time.monotonic() > deadline:
                say("wrong", self.count, "the mount did not come back")
                sys.exit(1)
            time.sleep(0.01)
            for path in list(self.open):
                with contextlib.suppress(OSError):
                    self._close(path)
            with contextlib.suppress(OSError):
                if os.path.ismount(self.mountpoint):
                    os.makedirs(self.root, exist_ok=True)
                    found = scan(self.root)
        # Promised is what self.done begins on; each later change may have been made or not, in order.
        candidates = [*self.done, (cut, dict(self.tree))]
        for kept in range(len(candidates), -1, -1):
            if kept == len(candidates):
                tree, op = dict(self.tree), None
                with contextlib.suppress(KeyError):  # never begun: it needs what is not there
                    apply(tree, cut)
            else:
                op, tree = candidates[kept]
            if self._fits(found, tree, op):
                say("resumed", self.count, kept - len(self.done))
                redo = [op for op, _ in candidates[kept:]]
                if kept <= len(self.done):
                    self.count -= len(self.done) - kept
                    self.tree = dict(candidates[kept][1])
                    del self.done[kept:]
                    return redo
                if cut[0] in ("write", "patch", "hold", "more"):
                    return [cut]  # all of its bytes are there, but its close had not returned: interrupted
                self._note(cut)
                return []
        promised = candidates[0][1]
        say("wrong", self.count, f"cut off: {cut}", *(op for op, _ in self.done), *difference(promised, found)[:20])
        sys.exit(1)

    def _fits(self, found: Tree, tree: Tree, begun: Op | None) -> bool:
        """True if this tree is there, perhaps with a part of the next change to a file."""
        if found == tree:
            return True
        if begun is None or begun[0] not in ("write", "patch", "hold", "more"):
            return False
        path = begun[1]
        before = tree.get(path)
        there = found.get(path)
        if there is None or there[0] != "f" or {**found, path: None} != {**tree, path: None}:
            return False
        mode = before[1] if before is not None else 0o644
        return there[1] == mode and there[2] in stages(before[2] if before is not None else None, begun)


def _put(fd: int, at: int, data: bytes) -> None:
    for start in range(0, len(data), PIECE):
        piece = data[start : start + PIECE]
        if os.pwrite(fd, piece, at + start) < len(piece):
            raise OSError(errno.ENOTCONN, "the mount died between two pages of one write")


def say(*words: Any) -> None:
    print(*words, flush=True)


# ---- the watcher


def watch(root: str) -> dict[str, Any]:
    """Read everything again and again: every content of each name, what was wrong, which errors reading has met."""
    contents: dict[str, dict[str, str]] = {}
    wrong: list[str] = []
    errors: set[str] = set()
    rounds = 0
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        rounds += 1
        with contextlib.suppress(OSError):
            _check_moved(root, wrong)
        _look(root, "", contents, errors)
    return {"contents": contents, "wrong": wrong[:50], "errors": sorted(errors), "rounds": rounds}


def _check_moved(root: str, wrong: list[str]) -> None:
    """A folder that is renamed is at one place at any time, with everything in it."""
    names = [name for name in os.listdir(f"{root}/run") if name.startswith("m")]
    for m in range(MOVED):
        places = [name for name in names if name.startswith(f"m{m}-")]
        if len(places) != 1:
            wrong.append(f"folder m{m} is at {places}")
            continue
        with contextlib.suppress(FileNotFoundError):
            children = os.listdir(f"{root}/run/{places[0]}")
            if len(children) not in (CHILDREN, 0):  # 0: it was renamed in between, and this one is removed
                wrong.append(f"{places[0]} holds {sorted(children)}")


def _look(root: str, below: str, contents: dict[str, dict[str, str]], errors: set[str]) -> None:
    with contextlib.suppress(OSError), os.scandir(f"{root}/{below}") as entries:
        for entry in list(entries):
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                _look(root, path, contents, errors)
            elif not entry.is_symlink():
                _read(entry.path, path, contents, errors)


def _read(where: str, path: str, contents: dict[str, dict[str, str]], errors: set[str]) -> None:
    step = "open"
    try:
        fd = os.open(where, os.O_RDONLY)
        try:
            step = "read"
            content = b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
        finally:
            os.close(fd)
        contents.setdefault(_name(path), {})[digest(content).hex()] = _brief(("f", 0, content))
    except FileNotFoundError:
        pass
    except OSError as error:
        errors.add(f"{time.time():.3f} {step} {path}: {error.strerror}")


def main(role: str, mountpoint: str, folder: str, *rest: str) -> None:
    os.umask(0o022)
    if role == "write":
        Writer(mountpoint, folder, int(rest[0]), int(rest[1]) / 1000).run()
    else:
        say(json.dumps(watch(f"{mountpoint}/{folder}")))


if __name__ == "__main__":
    main(*sys.argv[1:])
