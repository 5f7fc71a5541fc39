"""A model of folders that are made, moved, removed and given times at random, with the steps of the processes in
between: after each step the mount shows the names and the times that the person has made. What was found stands first.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from worldkit import World, WorldMachine

from sync.core.manifest import Kind
from sync.core.paths import join_path, split_path

pytestmark = pytest.mark.logs_trouble

NOW = -1  # a time that nobody has set
SET_BEFORE_NS = 1_600_000_000 * 10**9
STEPS = 70
DEPTH = 5


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


@pytest.fixture
def yoga(world: World) -> WorldMachine:
    return world.machine("yoga")


def test_a_folder_moved_behind_a_move_that_is_done_and_not_noted(world: World, yoga: WorldMachine) -> None:
    """Where the engine has a folder was worked out with renames that it had made already: another folder was moved."""
    for path in ("c", "c/b", "c/c"):
        yoga.mkdir(path)
    yoga.rename("c/b", "c/c/a")
    yoga.mkdir("c/c/b")
    yoga.mkdir("a")
    yoga.rename("c/c/b", "c/c/a/b")
    yoga.mkdir("c/c/a/b/b")
    yoga.seal()
    yoga.mkdir("a/c")
    yoga.rename("c/c/a/b", "b")
    yoga.mkdir("b/b/b")
    yoga.rename("b/b/b", "c/a")
    yoga.rmdir("c/c/a")
    yoga.work()
    yoga.rename("b", "c/c/a")
    yoga.note()
    yoga.rename("c/c", "a/c/c")
    yoga.seal()
    yoga.rename("a/c/c/a/b", "c/a/b")
    yoga.work()
    yoga.seal()
    yoga.work()
    expected = dict.fromkeys(["a", "a/c", "a/c/c", "a/c/c/a", "c", "c/a", "c/a/b"])
    assert yoga.walk() == expected
    world.settle()
    assert yoga.walk() == expected


def test_a_time_set_before_the_rename_is_noted(world: World, yoga: WorldMachine) -> None:
    yoga.mkdir("a")
    yoga.seal()
    yoga.rename("a", "b")
    yoga.tree.setattr(yoga.ino("b"), mtime_ns=7)
    yoga.work()
    yoga.note()
    yoga.seal()
    yoga.mkdir("other")
    yoga.work()
    yoga.note()
    assert yoga.attr("b").mtime_ns == 7
    world.settle()
    assert yoga.attr("b").mtime_ns == 7


def test_a_removal_that_goes_out_late_moves_no_time(
    world: World, yoga: WorldMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's time was set after it, and is published before it: it waits for a file that is being written."""
    yoga.mkdir("d")
    yoga.write("d/f", b"content")
    world.settle()
    handle = yoga.open("d/f", write=True)
    handle.write(0, b"CONTENT")
    yoga.rename("d/f", "f")
    yoga.tree.setattr(yoga.ino("d"), mtime_ns=7)
    yoga.publish()
    now = yoga.env.now
    monkeypatch.setattr(yoga.env, "now", lambda: now() + 5)
    yoga.release(handle)
    yoga.publish()
    yoga.feed()
    assert yoga.db.heads("d/f")[0].manifest.kind is Kind.TOMBSTONE
    assert yoga.attr("d").mtime_ns == 7


@dataclass(eq=False)
class Folder:
    """What the person has made."""

    folders: dict[str, "Folder"] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    mtime_ns: int = NOW


class Model:
    def __init__(self, world: World, seed: int) -> None:
        self.world, self.yoga = world, world.machine("yoga")
        self.random = random.Random(seed)
        self.top = Folder()
        self.times = 0
        self.log: list[str] = []

    def all(self, folder: Folder | None = None, path: str = "") -> Iterator[tuple[str, Folder]]:
        """All but the top, those above first."""
        for name, below in sorted((folder or self.top).folders.items()):
            yield join_path(path, name), below
            yield from self.all(below, join_path(path, name))

    def pick(self, *, top: bool = False) -> tuple[str, Folder] | None:
        found = [*([("", self.top)] if top else []), *self.all()]
        return self.random.choice(found) if found else None

    def free_place(self) -> tuple[str, str, Folder] | None:
        """(path, name, folder) of what could be made."""
        above, folder = self.pick(top=True) or ("", self.top)
        name = self.random.choice("abc")
        is_free = name not in folder.folders and above.count("/") < DEPTH
        return (join_path(above, name), name, folder) if is_free else None

    def step(self) -> None:
        kind = self.random.choice(STEP_KINDS)
        getattr(self, kind)()
        walked = {path: None for path, _ in self.all()}
        assert {path: None for path, value in self.yoga.walk().items() if value is None} == walked
        for path, folder in self.all():
            mtime_ns = self.yoga.attr(path).mtime_ns
            assert (mtime_ns if mtime_ns < SET_BEFORE_NS else NOW) == folder.mtime_ns, path

    def mkdir(self) -> None:
        if (place := self.free_place()) is not None:
            path, name, above = place
            self.say(f"mkdir {path}")
            self.yoga.mkdir(path)
            above.folders[name] = Folder()
            above.mtime_ns = NOW

    def set_time(self) -> None:
        if (found := self.pick()) is not None:
            self.times += 1
            self.say(f"set time {found[0]}")
            self.yoga.tree.setattr(self.yoga.ino(found[0]), mtime_ns=self.times)
            found[1].mtime_ns = self.times

    def chmod(self) -> None:
        if (found := self.pick()) is not None:
            self.say(f"chmod {found[0]}")
            self.yoga.tree.setattr(self.yoga.ino(found[0]), mode=self.random.choice((0o700, 0o755)))

    def file(self) -> None:
        """Made if it is not there, else removed."""
        if (found := self.pick()) is None:
            return
        path, folder = found
        name = self.random.choice(("f", "g"))
        self.say(f"file {path}/{name}")
        if name in folder.files:
            self.yoga.unlink(f"{path}/{name}")
        else:
            self.yoga.write(f"{path}/{name}", b"x")
        folder.files ^= {name}
        folder.mtime_ns = NOW

    def rename(self) -> None:
        found, place = self.pick(), self.free_place()
        if found is None or place is None or f"{place[0]}/".startswith(f"{found[0]}/"):
            return
        (old, folder), (new, name, above) = found, place
        self.say(f"rename {old} {new}")
        try:
            self.yoga.rename(old, new)
        except OSError:
            self.say("... only by copying")
            return
        source = self.folder_at(split_path(old)[0])
        del source.folders[split_path(old)[1]]
        above.folders[name] = folder
        source.mtime_ns = above.mtime_ns = NOW

    def rmdir(self) -> None:
        found = self.pick()
        if found is None or found[1].folders or found[1].files:
            return
        self.say(f"rmdir {found[0]}")
        self.yoga.rmdir(found[0])
        above = self.folder_at(split_path(found[0])[0])
        del above.folders[split_path(found[0])[1]]
        above.mtime_ns = NOW

    def process(self) -> None:
        kind = self.random.choice(("seal", "work", "note", "feed"))
        self.say(kind)
        getattr(self.yoga, kind)()

    def folder_at(self, path: str) -> Folder:
        return dict(self.all())[path] if path else self.top

    def say(self, what: str) -> None:
        self.log.append(what)


STEP_KINDS = (
    *["mkdir"] * 4, *["set_time"] * 4, *["file"] * 3, "chmod", *["rename"] * 6, "rmdir", *["process"] * 12,
)  # fmt: skip


def check(root: Path, seed: int) -> None:
    world = World(root)
    try:
        model = Model(world, seed)
        try:
            for _ in range(STEPS):
                model.step()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(model.log)) from error
        walked = model.yoga.walk()
        world.settle()
        world.verify()
        assert model.yoga.walk() == walked
    finally:
        world.close()


@pytest.mark.parametrize("seed", range(12))
def test_folders_at_random(tmp_path: Path, seed: int) -> None:
    check(tmp_path, seed)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_folders_at_random(tmp_path: Path) -> None:
    for seed in range(100, 1100):
        check(tmp_path / str(seed), seed)
