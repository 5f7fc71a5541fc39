"""What nobody syncs is synced by itself."""

import errno
import os

import pytest
from treekit import Machine

from fs.tree import sealing, syncing
from fs.tree.syncing import FILES_MAX, SyncRound


def look(machine: Machine) -> SyncRound:
    """One round of the timer."""
    sync_round = syncing.begin(machine.tree.state)
    if sync_round:
        sync_round.data()
        syncing.finish(machine.tree.state, sync_round)
        sync_round.rows()
    return sync_round


def names(machine: Machine, sync_round: SyncRound) -> list[str]:
    return [machine.tree.path_of(node.id) for node, _ in sync_round.synced]


def test_a_file_that_stays_open_is_synced_at_the_second_look(yoga: Machine) -> None:
    handle = yoga.create("a")
    handle.write(0, b"content")
    assert names(yoga, look(yoga)) == []
    assert names(yoga, look(yoga)) == ["a"]
    assert handle.node.synced and handle.node.unflushed
    assert names(yoga, look(yoga)) == []
    handle.write(7, b" and more")
    assert not handle.node.synced
    assert names(yoga, look(yoga)) == []
    assert names(yoga, look(yoga)) == ["a"]
    yoga.check()


def test_after_a_power_cut_what_was_synced_so_is_name(yoga: Machine) -> None:
    """Written over what was published, left open, and never synced by the program."""
    yoga.write("a", b"published")
    yoga.cycle()
    handle = yoga.open("a", write=True)
    handle.write(0, b"PUBLISHED")
    look(yoga)
    look(yoga)
    yoga.restart(boot="boot-2")
    assert yoga.walk() == {"a": b"PUBLISHED"}
    yoga.cycle()
    assert yoga.walk() == {"a": b"PUBLISHED"}
    assert sealing.begin(yoga.tree.state).interrupted == ["a"]  # it was not closed


def test_what_is_sealed_needs_no_sync(yoga: Machine) -> None:
    yoga.write("a", b"content")
    yoga.cycle()
    look(yoga)
    assert names(yoga, look(yoga)) == []


def test_what_stays_on_this_machine_is_synced_too(yoga: Machine) -> None:
    yoga.write("a.swp", b"content")
    look(yoga)
    assert names(yoga, look(yoga)) == ["a.swp"]
    assert yoga.tree.overlay.all_nodes()[0].synced


def test_what_is_written_meanwhile_is_unsynced_still(yoga: Machine) -> None:
    handle = yoga.create("a")
    handle.write(0, b"content")
    look(yoga)
    sync_round = syncing.begin(yoga.tree.state)
    sync_round.data()
    handle.write(0, b"CONTENT")
    syncing.finish(yoga.tree.state, sync_round)
    assert not handle.node.synced
    look(yoga)
    look(yoga)
    assert handle.node.synced


def test_names_come_to_the_disk_once(yoga: Machine) -> None:
    yoga.tree.overlay.commit(full=True)
    assert not syncing.begin(yoga.tree.state)
    yoga.mkdir("d")
    yoga.tree.overlay.commit()
    assert syncing.begin(yoga.tree.state)
    assert not syncing.begin(yoga.tree.state)


def test_a_round_is_bounded(yoga: Machine) -> None:
    handles = [yoga.create(f"f{number}") for number in range(FILES_MAX + 10)]
    for handle in handles:
        handle.write(0, b"x")
    look(yoga)
    assert len(names(yoga, look(yoga))) == FILES_MAX
    assert len(names(yoga, look(yoga))) == 10


def test_a_disk_that_refuses_one_file_has_the_others(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    handles = [yoga.create(name) for name in ("a", "b")]
    for handle in handles:
        handle.write(0, b"x")
    look(yoga)
    sync_round = syncing.begin(yoga.tree.state)
    _, first = sync_round.files[0]

    def refuse() -> None:
        raise OSError(5, "broken")

    monkeypatch.setattr(first, "data", refuse)
    with pytest.raises(OSError, match="broken"):
        sync_round.data()
    syncing.finish(yoga.tree.state, sync_round)
    assert [handle.node.synced for handle in handles] == [False, True]
    assert syncing.begin(yoga.tree.state).wal_path  # nobody has synced the rows


def test_removed_files_are_forgotten(yoga: Machine) -> None:
    handle = yoga.create("a")
    handle.write(0, b"x")
    look(yoga)
    yoga.unlink("a")
    assert names(yoga, look(yoga)) == []
    assert yoga.tree.state.unsynced == set()


@pytest.mark.parametrize("by_timer", [True, False], ids=["by the timer", "ahead of a seal"])
def test_a_sync_that_the_disk_refused_is_told_to_who_syncs_later(
    yoga: Machine, monkeypatch: pytest.MonkeyPatch, by_timer: bool
) -> None:
    """The kernel tells it once a descriptor, and would call the bytes written the next time."""
    handle = yoga.create("a")
    handle.write(0, b"content")
    sync_round = syncing.begin(yoga.tree.state)
    sync_round = syncing.begin(yoga.tree.state)

    def refuse(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", refuse)
        with pytest.raises(OSError):
            (sync_round.data if by_timer else sealing.sync_ahead(handle.node))()
    if by_timer:
        syncing.finish(yoga.tree.state, sync_round)
    assert not handle.node.synced
    for _ in range(2):
        sync = handle.sync_begin()
        assert sync is not None
        with pytest.raises(OSError) as told:
            sync.data()
        assert told.value.errno == errno.EIO and not handle.node.synced
    other = yoga.create("b")
    other.write(0, b"content")
    sync = other.sync_begin()
    assert sync is not None
    sync.data()  # nobody else has to hear of it
    yoga.open("a", write=True, truncate=True).release()  # who begins anew has other bytes to be synced
    handle.write(0, b"again")
    sync = handle.sync_begin()
    assert sync is not None
    sync.data()


def test_a_file_that_the_disk_refuses_keeps_nothing_else_from_the_disk(
    yoga: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = yoga.create("bad")
    bad.write(0, b"content")
    work = bad.node.work
    assert work is not None
    fdatasync, place = os.fdatasync, os.path.realpath(work.path)

    def refuse(fd: int) -> None:
        if os.path.realpath(f"/proc/self/fd/{fd}") == place:
            raise OSError(errno.EIO, "Input/output error")
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", refuse)
    look(yoga)
    with pytest.raises(OSError):
        look(yoga)
    good = yoga.create("good")
    good.write(0, b"content")
    rounds = [look(yoga) for _ in range(3)]
    assert [names(yoga, each) for each in rounds] == [[], ["good"], []]
    assert rounds[1].wal_path  # the rows, too
    assert good.node.synced and not bad.node.synced
