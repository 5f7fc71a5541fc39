"""Hard links: a name goes, here or elsewhere, and the others stay names of the file that it was one of."""

import pytest
from linkkit import go_round, record_path, same
from treekit import Machine

from sync.core.errors import Stale


@pytest.mark.parametrize("how", ["unlink", "rename", "over", "replace", "exchange"])
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_a_name_that_goes_publishes_no_other(yoga: Machine, bates: Machine, name: str, how: str) -> None:
    """So what another machine removes at the same moment stays removed, and what it writes there has no sibling."""
    yoga.write("a", b"one")
    yoga.write("x", b"else")
    for other in "bc":
        yoga.link("a", other)
    go_round(yoga, bates)
    removed, kept = (other for other in "abc" if other != name)
    before = len(yoga.fleet.records)
    match how:
        case "unlink":
            yoga.unlink(name)
        case "rename":
            yoga.rename(name, "d")
        case "over":
            yoga.rename(name, "x")
        case "replace":
            yoga.rename("x", name)
        case "exchange":
            yoga.tree.exchange(1, name, 1, "x")
    bates.unlink(removed)
    yoga.cycle()
    new = {record_path(line) for _, line in yoga.fleet.records[before:]}
    assert new == {name, *{"unlink": "", "rename": "d"}.get(how, "x")}
    go_round(yoga, bates)
    names = [kept, *{"rename": "d", "over": "x", "exchange": "x"}.get(how, "")]
    for machine in (yoga, bates):
        assert same(machine, *names) and all(machine.read(each) == b"one" for each in names)
        assert not machine.exists(removed)


def test_a_name_that_goes_before_the_others_are_published(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    yoga.cycle()
    yoga.link("a", "c")
    before = len(yoga.fleet.records)
    yoga.unlink("c")
    yoga.cycle()
    assert yoga.fleet.records[before:] == []
    go_round(yoga, bates)
    assert same(yoga, "a", "b") and same(bates, "a", "b")


def test_what_is_changed_when_a_name_has_gone_is_changed_under_all_others(yoga: Machine, bates: Machine) -> None:
    """In one batch with the removal, and as a file apart from what still stands at that name elsewhere."""
    yoga.write("a", b"one")
    for other in "bc":
        yoga.link("a", other)
    go_round(yoga, bates)
    bates.patch("a", 0, b"BAT")
    yoga.unlink("a")
    yoga.patch("b", 0, b"two")
    before = len(yoga.fleet.records)
    yoga.cycle()
    assert [record_path(line) for _, line in yoga.fleet.records[before:]] == ["b", "c", "a"]
    go_round(yoga, bates)
    for machine, names in ((yoga, ("b", "c")), (bates, ("a", "b", "c"))):
        assert same(machine, *names) and machine.read("b") == (b"two" if machine is yoga else b"BAT")
    assert yoga.read("a.bates.conflict") == b"BAT" and bates.read("b.yoga.conflict") == b"two"


@pytest.mark.parametrize("moment", ["sealed", "answered"])
def test_the_mount_dies_when_a_name_has_gone(yoga: Machine, bates: Machine, moment: str) -> None:
    yoga.write("a", b"one")
    for other in "bc":
        yoga.link("a", other)
    go_round(yoga, bates)
    yoga.unlink("a")
    assert yoga.attr("b").nlink == 2
    yoga.seal()
    if moment == "answered":
        yoga.publish()
    yoga.restart()
    yoga.check()
    assert same(yoga, "b", "c") and not yoga.exists("a")
    bates.unlink("b")
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert machine.walk() == {"c": b"one"} and machine.attr("c").nlink == 1


def test_the_last_name_goes_while_it_is_open_and_unsaved(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    file = yoga.open("b", write=True)
    yoga.unlink("a")
    yoga.cycle()
    file.write(0, b"two")
    assert yoga.read("b") == b"two" and yoga.attr("b").nlink == 1
    yoga.unlink("b")
    assert yoga.bytes_of(file) == b"two"
    go_round(yoga, bates)
    assert yoga.bytes_of(file) == b"two"
    yoga.release(file)
    go_round(yoga, bates)
    assert yoga.walk() == bates.walk() == {}


def test_the_removal_of_a_name_has_to_wait(yoga: Machine, bates: Machine) -> None:
    """The others are as they were published, and counted without it."""
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    file = yoga.create("tmp")
    file.write(0, b"new")
    yoga.rename("tmp", "a")  # it is busy
    yoga.cycle()
    assert yoga.tree.overlay.entry(1, "b") is None and yoga.attr("b").nlink == 1
    yoga.link("b", "c")
    assert same(yoga, "b", "c")
    yoga.release(file)
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert same(machine, "b", "c") and machine.walk() == {"a": b"new", "b": b"one", "c": b"one"}


def test_the_folder_of_one_name_is_gone_and_made_again(yoga: Machine, bates: Machine) -> None:
    """While the file at that name is still written to: that has the name, the file keeps the others."""
    yoga.mkdir("d")
    go_round(yoga, bates)
    bates.rmdir("d")
    bates.cycle()
    yoga.write("d/x", b"one")
    yoga.link("d/x", "a")
    file = yoga.open("a", write=True)
    file.write(0, b"ONE")
    yoga.learn()
    yoga.mkdir("d")
    other = yoga.create("d/x")
    other.write(0, b"two")
    yoga.cycle()
    assert yoga.attr("a").nlink == 1
    yoga.release(file)
    yoga.release(other)
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert machine.walk() == {"a": b"ONE", "d": None, "d/x": b"two"} and machine.attr("a").nlink == 1


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("how", ["replace", "unlink"])
@pytest.mark.parametrize("first", ["a", "b"])
def test_the_kernel_still_takes_a_name_for_the_file_that_it_has_left(
    yoga: Machine, bates: Machine, name: str, how: str, first: str
) -> None:
    """The feed is not read yet: who opens or changes that name must not meet the file behind the others."""
    other = "ab".replace(name, "")
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    dentries = {each: yoga.tree.lookup(1, each).ino for each in "ab"}
    if how == "replace":
        bates.write("tmp", b"new")
        bates.rename("tmp", name)
    else:
        bates.unlink(name)
    bates.cycle()
    yoga.learn()
    for each in (first, "ab".replace(first, "")):
        with pytest.raises(Stale):
            yoga.tree.open(dentries[each], write=True)
        with pytest.raises(Stale):
            yoga.tree.setattr(dentries[each], mode=0o600)
        if each == other or how == "replace":
            yoga.patch(each, 0, b"two")
        else:
            assert not yoga.exists(each)
    go_round(yoga, bates)
    left = {"ab"[n]: b"two" for n in (0, 1) if how == "replace" or "ab"[n] == other}
    assert yoga.walk() == bates.walk() == left


@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize("name", ["a", "b"])
def test_what_is_open_stays_with_the_names_that_stay(yoga: Machine, bates: Machine, name: str, fed: bool) -> None:
    other = "ab".replace(name, "")
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    file = yoga.open(other, write=True)
    bates.write("tmp", b"new")
    bates.rename("tmp", name)
    bates.cycle()
    yoga.learn()
    if fed:
        yoga.note()
    file.write(0, b"two")
    yoga.release(file)
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert machine.walk() == {name: b"new", other: b"two"}
