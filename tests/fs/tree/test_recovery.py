"""Starting again after a kill, a power cut, and with another fleet.db."""

import pytest
from treekit import Fleet, Machine

from fs.tree import sealing
from fs.tree.tree import Tree
from sync.env import FakeEnv
from sync.state.tree.reader import DirtyState, TreeReader


def test_what_was_being_written_is_interrupted(yoga: Machine, bates: Machine) -> None:
    """(!) Kept, shown, and not sealed by itself."""
    yoga.write("done", b"1")
    handle = yoga.create("a")
    handle.write(0, b"half")
    yoga.tree.overlay.commit()
    yoga.restart()
    assert yoga.walk() == {"done": b"1", "a": b"half"}
    assert sealing.seal_due(yoga.tree.state, yoga.env.monotonic() + 3600).ready == 1
    seal_round = sealing.begin(yoga.tree.state)
    assert [item.ref.path for item in seal_round.items] == ["done"]
    assert (seal_round.interrupted, seal_round.busy) == (["a"], [])
    seal_round.sync()
    sealing.finish(yoga.tree.state, seal_round)
    yoga.publish()
    yoga.note()
    yoga.restart()  # and once more: it stays interrupted
    assert yoga.seal() == []
    assert [seal.path for seal in yoga.seal(["a"], include_busy=True)] == ["a"]
    yoga.cycle()
    bates.learn()
    assert bates.walk() == {"done": b"1", "a": b"half"}


def test_an_interrupted_file_is_published_after_its_next_close(yoga: Machine) -> None:
    handle = yoga.create("a")
    handle.write(0, b"half")
    yoga.tree.overlay.commit()
    yoga.restart()
    yoga.patch("a", 4, b" and the rest")
    assert [seal.path for seal in yoga.seal()] == ["a"]
    yoga.cycle()
    assert yoga.read("a") == b"half and the rest"


def test_what_was_written_over_closed_bytes_and_closed_is_there_after_a_kill(yoga: Machine) -> None:
    yoga.write("a", b"0123456789")
    yoga.patch("a", 5, b"abcdefghij")
    yoga.restart()
    assert yoga.walk() == {"a": b"01234abcdefghij"}
    yoga.patch("a", 0, b"AB")
    yoga.patch("a", 14, b"YZ")
    yoga.restart()
    assert yoga.walk() == {"a": b"AB234abcdefghiYZ"}
    yoga.cycle()
    assert yoga.walk() == {"a": b"AB234abcdefghiYZ"}


def test_what_was_closed_is_sealed_at_start(yoga: Machine, bates: Machine) -> None:
    yoga.mkdir("d")
    yoga.write("d/a", b"1")
    yoga.symlink("l", "d/a")
    yoga.tree.overlay.commit()
    yoga.restart()
    yoga.fleet.clock.elapsed += 0.03
    assert sealing.seal_due(yoga.tree.state, yoga.env.monotonic()).ready == 3
    yoga.cycle()
    bates.learn()
    assert bates.walk() == {"d": None, "d/a": b"1", "l": "d/a"}


def test_work_files_without_rows_go(yoga: Machine) -> None:
    yoga.write("a", b"1")
    handle = yoga.create("b")
    handle.write(0, b"never committed")
    stray = yoga.paths.work_dir / "ff" / "00000000000000ff"
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"x")
    foreign = yoga.paths.work_dir / "ff" / "README"
    foreign.write_bytes(b"not ours")
    yoga.restart()
    assert sorted(path.name for path in yoga.paths.work_dir.rglob("*") if path.is_file()) == [
        "0000000000000001",
        "README",
    ]
    assert yoga.walk() == {"a": b"1"}
    yoga.cycle()


def test_an_unlinked_open_file_leaves_nothing_behind(yoga: Machine) -> None:
    yoga.write("a", b"1")
    handle = yoga.open("a", write=True)
    yoga.unlink("a")
    handle.write(0, b"nobody's")
    yoga.tree.overlay.commit()
    yoga.restart()
    assert yoga.walk() == {}
    assert [path for path in yoga.paths.work_dir.rglob("*") if path.is_file()] == []
    assert yoga.tree.overlay.all_nodes() == []


def test_a_nameless_version_survives_a_kill(yoga: Machine, bates: Machine) -> None:
    """Written through a handle whose NAME had moved on, flushed, then the mount died."""
    yoga.write("a", b"one")
    yoga.cycle()
    bates.learn()
    handle = bates.open("a", write=True)
    yoga.fleet.clock.elapsed += 1
    yoga.write("a", b"second")
    yoga.cycle()
    bates.learn()
    handle.write(0, b"O")
    handle.flush()
    bates.restart()
    bates.check()
    assert bates.walk() == {"a": b"second"}
    bates.cycle()
    assert bates.walk() == {"a": b"One", "a.yoga.conflict": b"second"}


def test_after_a_power_cut_what_was_not_synced_is_not_trusted(yoga: Machine) -> None:
    yoga.write("loose", b"may be lost")
    handle = yoga.create("safe")
    handle.write(0, b"fsynced")
    yoga.fsync(handle)
    yoga.release(handle)
    yoga.restart(boot="boot-2")
    seal_round = sealing.begin(yoga.tree.state)
    assert [item.ref.path for item in seal_round.items] == ["safe"]
    assert seal_round.interrupted == ["loose"]
    sealing.abort(yoga.tree.state, seal_round)
    yoga.restart(boot="boot-2")
    assert sealing.begin(yoga.tree.state).interrupted == ["loose"]


def test_a_removal_waits_for_the_interrupted_file_that_moved_away(yoga: Machine) -> None:
    """Others keep the old name until they can have the new one; whoever waits for all the rest is told."""
    yoga.mkdir("d")
    yoga.write("d/old", b"content")
    yoga.cycle()
    yoga.rename("d/old", "new")
    yoga.rmdir("d")
    handle = yoga.open("new", write=True)
    handle.write(0, b"C")
    yoga.tree.overlay.commit()
    yoga.restart()
    seal_round = sealing.begin(yoga.tree.state)
    assert (sorted(seal_round.interrupted), seal_round.waiting, seal_round.items) == (["d", "d/old", "new"], [], [])
    reader = TreeReader(yoga.env, yoga.paths.tree_db)
    found = {item.path: item.state for item in reader.dirty(yoga.db.view.path_of)}
    reader.close()
    assert found["d/old"] is found["new"] is DirtyState.WRITING
    again = yoga.open("new", write=True)
    again.write(0, b"K")
    yoga.release(again)
    yoga.cycle()
    assert yoga.tree.state.pending == {}


def test_rows_of_work_files_that_belong_to_nothing_go(yoga: Machine) -> None:
    yoga.write("a", b"1")
    yoga.tree.abandon()
    db = yoga.env.connect(yoga.paths.tree_db)
    db.execute("INSERT INTO work VALUES (77, 5, 1, 0)")
    db.close()
    yoga.restart()
    yoga.check()
    assert len(yoga.tree.overlay.stored_work_ids()) == 1
    yoga.cycle()


def test_a_power_cut_while_fsync_waits_for_the_disk(yoga: Machine) -> None:
    handle = yoga.create("f")
    handle.write(0, b"not yet on the disk")
    sync = handle.sync_begin()
    yoga.tree.overlay.commit(full=True)  # as another file's fsync, or a seal, does
    yoga.restart(boot="boot-2")
    assert sealing.begin(yoga.tree.state).interrupted == ["f"]
    assert sync is not None
    sync.data()


def test_what_is_written_while_fsync_waits_is_not_on_the_disk(yoga: Machine) -> None:
    handle = yoga.create("f")
    handle.write(0, b"synced")
    sync = handle.sync_begin()
    assert sync is not None
    sync.data()
    handle.write(0, b"SYNCED")
    handle.sync_end(sync)
    sync.rows()
    assert not handle.node.synced
    yoga.release(handle)
    yoga.restart(boot="boot-2")
    assert sealing.begin(yoga.tree.state).interrupted == ["f"]


def test_fsync_of_a_file_that_is_removed_meanwhile(yoga: Machine) -> None:
    handle = yoga.create("f")
    handle.write(0, b"x")
    sync = handle.sync_begin()
    assert sync is not None
    yoga.unlink("f")
    sync.data()
    handle.sync_end(sync)
    yoga.release(handle)
    yoga.cycle()
    assert not yoga.exists("f")


def test_a_work_file_that_the_disk_lost_reads_as_zeros(yoga: Machine) -> None:
    yoga.write("a", b"12345")
    yoga.write("b", b"12345")
    first, second = sorted(path for path in yoga.paths.work_dir.rglob("*") if path.is_file())
    yoga.tree.abandon()
    first.unlink()
    second.write_bytes(b"12")
    yoga.restart(boot="boot-2")
    yoga.check()
    assert yoga.walk() == {"a": bytes(5), "b": b"12\0\0\0"}
    assert sealing.begin(yoga.tree.state).interrupted == ["a", "b"]


def test_numbers_are_not_used_twice(yoga: Machine) -> None:
    yoga.write("a", b"1")
    number = yoga.ino("a")
    yoga.restart()
    assert yoga.ino("a") == number
    yoga.write("b", b"2")
    assert yoga.ino("b") > number
    yoga.cycle()


# ---- another fleet.db


@pytest.fixture
def settled(yoga: Machine, bates: Machine) -> Machine:
    """yoga with d/x, d/sub/y, z published and known to bates."""
    yoga.mkdir("d")
    yoga.write("d/x", b"x")
    yoga.mkdir("d/sub")
    yoga.write("d/sub/y", b"y")
    yoga.write("z", b"z")
    yoga.cycle()
    bates.learn()
    return yoga


def recovered(yoga: Machine, bates: Machine, expected: dict[str, object]) -> None:
    yoga.check()
    assert yoga.walk() == expected
    for machine in (yoga, bates, yoga):
        machine.learn()
        machine.note()
        machine.cycle()
    assert yoga.walk() == expected
    assert bates.walk() == expected
    assert yoga.tree.overlay.all_entries() == []


def test_rows_are_found_again_by_path(settled: Machine, bates: Machine) -> None:
    settled.write("d/x", b"changed")
    settled.write("d/sub/new", b"new")
    settled.unlink("d/sub/y")
    settled.rename("z", "d/z")
    settled.mkdir("n")
    settled.write("n/a", b"a")
    settled.tree.overlay.commit()
    expected = settled.walk()
    settled.lose_fleet_db()
    recovered(settled, bates, expected)


def test_a_renamed_directory_is_found_again(settled: Machine, bates: Machine) -> None:
    settled.rename("d", "e")
    settled.write("e/x", b"changed")
    settled.tree.overlay.commit()
    expected = settled.walk()
    settled.lose_fleet_db()
    recovered(settled, bates, expected)


def test_seals_without_an_answer_are_published(settled: Machine, bates: Machine) -> None:
    settled.write("d/x", b"changed")
    settled.mkdir("n")
    settled.write("n/a", b"a")
    settled.unlink("z")
    settled.seal()
    settled.write("n/a", b"newer")
    expected = settled.walk()
    settled.lose_fleet_db()
    assert len(settled.seals()) == 4
    recovered(settled, bates, expected)


def test_a_folder_that_the_new_one_does_not_know_stays_for_its_rows(settled: Machine, bates: Machine) -> None:
    settled.write("d/sub/new", b"new")
    settled.tree.overlay.commit()
    for path in ("d/sub/y", "d/x"):
        bates.unlink(path)
    bates.rmdir("d/sub")
    bates.rmdir("d")
    bates.cycle()
    settled.lose_fleet_db()
    recovered(settled, bates, {"d": None, "d/sub": None, "d/sub/new": b"new", "z": b"z"})


def test_an_owner_of_another_numbering_is_forgotten(settled: Machine, bates: Machine) -> None:
    settled.tree.setattr(settled.ino("z"), uid=33)
    settled.cycle()
    assert settled.tree.overlay.owners != {}
    settled.lose_fleet_db()
    assert settled.tree.overlay.owners == {}


def test_a_tree_too_large_for_memory_is_read_back(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")
    yoga.tree.abandon()
    yoga.tree = Tree.load(FakeEnv(9, fleet.clock), yoga.paths, uid=1000, gid=1000, keep=3)
    for folder in ("d", "e", "d/f"):
        yoga.mkdir(folder)
        for number in range(5):
            yoga.write(f"{folder}/{number}", b"%d" % number)
    yoga.rename("d", "g")
    yoga.unlink("g/1")
    expected = yoga.walk()
    yoga.tree.overlay.commit(full=True)
    assert len(yoga.tree.overlay.nodes) < 5
    assert len(expected) == 17
    yoga.check()
    yoga.cycle()
    assert yoga.walk() == expected
    assert yoga.tree.overlay.all_entries() == []


def test_an_interrupted_file_stays_one_in_a_tree_too_large_for_memory(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")
    yoga.write("a", b"whole")
    yoga.cycle()
    file = yoga.open("a", write=True)
    file.write(0, b"torn")
    yoga.tree.overlay.commit()
    yoga.tree.abandon()
    yoga.files = []
    yoga.tree = Tree.load(yoga.env, yoga.paths, uid=1000, gid=1000, keep=3)
    number = yoga.ino("a")
    assert yoga.seal() == []
    for n in range(12):
        yoga.write(f"f{n}", b"x")
    yoga.tree.overlay.commit(full=True)
    assert number not in yoga.tree.overlay.nodes  # else nothing is tested
    assert {seal.path for seal in yoga.seal()} == {f"f{n}" for n in range(12)}
    assert sealing.begin(yoga.tree.state, None).interrupted == ["a"]
    yoga.release(yoga.open("a", write=True))
    assert "a" in {seal.path for seal in yoga.seal()}


def test_after_a_power_cut_an_unsynced_overwrite_stands_beside_what_was_published(
    yoga: Machine, bates: Machine
) -> None:
    yoga.write("a", b"published")
    yoga.cycle()
    bates.learn()
    yoga.write("a", b"torn, perhaps")
    yoga.restart(boot="boot-2")
    yoga.check()
    assert yoga.walk() == {"a": b"published"}
    yoga.cycle()
    yoga.check()
    bates.learn()
    beside = {"a": b"published", "a.yoga.conflict": b"torn, perhaps"}
    assert yoga.walk() == bates.walk() == beside


def test_after_a_power_cut_what_another_machine_published_stays_name(yoga: Machine, bates: Machine) -> None:
    """Whoever wrote last: an own head leads, so NAME has to be published once more."""
    bates.write("a", b"published")
    bates.cycle()
    yoga.learn()
    yoga.write("a", b"torn, perhaps")
    yoga.restart(boot="boot-2")
    yoga.cycle()
    bates.learn()
    anna = yoga.fleet.machine("anna")
    anna.learn()
    beside = {"a": b"published", "a.yoga.conflict": b"torn, perhaps"}
    assert yoga.walk() == bates.walk() == anna.walk() == beside


def test_after_a_power_cut_an_unsynced_save_by_rename_is_not_name(yoga: Machine) -> None:
    """Without fsync, as programs do that trust in the order of ext4."""
    yoga.write("a", b"published")
    yoga.cycle()
    yoga.write("a.new", b"torn, perhaps")
    yoga.rename("a.new", "a")
    yoga.tree.overlay.commit()
    yoga.restart(boot="boot-2")
    assert yoga.walk() == {"a": b"published"}
    yoga.cycle()
    assert yoga.walk() == {"a": b"published", "a.yoga.conflict": b"torn, perhaps"}


def test_after_a_power_cut_a_renamed_file_keeps_its_new_name(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"published")
    yoga.cycle()
    yoga.rename("a", "b")
    yoga.tree.setattr(yoga.ino("b"), mode=0o600)
    yoga.patch("b", 0, b"TORN")
    yoga.restart(boot="boot-2")
    yoga.check()
    assert yoga.walk() == {"b": b"published"}
    yoga.cycle()
    bates.learn()
    beside = {"b": b"published", "b.yoga.conflict": b"TORNished"}
    assert yoga.walk() == bates.walk() == beside
    assert yoga.attr("b").mode == bates.attr("b").mode == 0o600


def test_after_a_power_cut_what_was_sealed_is_name(yoga: Machine, bates: Machine) -> None:
    """Sealed bytes are on the disk, and on their way."""
    yoga.write("a", b"published")
    yoga.cycle()
    yoga.patch("a", 0, b"SEALED")
    yoga.tree.setattr(yoga.ino("a"), mtime_ns=7)
    yoga.seal()
    yoga.patch("a", 4, b"torn, perhaps")
    yoga.restart(boot="boot-2")
    yoga.check()
    assert yoga.walk() == {"a": b"SEALEDhed"}
    assert yoga.attr("a").mtime_ns == 7
    yoga.cycle()
    bates.learn()
    assert yoga.walk() == bates.walk() == {"a": b"SEALEDhed", "a.yoga.conflict": b"SEALtorn, perhaps"}


def test_after_a_power_cut_nothing_stands_beside_what_was_synced(yoga: Machine) -> None:
    yoga.write("a", b"published")
    yoga.cycle()
    handle = yoga.open("a", write=True)
    handle.write(0, b"SYNCED")
    yoga.fsync(handle)
    yoga.restart(boot="boot-2")
    yoga.cycle()
    assert yoga.walk() == {"a": b"SYNCEDhed"}


def test_after_a_power_cut_what_came_meanwhile_is_name(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"published")
    yoga.cycle()
    bates.learn()
    yoga.write("a", b"torn, perhaps")
    bates.write("a", b"newer")
    bates.cycle()
    yoga.learn()
    yoga.restart(boot="boot-2")
    assert yoga.walk() == {"a": b"newer"}
    yoga.cycle()
    bates.learn()
    assert yoga.walk() == bates.walk() == {"a": b"newer", "a.yoga.conflict": b"torn, perhaps"}


def test_after_a_power_cut_the_size_that_was_published_is_back(yoga: Machine) -> None:
    """Truncated on open, as by '>'."""
    yoga.write("a", b"published")
    yoga.cycle()
    was = yoga.attr("a")
    handle = yoga.open("a", write=True, truncate=True)
    handle.write(0, b"to")
    yoga.tree.overlay.commit()
    yoga.restart(boot="boot-2")
    assert yoga.walk() == {"a": b"published"}
    assert yoga.attr("a").mtime_ns == was.mtime_ns
    yoga.cycle()
    assert yoga.walk() == {"a": b"published", "a.yoga.conflict": b"to"}
