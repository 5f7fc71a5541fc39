"""The tree against a dict, while seals, answers and crashes happen in between; at the end another machine sees the
same.
"""

import itertools
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from treekit import Fleet

from fs.tree.files import OpenFile
from fs.tree.model import DIR
from sync.core.errors import AlreadyExists, NotEmpty, NotFound

# An example takes a tenth of a second; exploring takes as many as it is told.
EXAMPLES = 20 if settings().max_examples <= 100 else settings().max_examples
SHM = "/dev/shm" if Path("/dev/shm").is_dir() else None  # databases that sync often
NAMES = ["a", "b", "c.swp"]
FOLDERS = ["", "d", "e", "d/f"]
PATHS = [f"{folder}/{name}" if folder else name for folder in FOLDERS for name in NAMES]
paths = st.sampled_from(PATHS)
folders = st.sampled_from([folder for folder in FOLDERS if folder])
anything = st.sampled_from(PATHS + [folder for folder in FOLDERS if folder])
data = st.binary(min_size=0, max_size=12)
offsets = st.integers(0, 10)


class File:
    def __init__(self) -> None:
        self.data = b""
        self.mode = 0o644

    def write(self, offset: int, data: bytes) -> None:
        if data:
            padded = self.data.ljust(offset, b"\0")
            self.data = padded[:offset] + data + padded[offset + len(data) :]


class TreeMachine(RuleBasedStateMachine):
    """One machine. The model: a dict for a folder, a File for a file."""

    def __init__(self) -> None:
        super().__init__()
        self.temp = tempfile.TemporaryDirectory(dir=SHM)
        self.fleet = Fleet(Path(self.temp.name))
        self.yoga = self.fleet.machine("yoga")
        self.root: dict[str, Any] = {}
        self.handles: list[tuple[OpenFile, File]] = []
        self.counter = itertools.count()

    # ---- the model

    def find(self, path: str) -> Any:
        found: Any = self.root
        for name in path.split("/") if path else ():
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def parent(self, path: str) -> tuple[Any, str]:
        folder, _, name = path.rpartition("/")
        return self.find(folder), name

    def walk(self, folder: dict[str, Any], prefix: str = "") -> dict[str, object]:
        found: dict[str, object] = {}
        for name, item in folder.items():
            if isinstance(item, dict):
                found[prefix + name] = None
                found |= self.walk(item, f"{prefix}{name}/")
            else:
                found[prefix + name] = item.data
        return found

    # ---- rules

    @rule(path=paths, content=data)
    def write(self, path: str, content: bytes) -> None:
        folder, name = self.parent(path)
        if not isinstance(folder, dict) or isinstance(folder.get(name), dict):
            return
        self.yoga.write(path, content)
        file = folder.setdefault(name, File())
        file.data = content

    @rule(path=paths, offset=offsets, content=data)
    def patch(self, path: str, offset: int, content: bytes) -> None:
        file = self.find(path)
        if isinstance(file, File):
            self.yoga.patch(path, offset, content)
            file.write(offset, content)

    @rule(path=paths, size=st.integers(0, 15))
    def truncate(self, path: str, size: int) -> None:
        file = self.find(path)
        if isinstance(file, File):
            self.yoga.tree.setattr(self.yoga.ino(path), size=size)
            file.data = file.data[:size].ljust(size, b"\0")

    @rule(path=paths, mode=st.sampled_from([0o600, 0o644, 0o755]))
    def chmod(self, path: str, mode: int) -> None:
        file = self.find(path)
        if isinstance(file, File):
            self.yoga.tree.setattr(self.yoga.ino(path), mode=mode)
            file.mode = mode

    @rule(path=paths)
    def open(self, path: str) -> None:
        file = self.find(path)
        if isinstance(file, File) and len(self.handles) < 3:
            self.handles.append((self.yoga.open(path, write=True), file))

    @precondition(lambda self: self.handles)
    @rule(which=st.integers(0, 2), offset=offsets, content=data)
    def write_through(self, which: int, offset: int, content: bytes) -> None:
        handle, file = self.handles[which % len(self.handles)]
        handle.write(offset, content) if content else None
        file.write(offset, content)

    @precondition(lambda self: self.handles)
    @rule(which=st.integers(0, 2))
    def close(self, which: int) -> None:
        self.yoga.release(self.handles.pop(which % len(self.handles))[0])

    @rule(path=paths)
    def unlink(self, path: str) -> None:
        folder, name = self.parent(path)
        if isinstance(self.find(path), File):
            self.yoga.unlink(path)
            del folder[name]

    @rule(path=folders)
    def mkdir(self, path: str) -> None:
        folder, name = self.parent(path)
        if not isinstance(folder, dict):
            return
        try:
            self.yoga.mkdir(path)
        except AlreadyExists:
            assert name in folder
        else:
            assert name not in folder
            folder[name] = {}

    @rule(path=folders)
    def rmdir(self, path: str) -> None:
        folder, name = self.parent(path)
        try:
            self.yoga.rmdir(path)
        except NotFound:
            assert not isinstance(folder, dict) or name not in folder
        except NotEmpty:
            assert folder[name]
        except NotADirectoryError:
            assert isinstance(folder[name], File)
        else:
            assert folder[name] == {}
            del folder[name]

    @rule(old=anything, new=anything)
    def rename(self, old: str, new: str) -> None:
        source, target = self.find(old), self.find(new)
        folder, name = self.parent(new)
        if source is None or not isinstance(folder, dict) or old == new or new.startswith(old + "/"):
            return
        if target is not None and isinstance(source, dict) != isinstance(target, dict):
            return
        if isinstance(target, dict) and target:
            return
        try:
            self.yoga.rename(old, new)
        except OSError as error:
            assert error.errno == 18 and isinstance(source, dict)
            return
        old_folder, old_name = self.parent(old)
        del old_folder[old_name]
        folder[name] = source

    @rule(due=st.booleans())
    def seal(self, due: bool) -> None:
        self.fleet.clock.elapsed += 0.6
        self.yoga.seal(only_due=due)

    @rule()
    def publish(self) -> None:
        self.yoga.publish()

    @rule()
    def note(self) -> None:
        self.yoga.note()

    @rule()
    def restart(self) -> None:
        """Handles die unflushed; what was written through them is in the work files all the same."""
        self.yoga.tree.overlay.commit()
        self.handles.clear()
        self.yoga.restart()
        for entry in self.yoga.tree.overlay.all_nodes():
            entry.interrupted = False

    @invariant()
    def same(self) -> None:
        assert self.yoga.walk() == self.walk(self.root)
        for handle, file in self.handles:
            assert self.yoga.bytes_of(handle) == file.data
        self.yoga.check()

    def teardown(self) -> None:
        try:
            for handle, _ in self.handles:
                self.yoga.release(handle)
            self.yoga.cycle()
            left = self.yoga.tree.overlay.all_entries()
            assert [entry for entry in left if not entry.local_only] == []
            assert self.yoga.walk() == self.walk(self.root)
            bates = self.fleet.machine("bates")
            bates.learn()
            expected = {path: item for path, item in self.walk(self.root).items() if not path.endswith(".swp")}
            assert bates.walk() == expected
            for path in expected:
                model = self.find(path)
                if isinstance(model, File):
                    assert bates.attr(path).mode == self.yoga.attr(path).mode == model.mode
                else:
                    assert bates.attr(path).kind == DIR
            self.yoga.check()
        finally:
            self.fleet.close()
            self.temp.cleanup()


TestTree = TreeMachine.TestCase
TestTree.settings = settings(stateful_step_count=40, max_examples=EXAMPLES)
