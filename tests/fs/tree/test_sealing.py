"""When changes are sealed, in which order, and what the seals say."""

import pytest
from treekit import Machine

from fs.tree import note, sealing
from fs.tree.model import ROOT_ID
from fs.tree.whole import copy_layers
from sync.env import Crash


def due(machine: Machine, after: float = 0.0) -> int:
    machine.fleet.clock.elapsed += after
    return sealing.seal_due(machine.tree.state, machine.env.monotonic()).ready


def ops(machine: Machine, **how: bool) -> list[tuple[str, str]]:
    return [(seal.op, seal.path) for seal in machine.seal(**how)]


# ---- when


def test_a_closed_file_waits_20_ms(yoga: Machine) -> None:
    yoga.write("a", b"x")
    assert due(yoga, 0.019) == 0
    assert sealing.seal_due(yoga.tree.state, yoga.env.monotonic()).next == pytest.approx(0.02)
    assert due(yoga, 0.002) == 1
    yoga.seal(only_due=True)
    assert sealing.seal_due(yoga.tree.state, yoga.env.monotonic()) == (0, None, [])


def test_nothing_changed_nothing_is_due(yoga: Machine) -> None:
    assert sealing.seal_due(yoga.tree.state, 1e9) == (0, None, [])
    assert not sealing.begin(yoga.tree.state)


def test_a_new_open_file_waits_for_its_close_or_30_s_without_a_write(yoga: Machine) -> None:
    handle = yoga.create("a")
    handle.write(0, b"x")
    assert due(yoga, 29.0) == 0
    handle.write(1, b"y")
    assert due(yoga, 29.0) == 0
    assert due(yoga, 1.1) == 1
    assert ops(yoga, only_due=True) == [("put", "a")]
    yoga.release(handle)
    yoga.cycle()


def test_a_new_file_written_to_all_the_time_is_sealed_after_5_minutes(yoga: Machine) -> None:
    """(!)"""
    handle = yoga.create("a")
    for number in range(29):
        handle.write(number, b"x")
        assert due(yoga, 10.0) == 0
    handle.write(29, b"x")
    assert due(yoga, 10.1) == 1
    yoga.seal(only_due=True)
    assert yoga.seals()[0].size == 30
    handle.write(30, b"y")
    yoga.publish()
    yoga.note()
    yoga.release(handle)
    yoga.cycle()
    assert yoga.read("a") == b"x" * 30 + b"y"


def test_a_published_open_file_is_sealed_every_30_s(yoga: Machine) -> None:
    """(!)"""
    yoga.write("a", b"x")
    yoga.cycle()
    handle = yoga.open("a", write=True)
    handle.write(0, b"1")
    assert due(yoga, 29.0) == 0
    handle.write(0, b"2")
    assert due(yoga, 1.1) == 1
    yoga.seal(only_due=True)
    yoga.publish()
    yoga.note()
    handle.write(0, b"3")
    assert due(yoga, 28.0) == 0
    assert due(yoga, 2.1) == 1
    yoga.release(handle)
    yoga.cycle()


def test_a_file_truncated_on_open_is_like_a_new_one(yoga: Machine) -> None:
    yoga.write("a", b"old content")
    yoga.cycle()
    handle = yoga.open("a", write=True, truncate=True)
    for number in range(4):
        handle.write(number, b"x")
        assert due(yoga, 9.0) == 0
    assert due(yoga, 21.1) == 1
    yoga.release(handle)
    yoga.cycle()


def test_what_was_published_a_moment_ago_waits_for_quiet(yoga: Machine) -> None:
    yoga.write("a", b"1")
    yoga.cycle()
    yoga.write("a", b"2")
    assert due(yoga, 0.4) == 0
    yoga.write("a", b"3")
    assert due(yoga, 0.4) == 0
    assert due(yoga, 0.1) == 1
    yoga.seal(only_due=True)
    yoga.cycle()
    yoga.fleet.clock.elapsed += 2
    yoga.write("a", b"4")
    assert due(yoga, 0.021) == 1
    yoga.cycle()


def test_what_is_renamed_waits_with_the_name_it_left(yoga: Machine) -> None:
    yoga.write("old", b"x")
    yoga.cycle()
    yoga.rename("old", "new")
    assert due(yoga, 0.1) == 0
    assert due(yoga, 0.45) == 2
    assert [(seal.op, seal.path) for seal in yoga.seal(only_due=True)] == [("put", "new"), ("remove", "old")]


def test_a_file_counts_as_closed_from_the_flush_of_its_last_writing_handle(yoga: Machine) -> None:
    """(!) RELEASE comes later."""
    first, second = yoga.create("a"), yoga.open("a", write=True)
    first.write(0, b"x")
    first.flush()
    assert due(yoga, 1.0) == 0
    second.flush()
    assert due(yoga, 0.021) == 1
    first.write(1, b"y")  # a descriptor was duplicated
    assert due(yoga, 1.0) == 0
    first.flush()
    assert due(yoga, 0.021) == 1
    yoga.release(first)
    yoga.release(second)
    yoga.cycle()


def test_temporary_files_that_come_and_go_are_never_sealed(yoga: Machine) -> None:
    yoga.write("tmp", b"x")
    yoga.unlink("tmp")
    yoga.write("t1", b"x")
    yoga.rename("t1", "t2")
    yoga.unlink("t2")
    assert yoga.seal() == []
    assert yoga.tree.overlay.all_entries() == []


# ---- on request


def test_wait_leaves_out_what_is_open_for_writing_and_names_it(yoga: Machine) -> None:
    yoga.write("a", b"x")
    handle = yoga.create("b")
    handle.write(0, b"y")
    seal_round = sealing.begin(yoga.tree.state)
    assert [item.ref.path for item in seal_round.items] == ["a"]
    assert (seal_round.busy, seal_round.interrupted, seal_round.missing) == (["b"], [], [])
    seal_round.sync()
    sealing.finish(yoga.tree.state, seal_round)
    yoga.release(handle)
    yoga.cycle()


def test_a_push_seals_a_busy_file_as_it_is_now(yoga: Machine) -> None:
    handle = yoga.create("a")
    handle.write(0, b"now")
    yoga.write("b", b"other")
    seals = yoga.seal(["a"], include_busy=True)
    assert [seal.path for seal in seals] == ["a"]
    handle.write(3, b" later")
    yoga.publish()
    assert yoga.fleet.contents[yoga.db.heads("a")[0].manifest.content_id] == b"now"
    yoga.release(handle)
    yoga.cycle()
    assert yoga.read("a") == b"now later"


def test_a_path_that_is_not_there_is_missing(yoga: Machine) -> None:
    yoga.mkdir("d")
    yoga.write("d/a", b"")
    yoga.cycle()
    yoga.unlink("d/a")
    seal_round = sealing.begin(yoga.tree.state, ["nothing", "d", "d/a", "d/b"])
    assert seal_round.missing == ["nothing", "d/b"]
    assert [(item.ref.op, item.ref.path) for item in seal_round.items] == [("remove", "d/a")]
    seal_round.sync()
    sealing.finish(yoga.tree.state, seal_round)
    yoga.cycle()


def test_an_entry_has_one_seal_at_most_and_later_changes_wait(yoga: Machine) -> None:
    yoga.write("a", b"1")
    yoga.seal()
    yoga.write("a", b"2")
    seal_round = sealing.begin(yoga.tree.state)
    assert (len(seal_round.items), seal_round.waiting) == (0, ["a"])
    yoga.publish()
    yoga.note()
    assert ops(yoga) == [("put", "a")]
    yoga.cycle()
    assert yoga.read("a") == b"2"


# ---- order and content


def test_folders_come_before_what_is_in_them_and_removals_last(yoga: Machine) -> None:
    yoga.mkdir("old")
    yoga.write("old/x", b"")
    yoga.cycle()
    yoga.unlink("old/x")
    yoga.rmdir("old")
    yoga.write("z", b"")
    yoga.mkdir("d")
    yoga.mkdir("d/e")
    yoga.write("d/e/a", b"")
    sealed = ops(yoga)
    assert sealed[-2:] == [("remove", "old/x"), ("remove", "old")]
    assert sealed.index(("put", "d")) < sealed.index(("put", "d/e")) < sealed.index(("put", "d/e/a"))
    yoga.cycle()


def test_a_child_asked_for_brings_its_folders(yoga: Machine) -> None:
    yoga.mkdir("d")
    yoga.mkdir("d/e")
    yoga.write("d/e/a", b"")
    yoga.write("d/b", b"")
    seals = yoga.seal(["d/e/a"])
    assert [seal.path for seal in seals] == ["d", "d/e", "d/e/a"]
    assert list(seals[2].dir_ids) == [yoga.ino("d"), yoga.ino("d/e")]
    yoga.cycle()


def test_a_seal_says_all_that_publishing_needs(yoga: Machine) -> None:
    yoga.write("a", b"hello")
    yoga.tree.setattr(yoga.ino("a"), mode=0o640, mtime_ns=5)
    yoga.tree.setxattr(yoga.ino("a"), "user.k", b"v")
    seal = yoga.seal()[0]
    assert (seal.op, seal.kind, seal.mode, seal.size, seal.mtime_ns) == ("put", 1, 0o640, 5, 5)
    assert (seal.uid, seal.gid, seal.xattrs) == (None, None, {"user.k": "dg=="})
    assert (seal.base, seal.limit_below, seal.last, seal.seen) == (None, 0, None, [])
    yoga.publish()
    version = yoga.db.heads("a")[0].id
    yoga.note()
    yoga.tree.setattr(yoga.ino("a"), mode=0o600, uid=0)
    seal = yoga.seal()[0]
    assert (seal.layer, seal.base, seal.last, seal.seen, seal.uid) == (None, version, version, [version], 0)
    yoga.cycle()


def test_an_absent_name_has_seen_its_tombstones(yoga: Machine) -> None:
    yoga.write("a", b"1")
    yoga.cycle()
    yoga.unlink("a")
    yoga.cycle()
    tombstone = yoga.db.heads("a")[0]
    assert not tombstone.is_live
    yoga.write("a", b"2")
    seal = yoga.seal()[0]
    assert (seal.seen, seal.last) == ([tombstone.id], None)
    yoga.cycle()
    assert len(yoga.db.heads("a")) == 1


def test_the_disk_refuses_and_the_round_is_taken_back(yoga: Machine) -> None:
    yoga.write("a", b"1")
    yoga.mkdir("d")
    before = yoga.walk()
    seal_round = sealing.begin(yoga.tree.state)
    handle = yoga.open("a", write=True)
    handle.write(1, b"2")
    sealing.abort(yoga.tree.state, seal_round)
    yoga.release(handle)
    assert yoga.walk() == before | {"a": b"12"}
    assert yoga.seals() == []
    yoga.check()
    yoga.cycle()
    assert yoga.read("a") == b"12"


def test_many_files_are_synced_at_once(yoga: Machine) -> None:
    for number in range(20):
        yoga.write(f"f{number}", b"x")
    assert len(yoga.seal()) == 20
    yoga.cycle()


def test_a_commit_between_begin_and_finish_promises_nothing(yoga: Machine) -> None:
    """The mount dies after freezing: all is dirty again."""
    yoga.write("a", b"1")
    sealing.begin(yoga.tree.state)
    yoga.write("b", b"2")
    yoga.restart()
    assert yoga.seals() == []
    assert yoga.walk() == {"a": b"1", "b": b"2"}
    yoga.check()
    yoga.cycle()


@pytest.mark.parametrize("point", ["tree.before_commit", "tree.before_seal_commit", "tree.after_seal_commit"])
def test_a_kill_while_sealing(yoga: Machine, point: str) -> None:
    yoga.mkdir("d")
    yoga.write("d/a", b"bytes")
    yoga.env.arm(point)
    seal_round = sealing.begin(yoga.tree.state)
    seal_round.sync()
    with pytest.raises(Crash):
        sealing.finish(yoga.tree.state, seal_round)
    yoga.restart()
    assert len(yoga.seals()) == (2 if point == "tree.after_seal_commit" else 0)
    assert yoga.walk() == {"d": None, "d/a": b"bytes"}
    yoga.check()
    yoga.cycle()
    assert yoga.tree.overlay.all_entries() == []


def test_the_root_is_never_published(yoga: Machine) -> None:
    yoga.tree.setattr(ROOT_ID, mode=0o700, mtime_ns=7)
    assert yoga.seal() == []
    yoga.tree.overlay.commit()
    yoga.restart()
    assert yoga.attr("").mode == 0o700


def test_an_owner_that_only_we_know_stays(yoga: Machine) -> None:
    yoga.write("a", b"1")
    yoga.cycle()
    yoga.tree.setattr(yoga.ino("a"), uid=33, gid=44)
    yoga.cycle()
    yoga.restart()
    assert (yoga.attr("a").uid, yoga.attr("a").gid) == (33, 44)
    yoga.write("a", b"2")
    yoga.cycle()
    assert (yoga.attr("a").uid, yoga.attr("a").gid) == (33, 44)
    assert yoga.tree.overlay.owners == {}


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "LARGE", 1000)


@pytest.mark.usefixtures("small_is_large")
def test_no_round_waits_for_a_large_file(yoga: Machine) -> None:
    """It is brought to the disk first, while others are sealed."""
    yoga.write("big", b"x" * 1000)
    yoga.write("small", b"x" * 999)
    yoga.fleet.clock.elapsed += 1
    found = sealing.seal_due(yoga.tree.state, yoga.env.monotonic())
    assert (found.ready, [node.id for node in found.large]) == (1, [yoga.ino("big")])
    ahead = sealing.sync_ahead(found.large[0])
    assert {seal.path for seal in yoga.seal(only_due=True)} == {"small"}
    found = sealing.seal_due(yoga.tree.state, yoga.env.monotonic())
    assert (found.ready, found.large, found.next) == (0, [], None)
    yoga.patch("big", 0, b"more")
    ahead()
    sealing.ahead_done(ahead)
    yoga.fleet.clock.elapsed += 1
    found = sealing.seal_due(yoga.tree.state, yoga.env.monotonic())
    assert (found.ready, found.large) == (1, [])
    assert {seal.path for seal in yoga.seal(only_due=True)} == {"small", "big"}
    yoga.publish()
    yoga.note()
    yoga.write("big", b"y" * 2000)
    yoga.fleet.clock.elapsed += 5
    assert len(sealing.seal_due(yoga.tree.state, yoga.env.monotonic()).large) == 1  # once more for the next one
    assert {seal.path for seal in yoga.seal(["big"])} == {"big"}  # who asks does not want to wait twice
    yoga.cycle()


@pytest.mark.usefixtures("small_is_large")
def test_a_large_file_that_is_on_the_disk_already(yoga: Machine) -> None:
    file = yoga.create("big")
    file.write(0, b"x" * 1000)
    yoga.fsync(file)
    yoga.release(file)
    yoga.fleet.clock.elapsed += 1
    assert sealing.seal_due(yoga.tree.state, yoga.env.monotonic()).ready == 1
    assert sealing.seal_due(yoga.tree.state, yoga.env.monotonic()).large == []


@pytest.mark.usefixtures("small_is_large")
def test_a_large_file_that_is_removed_while_it_is_brought_to_the_disk(yoga: Machine) -> None:
    yoga.write("big", b"x" * 1000)
    yoga.fleet.clock.elapsed += 1
    (node,) = sealing.seal_due(yoga.tree.state, yoga.env.monotonic()).large
    ahead = sealing.sync_ahead(node)
    yoga.unlink("big")
    yoga.tree.overlay.commit()
    ahead()
    sealing.ahead_done(ahead)
    assert yoga.seal(only_due=True) == []


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_a_file_made_shorter_above_a_round_that_is_taken_back(yoga: Machine, is_elsewhere: bool) -> None:
    """What it loses must not come into the cache behind its end."""
    yoga.write("a", b"x" * 100)
    file = yoga.open("a", write=True)
    for size, tail in ((50, b""), (20, b"end")):
        seal_round = sealing.begin(yoga.tree.state, ["a"], include_busy=True)
        yoga.tree.setattr(yoga.ino("a"), size=size)
        if tail:
            file.write(size, tail)
        sealing.abort(yoga.tree.state, seal_round)
    yoga.release(file)
    assert yoga.read("a") == b"x" * 20 + b"end"
    yoga.seal()
    yoga.publish()
    yoga.tree.state.whole_is_elsewhere = is_elsewhere
    copy_layers(note.copies_ahead(yoga.tree.state))
    yoga.note()
    (whole,) = (yoga.paths.cache_dir / "whole").iterdir()
    assert whole.read_bytes() == b"x" * 20 + b"end"


def test_a_file_of_which_only_atime_was_set_is_settled(yoga: Machine) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    yoga.write("c", b"two")
    yoga.cycle()
    for name in "ac":
        yoga.tree.setattr(yoga.ino(name), atime_ns=5)
        yoga.check()
    yoga.cycle()
    assert yoga.tree.overlay.all_entries() == []
