"""Random schedules of whole machines, checked against a history of what each user did and had seen.

After everything has settled: all machines agree; a content that was written and never knowingly replaced or removed
stands, under NAME or as a sibling; one that was knowingly replaced or removed stands nowhere; nothing is left dirty;
every invariant holds. Where a folder belongs to one machine alone, its person's last word stands, and there is no
sibling: nobody else has said anything.
"""

import contextlib
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from worldkit import World, WorldMachine

from fs.tree.model import DIR
from sync.core.errors import AlreadyExists, NotEmpty, NotFound, TcfsError
from sync.env import Crash
from sync.worker.large import LARGE

pytestmark = pytest.mark.logs_trouble

PATHS = ["a", "b", "d/x", "d/y", "e/x", "e/y"]
DIRS = ["d", "e"]
IN_THE_WAY = (AlreadyExists, NotEmpty, NotFound, FileExistsError, NotADirectoryError, IsADirectoryError)
POINTS = ["publish.before_outbox", "publish.after_outbox", "publish.after_segment_put", "publish.after_head_put"]


@dataclass
class History:
    """Per path, contents by their texts (each is written once); below[t] = the texts whose writer t had seen."""

    written: dict[str, set[str]] = field(default_factory=dict)
    replaced: dict[str, set[str]] = field(default_factory=dict)
    below: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)  # paths below a renamed folder: what came meanwhile has moved as well
    kept: set[tuple[str, str]] = field(
        default_factory=set
    )  # said again by removing its sibling: it may stand after all

    made_again: set[str] = field(default_factory=set)  # folders that were removed, maybe by others a moment ago
    now: dict[str, str | None] = field(default_factory=dict)  # the last word of whoever said anything

    def write(self, path: str, text: str, over: str | None) -> None:
        self.now[path] = text
        self.written.setdefault(path, set()).add(text)
        self.below[path, text] = self._closure(path, over)
        self.replaced.setdefault(path, set()).update(self.below[path, text])

    def remove(self, path: str, over: str | None) -> None:
        self.now[path] = None
        self.replaced.setdefault(path, set()).update(self._closure(path, over))

    def _closure(self, path: str, text: str | None) -> set[str]:
        return set() if text is None else {text} | self.below.get((path, text), set())


class Schedule:
    def __init__(self, root: Path, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.world = World(root, large=(LARGE, 1000, 1)[seed % 3])
        self.machines = [self.world.machine(name) for name in ("yoga", "bates", "cole")[: self.rnd.choice((2, 2, 3))]]
        for machine in self.machines:
            for folder in DIRS:
                if not machine.exists(folder):
                    machine.mkdir(folder)
        self.world.settle()
        self.history = History()
        self.paths = self.rnd.choice((PATHS, ["a"], ["a", "b"], ["a", "d/x"], PATHS[2:]))
        self.is_owned = self.paths == PATHS[2:]  # d is the first machine's, e the second's
        self.serial = 0
        self.trace: list[str] = []

    def text(self) -> str:
        self.serial += 1
        return f"text {self.serial} " + str(self.serial % 10) * self.rnd.choice((0, 0, 300, 3000))

    # ---- users

    def path(self, m: WorldMachine) -> str:
        """A path whose folder is there."""
        path = self.rnd.choice([path for path in self.paths if self.may_change(m, path)] or ["own"])
        folder = path.rpartition("/")[0]
        if folder and self.is_file(m, folder):
            self.remove_file(m, folder)
        if folder and not m.exists(folder):
            m.mkdir(folder)
            self.history.made_again.add(folder)
        return path

    def may_change(self, m: WorldMachine, path: str) -> bool:
        return not self.is_owned or dict(zip(DIRS, self.machines, strict=False)).get(path.partition("/")[0]) is m

    def folder(self, m: WorldMachine) -> str | None:
        """A folder that is there, to be taken away or replaced."""
        found = [folder for folder in DIRS if self.may_change(m, folder) and m.exists(folder)]
        return self.rnd.choice([folder for folder in found if not self.is_file(m, folder)] or [None])

    def is_file(self, m: WorldMachine, path: str) -> bool:
        return m.exists(path) and m.attr(path).kind != DIR

    def text_at(self, m: WorldMachine, path: str) -> str | None:
        folder = path.rpartition("/")[0]
        is_there = (not folder or (m.exists(folder) and not self.is_file(m, folder))) and self.is_file(m, path)
        return m.text(path) if is_there else None

    def remove_file(self, m: WorldMachine, path: str) -> None:
        over = m.text(path)
        m.unlink(path)
        self.history.remove(path, over)

    def remove_tree(self, m: WorldMachine, folder: str) -> None:
        """As rm -rf; siblings go with the rest."""
        for path in [path for path in PATHS if path.startswith(f"{folder}/")]:
            if m.exists(path):
                self.remove_file(m, path)
            while siblings := self.siblings(m, path):
                self.remove_file_beside(m, path, siblings[0])
        m.rmdir(folder)

    def write_new(self, m: WorldMachine, path: str) -> None:
        if m.exists(path) and not self.is_file(m, path):
            return  # others have made a folder there
        self.write_to(m, path, self.text())

    def write_to(self, m: WorldMachine, path: str, text: str) -> None:
        """Under one name, and so under all that the file has there."""
        names, over = self.names_of(m, path), self.text_at(m, path)
        m.write(path, text.encode())
        for name in names:
            self.history.write(name, text, over)

    def names_of(self, m: WorldMachine, path: str) -> list[str]:
        """All names of a file, `path` itself in any case; also one in a folder that the mount has yet to find again."""
        number = m.ino(path) if m.exists(path) else 0
        names = [p for p in PATHS if p == path or (self.text_at(m, p) is not None and m.ino(p) == number)]
        node = m.tree.overlay.node(number)
        keys = node.keys if node is not None else ()
        return list(dict.fromkeys([path, *names, *(m.tree.state.path_at(key) for key in keys)]))

    def maybe_publish(self, m: WorldMachine) -> None:
        if self.rnd.random() < 0.3:
            self.rnd.choice((m.seal, m.publish, m.step))()

    # ---- folders whose paths are used again

    def op_rebuild(self, m: WorldMachine) -> None:
        folder = self.folder(m)
        if folder is None:
            return
        self.maybe_publish(m)
        self.remove_tree(m, folder)
        self.maybe_publish(m)
        if not m.exists(folder):
            m.mkdir(folder)
        for name in self.rnd.sample("xy", self.rnd.choice((1, 2))):
            self.write_new(m, f"{folder}/{name}")

    def op_replace(self, m: WorldMachine) -> None:
        """Another folder, made before, takes the name."""
        folder, other = self.folder(m), f"new-{m.name}"
        if folder is None or m.exists(other):
            return
        m.mkdir(other)
        texts = {name: self.text() for name in self.rnd.sample("xy", self.rnd.choice((1, 2)))}
        for name, text in texts.items():
            m.write(f"{other}/{name}", text.encode())
        self.maybe_publish(m)
        self.remove_tree(m, folder)
        self.maybe_publish(m)
        self.take_name(m, other, folder)
        for name, text in texts.items():
            self.history.write(f"{folder}/{name}", text, None)

    def op_move_through(self, m: WorldMachine) -> None:
        """What is in a folder goes to a new one, which takes its name: all is as before."""
        folder, other = self.folder(m), f"new-{m.name}"
        if folder is None or m.exists(other) or any(self.siblings(m, path) for path in PATHS):
            return
        m.mkdir(other)
        self.maybe_publish(m)
        if any(self.siblings(m, path) for path in PATHS):  # come by that; moved they would be files of their own
            m.rmdir(other)
            return
        texts = {name: m.text(f"{folder}/{name}") or "" for name in m.names(folder)}
        for name, text in texts.items():
            m.rename(f"{folder}/{name}", f"{other}/{name}")
            self.history.kept.add((f"{folder}/{name}", text))
        self.maybe_publish(m)
        try:
            m.rmdir(folder)
            self.maybe_publish(m)
            self.take_name(m, other, folder)
        except IN_THE_WAY:
            for name, text in texts.items():
                self.history.remove(f"{folder}/{name}", text)
            raise

    def take_name(self, m: WorldMachine, other: str, folder: str) -> None:
        m.rename(other, folder)
        self.history.made_again.add(folder)

    def op_other_kind(self, m: WorldMachine) -> None:
        """A file where a folder was; the next who needs the folder makes it again."""
        folder = self.folder(m)
        if folder is not None:
            self.remove_tree(m, folder)
            self.maybe_publish(m)
            self.write_new(m, folder)

    def op_move_folder(self, m: WorldMachine) -> None:
        """What lies below moves as it is shown; it was written at its new place and removed from the old."""
        old, new = self.rnd.sample(DIRS, 2)
        if self.is_owned or self.is_file(m, old) or self.is_file(m, new):
            return
        if not m.exists(old) or (m.exists(new) and m.names(new)):
            return
        moved = {name: text for name in "xy" if (text := m.text(f"{old}/{name}")) is not None}
        m.rename(old, new)
        # What the engine learns before it publishes the move goes along.
        self.history.moved |= {f"{folder}/{name}" for folder in DIRS for name in "xy"}
        for name, text in moved.items():
            self.history.kept.add((f"{new}/{name}", text))
            self.history.write(f"{new}/{name}", text, None)
            self.history.remove(f"{old}/{name}", text)

    def op_put(self, m: WorldMachine) -> None:
        self.write_to(m, self.path(m), self.text())

    def op_link(self, m: WorldMachine) -> None:
        old, new = self.path(m), self.path(m)
        text = self.text_at(m, old)
        if text is None or old == new or m.exists(new):
            return
        if self.names_of(m, old) == [old]:
            self.history.kept.add((old, text))  # published anew, with the link_id of a file that has several
        m.link(old, new)
        self.history.write(new, text, None)
        self.history.kept.add((new, text))
        if self.rnd.random() < 0.5:
            self.maybe_publish(m)
            self.write_to(m, self.rnd.choice((old, new)), self.text())

    def op_save_by_rename(self, m: WorldMachine) -> None:
        path = self.path(m)
        over, text = m.text(path), self.text()
        m.write(f"{path}.new", text.encode())
        m.rename(f"{path}.new", path)
        self.history.write(path, text, over)

    def op_unlink(self, m: WorldMachine) -> None:
        path = self.path(m)
        over = m.text(path)
        if over is not None:
            m.unlink(path)
            self.history.remove(path, over)

    def op_rename(self, m: WorldMachine) -> None:
        old, new = self.path(m), self.path(m)
        text, over = m.text(old), m.text(new)
        if text is None or old == new or new in self.names_of(m, old):
            return
        m.rename(old, new)
        self.history.write(new, text, over)
        self.history.remove(old, text)
        self.write_to(m, new, self.text())  # so that every content is written once

    def op_hold(self, m: WorldMachine) -> None:
        path = self.path(m)
        if m.exists(path):
            m.open(path, write=True)

    def op_write_held(self, m: WorldMachine) -> None:
        """Through a handle that was opened before: to all names that the file has by now, or, if others have changed
        its name meanwhile, as a version of its own, beside theirs.
        """
        if not m.files:
            return
        file = self.rnd.choice(m.files)
        before = m.bytes_of(file).decode()
        file.write(0, self.text().encode())
        file.flush()
        node, after = file.node, m.bytes_of(file).decode()
        names = [m.tree.state.path_at(key) for key in node.keys]
        for name in names or [node.lost_path] if not node.unlinked else []:
            assert name is not None
            self.history.write(name, after, before)

    def op_release(self, m: WorldMachine) -> None:
        if m.files:
            m.release(self.rnd.choice(m.files))

    def op_remove_sibling(self, m: WorldMachine) -> None:
        path = self.path(m)
        for name in self.siblings(m, path)[:1]:
            self.remove_file_beside(m, path, name)

    def remove_file_beside(self, m: WorldMachine, path: str, name: str) -> None:
        text, kept = m.text(name), m.text(path)
        m.unlink(name)
        self.history.remove(path, text)
        if kept is not None and text is not None:
            self.history.kept.add((path, kept))
            self.history.below.setdefault((path, kept), set()).update(
                {text} | self.history.below.get((path, text), set())
            )

    # ---- processes

    def op_seal(self, m: WorldMachine) -> None:
        m.seal()

    def op_work(self, m: WorldMachine) -> None:
        m.work()

    def op_note(self, m: WorldMachine) -> None:
        m.note()

    def op_learn(self, m: WorldMachine) -> None:
        m.learn()

    def op_feed(self, m: WorldMachine) -> None:
        m.feed()

    def op_crash_engine(self, m: WorldMachine) -> None:
        with contextlib.suppress(AssertionError), m.crash_at(self.rnd.choice(POINTS)):
            m.work()
        m._env.hooks.clear()

    def op_crash_mount(self, m: WorldMachine) -> None:
        m.tree.overlay.commit()
        m.crash_mount()

    def siblings(self, m: WorldMachine, path: str) -> list[str]:
        folder, _, name = path.rpartition("/")
        if folder and (not m.exists(folder) or self.is_file(m, folder)):
            return []
        prefix = f"{folder}/" if folder else ""
        return [prefix + n for n in m.names(folder) if n.startswith(f"{name}.") and n.endswith(".conflict")]

    def run(self, steps: int) -> None:
        weights = {
            "put": 8, "link": 4, "save_by_rename": 4, "unlink": 4, "rename": 4, "hold": 2, "release": 2,
            "write_held": 4, "remove_sibling": 3, "move_folder": 2, "rebuild": 3, "replace": 3, "move_through": 2,
            "other_kind": 1, "seal": 12, "work": 12, "note": 12, "learn": 14, "feed": 12, "crash_engine": 2,
            "crash_mount": 1,
        }  # fmt: skip
        names = list(weights)
        for _ in range(steps):
            machine = self.rnd.choice(self.machines)
            name = self.rnd.choices(names, [weights[n] for n in names])[0]
            self.trace.append(f"{machine.name} {name}")
            with contextlib.suppress(*IN_THE_WAY):
                getattr(self, f"op_{name}")(machine)  # what others have made there meanwhile is in the way

    def verify(self) -> None:
        self.world.settle()
        self.world.verify()
        for path in dict.fromkeys([*self.paths, *DIRS]):
            written = self.history.written.get(path, set())
            replaced = set(self.history.replaced.get(path, set()))
            replaced -= {text for text in replaced if (path, text) in self.history.kept}
            for machine in self.machines:
                found = self.found(machine, path)
                if path in self.history.moved:
                    other = path.translate({ord("d"): "e", ord("e"): "d"})
                    found |= self.found(machine, other) | self.history.replaced.get(other, set())
                lost = written - self.history.replaced.get(path, set()) - found
                lost -= {text for text in lost if self.has_other_name(machine, path, text)}
                back = found & replaced if path not in self.history.moved else set()
                assert not lost, f"lost on {machine.name} at {path}: {_short(lost)}"
                assert not back, f"came back on {machine.name} at {path}: {_short(back)}"

        for machine in self.machines if self.is_owned else ():
            for path in PATHS[2:]:
                assert machine.text(path) == self.history.now.get(path), f"{path} on {machine.name}"
            assert not [name for name in machine.walk() if name.endswith(".conflict")], machine.name

    def has_other_name(self, machine: WorldMachine, path: str, text: str) -> bool:
        """True of a file that had further names, and keeps those: what is made by now in a new folder of that path has
        this one.
        """
        if path.rpartition("/")[0] not in self.history.made_again:
            return False
        others = [other for other in PATHS if other != path and text in self.history.written.get(other, set())]
        return any(text in self.found(machine, o) | self.history.replaced.get(o, set()) for o in others)

    def found(self, machine: WorldMachine, path: str) -> set[str | None]:
        return {self.text_at(machine, path), *(machine.text(name) for name in self.siblings(machine, path))} - {None}

    def close(self) -> None:
        self.world.close()


def _short(texts: set[str]) -> list[str]:
    return sorted(text[:12] for text in texts)


def run_seed(root: Path, seed: int, steps: int) -> None:
    schedule = Schedule(root / str(seed), seed)
    try:
        schedule.run(steps)
        schedule.verify()
    except (AssertionError, TcfsError, OSError, Crash) as error:
        raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(schedule.trace[-60:])) from error
    finally:
        schedule.close()


@pytest.mark.parametrize("seed", range(12))
def test_a_random_schedule(tmp_path: Path, seed: int) -> None:
    run_seed(tmp_path, seed, 60)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_random_schedules(tmp_path: Path) -> None:
    for seed in range(1000, 1300):
        run_seed(tmp_path, seed, 120)
