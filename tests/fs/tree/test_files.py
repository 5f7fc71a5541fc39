"""Open files keep what they opened, whatever happens to the name."""

import os

import pytest
from treekit import Fleet, Machine

from fs.tree import files
from fs.tree.files import SIZE_MAX
from fs.tree.model import ROOT_ID
from fs.work.stack import BasePiece, LocalPiece
from sync.core.errors import Stale, TooLarge
from sync.core.manifest import INT_MAX


@pytest.fixture
def pair(fleet: Fleet) -> tuple[Machine, Machine]:
    """yoga and bates, both showing a = one."""
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    yoga.write("a", b"one")
    yoga.cycle()
    bates.learn()
    bates.note()
    return yoga, bates


def change(writer: Machine, reader: Machine, data: bytes = b"second") -> None:
    """`writer` changes a, `reader` has learned it and not read its feed."""
    writer.fleet.clock.elapsed += 5
    writer.write("a", data)
    writer.cycle()
    reader.learn()


def test_an_open_file_keeps_its_content_and_its_number(pair: tuple[Machine, Machine]) -> None:
    yoga, bates = pair
    old = bates.open("a")
    number = bates.ino("a")
    change(yoga, bates)
    new = bates.open("a")
    assert (bates.bytes_of(old), bates.bytes_of(new)) == (b"one", b"second")
    assert (old.node.id, bates.tree.attr(number).size) == (number, 3)
    assert new.node.id != number
    assert new.node.id % 2 == 1
    bates.release(old)
    bates.release(new)
    assert bates.read("a") == b"second"


def test_a_file_that_the_kernel_does_not_know_keeps_its_number(pair: tuple[Machine, Machine]) -> None:
    yoga, bates = pair
    number = bates.ino("a")
    change(yoga, bates)
    assert bates.ino("a") == number
    assert bates.read("a") == b"second"


def test_new_content_of_the_same_size_and_mtime_gets_another_number(pair: tuple[Machine, Machine]) -> None:
    """The kernel could not notice that its pages are old."""
    yoga, bates = pair
    attr = bates.tree.lookup(ROOT_ID, "a")
    yoga.write("a", b"two")
    yoga.tree.setattr(yoga.ino("a"), mtime_ns=attr.mtime_ns)
    yoga.cycle()
    bates.learn()
    with pytest.raises(Stale):
        bates.tree.open(attr.ino, write=False)
    again = bates.tree.lookup(ROOT_ID, "a")
    assert (again.size, again.mtime_ns) == (attr.size, attr.mtime_ns)
    assert again.ino != attr.ino
    assert bates.read("a") == b"two"


def test_an_inode_that_has_moved_on_is_stale_until_it_is_looked_up(pair: tuple[Machine, Machine]) -> None:
    """(!) So correctness never depends on when the feed is read."""
    yoga, bates = pair
    number = bates.tree.lookup(ROOT_ID, "a").ino
    change(yoga, bates)
    for call in (
        lambda: bates.tree.open(number, write=False),
        lambda: bates.tree.open(number, write=True),
        lambda: bates.tree.setattr(number, mode=0o600),
        lambda: bates.tree.setattr(number, size=0),
        lambda: bates.tree.setxattr(number, "user.x", b"1"),
    ):
        with pytest.raises(Stale):
            call()
    again = bates.tree.lookup(ROOT_ID, "a").ino
    assert again != number
    bates.tree.setattr(again, mode=0o600)
    assert bates.attr("a").mode == 0o600
    bates.cycle()


def test_a_removed_inode_is_stale(pair: tuple[Machine, Machine]) -> None:
    yoga, bates = pair
    number = bates.tree.lookup(ROOT_ID, "a").ino
    yoga.unlink("a")
    yoga.cycle()
    bates.learn()
    with pytest.raises(Stale):
        bates.tree.open(number, write=False)
    with pytest.raises(Stale):
        bates.tree.attr(number)


def test_a_change_of_mode_only_makes_nothing_stale(pair: tuple[Machine, Machine]) -> None:
    yoga, bates = pair
    number = bates.tree.lookup(ROOT_ID, "a").ino
    yoga.tree.setattr(yoga.ino("a"), mode=0o600)
    yoga.cycle()
    bates.learn()
    file = bates.tree.open(number, write=False)
    assert bates.tree.attr(number).mode == 0o600
    file.release()


def test_writing_through_an_old_handle_makes_a_concurrent_version(pair: tuple[Machine, Machine]) -> None:
    """(!) What it wrote is based on what it had opened: both stay."""
    yoga, bates = pair
    handle = bates.open("a", write=True)
    change(yoga, bates)
    handle.write(0, b"O")
    assert bates.read("a") == b"second"
    assert bates.bytes_of(handle) == b"One"
    bates.release(handle)
    bates.cycle()
    assert bates.walk() == {"a": b"One", "a.yoga.conflict": b"second"}
    yoga.learn()
    assert yoga.walk() == {"a": b"second", "a.bates.conflict": b"One"}
    assert bates.tree.overlay.all_nodes() == []


def test_writing_through_an_old_handle_again_supersedes_what_it_wrote_before(pair: tuple[Machine, Machine]) -> None:
    yoga, bates = pair
    handle = bates.open("a", write=True)
    change(yoga, bates)
    handle.write(0, b"O")
    handle.flush()
    bates.seal()
    handle.write(1, b"N")
    handle.flush()
    bates.cycle()
    handle.write(2, b"E")
    bates.release(handle)
    bates.cycle()
    assert bates.walk() == {"a": b"ONE", "a.yoga.conflict": b"second"}


def test_a_write_before_the_hint_is_checked_against_what_name_shows_in_that_moment(
    pair: tuple[Machine, Machine],
) -> None:
    """The remote version came between open and write, and the mount has not heard of it."""
    yoga, bates = pair
    handle = bates.open("a", write=True)
    yoga.unlink("a")
    yoga.cycle()
    bates.learn()
    handle.write(0, b"X")
    bates.release(handle)
    bates.cycle()
    assert bates.walk() == {"a": b"Xne"}  # the removal had not seen it: it lives


def test_a_write_after_a_remote_chmod_stays_with_the_name(pair: tuple[Machine, Machine]) -> None:
    yoga, bates = pair
    handle = bates.open("a", write=True)
    yoga.tree.setattr(yoga.ino("a"), mode=0o600)
    yoga.cycle()
    bates.learn()
    handle.write(0, b"X")
    bates.release(handle)
    bates.cycle()
    assert bates.walk() == {"a": b"Xne"}
    assert bates.attr("a").mode == 0o600


def test_an_unlinked_open_file_lives_until_it_is_closed(pair: tuple[Machine, Machine]) -> None:
    yoga, _ = pair
    handle = yoga.open("a", write=True)
    yoga.unlink("a")
    handle.write(3, b" more")
    assert yoga.bytes_of(handle) == b"one more"
    assert yoga.tree.attr(handle.node.id).nlink == 0
    yoga.cycle()
    assert yoga.bytes_of(handle) == b"one more"
    yoga.release(handle)
    assert yoga.listing() == []
    assert [path for path in yoga.paths.work_dir.rglob("*") if path.is_file()] == []


def test_a_dirty_file_that_is_replaced_while_open_is_not_published(pair: tuple[Machine, Machine]) -> None:
    yoga, bates = pair
    handle = yoga.open("a", write=True)
    handle.write(0, b"X")
    yoga.write("b", b"new")
    yoga.rename("b", "a")
    handle.write(1, b"Y")
    assert yoga.bytes_of(handle) == b"XYe"
    yoga.release(handle)
    yoga.cycle()
    bates.learn()
    assert bates.walk() == yoga.walk() == {"a": b"new"}


def test_an_unlinked_file_with_a_seal_under_way_is_published_and_then_removed(pair: tuple[Machine, Machine]) -> None:
    yoga, bates = pair
    yoga.write("b", b"bytes")
    yoga.seal()
    handle = yoga.open("b")
    yoga.unlink("b")
    yoga.publish()
    yoga.note()
    assert yoga.bytes_of(handle) == b"bytes"
    yoga.release(handle)
    yoga.cycle()
    bates.learn()
    assert bates.walk() == yoga.walk() == {"a": b"one"}


def test_truncate_and_regrow_show_zeros_and_are_published(pair: tuple[Machine, Machine]) -> None:
    yoga, bates = pair
    yoga.tree.setattr(yoga.ino("a"), size=1)
    yoga.tree.setattr(yoga.ino("a"), size=3)
    assert yoga.read("a") == b"o\0\0"
    yoga.cycle()
    bates.learn()
    assert bates.read("a") == b"o\0\0"


def test_a_write_needs_only_its_own_bytes(pair: tuple[Machine, Machine]) -> None:
    _, bates = pair
    handle = bates.open("a", write=True)
    handle.write(1, b"X")
    found = handle.pieces(0, 100)
    assert [type(piece) for piece in found] == [BasePiece, LocalPiece, BasePiece]
    bates.release(handle)
    seal = bates.seal()[0]
    assert (seal.size, seal.limit_below, seal.base) == (3, 3, bates.tree.overlay.all_nodes()[0].base)
    bates.cycle()
    assert bates.read("a") == b"oXe"


def test_writes_after_a_seal_go_above_its_layer(pair: tuple[Machine, Machine]) -> None:
    yoga, _ = pair
    handle = yoga.open("a", write=True)
    handle.write(0, b"O")
    handle.flush()
    seal = yoga.seal()[0]
    handle.write(1, b"N")
    assert yoga.bytes_of(handle) == b"ONe"
    yoga.publish()
    assert yoga.fleet.contents[yoga.db.view.manifest(yoga.db.heads("a")[0].id).content_id] == b"One"
    yoga.note()
    assert seal.layer is not None
    assert yoga.bytes_of(handle) == b"ONe"
    yoga.release(handle)
    yoga.cycle()
    assert yoga.read("a") == b"ONe"


def test_fsync_commits(pair: tuple[Machine, Machine]) -> None:
    yoga, _ = pair
    handle = yoga.create("new")
    handle.write(0, b"precious")
    yoga.fsync(handle)
    assert not yoga.tree.overlay.has_changes
    yoga.files.remove(handle)
    yoga.restart()
    assert yoga.read("new") == b"precious"
    assert not yoga.tree.overlay.node(yoga.ino("new")).interrupted
    yoga.cycle()


def test_a_clean_file_has_nothing_to_sync(pair: tuple[Machine, Machine]) -> None:
    yoga, _ = pair
    handle = yoga.open("a")
    assert handle.sync_begin() is None
    yoga.release(handle)


def test_a_close_that_returned_survives_a_kill(pair: tuple[Machine, Machine]) -> None:
    yoga, _ = pair
    yoga.mkdir("d")
    yoga.write("d/new", b"bytes")
    yoga.write("d/empty", b"")
    yoga.restart()
    assert yoga.walk() == {"a": b"one", "d": None, "d/new": b"bytes", "d/empty": b""}
    yoga.cycle()


def test_blocks_tell_what_is_local(pair: tuple[Machine, Machine]) -> None:
    yoga, bates = pair
    yoga.write("empty", b"")
    yoga.write("big", bytes(1000))
    assert [yoga.attr(name).blocks for name in ("empty", "big")] == [0, 2]
    yoga.cycle()
    bates.learn()
    assert [yoga.attr(name).blocks for name in ("empty", "big")] == [0, 2]
    assert [bates.attr(name).blocks for name in ("empty", "big")] == [0, 1]
    bates.tree.state.is_local = lambda row: row.name == "big"
    assert bates.attr("big").blocks == 2


def test_holes_count_as_blocks(pair: tuple[Machine, Machine]) -> None:
    yoga, _ = pair
    yoga.write("sparse", b"")
    yoga.tree.setattr(yoga.ino("sparse"), size=1 << 20)
    assert yoga.attr("sparse").blocks == 2048


def test_descriptors_are_given_back(pair: tuple[Machine, Machine]) -> None:
    yoga, _ = pair
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        yoga.write(f"f{number}", b"bytes")
    yoga.cycle()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_numbers_of_ours_go_when_they_are_forgotten(pair: tuple[Machine, Machine]) -> None:
    yoga, bates = pair
    first = bates.tree.lookup(ROOT_ID, "a").ino
    old = bates.tree.open(first, write=False)
    change(yoga, bates)
    second = bates.tree.lookup(ROOT_ID, "a").ino
    assert second != first
    old.flush()
    old.release()
    bates.tree.forget(first, 1)
    bates.tree.forget(second, 1)
    assert bates.ino("a") == first
    assert bates.tree.state.inodes.known == {}


def test_blocks_of_what_was_written_here_and_freed(pair: tuple[Machine, Machine]) -> None:
    yoga, _ = pair
    yoga.write("big", bytes(1000))
    yoga.cycle()
    whole = [path for path in (yoga.paths.cache_dir / "whole").iterdir() if path.stat().st_size == 1000]
    assert yoga.attr("big").blocks == 2
    whole[0].unlink()
    value = yoga.attr("big").told
    assert value in yoga.tree.state.forget_local()
    assert yoga.attr("big").blocks == 1


def test_many_new_files_take_work_files_made_ahead(yoga: Machine) -> None:
    for number in range(20):
        yoga.write(f"f{number}", b"before %d" % number)
    assert yoga.tree.overlay.wants_spares
    yoga.tree.overlay.order_spares()()
    made = {path.name for path in yoga.paths.work_dir.rglob("*") if path.is_file()}
    for number in range(30):
        yoga.write(f"g{number}", b"after %d" % number)
    assert {path.name for path in yoga.paths.work_dir.rglob("*") if path.is_file()} == made
    yoga.restart()  # those not needed go
    assert len([path for path in yoga.paths.work_dir.rglob("*") if path.is_file()]) == 50
    assert yoga.walk() == {f"f{n}": b"before %d" % n for n in range(20)} | {f"g{n}": b"after %d" % n for n in range(30)}
    yoga.cycle()


def test_spares_that_nobody_needs_go(yoga: Machine) -> None:
    yoga.write("a", b"1")
    yoga.tree.overlay.order_spares()()
    yoga.tree.overlay.drop_spares()
    assert len([path for path in yoga.paths.work_dir.rglob("*") if path.is_file()]) == 1


def test_what_appears_in_a_new_folder_from_elsewhere_is_seen_once_it_is_published(fleet: Fleet, yoga: Machine) -> None:
    bates = fleet.machine("bates")
    yoga.mkdir("d")
    assert not yoga.exists("d/a") and not yoga.exists("d/b")
    yoga.write("d/a", b"1")
    yoga.cycle()
    bates.learn()
    bates.write("d/b", b"2")
    bates.cycle()
    yoga.learn()
    assert yoga.walk() == {"d": None, "d/a": b"1", "d/b": b"2"}
    assert yoga.exists("d/b")


@pytest.mark.parametrize("year_ns", [2**63, 10**19, -(2**63) - 1, -(10**19)])
def test_times_of_any_year_can_be_kept(yoga: Machine, year_ns: int) -> None:
    yoga.write("f", b"x")
    yoga.mkdir("d")
    for path in ("f", "d"):
        shown = yoga.tree.setattr(yoga.ino(path), atime_ns=year_ns, mtime_ns=year_ns)
        assert {shown.atime_ns, shown.mtime_ns} == {INT_MAX if year_ns > 0 else -INT_MAX}
    yoga.tree.overlay.commit()
    yoga.cycle()
    assert yoga.attr("f").mtime_ns == (INT_MAX if year_ns > 0 else -INT_MAX)
    assert yoga.seals() == []


@pytest.mark.parametrize("size", [SIZE_MAX + 1, 2**63 - 1])
def test_a_file_larger_than_may_be_is_refused(yoga: Machine, size: int) -> None:
    file = yoga.create("f")
    file.write(0, b"kept")
    with pytest.raises(TooLarge):
        yoga.tree.setattr(yoga.ino("f"), size=size)
    with pytest.raises(TooLarge):
        file.write(size - 1, b"x")
    assert (yoga.attr("f").size, yoga.bytes_of(file)) == (4, b"kept")
    assert yoga.tree.setattr(yoga.ino("f"), size=SIZE_MAX).size == SIZE_MAX


def test_a_write_over_the_largest_size_is_a_short_one(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SIZE_MAX", 10)
    file = yoga.create("f")
    assert file.write(6, b"abcdefgh") == 4
    assert yoga.bytes_of(file) == bytes(6) + b"abcd"


def work_files(yoga: Machine) -> list[bytes]:
    return [path.read_bytes() for path in yoga.paths.work_dir.rglob("*") if path.is_file()]


@pytest.mark.parametrize("how", ["unlink", "rename"])
@pytest.mark.parametrize("is_committed", [True, False])
def test_what_is_removed_can_be_opened_until_the_kernel_forgets_it(
    pair: tuple[Machine, Machine], how: str, is_committed: bool
) -> None:
    """Whoever has looked a name up opens what it was, as everywhere: the kernel is a moment behind."""
    yoga, _ = pair
    yoga.write("new", b"precious")
    yoga.write("other", b"other")
    ino = yoga.ino("new")
    count = yoga.tree.state.inodes.known[ino].count
    if how == "unlink":
        yoga.tree.unlink(ROOT_ID, "new")
    else:
        yoga.tree.rename(ROOT_ID, "other", ROOT_ID, "new")
    if is_committed:
        yoga.tree.overlay.commit()
    assert yoga.tree.attr(ino).nlink == 0
    assert yoga.tree.listxattr(ino) == []
    yoga.tree.setattr(ino, mode=0o600)
    file = yoga.tree.open(ino, write=True)
    assert yoga.bytes_of(file) == b"precious"
    file.write(0, b"P")
    assert yoga.bytes_of(file) == b"Precious"
    file.flush()
    file.release()
    yoga.tree.forget(ino, count)
    yoga.tree.overlay.commit()
    assert work_files(yoga) == [b"other"]
    with pytest.raises(Stale):
        yoga.tree.open(ino, write=False)
    yoga.check()
    yoga.cycle()


def test_what_was_removed_and_never_opened_goes_when_it_is_forgotten(pair: tuple[Machine, Machine]) -> None:
    yoga, _ = pair
    yoga.write("new", b"precious")
    ino = yoga.ino("new")
    yoga.tree.unlink(ROOT_ID, "new")
    yoga.tree.forget(ino, yoga.tree.state.inodes.known[ino].count)
    assert work_files(yoga) == [b"precious"]  # not before the commit of the removal
    yoga.tree.overlay.commit()
    assert work_files(yoga) == []
    yoga.write("new", b"precious")
    ino = yoga.ino("new")
    yoga.tree.unlink(ROOT_ID, "new")
    yoga.tree.overlay.commit()
    assert work_files(yoga) == [b"precious"]
    yoga.tree.forget(ino, yoga.tree.state.inodes.known[ino].count)
    assert work_files(yoga) == []
    yoga.symlink("l", "target")
    ino = yoga.ino("l")
    yoga.tree.unlink(ROOT_ID, "l")
    assert yoga.tree.readlink(ino) == "target"
    yoga.restart()
    yoga.cycle()


def test_what_was_removed_is_gone_with_its_published_layer(pair: tuple[Machine, Machine]) -> None:
    yoga, _ = pair
    yoga.write("new", b"precious")
    ino = yoga.ino("new")
    yoga.seal()
    yoga.tree.unlink(ROOT_ID, "new")
    yoga.publish()
    yoga.note()
    with pytest.raises(Stale):
        yoga.tree.open(ino, write=False)
    yoga.tree.forget(ino, yoga.tree.state.inodes.known[ino].count)
    yoga.cycle()
    assert work_files(yoga) == []


def test_a_removed_file_that_is_written_over_stays_removed(pair: tuple[Machine, Machine]) -> None:
    yoga, _ = pair
    yoga.write("new", b"precious")
    handle = yoga.open("new", write=True)
    yoga.unlink("new")
    yoga.tree.overlay.commit()
    handle.write(0, b"P")
    yoga.tree.overlay.commit()
    yoga.check()
    yoga.release(handle)
    yoga.cycle()
    assert work_files(yoga) == []


def test_stamps_are_never_before_those_of_the_kernel(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stamps `touch` by its coarse clock, or ahead of that: by a lot where the processors had no time for it."""
    fine = yoga.env.now_ns()
    coarse = fine - 20_000_000
    monkeypatch.setattr(yoga.env, "now_ns", lambda: fine)
    monkeypatch.setattr(yoga.env, "file_time_ns", lambda: coarse)
    yoga.write("a", b"1")
    assert yoga.attr("a").mtime_ns == coarse
    yoga.tree.setattr(yoga.ino("a"), mtime_ns=coarse + 18_000_000)
    yoga.write("b", b"2")
    assert yoga.attr("b").mtime_ns == coarse + 18_000_000
    yoga.tree.setattr(yoga.ino("a"), mtime_ns=coarse + 10**9)  # somebody's own idea
    yoga.tree.setattr(yoga.ino("a"), mtime_ns=0)
    coarse += 17_000_000
    yoga.write("c", b"3")
    assert yoga.attr("c").mtime_ns == coarse + 1_000_000
    coarse += 2_000_000
    yoga.write("d", b"4")
    assert yoga.attr("d").mtime_ns == coarse
    coarse, fine = coarse - 10**15, fine - 10**15  # set back
    yoga.write("e", b"5")
    assert yoga.attr("e").mtime_ns == coarse
