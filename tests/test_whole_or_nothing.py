"""What belongs together goes out together, or stays: a rename with all that is below it, a thing and its old name."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_versions import Journal
from worldkit import World, WorldMachine

from fs.tree import rename, sealing
from sync.core.manifest import Kind
from sync.core.paths import PATH_MAX
from sync.state.tree.reader import layer_path
from sync.worker import content
from sync.worker.context import ProblemKind
from sync.worker.seals import SealWorker

pytestmark = pytest.mark.logs_trouble


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


@pytest.fixture
def yoga(world: World) -> WorldMachine:
    return world.machine("yoga")


@pytest.fixture
def bates(world: World, yoga: WorldMachine) -> WorldMachine:
    return world.machine("bates")


def make_deep(machine: WorldMachine, top: str, length: int) -> str:
    """A file with a path of `length` bytes below the folder `top`."""
    path = top
    while length - len(path) > 252:
        path += "/" + "p" * 250
        machine.mkdir(path)
    path += "/" + "f" * (length - len(path) - 1)
    machine.write(path, b"deep")
    return path


def refused(machine: WorldMachine) -> list[str]:
    problems = machine.context.problems.current()
    return [problem.subject for problem in problems if problem.kind is ProblemKind.REFUSED]


# ---- renames of folders


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_folder_is_not_renamed_if_a_path_below_would_be_too_long(
    world: World, yoga: WorldMachine, bates: WorldMachine, is_shared: bool
) -> None:
    yoga.mkdir("d")
    deep = make_deep(yoga, "d", PATH_MAX - 10)
    if is_shared:
        world.settle()
    with pytest.raises(OSError, match=os.strerror(errno.ENAMETOOLONG)) as raised:
        yoga.rename("d", "d" * 12)
    assert raised.value.errno == errno.ENAMETOOLONG
    assert yoga.text(deep) == "deep"
    yoga.rename("d", "e" * 11)
    world.settle()
    world.verify()
    assert bates.text("e" * 11 + deep[1:]) == "deep"


def test_a_folder_moved_deeper_with_one_moved_into_it(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.mkdir("d"), yoga.mkdir("below")
    deep = make_deep(yoga, "d", PATH_MAX - 10)
    world.settle()
    yoga.rename("d", "below/d")
    with pytest.raises(OSError, match=os.strerror(errno.ENAMETOOLONG)):
        yoga.rename("below", "below-all-of-that")
    world.settle()
    world.verify()
    assert bates.text(f"below/{deep}") == "deep"


def test_a_rename_that_cannot_be_as_a_whole_is_none(
    world: World, yoga: WorldMachine, bates: WorldMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has learned of a deep file that the mount had not seen when the folder was renamed."""
    yoga.mkdir("d")
    yoga.write("d/x", b"one")
    world.settle()
    monkeypatch.setattr(rename, "check_depth", lambda *place: None)
    deep = make_deep(bates, "d", PATH_MAX)
    bates.publish()
    yoga.rename("d", "longer")
    yoga.write("longer/new", b"two")
    yoga.unlink("longer/x")
    yoga.seal()
    yoga.learn()
    yoga.work()
    assert refused(yoga) == ["longer", "longer/new", "longer/x"]
    yoga.note(), bates.learn()
    assert bates.text("d/x") == "one"
    assert bates.text(deep) == "deep"
    assert not bates.exists("longer")
    assert sorted(yoga.names("longer")) == ["new", "p" * 250]
    yoga.rename("longer", "e")
    world.settle()
    world.verify()
    assert [machine.names("e") for machine in world.machines] == [["new", "p" * 250]] * 2
    assert bates.text("e" + deep[1:]) == "deep"
    assert not bates.exists("d")
    assert refused(yoga) == []


def test_what_came_behind_a_refused_rename_in_a_later_round(
    world: World, yoga: WorldMachine, bates: WorldMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    yoga.mkdir("d")
    deep = make_deep(yoga, "d", PATH_MAX)
    world.settle()
    monkeypatch.setattr(rename, "check_depth", lambda *place: None)
    yoga.rename("d", "longer")
    yoga.seal()
    yoga.work()
    yoga.write("longer/new", b"two")
    yoga.seal()
    yoga.work()
    assert refused(yoga) == ["longer", "longer/new"]
    yoga.note(), yoga.feed(), bates.learn()
    assert yoga.text("longer/new") == "two"
    assert not bates.exists("longer")
    yoga.rename("longer", "e")
    world.settle()
    world.verify()
    assert bates.text("e/new") == "two"
    assert bates.text("e" + deep[1:]) == "deep"


def test_a_path_that_is_used_again_is_never_absent_elsewhere(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    """What one round removes and renames to the same paths others learn at once."""
    for name in ("old", "new"):
        yoga.mkdir(name)
        yoga.write(f"{name}/x", name.encode())
        yoga.write(f"{name}/{name}", b"more")
    world.settle()
    yoga.unlink("old/x"), yoga.unlink("old/old"), yoga.rmdir("old")
    yoga.rename("new", "old")
    yoga.seal()
    with yoga.away_at("publish.after_segment_put"):
        yoga.work()
    assert bates.text("old/x") == "old"
    yoga.work()
    seen = []
    bates._env.hooks["fleet.after_commit"] = lambda: seen.append(
        sorted(bates.listing("old")) if "old" in bates.listing("") else []
    )
    bates.learn()
    assert [names for names in seen if names != ["new", "x"]] == []
    assert seen
    assert bates.walk() == {"old": None, "old/new": b"more", "old/x": b"new"}
    world.settle()
    world.verify()


def kinds(machine: WorldMachine) -> dict[str, int]:
    """What stands at the top, without looking at contents."""
    return {name: machine.attr(name).kind for name in machine.listing()}


@pytest.mark.parametrize("other", ["f", "l", "new"])
def test_an_exchange_with_a_folder_is_one_step_elsewhere(
    world: World, yoga: WorldMachine, bates: WorldMachine, other: str
) -> None:
    yoga.mkdir("d")
    yoga.write("d/x", b"x")
    yoga.write("f", b"f")
    yoga.symlink("l", "to")
    world.settle()
    if other == "new":
        yoga.mkdir("new")
    before = kinds(bates)
    yoga.tree.exchange(*yoga.place("d"), *yoga.place(other))
    after = kinds(yoga)
    yoga.seal()
    yoga.work()
    seen = []
    bates._env.hooks["fleet.after_commit"] = lambda: seen.append(kinds(bates))
    bates.learn()
    assert seen and all(state in (before, after) for state in seen)
    assert bates.walk() == yoga.walk() and kinds(bates) == after
    world.settle()
    world.verify()


@pytest.mark.parametrize("is_exchange", [True, False])
def test_two_folders_swap_their_names_in_one_step_elsewhere(
    world: World, yoga: WorldMachine, bates: WorldMachine, is_exchange: bool
) -> None:
    for name in "de":
        yoga.mkdir(name)
        yoga.write(f"{name}/of-{name}", b"")
    world.settle()
    if is_exchange:
        yoga.tree.exchange(*yoga.place("d"), *yoga.place("e"))
    else:
        for old, new in (("d", "t"), ("e", "d"), ("t", "e")):
            yoga.rename(old, new)
    yoga.seal()
    yoga.work()
    seen = []
    bates._env.hooks["fleet.after_commit"] = lambda: seen.append(
        {name: bates.listing(name) for name in bates.listing()}
    )
    bates.learn()
    assert {"d": ["of-e"], "e": ["of-d"]} in seen
    assert all(state in ({"d": ["of-d"], "e": ["of-e"]}, {"d": ["of-e"], "e": ["of-d"]}) for state in seen), seen
    world.settle()
    world.verify()


@pytest.fixture
def swapped(world: World, yoga: WorldMachine, bates: WorldMachine) -> WorldMachine:
    """Two folders have swapped their names behind a change in one of them; the other one is about to step aside."""
    for name in "de":
        yoga.mkdir(name)
        yoga.write(f"{name}/of-{name}", b"")
    world.settle()
    yoga.write("d/f", b"f" * 1000)
    yoga.seal()
    for old, new in (("d", "t"), ("e", "d"), ("t", "e")):
        yoga.rename(old, new)
    yoga.seal()
    return yoga


BEFORE, SWAPPED = {"d": ["of-d"], "e": ["of-e"]}, {"d": ["of-e"], "e": ["f", "of-d"]}


def listings(machine: WorldMachine) -> dict[str, list[str]]:
    return {name: machine.listing(name) for name in machine.listing()}


def test_nobody_steps_aside_while_what_is_before_is_packed(
    world: World, swapped: WorldMachine, bates: WorldMachine
) -> None:
    swapped.sealer = SealWorker(
        swapped.context, swapped.publisher, swapped.tree_reader, swapped.paths.work_dir, large=500
    )
    world.do(swapped.sealer.run_once())
    bates.learn()
    assert listings(bates) == BEFORE
    world.do(swapped.sealer.pack_large())
    world.do(swapped.sealer.run_once())
    bates.learn()
    assert listings(bates) == SWAPPED


def test_nobody_steps_aside_while_what_is_before_cannot_be_read(
    world: World, swapped: WorldMachine, bates: WorldMachine
) -> None:
    (layer,) = (seal.layer for seal in swapped.tree_reader.seals() if seal.layer is not None)
    path = layer_path(swapped.paths.work_dir, layer)
    path.rename(path.with_suffix(".away"))
    swapped.work()
    bates.learn()
    assert listings(bates) == BEFORE
    path.with_suffix(".away").rename(path)
    world.settle()
    assert listings(bates) == SWAPPED


def test_nobody_steps_aside_behind_what_was_refused(
    world: World, swapped: WorldMachine, bates: WorldMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(content, "PUBLISH_MAX", 999)
        for _ in range(2):
            swapped.work()
    bates.learn()
    assert listings(bates) == BEFORE
    answers = [swapped.db.view.answer(seal.seal_id) for seal in swapped.tree_reader.seals()]
    assert [answer.answer for answer in answers if answer is not None] == ["refused"] * 4
    swapped.note()
    world.settle()
    world.verify()
    assert listings(swapped) == listings(bates) == SWAPPED


# ---- what was removed


def test_what_was_removed_with_a_folder_goes_with_the_one_that_took_its_place(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    """Even if what stands where that folder once was is another one, and the feed was not read for long."""
    for name in ("a", "p"):
        yoga.mkdir(name)
    yoga.write("a/x", b"1")
    yoga.mkdir("a/e")
    yoga.publish()
    yoga.rename("a", "p/d")
    yoga.publish()
    yoga.mkdir("p/new")
    for name in "ex":
        yoga.rename(f"p/d/{name}", f"p/new/{name}")
    yoga.rename("p/new", "p/d")
    seal_round = sealing.begin(yoga.tree.state, ["p/d/e"])
    seal_round.sync()
    sealing.finish(yoga.tree.state, seal_round)
    yoga.rename("p", "a")
    yoga.rename("a/d", "a/g")
    yoga.unlink("a/g/x")
    world.settle()
    assert yoga.walk() == bates.walk() == {"a": None, "a/g": None, "a/g/e": None}


def test_what_went_to_where_its_folder_was_meanwhile_does_not_count_as_back(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    """The file moves along with its old folder as long as its own move cannot go out."""
    yoga.mkdir("a")
    yoga.write("a/x", b"1")
    yoga.publish()
    yoga.rename("a/x", "y")
    file = yoga.open("y", write=True)
    file.write(0, b"1")
    for old, new in (("a", "b"), ("b", "c")):
        yoga.rename(old, new)
        yoga.publish()
    yoga.mkdir("b")
    yoga.rename("y", "b/x")
    yoga.release(file)
    world.settle()
    assert yoga.walk() == bates.walk() == {"b": None, "b/x": b"1", "c": None}


# ---- contents that cannot be read


def break_layer(machine: WorldMachine, path: str) -> Path:
    """The sealed bytes of a file cannot be read any more; where they are now."""
    (seal,) = [seal for seal in machine.tree_reader.seals() if seal.path == path and seal.layer is not None]
    layer = layer_path(machine.paths.work_dir, seal.layer or 0)
    kept = layer.with_suffix(".kept")
    layer.rename(kept)
    layer.mkdir()
    return kept


def mend(kept: Path) -> None:
    layer = kept.with_suffix("")
    layer.rmdir()
    kept.rename(layer)


def test_an_unreadable_file_keeps_its_old_name_elsewhere(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    """Also where the removal of that is sealed later, and that of the folder around it."""
    yoga.mkdir("d")
    yoga.write("d/f", b"one")
    world.settle()
    yoga.rename("d/f", "g")
    yoga.patch("g", 0, b"two")
    seal_round = sealing.begin(yoga.tree.state, ["g"])
    seal_round.sync()
    sealing.finish(yoga.tree.state, seal_round)
    yoga.rmdir("d")
    yoga.seal()
    kept = break_layer(yoga, "g")
    yoga.work()
    assert refused(yoga) == ["g"]
    yoga.note(), yoga.feed(), bates.learn(), bates.feed()
    assert yoga.names() == ["g"]
    assert bates.text("d/f") == "one"
    mend(kept)
    world.settle()
    world.verify()
    assert [machine.walk() for machine in world.machines] == [{"g": b"two"}] * 2
    assert refused(yoga) == []


def test_a_folder_with_an_unreadable_file_in_it_keeps_its_name(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    yoga.mkdir("d")
    yoga.write("d/kept", b"kept")
    world.settle()
    yoga.write("d/new", b"new")
    yoga.seal()
    kept = break_layer(yoga, "d/new")
    yoga.rename("d", "e")
    yoga.write("other", b"other")
    yoga.seal()
    yoga.work()
    yoga.note(), yoga.feed(), bates.learn()
    assert bates.text("d/kept") == "kept"
    assert bates.text("other") == "other"
    assert yoga.text("e/kept") == "kept"
    mend(kept)
    world.settle()
    world.verify()
    assert [machine.walk() for machine in world.machines] == [
        {"e": None, "e/kept": b"kept", "e/new": b"new", "other": b"other"}
    ] * 2


# ---- what a version requires


def test_a_rename_keeps_what_reading_requires(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    cole = Journal("cole")
    lines = [
        cole.write(path, content, requires=["magic"], **fields)
        for path, content, fields in (
            ("f", "", {}),
            ("d/x", "", {}),
            ("d/l", None, {"kind": Kind.SYMLINK, "target": "x"}),
        )
    ]
    for machine in world.machines:
        with machine.db.transaction() as txn:
            for line, version in lines:
                txn.insert_version(line, version)
        machine.feed()
    yoga.rename("f", "g")
    yoga.rename("d", "e")
    yoga.tree.setattr(yoga.ino("e/x"), mode=0o600)
    world.settle()
    world.verify()
    for path in ("g", "e/x", "e/l"):
        (head,) = bates.db.heads(path)
        assert head.manifest.requires == ["magic"], path
