"""The interleavings that lose or resurrect data when a rule is missing, through real trees, engines and journals.

Each test is the shortest schedule for one rule. Those that need acknowledgements or pruning are properties of the pure
core (tests/sync/core).
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from worldkit import World, WorldMachine

from fs.tree import sealing
from sync.reports.status import Running, unsafe_now

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


def put(machine: WorldMachine, path: str, text: str) -> None:
    machine.write(path, text.encode())


def save_by_rename(machine: WorldMachine, path: str, text: str) -> None:
    """As editors do: a new file, renamed over the old one."""
    put(machine, f"{path}.new", text)
    machine.rename(f"{path}.new", path)


def share(world: World, machine: WorldMachine, path: str, text: str) -> None:
    put(machine, path, text)
    world.settle()


def end(world: World, expected: dict[str, str | None]) -> None:
    """Let everything settle; every machine shows exactly these files (None: absent) and no sibling of them."""
    world.settle()
    world.verify()
    for machine in world.machines:
        for path, text in expected.items():
            assert machine.text(path) == text, f"{path} on {machine.name}"
            assert siblings(machine, path) == [], f"{path} on {machine.name}"


def siblings(machine: WorldMachine, path: str) -> list[str]:
    folder, _, name = path.rpartition("/")
    if folder and not machine.exists(folder):
        return []
    return [other for other in machine.names(folder) if other.startswith(f"{name}.") and other.endswith(".conflict")]


def both_kept(world: World, path: str, texts: set[str]) -> None:
    """Every machine shows all of these contents, under NAME and its siblings."""
    world.settle()
    world.verify()
    for machine in world.machines:
        found = {machine.text(path), *(machine.text(name) for name in siblings(machine, path))}
        assert found - {None} == texts, machine.name


# ---- own versions in flight


def test_remove_before_the_note(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    put(yoga, "a", "one")
    yoga.seal(), yoga.work()
    yoga.unlink("a")
    end(world, {"a": None})


def test_save_before_the_note(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    put(yoga, "a", "one")
    yoga.seal(), yoga.work()
    save_by_rename(yoga, "a", "two")
    end(world, {"a": "two"})


def test_two_writes_from_one_base(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "base")
    put(yoga, "a", "one")
    yoga.seal()
    put(yoga, "a", "two")
    yoga.work()
    end(world, {"a": "two"})


def test_note_between_reading_and_commit(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    put(yoga, "a", "one")
    yoga.seal(), yoga.work()
    put(yoga, "a", "two")
    yoga.note(), yoga.seal()
    yoga._env.hooks["publish.before_outbox"] = lambda: yoga.note() and None
    yoga.work()
    del yoga._env.hooks["publish.before_outbox"]
    end(world, {"a": "two"})


def test_undo_before_the_note(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    """Created, published, removed: the removal differs from what is published, if not from what was seen first."""
    put(yoga, "a", "one")
    yoga.seal(), yoga.work()
    yoga.unlink("a")
    yoga.seal(), yoga.work(), yoga.note(), yoga.seal(), yoga.work()
    world.settle()
    assert bates.text("a") is None
    end(world, {"a": None})


def test_moved_away_and_back_around_a_seal(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "one")
    yoga.rename("a", "b")
    yoga.seal()
    yoga.rename("b", "a")
    yoga.work()
    end(world, {"a": "one", "b": None})


def test_remove_and_create_again_before_the_note(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "one")
    yoga.unlink("a")
    yoga.seal(), yoga.work()
    put(yoga, "a", "two")
    end(world, {"a": "two"})


# ---- against other machines


def test_concurrent_edits_keep_both(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "base")
    put(yoga, "a", "from yoga")
    put(bates, "a", "from bates")
    both_kept(world, "a", {"from yoga", "from bates"})
    assert yoga.text("a") == "from yoga"
    assert bates.text("a") == "from bates"


def test_move_over_a_name_not_yet_learned(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "moved")
    put(bates, "b", "unseen")
    bates.publish()
    yoga.rename("a", "b")
    both_kept(world, "b", {"moved", "unseen"})
    end(world, {"a": None})


def test_an_edit_beside_a_removal_lives(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "base")
    yoga.unlink("a")
    put(bates, "a", "edited")
    world.settle()
    world.verify()
    assert bates.text("a") == "edited"
    assert yoga.text("a") is None
    assert [yoga.text(name) for name in siblings(yoga, "a")] == ["edited"]


def test_write_through_an_old_handle(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "base")
    handle = bates.open("a", write=True)
    put(yoga, "a", "new")
    yoga.publish()
    bates.learn(), bates.feed()
    handle.write(0, b"BASE")
    assert bates.text("a") == "new"
    both_kept(world, "a", {"new", "BASE"})


def test_an_open_file_keeps_what_it_opened_even_before_the_hint(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    share(world, yoga, "a", "old content")
    old = bates.open("a")
    old_ino = bates.attr("a").ino
    put(yoga, "a", "new content, longer")
    yoga.publish()
    bates.learn()  # fleet.db has moved; the mount has read no hint and no feed
    assert bates.text("a") == "new content, longer"
    assert bates.attr("a").ino != old_ino
    assert bates.bytes_of(old) == b"old content"
    bates.feed()
    assert bates.bytes_of(old) == b"old content"
    bates.release(old)
    end(world, {"a": "new content, longer"})


def test_dirty_that_becomes_clean_while_a_remote_version_waits(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    share(world, yoga, "a", "base")
    attr = bates.attr("a")
    handle = bates.open("a", write=True)
    handle.write(0, b"BASE")
    put(yoga, "a", "remote")
    yoga.publish()
    bates.learn(), bates.feed()
    handle.write(0, b"base")
    bates.release(handle)
    bates.tree.setattr(attr.ino, mtime_ns=attr.mtime_ns)
    end(world, {"a": "remote"})


def test_saving_name_does_not_see_siblings(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "base")
    put(yoga, "a", "one")
    put(bates, "a", "other")
    world.settle()
    put(yoga, "a", "two")
    both_kept(world, "a", {"two", "other"})


def test_removing_a_sibling_resolves(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    put(yoga, "a", "from yoga")
    put(bates, "a", "from bates")
    world.settle()
    yoga.unlink(siblings(yoga, "a")[0])
    end(world, {"a": "from yoga"})


def test_moving_a_sibling_over_name_resolves(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    put(yoga, "a", "from yoga")
    put(bates, "a", "from bates")
    world.settle()
    yoga.rename(siblings(yoga, "a")[0], "a")
    end(world, {"a": "from bates"})


def test_a_conflict_settled_in_opposite_ways_is_a_conflict_again(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    put(yoga, "a", "from yoga")
    put(bates, "a", "from bates")
    world.settle()
    yoga.unlink(siblings(yoga, "a")[0])
    bates.unlink(siblings(bates, "a")[0])
    both_kept(world, "a", {"from yoga", "from bates"})


def test_moving_a_sibling_elsewhere_keeps_both(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    put(yoga, "a", "from yoga")
    put(bates, "a", "from bates")
    world.settle()
    yoga.rename(siblings(yoga, "a")[0], "b")
    end(world, {"a": "from yoga", "b": "from bates"})


def test_mode_and_time_make_no_conflict(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "base")
    yoga.tree.setattr(yoga.ino("a"), mode=0o600)
    put(bates, "a", "edited")
    end(world, {"a": "edited"})
    assert {machine.attr("a").mode for machine in world.machines} == {0o600}


def test_a_mode_set_back_against_a_merged_one_is_published(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    share(world, yoga, "a", "base")
    put(yoga, "a", "edited")
    bates.tree.setattr(bates.ino("a"), mode=0o755)
    world.settle()
    assert yoga.attr("a").mode == 0o755
    yoga.tree.setattr(yoga.ino("a"), mode=0o644)
    end(world, {"a": "edited"})
    assert {machine.attr("a").mode for machine in world.machines} == {0o644}


# ---- directories


def test_directory_moved_there_and_back(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.mkdir("d")
    share(world, yoga, "d/x", "one")
    yoga.rename("d", "e")
    yoga.publish()
    yoga.rename("e", "d")
    end(world, {"d/x": "one"})
    assert not bates.exists("e")


def test_moved_child_edited_before_the_note(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.mkdir("d")
    share(world, yoga, "d/x", "one")
    yoga.rename("d", "e")
    yoga.seal()
    put(yoga, "e/x", "two")
    yoga.work()
    end(world, {"e/x": "two"})
    assert not bates.exists("d")


def test_moved_child_removed_before_the_note(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.mkdir("d")
    share(world, yoga, "d/x", "one")
    yoga.rename("d", "e")
    yoga.seal(), yoga.work()
    yoga.unlink("e/x")
    end(world, {"e/x": None, "d/x": None})


def test_old_name_made_again_before_the_note(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.mkdir("d")
    share(world, yoga, "d/x", "one")
    yoga.rename("d", "e")
    yoga.mkdir("d")
    put(yoga, "d/x", "new")
    end(world, {"e/x": "one", "d/x": "new"})


def test_remote_edit_under_a_directory_moved_here(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    """What was not known when the directory moved stays at the old path; nothing is lost."""
    yoga.mkdir("d")
    share(world, yoga, "d/x", "one")
    yoga.rename("d", "e")
    put(bates, "d/x", "edited")
    world.settle()
    world.verify()
    for machine in world.machines:
        contents = {machine.text(path) for path in machine.walk() if machine.walk()[path] is not None}
        assert {"one", "edited"} <= contents or contents == {"edited"}, machine.name


def test_remote_file_appears_where_the_directory_went(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.mkdir("d")
    share(world, yoga, "d/x", "one")
    bates.mkdir("e")
    put(bates, "e/x", "unseen")
    bates.publish()
    yoga.rename("d", "e")
    both_kept_in(world, "e", "x", {"one", "unseen"})


def both_kept_in(world: World, folder: str, name: str, texts: set[str]) -> None:
    world.settle()
    world.verify()
    for machine in world.machines:
        path = f"{folder}/{name}"
        found = {machine.text(path), *(machine.text(f"{folder}/{other}") for other in siblings(machine, path))}
        assert found - {None} == texts, machine.name


def test_a_new_file_in_a_directory_removed_elsewhere(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.mkdir("d")
    share(world, yoga, "d/x", "one")
    put(bates, "d/new", "mine")
    yoga.unlink("d/x")
    yoga.rmdir("d")
    yoga.publish()
    bates.learn(), bates.feed()
    assert bates.text("d/new") == "mine"
    end(world, {"d/new": "mine", "d/x": None})


def test_a_folder_published_and_removed_elsewhere_before_the_note(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    yoga.mkdir("d")
    yoga.seal(), yoga.work()
    bates.learn(), bates.feed()
    bates.rmdir("d")
    bates.publish()
    put(yoga, "d/x", "one")
    yoga.learn()
    yoga.note()
    assert yoga.text("d/x") == "one"
    yoga.crash_mount()
    assert yoga.text("d/x") == "one"
    end(world, {"d/x": "one"})


def test_a_folder_that_got_another_number_keeps_what_was_written_under_both(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    yoga.mkdir("e")
    share(world, yoga, "e/x", "one")
    number = yoga.ino("e")
    put(yoga, "e/y", "under the old number")
    bates.rename("e", "f")
    bates.publish()
    yoga.learn()
    put(bates, "e", "")
    bates.unlink("e")
    bates.mkdir("e")
    put(bates, "e/z", "three")
    bates.publish()
    yoga.learn()  # the mount has not read the feed
    assert yoga.ino("e") != number
    put(yoga, "e/y", "under the new number")
    yoga.feed()
    both_kept_in(world, "e", "y", {"under the old number", "under the new number"})


# ---- bytes


def test_truncate_to_nothing_and_grow_again_over_a_base(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    base = "".join(chr(97 + n % 26) for n in range(5000))
    share(world, yoga, "a", base)
    handle = bates.open("a", write=True)
    ino = bates.attr("a").ino
    bates.tree.setattr(ino, size=0)
    bates.tree.setattr(ino, size=4000)
    handle.write(3000, b"X")
    bates.release(handle)
    end(world, {"a": "\0" * 3000 + "X" + "\0" * 999})


def test_a_changed_middle_reuses_the_base(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    base = "".join(chr(33 + (n * n) % 90) for n in range(20000))
    share(world, yoga, "a", base)
    bates.patch("a", 10_000, b"CHANGED")
    end(world, {"a": base[:10_000] + "CHANGED" + base[10_007:]})


def test_a_file_written_to_all_the_time(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    """A push publishes what is there now; later writes go on above it, and no state is mixed."""
    handle = yoga.create("log")
    body = b""
    for n in range(6):
        line = b"line %d\n" % n
        handle.write(len(body), line)
        body += line
        seal_round = sealing.begin(yoga.tree.state, ["log"], include_busy=True)
        seal_round.sync()
        sealing.finish(yoga.tree.state, seal_round)
        yoga.work(), yoga.note()
        bates.learn(), bates.feed()
        assert bates.text("log") == body.decode()
    yoga.release(handle)
    end(world, {"log": body.decode()})


# ---- crashes


@pytest.mark.parametrize(
    "point",
    ["publish.before_outbox", "publish.after_outbox", "publish.after_segment_put", "publish.after_head_put"],
)
def test_engine_dies_while_publishing(world: World, yoga: WorldMachine, bates: WorldMachine, point: str) -> None:
    share(world, yoga, "a", "base")
    put(yoga, "a", "one")
    yoga.seal()
    with yoga.crash_at(point):
        yoga.work()
    put(yoga, "a", "two")
    end(world, {"a": "two"})
    assert len(yoga.db.own_ids) == 1, "no fork was seen where there was none"


@pytest.mark.parametrize("point", ["publish.after_outbox", "publish.after_segment_put", "publish.after_head_put"])
def test_the_store_goes_away_while_publishing(
    world: World, yoga: WorldMachine, bates: WorldMachine, point: str
) -> None:
    share(world, yoga, "a", "base")
    put(yoga, "a", "one")
    yoga.seal()
    with yoga.away_at(point):
        yoga.work()
    put(yoga, "a", "two")
    end(world, {"a": "two"})


def test_mount_dies_between_its_steps(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    put(yoga, "a", "one")
    yoga.crash_mount()
    assert yoga.text("a") == "one"
    yoga.seal()
    yoga.crash_mount()
    yoga.work()
    yoga.crash_mount()
    put(yoga, "a", "two")
    yoga.crash_mount()
    end(world, {"a": "two"})


def test_what_was_closed_goes_out_though_another_handle_was_open(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    share(world, yoga, "a", "base")
    yoga.open("a", write=True)
    put(yoga, "a", "closed")
    yoga.crash_mount()
    end(world, {"a": "closed"})


def test_what_was_interrupted_stays_here_until_it_is_asked_for(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    share(world, yoga, "a", "base")
    yoga.open("a", write=True).write(0, b"half")
    yoga.tree.overlay.commit()
    yoga.crash_mount()
    assert yoga.text("a") == "half"
    assert sealing.begin(yoga.tree.state, None).interrupted == ["a"]
    world.settle()
    assert bates.text("a") == "base"
    seal_round = sealing.begin(yoga.tree.state, ["a"], include_busy=True)
    seal_round.sync()
    sealing.finish(yoga.tree.state, seal_round)
    end(world, {"a": "half"})


@pytest.mark.parametrize(
    "point", ["note.before_rename", "note.after_rename", "note.before_commit", "note.after_commit"]
)
def test_mount_dies_while_taking_note(world: World, yoga: WorldMachine, bates: WorldMachine, point: str) -> None:
    put(yoga, "a", "one")
    yoga.seal(), yoga.work()

    def die() -> None:
        raise KeyboardInterrupt(point)

    yoga._env.hooks[point] = die
    with pytest.raises(KeyboardInterrupt):
        yoga.note()
    del yoga._env.hooks[point]
    yoga.crash_mount()
    assert yoga.text("a") == "one"
    put(yoga, "a", "two")
    end(world, {"a": "two"})


def test_fleet_db_is_lost(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "base")
    share(world, yoga, "kept", "kept")
    put(yoga, "a", "sealed")
    yoga.seal()
    yoga.mkdir("d")
    put(yoga, "d/new", "dirty")
    yoga.tree.overlay.commit()
    yoga.lose_fleet_db()
    assert yoga.text("a") == "sealed"
    assert yoga.text("d/new") == "dirty"
    end(world, {"a": "sealed", "d/new": "dirty", "kept": "kept"})


def test_fleet_db_is_lost_with_an_answer_not_yet_noted(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "base")
    put(yoga, "a", "one")
    yoga.seal(), yoga.work()
    yoga.lose_fleet_db()
    assert yoga.text("a") == "one"
    world.settle()
    world.verify()
    assert bates.text("a") == "one"


# ---- clones


def test_a_clone_takes_a_new_identity_and_nothing_is_lost(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    share(world, yoga, "a", "base")
    twin = yoga.clone("twin")
    put(yoga, "a", "from yoga")
    put(twin, "b", "from twin")
    world.settle()
    put(yoga, "c", "again")
    put(twin, "d", "again")
    world.settle()
    assert twin.db.machine_id != yoga.db.machine_id
    end(world, {"a": "from yoga", "b": "from twin", "c": "again", "d": "again"})


def test_a_clone_with_a_queued_version_publishes_it_anew(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "base")
    twin = yoga.clone("twin")
    put(yoga, "a", "from yoga")
    put(twin, "a", "from twin")
    twin.seal()
    with twin.away_at("publish.after_outbox"):
        twin.work()
    yoga.publish()
    put(twin, "a", "from twin, later")
    both_kept(world, "a", {"from yoga", "from twin, later"})
    assert twin.db.machine_id != yoga.db.machine_id


def test_an_idle_clone_notices(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    share(world, yoga, "a", "base")
    twin = yoga.clone("twin")
    put(yoga, "a", "new")
    yoga.publish()
    twin.learn(), twin.feed()
    assert twin.db.machine_id != yoga.db.machine_id
    assert twin.text("a") == "new"


@pytest.mark.parametrize("how", ["remove", "rename", "rewrite", "replace"])
def test_what_cannot_be_published_holds_up_nothing_newer(
    world: World, yoga: WorldMachine, bates: WorldMachine, how: str
) -> None:
    """A change of a file whose base is lost; then the person does what status says helps."""
    yoga.write("f", random.Random(1).randbytes(5000))
    world.settle()
    for key in [key for key in world.store.objects if key.startswith("packs/")]:
        del world.store.objects[key]
    bates.patch("f", 2500, b"changed")
    bates.publish()
    assert list(refused(bates)) == ["f"]
    assert refused(bates)["f"][1]
    if how == "remove":
        bates.unlink("f")
    elif how == "rename":
        bates.rename("f", "g")
    elif how == "rewrite":
        put(bates, "f", "new")
    else:
        save_by_rename(bates, "f", "new")
    bates.tree.overlay.commit()
    for _ in range(3):
        bates.work()
        bates.note()
        bates.tree.state.retry_at.clear()  # half a minute later
        bates.seal()
        bates.work()
        bates.note()
    yoga.learn()
    yoga.feed()
    if how == "rename":
        assert list(refused(bates)) == ["f", "g"]
        assert yoga.exists("f") and not yoga.exists("g")
        bates.unlink("g")
        bates.tree.overlay.commit()
        for _ in range(3):
            bates.work()
            bates.note()
            bates.tree.state.retry_at.clear()
            bates.seal()
    assert refused(bates) == {}
    end(world, {"f": "new" if how in ("rewrite", "replace") else None, "g": None})


def refused(machine: WorldMachine) -> dict[str, tuple[str, str]]:
    """What `status` says cannot be published."""
    problems = machine.context.problems.current()
    found = {problem.subject: (problem.message, problem.hint) for problem in problems if problem.kind == "refused"}
    unsafe = unsafe_now(machine.db, machine.tree_reader, Running(engine=True, mount=True), found)
    assert [item.path for item in unsafe if item.state == "refused"] == sorted(found)
    return found
