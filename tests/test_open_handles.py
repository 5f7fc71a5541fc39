"""A model of files that are open while their NAME changes elsewhere: what a handle reads, what the next open sees, and
which contents are there in the end.

Every content is written once, so a content is a version. The model knows of each which ones its writer had before it;
what nobody has had before something else must be shown by every machine, as NAME or beside it.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from worldkit import World, WorldMachine

from fs.tree import sealing
from fs.tree.files import OpenFile

pytestmark = pytest.mark.logs_trouble

PATHS = ("a", "b")
STEPS = 50


@dataclass(eq=False)
class Content:
    """What the handles of one node show. text: now."""

    text: str
    files: list[OpenFile] = field(default_factory=list)


class Model:
    """yoga has files open; bates changes them by their names."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.yoga, self.bates = world.machine("yoga"), world.machine("bates")
        self.random = random.Random(seed)
        self.before: dict[str, dict[str, set[str]]] = {path: {} for path in PATHS}  # text -> those it was made from
        self.open: dict[str, list[Content]] = {path: [] for path in PATHS}
        self.log: list[str] = []
        for path in PATHS:
            self.bates.write(path, self.new_text(path, set()).encode())
        world.settle()

    def new_text(self, path: str, made_from: set[str]) -> str:
        text = f"{path}{sum(map(len, self.before.values())):07}"
        self.before[path][text] = made_from
        return text

    def heads(self, path: str) -> set[str]:
        """What nobody has replaced who had seen it."""
        known = self.before[path]
        return set(known) - {text for made_from in known.values() for text in made_from}

    def step(self) -> None:
        path = self.random.choice(PATHS)
        kind = self.random.choice(STEP_KINDS)
        self.log.append(f"{kind} {path}")
        getattr(self, kind)(path)
        for contents in self.open.values():
            for content in contents:
                for file in content.files:
                    assert self.yoga.bytes_of(file).decode() == content.text

    # ---- what yoga does

    def open_file(self, path: str) -> None:
        """The next open sees what NAME shows, and that is nothing that is known to be replaced."""
        text = self.yoga.text(path)
        assert text is not None and text in self.before[path]
        file = self.yoga.open(path, write=self.random.random() < 0.7)
        assert self.yoga.bytes_of(file).decode() == text
        of_node = [content for content in self.open[path] if content.files[0].node is file.node]
        if of_node:
            assert of_node[0].text == text
            of_node[0].files.append(file)
        else:
            self.open[path].append(Content(text, [file]))

    def write(self, path: str) -> None:
        """Through a handle, whatever NAME shows by now."""
        writers = [(content, file) for content in self.open[path] for file in content.files if file.writes]
        if not writers:
            return
        content, file = self.random.choice(writers)
        content.text = self.new_text(path, {content.text})
        file.write(0, content.text.encode())

    def flush(self, path: str) -> None:
        for content in self.open[path]:
            for file in content.files:
                if self.random.random() < 0.5:
                    file.flush()

    def close_file(self, path: str) -> None:
        if not self.open[path]:
            return
        content = self.random.choice(self.open[path])
        file = content.files.pop(self.random.randrange(len(content.files)))
        self.yoga.release(file)
        if not content.files:
            self.open[path].remove(content)

    def push(self, path: str) -> None:
        """Sealed as it is, though it is open."""
        tree = self.yoga.tree
        seal_round = sealing.begin(tree.state, [path], include_busy=True)
        seal_round.sync()
        sealing.finish(tree.state, seal_round)

    # ---- what bates does

    def remote_write(self, path: str) -> None:
        """By name: it has seen what NAME shows there, and no sibling."""
        text = self.bates.text(path)
        assert text is not None
        self.bates.write(path, self.new_text(path, {text}).encode())
        self.bates.publish()

    def remote_learn(self, path: str) -> None:
        self.bates.learn()
        self.bates.feed()

    # ---- what happens by itself

    def learn(self, path: str) -> None:
        self.yoga.learn()

    def feed(self, path: str) -> None:
        self.yoga.feed()

    def seal(self, path: str) -> None:
        self.yoga.seal()

    def work(self, path: str) -> None:
        self.yoga.work()

    def note(self, path: str) -> None:
        self.yoga.note()

    def finish(self) -> None:
        for path in PATHS:
            while self.open[path]:
                self.close_file(path)
        self.world.settle()
        self.world.verify()
        for machine in (self.yoga, self.bates):
            for path in PATHS:
                assert shown(machine, path) == self.heads(path), f"{path} on {machine.name}"


STEP_KINDS = (
    "open_file", "open_file", "write", "write", "write", "flush", "close_file", "push", "remote_write", "remote_write",
    "remote_learn", "learn", "learn", "feed", "seal", "seal", "work", "work", "note", "note",
)  # fmt: skip


def shown(machine: WorldMachine, path: str) -> set[str]:
    """The contents of NAME and of everything beside it."""
    names = [name for name in machine.names() if name == path or name.startswith(f"{path}.")]
    return {machine.text(name) or "" for name in names}


def check(root: Path, seed: int) -> None:
    world = World(root)
    try:
        model = Model(world, seed)
        try:
            for _ in range(STEPS):
                model.step()
            model.finish()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(model.log)) from error
    finally:
        world.close()


@pytest.mark.parametrize("seed", range(12))
def test_handles_while_the_remote_changes(tmp_path: Path, seed: int) -> None:
    check(tmp_path, seed)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_handles_while_the_remote_changes(tmp_path: Path) -> None:
    for seed in range(100, 700):
        check(tmp_path / str(seed), seed)
