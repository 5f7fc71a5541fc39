"""Random schedules of one person at one machine at a time: what everybody shows is what a plain file system would hold.

Nobody else changes anything meanwhile, so there is nothing to conflict: at every moment, whatever is on its way, the
machine itself shows what its person did, and when all has settled every machine shows that. Folders are removed,
renamed and made again all the time, and the same few paths are used again and again.
"""

import contextlib
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from shellkit import Shell
from worldkit import World, WorldMachine

from fs.tree import sealing
from sync.core.errors import TcfsError
from sync.env import Crash

pytestmark = pytest.mark.logs_trouble

FOLDERS, FILES = ("d", "e", "t"), ("x", "y")
POINTS = ["publish.before_outbox", "publish.after_outbox", "publish.after_segment_put", "publish.after_head_put"]
MOUNT_POINTS = ["tree.after_freeze", "tree.before_seal_commit", "tree.after_seal_commit", "note.before_commit"]
DEPTH = 3


class OneWriter:
    def __init__(self, root: Path, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.world = World(root)
        self.machines = [self.world.machine(name) for name in ("yoga", "bates")]
        self.shell = Shell(self.machines[0])
        self.habit = self.rnd.choice((0.0, 0.15, 0.5))  # how often a system call is followed by steps of the processes
        self.shell.between = self.between
        self.serial = 0
        self.trace: list[str] = []

    @property
    def machine(self) -> WorldMachine:
        machine = self.shell.machine
        assert isinstance(machine, WorldMachine)
        return machine

    def between(self) -> None:
        self.check()
        while self.rnd.random() < self.habit:
            self.process()

    def check(self) -> None:
        shown = self.machine.walk()
        assert shown == self.shell.files, f"{self.machine.name} shows {shown}, and not {self.shell.files}"
        linked = self.machine.linked()
        assert linked == self.shell.linked(), f"{self.machine.name} links {linked}, and not {self.shell.linked()}"

    # ---- places

    def folders(self) -> list[str]:
        return ["", *(path for path, content in self.shell.files.items() if content is None)]

    def existing(self, *, folder: bool | None = None) -> str | None:
        found = [p for p, content in self.shell.files.items() if folder is None or (content is None) == folder]
        return self.rnd.choice(found) if found else None

    def place(self, *, folder: bool) -> str:
        """A name in some folder, taken or not; now and then one that is meant for the other kind."""
        parents = [path for path in self.folders() if path.count("/") < DEPTH - 2 or not path]
        parent = self.rnd.choice(parents)
        names = FOLDERS if folder else FILES
        if self.rnd.random() < 0.1:
            names = FOLDERS + FILES
        name = self.rnd.choice(names)
        return f"{parent}/{name}" if parent else name

    def text(self) -> str:
        self.serial += 1
        return f"text {self.serial}"

    # ---- what the person does

    def do_write(self) -> None:
        path = self.place(folder=False)
        if not self.shell.is_dir(path):
            self.say(f"echo > {path}")
            self.shell.write(path, self.text())

    def do_hold(self) -> None:
        """Write, and leave it open."""
        path = self.existing(folder=False)
        if path is None or len(self.machine.files) > 2:
            return
        self.say(f"write to {path}, and leave it open")
        text = self.text().encode()
        self.machine.open(path, write=True, truncate=True).write(0, text)
        self.shell.wrote(path, text)

    def do_release(self) -> None:
        if self.machine.files:
            self.say("close one")
            self.machine.release(self.rnd.choice(self.machine.files))

    def do_mkdir(self) -> None:
        path = self.place(folder=True)
        if path not in self.shell.files:
            self.say(f"mkdir {path}")
            self.shell.mkdir(path)

    def do_remove(self) -> None:
        path = self.existing(folder=False)
        if path is not None:
            self.say(f"rm {path}")
            self.shell.unlink(path)

    def do_remove_tree(self) -> None:
        path = self.existing(folder=True)
        if path is not None:
            self.say(f"rm -rf {path}")
            self.shell.remove_tree(path)

    def do_rename(self) -> None:
        old = self.existing()
        if old is not None:
            self.move(old, self.place(folder=self.shell.is_dir(old)))

    def do_exchange(self) -> None:
        """Of any two things."""
        one, other = self.existing(folder=self.rnd.choice((True, None))), self.existing()
        if one is None or other is None or self.is_below(one, other) or self.is_below(other, one):
            return
        for old, new in ((one, other), (other, one)):
            deep = (p.count("/") for p in self.shell.files if p == old or self.is_below(p, old))
            if self.shell.is_dir(old) and any(depth + new.count("/") > DEPTH + 2 for depth in deep):
                return
        self.say(f"mv --exchange {one} {other}")
        self.shell.exchange(one, other)

    def do_link(self) -> None:
        old, new = self.existing(folder=False), self.place(folder=False)
        if old is not None and new not in self.shell.files:
            self.say(f"ln {old} {new}")
            self.shell.link(old, new)

    def do_change_attributes(self) -> None:
        """Of all names of a file at once: they are one as long as these agree."""
        path = self.existing(folder=False)
        if path is not None:
            self.serial += 1
            mode, mtime_ns = self.rnd.choice([(0o600 + self.serial % 64, None), (None, 10**18 + self.serial)])
            self.say(f"chmod {path}" if mode else f"touch {path}")
            self.machine.tree.setattr(self.machine.ino(path), mode=mode, mtime_ns=mtime_ns)

    def do_swap_in(self) -> None:
        """A folder takes the name of another, which goes before or after."""
        old, new = self.existing(folder=True), self.existing(folder=True)
        if old is None or new is None or old == new or self.is_below(old, new) or self.is_below(new, old):
            return
        if self.rnd.random() < 0.5:
            self.say(f"rm -rf {new}, and then")
            self.shell.remove_tree(new)
            self.move(old, new)
        elif f"{new}.old" not in self.shell.files:
            self.move(new, f"{new}.old")
            self.move(old, new)
            self.say(f"rm -rf {new}.old")
            self.shell.remove_tree(f"{new}.old")

    def do_pass_names_on(self) -> None:
        """Folders rotate by way of another name; one alone goes into a new folder of its own name."""
        chosen: list[str] = []
        for path in self.rnd.sample(self.folders(), len(self.folders())):
            if path and not any(self.is_below(path, other) or self.is_below(other, path) for other in chosen):
                chosen.append(path)
        chosen = chosen[: self.rnd.choice((1, 2, 2, 4))]
        if not chosen or "t.aside" in self.shell.files:
            return
        self.move(chosen[0], "t.aside")
        if chosen[0] in self.shell.files:
            return
        for name, following in itertools.pairwise(chosen):
            self.move(following, name)
        if len(chosen) == 1:
            self.shell.mkdir(chosen[0])
            chosen.append(f"{chosen[0]}/t")
        self.come_back(chosen[-1])

    def do_turn_inside_out(self) -> None:
        """What is in a folder takes its name, with the folder in it."""
        inner = self.rnd.choice([path for path in self.folders() if "/" in path] or [""])
        outer = inner.rpartition("/")[0]
        if not inner or "t.aside" in self.shell.files:
            return
        self.move(inner, "t.aside")
        self.move(outer, f"t.aside/{self.rnd.choice(FOLDERS)}")
        self.come_back(outer)

    def come_back(self, path: str) -> None:
        if "t.aside" in self.shell.files:
            self.move("t.aside", path)
        if "t.aside" in self.shell.files:
            self.shell.remove_tree("t.aside")  # it would be too deep

    def do_rebuild(self) -> None:
        """A tree is removed, and made again with other contents, or some of them the same."""
        top = self.existing(folder=True)
        if top is None:
            return
        tree = {path: content for path, content in self.shell.files.items() if path == top or self.is_below(path, top)}
        self.say(f"rm -rf {top}, and make it again")
        self.shell.remove_tree(top)
        for path, content in sorted(tree.items()):
            if content is None:
                self.shell.mkdir(path)
            elif self.rnd.random() < 0.8:
                self.shell.write(path, content.decode() if self.rnd.random() < 0.3 else self.text())

    def do_move_through(self) -> None:
        """What is in a folder goes to a new one, which takes its name."""
        top = self.existing(folder=True)
        if top is None or f"{top}.new" in self.shell.files:
            return
        self.say(f"mkdir {top}.new; mv {top}/* {top}.new; rmdir {top}; mv {top}.new {top}")
        self.shell.mkdir(f"{top}.new")
        for name in sorted(self.shell.names(top)):
            self.shell.rename(f"{top}/{name}", f"{top}.new/{name}")
        self.shell.rmdir(top)
        self.shell.rename(f"{top}.new", top)

    def do_other_kind(self) -> None:
        """A file where a folder was, or the other way round."""
        path = self.existing()
        if path is None:
            return
        was_dir = self.shell.is_dir(path)
        self.say(f"rm -rf {path}, and make it {'a file' if was_dir else 'a folder'}")
        self.shell.remove_tree(path)
        if was_dir:
            self.shell.write(path, self.text())
        elif path.count("/") < DEPTH - 1:
            self.shell.mkdir(path)

    def do_change_places(self) -> None:
        """Another machine is used from now on, when all has settled."""
        self.world.settle()
        self.verify()
        self.shell.machine = self.rnd.choice(self.machines)
        self.say(f"now at {self.machine.name}")

    def move(self, old: str, new: str) -> None:
        """Unless a file system would refuse it."""
        files = self.shell.files
        parent = new.rpartition("/")[0]
        if (
            old == new
            or self.is_below(new, old)
            or self.is_below(old, new)
            or (parent and not self.shell.is_dir(parent))
        ):
            return
        if self.shell.is_dir(old) and any(
            p.count("/") + new.count("/") > DEPTH + 2 for p in files if self.is_below(p, old)
        ):
            return
        if new in files and (files[old] is None) != (files[new] is None):
            return
        if new in files and files[new] is None and self.shell.names(new):
            return
        self.say(f"mv -T {old} {new}")
        self.shell.rename(old, new)

    @staticmethod
    def is_below(path: str, folder: str) -> bool:
        return path.startswith(f"{folder}/")

    # ---- what the processes do

    def process(self) -> None:
        m, other = self.machine, self.rnd.choice([m for m in self.machines if m is not self.machine])
        steps: dict[str, tuple[int, Callable[[], object]]] = {
            "seal": (10, m.seal),
            "work": (10, m.work),
            "note": (8, m.note),
            "feed": (8, m.feed),
            "learn": (2, m.learn),
            "other learns": (4, lambda: (other.learn(), other.feed())),
            "seal some": (3, self.seal_some),
            "crash engine": (1, self.crash_engine),
            "crash mount": (1, self.crash_mount),
            "crash mount in between": (1, self.crash_in_between),
        }
        name = self.rnd.choices(list(steps), [weight for weight, _ in steps.values()])[0]
        self.say(f"    {name}")
        steps[name][1]()
        self.check()

    def seal_some(self) -> None:
        path = self.existing()
        if path is not None:
            seal_round = sealing.begin(self.machine.tree.state, [path], include_busy=self.rnd.random() < 0.3)
            seal_round.sync()
            sealing.finish(self.machine.tree.state, seal_round)

    def crash_engine(self) -> None:
        with contextlib.suppress(AssertionError), self.machine.crash_at(self.rnd.choice(POINTS)):
            self.machine.work()
        self.machine._env.hooks.clear()

    def crash_mount(self) -> None:
        for file in list(self.machine.files):
            self.machine.release(file)
        self.machine.tree.overlay.commit()
        self.machine.crash_mount()

    def crash_in_between(self) -> None:
        """The mount dies while it seals, or takes note; what it had frozen may have been saved half."""
        m, point, is_saved = self.machine, self.rnd.choice(MOUNT_POINTS), self.rnd.random() < 0.5
        for file in list(m.files):
            m.release(file)
        m.tree.overlay.commit()

        def die() -> None:
            m._env.hooks.clear()
            if is_saved:
                m.tree.overlay.commit()
            raise Crash(point)

        m._env.hooks[point] = die
        with contextlib.suppress(Crash):
            m.seal()
            m.note()
        m._env.hooks.clear()
        m.crash_mount()

    # ----

    def say(self, what: str) -> None:
        self.trace.append(what)

    def run(self, steps: int) -> None:
        weights = {
            "write": 10, "mkdir": 5, "remove": 3, "remove_tree": 2, "rename": 7, "swap_in": 3, "rebuild": 4,
            "move_through": 3, "other_kind": 2, "link": self.rnd.choice((3, 3, 30)), "hold": 2, "release": 3,
            "change_attributes": 3, "change_places": 1, "exchange": self.rnd.choice((2, 2, 20)),
            "pass_names_on": self.rnd.choice((2, 2, 20)), "turn_inside_out": self.rnd.choice((1, 1, 10)),
        }  # fmt: skip
        names = list(weights)
        for _ in range(steps):
            if self.rnd.random() < 0.5:
                self.process()
            else:
                name = self.rnd.choices(names, [weights[n] for n in names])[0]
                getattr(self, f"do_{name}")()
                self.check()

    def verify(self) -> None:
        self.world.settle()
        self.world.verify()
        for machine in self.machines:
            assert machine.walk() == self.shell.files, f"{machine.name} shows {machine.walk()}"
            assert machine.linked() == self.shell.linked(), f"{machine.name} links {machine.linked()}"

    def close(self) -> None:
        self.world.close()


def run_seed(root: Path, seed: int, steps: int) -> None:
    schedule = OneWriter(root / str(seed), seed)
    try:
        schedule.run(steps)
        schedule.verify()
    except (AssertionError, TcfsError, OSError, Crash) as error:
        raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(schedule.trace)) from error
    finally:
        schedule.close()


@pytest.mark.parametrize("seed", range(12))
def test_one_writer(tmp_path: Path, seed: int) -> None:
    run_seed(tmp_path, seed, 60)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_schedules_of_one_writer(tmp_path: Path) -> None:
    for seed in range(1000, 1300):
        run_seed(tmp_path, seed, 60)
