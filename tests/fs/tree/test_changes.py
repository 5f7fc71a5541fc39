"""What others have done is told as a watcher would hear of it, what was done here is not told at all."""

import base64

import pytest
from treekit import Machine

from fs.tree import feed
from fs.tree.change import Change
from fs.tree.model import DIR, FILE, ROOT_ID, SYMLINK
from sync.state.changes import What


def told(here: Machine, there: Machine) -> list[Change]:
    """What yoga would tell its watchers of what bates has published since the last time."""
    there.cycle()
    here.learn()
    here.note()
    return feed.take_changes(here.tree.state)


def brief(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change.what.value, change.path) for change in changes]


def know(machine: Machine, path: str) -> int:
    """The kernel looks a path up, and does not forget it."""
    parent = ROOT_ID
    for name in path.split("/"):
        parent = machine.tree.lookup(parent, name).ino
    return parent


def test_one_change_after_the_other(yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"one")
    bates.mkdir("d")
    bates.symlink("l", "a")
    created = told(yoga, bates)
    assert {(change.what, change.path, change.kind) for change in created} == {
        (What.CREATED, "a", FILE),
        (What.CREATED, "d", DIR),
        (What.CREATED, "l", SYMLINK),
    }
    bates.fleet.clock.elapsed += 1
    bates.write("a", b"two")
    (change,) = told(yoga, bates)
    assert (change.what, change.path, change.ino, change.old) == (What.MODIFIED, "a", 0, None)
    bates.tree.setattr(bates.ino("a"), mode=0o600)
    (change,) = told(yoga, bates)
    assert (change.what, change.path, change.mode) == (What.ATTRIBUTES, "a", 0o600)
    bates.tree.setxattr(bates.ino("a"), "user.x", base64.b64encode(b"1"))
    assert brief(told(yoga, bates)) == [("attributes", "a")]
    bates.unlink("a")
    bates.rmdir("d")
    assert brief(told(yoga, bates)) == [("removed", "a"), ("removed", "d")]


def test_a_file_that_the_kernel_knows_goes_on_as_it_was_told(yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"one")
    told(yoga, bates)
    ino = know(yoga, "a")
    before = yoga.tree.attr(ino)
    bates.fleet.clock.elapsed += 1
    bates.write("a", b"longer")
    (change,) = told(yoga, bates)
    assert change.ino == ino
    assert change.old is not None
    assert (change.old.ino, change.old.size, change.old.mtime_ns) == (ino, 3, before.mtime_ns)


def test_a_file_that_is_open_goes_on_as_it_was_opened(yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"one")
    told(yoga, bates)
    know(yoga, "a")
    file = yoga.open("a")
    bates.fleet.clock.elapsed += 1
    bates.write("a", b"longer")
    (change,) = told(yoga, bates)
    assert change.old is not None and change.old.size == 3
    yoga.release(file)


def test_a_move_is_one_change(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    bates.mkdir("e")
    bates.write("d/a", b"one")
    told(yoga, bates)
    parents = know(yoga, "d"), know(yoga, "e")
    bates.rename("d/a", "e/b")
    (change,) = told(yoga, bates)
    assert (change.what, change.path, change.parent) == (What.MOVED, "e/b", parents[1])
    assert change.origin is not None
    assert (change.origin.path, change.origin.parent) == ("d/a", parents[0])


def test_a_move_over_another_file_is_one_change(yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"one")
    bates.write("b", b"two")
    told(yoga, bates)
    bates.rename("a", "b")
    assert brief(told(yoga, bates)) == [("moved", "b")]


def test_what_moves_with_its_folder_is_no_change(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    bates.mkdir("d/sub")
    bates.write("d/a", b"one")
    bates.write("d/sub/b", b"two")
    told(yoga, bates)
    know(yoga, "d/sub")
    bates.rename("d", "e")
    (change,) = told(yoga, bates)
    assert (change.what, change.path, change.kind) == (What.MOVED, "e", DIR)


@pytest.mark.parametrize("at_once", [1, 2, 7])
def test_a_move_is_one_change_however_the_feed_is_read(yoga: Machine, bates: Machine, at_once: int) -> None:
    """First comes what is new, then what is gone: a thousand renames may take several looks."""
    bates.mkdir("d")
    bates.mkdir("tree")
    for name in ("a", "b", "c", "tree/f"):
        bates.write(name, b"x")
    told(yoga, bates)
    for path in ("d", "tree/f"):
        know(yoga, path)
    bates.rename("a", "a2")
    bates.rename("b", "d/b")
    bates.rename("tree", "d/tree")
    bates.unlink("c")
    bates.write("e", b"y")
    bates.cycle()
    yoga.learn()
    changes: list[Change] = []
    items = []
    while feed.has_more(yoga.tree.state):
        items += feed.feed(yoga.tree.state, at_once)
        changes += feed.take_changes(yoga.tree.state)
    assert sorted(brief(changes)) == [
        ("created", "e"),
        ("moved", "a2"),
        ("moved", "d/b"),
        ("moved", "d/tree"),
        ("removed", "c"),
    ]
    assert {"a", "a2", "b", "tree"} <= {item.name for item in items}


def test_a_move_from_and_to_folders_that_the_kernel_has_never_seen(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    bates.mkdir("e")
    bates.write("a", b"one")
    bates.write("d/b", b"two")
    told(yoga, bates)
    bates.rename("a", "e/a")
    (change,) = told(yoga, bates)
    assert change.origin is not None
    assert (change.what, change.path, change.origin.path) == (What.MOVED, "e/a", "a")
    bates.rename("d/b", "b")
    (change,) = told(yoga, bates)
    assert change.origin is not None
    assert (change.what, change.path, change.origin.path) == (What.MOVED, "b", "d/b")


def test_what_is_gone_is_told_of_as_it_was_unless_it_has_another_name(yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"one")
    bates.write("b", b"two")
    bates.link("b", "c")
    told(yoga, bates)
    inodes = {name: know(yoga, name) for name in ("a", "b", "c")}
    bates.unlink("a")
    (change,) = told(yoga, bates)
    assert change.old is not None
    assert (change.ino, change.old.ino, change.old.size) == (inodes["a"], inodes["a"], 3)
    for name in ("b", "c"):
        bates.unlink(name)
        (change,) = [change for change in told(yoga, bates) if change.what is What.REMOVED]
        assert change.old is None or name == "c"


def test_a_file_where_a_folder_was(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("a")
    told(yoga, bates)
    bates.rmdir("a")
    bates.write("a", b"one")
    changes = told(yoga, bates)
    assert [(change.what, change.kind) for change in changes] == [(What.REMOVED, DIR), (What.CREATED, FILE)]


def test_what_was_done_here_is_told_to_nobody(yoga: Machine, bates: Machine) -> None:
    def published() -> list[Change]:
        yoga.cycle()
        return feed.take_changes(yoga.tree.state)

    yoga.mkdir("d")
    yoga.write("d/a", b"one")
    know(yoga, "d/a")
    assert published() == []
    yoga.fleet.clock.elapsed += 1
    yoga.write("d/a", b"two")
    assert published() == []
    yoga.tree.setattr(yoga.ino("d/a"), mode=0o600)
    assert published() == []
    yoga.rename("d/a", "d/b")
    assert published() == []
    yoga.rename("d", "e")
    assert published() == []
    yoga.unlink("e/b")
    yoga.rmdir("e")
    assert published() == []
    bates.learn()
    assert told(bates, yoga) == []


def test_of_what_another_machine_adds_to_ours_only_that_is_told(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"ours")
    yoga.cycle()
    bates.learn()
    bates.note()
    feed.take_changes(yoga.tree.state)
    bates.fleet.clock.elapsed += 1
    bates.write("a", b"theirs")
    assert brief(told(yoga, bates)) == [("modified", "a")]


def test_a_sibling_comes_and_goes(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"ours")
    bates.write("a", b"theirs")
    yoga.cycle()
    assert brief(told(yoga, bates)) == [("created", "a.bates.conflict")]
    yoga.unlink("a.bates.conflict")
    yoga.cycle()
    assert feed.take_changes(yoga.tree.state) == []


def test_where_ours_stands_nothing_is_told(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"ours")
    bates.write("a", b"theirs")
    bates.cycle()
    yoga.learn()
    feed.feed(yoga.tree.state)
    assert feed.take_changes(yoga.tree.state) == []


def test_what_the_kernel_has_never_seen_costs_nothing(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    told(yoga, bates)
    bates.write("d/a", b"one")
    assert told(yoga, bates) == []


def test_many_come_in_the_order_in_which_they_were_made(yoga: Machine, bates: Machine) -> None:
    names = [f"f{n:03}" for n in range(100)]
    for name in names:
        bates.write(name, b"x")
    assert brief(told(yoga, bates)) == [("created", name) for name in names]
