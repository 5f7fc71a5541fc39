"""Taking note of answers: each interleaving of the user, the engine and the mount that an older wording broke."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from treekit import Machine

from fs.tree import note, sealing
from fs.tree.whole import copy_layers
from sync.env import Crash
from sync.state.tree.reader import Seal


def published(machine: Machine) -> Machine:
    """a = 1 is queued, and the mount has not noted it."""
    machine.write("a", b"1")
    machine.seal()
    machine.publish()
    return machine


def agree(yoga: Machine, bates: Machine, expected: dict[str, object]) -> None:
    yoga.cycle()
    bates.learn()
    assert yoga.walk() == bates.walk() == expected
    assert yoga.tree.overlay.all_entries() == []
    assert len([head for head in yoga.db.heads("a") if head.is_live]) == ("a" in expected)


def test_removed_before_the_note(yoga: Machine, bates: Machine) -> None:
    """(!) An entry has seen its own versions in flight."""
    published(yoga).unlink("a")
    agree(yoga, bates, {})


def test_saved_by_rename_before_the_note(yoga: Machine, bates: Machine) -> None:
    """(!)"""
    published(yoga).write("tmp", b"2")
    yoga.rename("tmp", "a")
    agree(yoga, bates, {"a": b"2"})


def test_removed_and_made_again_before_the_note(yoga: Machine, bates: Machine) -> None:
    """(!)"""
    published(yoga).unlink("a")
    yoga.write("a", b"2")
    agree(yoga, bates, {"a": b"2"})


def test_undone_before_the_note(yoga: Machine, bates: Machine) -> None:
    """(!) last is the last version of the entry, noted or not."""
    published(yoga)
    yoga.note()
    yoga.write("a", b"2")
    yoga.tree.setattr(yoga.ino("a"), mtime_ns=2)
    yoga.seal()
    yoga.publish()
    yoga.write("a", b"1")
    yoga.tree.setattr(yoga.ino("a"), mtime_ns=1)
    agree(yoga, bates, {"a": b"1"})


def test_written_between_seal_and_answer(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"1")
    yoga.seal()
    yoga.write("a", b"2")
    yoga.publish()
    yoga.note()
    assert yoga.read("a") == b"2"
    agree(yoga, bates, {"a": b"2"})


def test_an_answer_for_nothing_new_drops_the_row(yoga: Machine, bates: Machine) -> None:
    published(yoga)
    yoga.note()
    mtime_ns = yoga.attr("a").mtime_ns
    yoga.write("a", b"1")
    yoga.tree.setattr(yoga.ino("a"), mtime_ns=mtime_ns)
    yoga.seal()
    assert yoga.publish() == ["unchanged"]
    yoga.note()
    assert len(yoga.db.history("a")) == 1
    agree(yoga, bates, {"a": b"1"})


def test_a_dirty_file_that_becomes_clean_while_a_remote_version_waits(yoga: Machine, bates: Machine) -> None:
    """(!) What another wrote meanwhile shows, and no version undoes it."""
    published(yoga)
    yoga.note()
    mtime_ns = yoga.attr("a").mtime_ns
    bates.learn()
    yoga.write("a", b"1")
    yoga.tree.setattr(yoga.ino("a"), mtime_ns=mtime_ns)
    bates.write("a", b"remote")
    bates.cycle()
    yoga.learn()
    yoga.seal()
    assert yoga.publish() == ["unchanged"]
    agree(yoga, bates, {"a": b"remote"})


def test_an_answer_applies_only_to_what_holds_its_seal(yoga: Machine, bates: Machine) -> None:
    published(yoga).rename("a", "b")
    yoga.write("a", b"another")
    agree(yoga, bates, {"a": b"another", "b": b"1"})


def test_a_complete_layer_becomes_a_whole_file_of_the_cache(yoga: Machine) -> None:
    published(yoga)
    content_id = yoga.db.heads("a")[0].manifest.content_id
    assert not (yoga.paths.cache_dir / "whole" / content_id).exists()
    yoga.note()
    assert (yoga.paths.cache_dir / "whole" / content_id).read_bytes() == b"1"
    assert [path for path in yoga.paths.work_dir.rglob("*") if path.is_file()] == []


def test_a_layer_that_is_not_complete_just_goes(yoga: Machine) -> None:
    yoga.write("a", b"12345")
    yoga.cycle()
    yoga.patch("a", 1, b"X")
    yoga.cycle()
    assert len(list((yoga.paths.cache_dir / "whole").iterdir())) == 1
    assert [path for path in yoga.paths.work_dir.rglob("*") if path.is_file()] == []
    assert yoga.read("a") == b"1X345"


POINTS = ["note.before_rename", "note.after_rename", "note.before_commit", "note.after_commit"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_while_taking_note(yoga: Machine, bates: Machine, point: str) -> None:
    """(!) A layer missing while the answer names its seal has been renamed."""
    published(yoga)
    yoga.env.arm(point)
    with pytest.raises(Crash):
        note.note(yoga.tree.state)
    yoga.restart()
    yoga.check()
    assert yoga.read("a") == b"1"
    agree(yoga, bates, {"a": b"1"})
    content_id = yoga.db.heads("a")[0].manifest.content_id
    assert (yoga.paths.cache_dir / "whole" / content_id).read_bytes() == b"1"


def test_noted_answers_are_not_read_again(yoga: Machine) -> None:
    published(yoga)
    assert note.has_answers(yoga.tree.state)
    note.note(yoga.tree.state)
    assert not note.has_answers(yoga.tree.state)
    assert note.taken_upto(yoga.tree.state) == yoga.db.view.taken_after(0)[-1].n
    assert yoga.tree.overlay.durable_taken_upto < note.taken_upto(yoga.tree.state)
    yoga.tree.overlay.commit(full=True)
    assert yoga.tree.overlay.durable_taken_upto == note.taken_upto(yoga.tree.state)


def refuse(machine: Machine, seal: Seal) -> None:
    with machine.db.transaction() as txn:
        txn.answer(seal.seal_id, "refused", None, "for a test")
    machine.note()


def test_a_refused_change_stays_and_is_tried_again(yoga: Machine) -> None:
    handle = yoga.create("a")
    handle.write(0, b"first")
    seal = yoga.seal(["a"], include_busy=True)[0]
    handle.write(5, b" second")
    refuse(yoga, seal)
    yoga.release(handle)
    yoga.check()
    assert yoga.read("a") == b"first second"
    assert sealing.seal_due(yoga.tree.state, yoga.env.monotonic() + 1).ready == 1  # it has changed: who knows
    refuse(yoga, yoga.seal()[0])
    assert sealing.seal_due(yoga.tree.state, yoga.env.monotonic() + 29).ready == 0
    assert sealing.seal_due(yoga.tree.state, yoga.env.monotonic() + 31).ready == 1
    yoga.cycle()
    assert yoga.fleet.contents[yoga.db.heads("a")[0].manifest.content_id] == b"first second"


def test_the_kernel_hears_of_nothing_when_all_is_as_it_was(yoga: Machine) -> None:
    yoga.tree.lookup(1, "a") if yoga.exists("a") else None
    published(yoga)
    number = yoga.tree.lookup(1, "a").ino
    assert [item for item in note.note(yoga.tree.state) if item.ino == number] == []
    yoga.tree.open(number, write=False).release()  # and its pages are still right: no ESTALE


def test_a_refused_change_that_is_removed_leaves_no_bytes(yoga: Machine) -> None:
    yoga.write("a", b"1")
    [seal] = yoga.seal()
    yoga.unlink("a")
    refuse(yoga, seal)
    yoga.write("a", b"2")
    assert sealing.seal_due(yoga.tree.state, yoga.env.monotonic() + 1).ready == 1
    yoga.unlink("a")
    yoga.cycle()
    yoga.tree.overlay.commit()
    assert [path for path in yoga.paths.work_dir.rglob("*") if path.is_file()] == []


def test_a_directory_keeps_its_times(yoga: Machine) -> None:
    yoga.mkdir("d")
    yoga.seal()
    yoga.fleet.clock.elapsed += 5
    yoga.write("d/a", b"")
    before = yoga.attr("d")
    yoga.cycle()
    assert yoga.attr("d").mtime_ns == before.mtime_ns
    yoga.restart()
    assert yoga.attr("d").mtime_ns == before.mtime_ns


def test_a_directory_keeps_its_times_over_restarts(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    bates.write("d/a", b"")
    bates.cycle()
    yoga.learn()
    for change in (
        lambda: yoga.write("d/b", b""),
        lambda: yoga.rename("d/b", "d/c"),
        lambda: yoga.unlink("d/a"),
        lambda: yoga.mkdir("e"),
    ):
        yoga.fleet.clock.elapsed += 5
        change()
        yoga.tree.overlay.commit()
        before = {path: (yoga.attr(path).mtime_ns, yoga.attr(path).ctime_ns) for path in ("", "d")}
        assert yoga.env.now_ns() in {mtime_ns for mtime_ns, _ in before.values()}
        yoga.restart()
        assert {path: (yoga.attr(path).mtime_ns, yoga.attr(path).ctime_ns) for path in ("", "d")} == before
        yoga.cycle()
        yoga.restart()
        assert {path: (yoga.attr(path).mtime_ns, yoga.attr(path).ctime_ns) for path in ("", "d")} == before
        yoga.check()


def test_times_that_were_set_go_along_with_a_rename(yoga: Machine, bates: Machine) -> None:
    yoga.mkdir("d")
    yoga.write("d/a", b"")
    yoga.cycle()
    yoga.rename("d", "e")
    yoga.tree.setattr(yoga.ino("e"), mtime_ns=1000)
    yoga.cycle()
    assert yoga.attr("e").mtime_ns == 1000
    bates.learn()
    assert bates.attr("e").mtime_ns == 1000


def test_times_that_were_set_elsewhere_later_win(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    bates.cycle()
    yoga.learn()
    yoga.note()
    yoga.fleet.clock.elapsed += 5
    yoga.write("d/b", b"")
    yoga.cycle()
    yoga.restart()
    touched = yoga.attr("d").mtime_ns
    bates.learn()
    yoga.fleet.clock.elapsed += 5
    bates.write("d/c", b"")  # moves the time of the folder, by an entry
    bates.cycle()
    yoga.learn()
    yoga.note()
    assert yoga.attr("d").mtime_ns > touched
    yoga.fleet.clock.elapsed += 5
    bates.tree.setattr(bates.ino("d"), mtime_ns=1000)
    bates.cycle()
    yoga.learn()
    yoga.note()
    assert yoga.attr("d").mtime_ns == bates.attr("d").mtime_ns == 1000
    yoga.restart()
    assert yoga.attr("d").mtime_ns == 1000
    assert not yoga.tree.overlay.times.keys() - {1}


def test_times_that_are_set_again_to_what_they_were(yoga: Machine, bates: Machine) -> None:
    """As rsync does: when it makes a folder, and when all is in it."""
    yoga.mkdir("d")
    yoga.tree.setattr(yoga.ino("d"), mtime_ns=1000)
    yoga.cycle()
    yoga.fleet.clock.elapsed += 5
    yoga.write("d/a", b"")
    yoga.seal()
    yoga.publish()
    yoga.fleet.clock.elapsed += 5
    yoga.tree.setattr(yoga.ino("d"), mtime_ns=1000)
    yoga.cycle()
    bates.learn()
    assert yoga.attr("d").mtime_ns == bates.attr("d").mtime_ns == 1000


def test_times_of_what_is_gone_go(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    bates.cycle()
    yoga.learn()
    yoga.fleet.clock.elapsed += 5
    yoga.write("d/b", b"")
    yoga.cycle()
    assert yoga.ino("d") in yoga.tree.overlay.times
    bates.learn()
    bates.unlink("d/b")
    bates.rmdir("d")
    bates.cycle()
    yoga.learn()
    yoga.note()
    assert yoga.walk() == {}
    assert not yoga.tree.overlay.times.keys() - {1}


@pytest.fixture
def cache_elsewhere(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cache lies on another file system; what was copied there."""
    copied: list[str] = []
    rename, copyfile = os.rename, shutil.copyfile

    def refuse(source: str, target: str) -> None:
        if "/work/" in str(source) and "/whole/" in str(target):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    def record(source: str, target: Path) -> None:
        copied.append(str(source))
        copyfile(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr(shutil, "copyfile", record)
    return copied


def whole_files(yoga: Machine) -> list[bytes]:
    folder = yoga.paths.cache_dir / "whole"
    return sorted(path.read_bytes() for path in folder.iterdir()) if folder.is_dir() else []


def test_noting_copies_nothing_in_passing(yoga: Machine, cache_elsewhere: list[str]) -> None:
    published(yoga).note()
    assert cache_elsewhere == []
    assert yoga.read("a") == b"1"
    yoga.write("a", b"2")
    yoga.write("b", b"3")
    yoga.mkdir("d")
    yoga.seal()
    assert note.copies_ahead(yoga.tree.state) == []  # no answer yet
    yoga.publish()
    copies = note.copies_ahead(yoga.tree.state)
    assert cache_elsewhere == []
    copy_layers(copies)
    assert [copy.source for copy in copies] == cache_elsewhere
    assert whole_files(yoga) == [b"2", b"3"]
    yoga.note()
    assert len(cache_elsewhere) == 2
    assert [path for path in yoga.paths.work_dir.rglob("*") if path.is_file()] == []
    assert yoga.read("a") == b"2"


def test_answers_found_at_the_start_are_copied_too(yoga: Machine, cache_elsewhere: list[str]) -> None:
    published(yoga)
    yoga.tree.overlay.commit(full=True)
    yoga.restart()
    yoga.write("a", b"2")
    yoga.seal()
    yoga.publish()
    assert [Path(copy.target).parent.name for copy in note.copies_ahead(yoga.tree.state)] == ["whole"]


def test_a_cache_that_cannot_take_a_copy_goes_without(yoga: Machine, cache_elsewhere: list[str]) -> None:
    published(yoga).note()
    yoga.write("a", b"2")
    yoga.seal()
    yoga.publish()
    copies = note.copies_ahead(yoga.tree.state)
    os.unlink(copies[0].source)
    copy_layers(copies)
    assert whole_files(yoga) == []
    assert list((yoga.paths.cache_dir / "whole").iterdir()) == []
    yoga.note()
