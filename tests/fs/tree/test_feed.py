"""What the kernel has to forget when others change things, and folders that must not vanish under what is local."""

import pytest
from treekit import Fleet, Machine

from fs.tree import feed, note, sealing
from fs.tree.model import ROOT_ID, Invalidation
from sync.core.errors import Stale


@pytest.fixture
def bates(fleet: Fleet, yoga: Machine) -> Machine:
    """bates knows a = one and d/x, as the kernel does."""
    bates = fleet.machine("bates")
    yoga.write("a", b"one")
    yoga.mkdir("d")
    yoga.write("d/x", b"x")
    yoga.cycle()
    bates.learn()
    bates.note()
    return bates


def hear(bates: Machine) -> set[tuple[str, str]]:
    """(name, kind) of what the kernel is told after learning; folders' own attributes left out."""
    bates.learn()
    found: list[Invalidation] = []
    while feed.has_more(bates.tree.state):
        found += feed.feed(bates.tree.state)
    return {(item.name, item.kind) for item in found if item.name}


def test_a_file_that_nobody_has_open(yoga: Machine, bates: Machine) -> None:
    number = bates.tree.lookup(ROOT_ID, "a").ino
    yoga.fleet.clock.elapsed += 1
    yoga.write("a", b"second")
    yoga.cycle()
    assert hear(bates) == {("a", "attr")}
    with pytest.raises(Stale):  # the kernel asks when its attributes are gone, and looks the name up again
        bates.tree.attr(number)
    again = bates.tree.lookup(ROOT_ID, "a")
    assert (again.size, again.ino != number) == (6, True)
    bates.tree.open(again.ino, write=False).release()


def test_the_same_size_and_mtime(yoga: Machine, bates: Machine) -> None:
    attr = bates.tree.lookup(ROOT_ID, "a")
    yoga.write("a", b"two")
    yoga.tree.setattr(yoga.ino("a"), mtime_ns=attr.mtime_ns)
    yoga.cycle()
    assert hear(bates) == {("a", "attr")}


def test_an_open_file_loses_its_name(yoga: Machine, bates: Machine) -> None:
    bates.tree.lookup(ROOT_ID, "a")
    handle = bates.open("a")
    yoga.write("a", b"second")
    yoga.cycle()
    assert hear(bates) == {("a", "entry")}
    bates.release(handle)


def test_a_mode(yoga: Machine, bates: Machine) -> None:
    bates.tree.lookup(ROOT_ID, "a")
    yoga.tree.setattr(yoga.ino("a"), mode=0o600)
    yoga.cycle()
    assert hear(bates) == {("a", "attr")}


def test_what_came_and_what_went(yoga: Machine, bates: Machine) -> None:
    bates.tree.lookup(ROOT_ID, "a")
    yoga.unlink("a")
    yoga.write("new", b"")
    yoga.cycle()
    assert hear(bates) == {("a", "gone"), ("new", "new")}


def test_the_folders_of_what_changed_are_named_too(yoga: Machine, bates: Machine) -> None:
    number = bates.tree.lookup(ROOT_ID, "d").ino
    yoga.write("d/new", b"")
    yoga.cycle()
    bates.learn()
    assert Invalidation(number, "", number, "attr") in feed.feed(bates.tree.state)


def test_nothing_is_said_of_folders_that_the_kernel_does_not_know(yoga: Machine, bates: Machine) -> None:
    for n in range(10):
        yoga.write(f"d/{n}", b"")
    yoga.write("top", b"")
    yoga.rename("d", "e")
    yoga.cycle()
    bates.learn()
    assert {item.name for item in feed.feed(bates.tree.state) if item.name} == {"top", "d", "e"}


def test_what_is_ours_hides_what_changed(yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"mine")
    yoga.write("a", b"second")
    yoga.cycle()
    assert hear(bates) == set()
    bates.cycle()


def test_own_publishing_says_nothing_of_files(yoga: Machine, bates: Machine) -> None:
    bates.write("b", b"b")
    number = bates.tree.lookup(ROOT_ID, "b").ino
    bates.seal()
    bates.publish()
    items = [*note.note(bates.tree.state), *feed.feed(bates.tree.state)]
    assert [item for item in items if item.ino == number and item.kind != "attr"] == []


def test_the_cursor_is_kept(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"second")
    yoga.cycle()
    assert hear(bates) != set()
    assert feed.feed(bates.tree.state) == []
    bates.restart()
    assert not feed.has_more(bates.tree.state)


def test_a_folder_removed_elsewhere_stays_for_a_new_file_in_it(yoga: Machine, bates: Machine) -> None:
    """(!)"""
    bates.write("d/new", b"new")
    yoga.unlink("d/x")
    yoga.rmdir("d")
    yoga.cycle()
    hear(bates)
    assert bates.walk() == {"a": b"one", "d": None, "d/new": b"new"}
    bates.check()
    bates.restart()
    assert bates.walk() == {"a": b"one", "d": None, "d/new": b"new"}
    bates.cycle()
    yoga.learn()
    assert yoga.walk() == bates.walk() == {"a": b"one", "d": None, "d/new": b"new"}
    assert bates.tree.overlay.all_entries() == []


def test_a_folder_kept_for_a_file_that_goes_goes_too(yoga: Machine, bates: Machine) -> None:
    bates.write("d/new", b"new")
    yoga.unlink("d/x")
    yoga.rmdir("d")
    yoga.cycle()
    hear(bates)
    bates.unlink("d/new")
    bates.cycle()
    bates.note()
    assert bates.tree.overlay.attach == {}


def test_removing_what_is_removed_elsewhere_too(yoga: Machine, bates: Machine) -> None:
    bates.unlink("d/x")
    yoga.unlink("d/x")
    yoga.rmdir("d")
    yoga.cycle()
    hear(bates)
    assert "d/x" not in bates.walk()
    bates.cycle()
    yoga.learn()
    assert yoga.walk() == bates.walk() == {"a": b"one"}
    assert bates.tree.overlay.all_entries() == []


# ---- local-only names


def test_names_that_stay_here(yoga: Machine, bates: Machine) -> None:
    for name in (".a.swp", "4913", ".#lock", ".goutputstream-X"):
        yoga.write(name, b"temporary")
    yoga.mkdir(".git")
    yoga.write(".git/HEAD", b"ref")
    yoga.mkdir(".git/objects")
    assert yoga.seal() == []
    yoga.restart()
    yoga.cycle()
    bates.learn()
    assert ".git/HEAD" in yoga.walk()
    assert bates.walk() == {"a": b"one", "d": None, "d/x": b"x"}
    assert sealing.seal_due(yoga.tree.state, 1e9).ready == 0


def test_saving_through_a_name_that_stays_here(yoga: Machine, bates: Machine) -> None:
    """As vim and GNOME save."""
    yoga.write(".goutputstream-X", b"saved")
    yoga.rename(".goutputstream-X", "a")
    seal = yoga.seal()[0]
    assert (seal.path, seal.moved_from, len(seal.seen)) == ("a", None, 1)
    yoga.cycle()
    bates.learn()
    assert bates.read("a") == b"saved"


def test_moving_what_is_shared_to_a_name_that_stays_here(yoga: Machine, bates: Machine) -> None:
    yoga.rename("a", "a.swp")
    yoga.cycle()
    bates.learn()
    assert "a" not in bates.walk()
    assert yoga.read("a.swp") == b"one"
    with pytest.raises(OSError, match="local-only"):
        yoga.rename("d", ".git")


def test_a_local_folder_that_gets_another_name_is_published(yoga: Machine, bates: Machine) -> None:
    yoga.mkdir(".git")
    yoga.write(".git/HEAD", b"ref")
    yoga.write(".git/x.swp", b"not this")
    yoga.rename(".git", "shared")
    yoga.cycle()
    bates.learn()
    assert {path: item for path, item in bates.walk().items() if "shared" in path} == {
        "shared": None,
        "shared/HEAD": b"ref",
    }
    assert yoga.read("shared/x.swp") == b"not this"


def test_a_new_ignore_file_decides_anew_about_unpublished_rows_only(yoga: Machine, bates: Machine) -> None:
    yoga.write("old.log", b"published")
    yoga.cycle()
    yoga.write("new.log", b"not yet")
    with yoga.db.transaction() as txn:
        txn.set_tcfsignore("*.log\n!*.swp\n", "m:1:00000000")
    yoga.note()
    yoga.write("kept.swp", b"")
    yoga.write("old.log", b"changed")
    yoga.cycle()
    bates.learn()
    shown = bates.walk()
    assert shown["old.log"] == b"changed"
    assert "new.log" not in shown
    assert "kept.swp" in shown


@pytest.mark.parametrize("is_changed", [False, True])
def test_what_was_published_under_another_name_goes_out_when_nothing_ignores_it_any_more(
    yoga: Machine, bates: Machine, is_changed: bool
) -> None:
    yoga.write("a.c", b"one")
    yoga.cycle()
    yoga.rename("a.c", "a.swp")
    if is_changed:
        yoga.write("a.swp", b"two")
    yoga.cycle()
    bates.learn()
    assert not {"a.c", "a.swp"} & bates.walk().keys()
    with yoga.db.transaction() as txn:
        txn.set_tcfsignore("!*.swp\n", "m:1:00000000")
    yoga.note()
    yoga.cycle()
    bates.learn()
    assert bates.walk()["a.swp"] == (b"two" if is_changed else b"one")
    assert yoga.walk() == bates.walk()


@pytest.mark.parametrize("old, new", [("d/x", "d/y"), ("d", "e"), ("d/x", "z")])
@pytest.mark.parametrize("twice", [False, True])
def test_what_only_this_machine_knows_goes_where_it_is_renamed_elsewhere(
    yoga: Machine, bates: Machine, old: str, new: str, twice: bool
) -> None:
    for path in ("d", "d/x"):
        yoga.tree.setattr(yoga.ino(path), uid=1234, gid=567)
        yoga.tree.setxattr(yoga.ino(path), "trusted.t", b"1")
    yoga.cycle()
    bates.learn()
    bates.note()
    if twice:
        bates.rename(old, "between")
        bates.cycle()
    bates.rename("between" if twice else old, new)
    bates.cycle()
    yoga.learn()
    yoga.note()
    for path in ("d", "d/x"):
        place = new + path[len(old) :] if path.startswith(old) else path
        attr = yoga.attr(place)
        assert (place, attr.uid, attr.gid) == (place, 1234, 567)
        assert yoga.tree.getxattr(yoga.ino(place), "trusted.t") == b"1"


def own_news(yoga: Machine) -> set[tuple[str, str]]:
    """(name, kind) of what the kernel is told of what was done here, once that is published."""
    yoga.seal()
    yoga.publish()
    return {(item.name, item.kind) for item in (*note.note(yoga.tree.state), *feed.feed(yoga.tree.state)) if item.name}


def test_what_is_made_where_something_was_before_keeps_its_name(yoga: Machine, bates: Machine) -> None:
    """The kernel has done both: dropping the name would take the working directory from who is in the new folder."""
    yoga.mkdir("d/r")
    yoga.write("d/f", b"1")
    own_news(yoga)
    yoga.rmdir("d/r")
    yoga.mkdir("d/r")
    yoga.unlink("d/f")
    yoga.write("d/f", b"2")
    assert {("r", "entry"), ("f", "entry")}.isdisjoint(own_news(yoga))
    yoga.rename("d/r", "d/old")
    yoga.mkdir("d/r")
    yoga.rename("d/old", "d/older")
    yoga.rename("d/f", "d/f~")
    yoga.write("d/f", b"3")
    yoga.link("d/f", "d/g")
    assert {name for name, kind in own_news(yoga) if kind == "entry"} <= {"old"}
    yoga.unlink("d/f")
    yoga.unlink("d/g")
    yoga.write("d/f", b"4")
    yoga.link("d/f", "d/g")
    assert {("f", "entry"), ("g", "entry")}.isdisjoint(own_news(yoga))
    assert not yoga.tree.state.inodes.noted


def test_what_came_from_elsewhere_in_the_place_of_ours_is_named(yoga: Machine, bates: Machine) -> None:
    """Also when it came before the answer to ours was noted."""
    yoga.tree.lookup(ROOT_ID, "d")
    yoga.write("d/f", b"1")
    own_news(yoga)
    bates.learn()
    bates.note()
    yoga.unlink("d/f")
    yoga.write("d/f", b"2")
    yoga.tree.lookup(*yoga.place("d/f"))
    yoga.seal()
    yoga.publish()
    bates.learn()
    bates.note()
    bates.unlink("d/f")
    bates.mkdir("d/f")
    bates.cycle()
    yoga.learn()
    found = [*note.note(yoga.tree.state), *feed.feed(yoga.tree.state)]
    assert {("f", "entry"), ("f", "gone")} & {(item.name, item.kind) for item in found}
