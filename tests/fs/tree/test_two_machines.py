"""Two machines in any order of changing, sealing, publishing, noting, learning and dying: they agree in the end."""

import itertools
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from treekit import Fleet, Machine

from fs.tree.files import OpenFile
from fs.tree.model import DIR
from sync.core.errors import AlreadyExists, NotEmpty, NotFound, ReadOnly, Stale
from sync.core.paths import is_below

# An example takes a tenth of a second; exploring takes as many as it is told.
EXAMPLES = 12 if settings().max_examples <= 100 else settings().max_examples
SHM = "/dev/shm" if Path("/dev/shm").is_dir() else None  # databases that sync often
PATHS = ["a", "b", "d/a", "d/b", "e/a", "d/f/a"]
FOLDERS = ["d", "e", "d/f"]
who = st.integers(0, 1)
paths = st.sampled_from(PATHS)
anything = st.sampled_from(PATHS + FOLDERS)
REFUSED = (NotFound, AlreadyExists, NotEmpty, ReadOnly, Stale, NotADirectoryError, IsADirectoryError)


class TwoMachines(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.temp = tempfile.TemporaryDirectory(dir=SHM)
        self.fleet = Fleet(Path(self.temp.name))
        self.machines = [self.fleet.machine("yoga"), self.fleet.machine("bates")]
        self.handles: list[tuple[Machine, OpenFile, str]] = []
        self.counter = itertools.count()
        self.last: dict[str, bytes | None] = {}  # path -> what the last change of all left there, if that was a write
        self.newest: bytes | None = None  # what the last change of all wrote, if it wrote

    def content(self) -> bytes:
        self.newest = b"%06d" % next(self.counter)
        return self.newest

    def touched(self, *changed: str) -> None:
        self.newest = None
        for path in list(self.last):
            if any(path == other or is_below(path, other) for other in changed):
                self.last[path] = None

    def folder(self, machine: Machine, path: str) -> bool:
        folder = path.rpartition("/")[0]
        return not folder or (machine.exists(folder) and machine.attr(folder).kind == DIR)

    # ---- users

    @rule(m=who, path=paths)
    def write(self, m: int, path: str) -> None:
        machine = self.machines[m]
        if not self.folder(machine, path) or (machine.exists(path) and machine.attr(path).kind == DIR):
            return
        content = self.content()
        machine.write(path, content)
        self.last[path] = content

    @rule(m=who, path=paths)
    def save_by_rename(self, m: int, path: str) -> None:
        machine = self.machines[m]
        if not self.folder(machine, path) or (machine.exists(path) and machine.attr(path).kind == DIR):
            return
        content = self.content()
        machine.write(path + "~", content)
        machine.rename(path + "~", path)
        self.last[path] = content

    @rule(m=who, path=anything)
    def remove(self, m: int, path: str) -> None:
        machine = self.machines[m]
        try:
            if machine.attr(path).kind == DIR:
                machine.rmdir(path)
            else:
                machine.unlink(path)
        except REFUSED:
            return
        self.touched(path)

    @rule(m=who, path=st.sampled_from(FOLDERS))
    def mkdir(self, m: int, path: str) -> None:
        machine = self.machines[m]
        if self.folder(machine, path) and not machine.exists(path):
            machine.mkdir(path)
            self.touched(path)

    @rule(m=who, old=anything, new=anything)
    def rename(self, m: int, old: str, new: str) -> None:
        machine = self.machines[m]
        try:
            machine.rename(old, new)
        except REFUSED:
            return
        except OSError as error:
            assert error.errno in (18, 22)
            return
        self.touched(old, new)

    @rule(m=who, path=paths)
    def open(self, m: int, path: str) -> None:
        machine = self.machines[m]
        if machine.exists(path) and machine.attr(path).kind != DIR and len(self.handles) < 3:
            self.handles.append((machine, machine.open(path, write=True), path))

    @rule(which=st.integers(0, 2))
    def write_through(self, which: int) -> None:
        if self.handles:
            _, handle, _ = self.handles[which % len(self.handles)]
            if not handle.node.unlinked:
                handle.write(0, self.content())
                self.last.clear()

    @rule(which=st.integers(0, 2))
    def close(self, which: int) -> None:
        if self.handles:
            machine, handle, _ = self.handles.pop(which % len(self.handles))
            machine.release(handle)

    @rule(m=who, n=st.integers(0, 3), how=st.sampled_from(["rm", "over", "away"]))
    def settle_sibling(self, m: int, n: int, how: str) -> None:
        machine = self.machines[m]
        found = [path for path in machine.walk() if path.endswith(".conflict") or ".conflict" in path]
        if not found:
            return
        path = found[n % len(found)]
        name = path.split(".")[0]
        try:
            if how == "rm":
                machine.unlink(path)
            elif how == "over":
                machine.rename(path, name)
            else:
                machine.rename(path, "away")
        except REFUSED:
            return
        self.last.clear()
        self.newest = None

    # ---- what happens by itself

    @rule(m=who)
    def seal(self, m: int) -> None:
        self.fleet.clock.elapsed += 0.6
        self.machines[m].seal()

    @rule(m=who)
    def publish(self, m: int) -> None:
        self.machines[m].publish()

    @rule(m=who)
    def note(self, m: int) -> None:
        self.machines[m].note()

    @rule(m=who)
    def learn(self, m: int) -> None:
        self.machines[m].learn()

    @rule(m=who)
    def cycle(self, m: int) -> None:
        self.machines[m].cycle()

    @rule(m=who)
    def restart(self, m: int) -> None:
        machine = self.machines[m]
        machine.tree.overlay.commit()
        self.handles = [item for item in self.handles if item[0] is not machine]
        machine.restart()
        for node in machine.tree.overlay.all_nodes():
            node.interrupted = False

    @invariant()
    def sound(self) -> None:
        for machine in self.machines:
            machine.check()
            machine.walk()

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.fleet.close()
            self.temp.cleanup()

    def settle(self) -> None:
        for machine, handle, _ in self.handles:
            machine.release(handle)
        for _ in range(4):
            for machine in self.machines:
                machine.learn()
                machine.note()
                machine.cycle()
        for machine in self.machines:
            machine.check()
            assert machine.tree.overlay.all_entries() == []
            assert machine.tree.overlay.all_nodes() == []
            assert machine.tree.overlay.attach == {}
        yoga, bates = self.machines
        every_path = {*yoga.db.all_paths(), *bates.db.all_paths()}
        for path in every_path:
            assert {v.id for v in yoga.db.heads(path)} == {v.id for v in bates.db.heads(path)}, path
        if self.newest is not None:
            live = [head.manifest.content_id for path in every_path for head in yoga.db.heads(path)]
            assert self.newest in [self.fleet.contents[content_id] for content_id in live if content_id]
        for path, content in self.last.items():
            if content is not None:
                held = [self.fleet.contents.get(head.manifest.content_id, b"") for head in yoga.db.heads(path)]
                assert content in held, path


class InTurns(TwoMachines):
    """Every change reaches the other machine before the next: there is never a conflict, and both show the same."""

    @rule()
    def open(self) -> None:
        """No old handles: what is written through them is concurrent by right."""

    @invariant()
    def sound(self) -> None:
        for _ in range(2):
            for machine in self.machines:
                machine.learn()
                machine.note()
                machine.cycle()
        yoga, bates = self.machines
        yoga.note()
        shown = yoga.walk()
        assert shown == bates.walk()
        assert not [path for path in shown if ".conflict" in path]


TestInTurns = InTurns.TestCase
TestInTurns.settings = settings(stateful_step_count=40, max_examples=EXAMPLES)
TestTwoMachines = TwoMachines.TestCase
TestTwoMachines.settings = settings(stateful_step_count=40, max_examples=EXAMPLES)
