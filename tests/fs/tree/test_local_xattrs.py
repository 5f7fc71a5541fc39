"""Attributes that stay here: over publishing, a restart, a change from elsewhere, a rename; never in what is sealed."""

import errno

import pytest
from treekit import Machine

from fs.tree import acl, feed, named
from fs.tree.acl import GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, AclEntry
from fs.tree.model import DIR, FILE, ROOT_ID, Invalidation
from sync.core.errors import ReadOnly

NOBODY = 0xFFFFFFFF


def entries(user: int, named: int | None, group: int, mask: int, other: int) -> bytes:
    """u::, u:1000:, g::, m::, o::"""
    more = [AclEntry(USER, named, 1000)] if named is not None else []
    end = [AclEntry(MASK, mask, NOBODY)] if named is not None else []
    return acl.encode(
        (
            AclEntry(USER_OBJ, user, NOBODY),
            *more,
            AclEntry(GROUP_OBJ, group, NOBODY),
            *end,
            AclEntry(OTHER, other, NOBODY),
        )
    )


def put(machine: Machine, path: str, name: str, value: bytes) -> None:
    machine.tree.setxattr(machine.ino(path), name, value)


def get(machine: Machine, path: str, name: str) -> bytes | None:
    return machine.tree.getxattr(machine.ino(path), name)


def test_they_outlast_everything_and_are_never_published(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"x")
    put(yoga, "a", "user.a", b"told")
    put(yoga, "a", "security.label", b"kept")
    seal = yoga.seal()[0]
    assert seal.xattrs is not None and "user.a" in seal.xattrs and "security" not in str(seal.xattrs)
    yoga.cycle()
    bates.learn()
    assert (get(bates, "a", "user.a"), get(bates, "a", "security.label")) == (b"told", None)
    assert get(yoga, "a", "security.label") == b"kept"
    yoga.tree.overlay.commit(full=True)
    yoga.restart()
    assert get(yoga, "a", "security.label") == b"kept"
    bates.write("a", b"theirs")
    bates.cycle()
    yoga.learn()
    assert (yoga.read("a"), get(yoga, "a", "security.label")) == (b"theirs", b"kept")
    put(yoga, "a", "trusted.x", b"too")
    yoga.rename("a", "b")
    yoga.cycle()
    assert (get(yoga, "b", "security.label"), get(yoga, "b", "trusted.x")) == (b"kept", b"too")
    yoga.unlink("b")
    yoga.cycle()
    assert yoga.tree.overlay.local_xattrs == {}
    yoga.write("b", b"another")
    assert get(yoga, "b", "security.label") is None


def test_a_change_of_nothing_but_them_moves_ctime(yoga: Machine) -> None:
    yoga.write("a", b"x")
    yoga.cycle()
    before = yoga.attr("a")
    yoga.fleet.clock.elapsed += 1
    put(yoga, "a", "trusted.x", b"1")
    assert yoga.attr("a").ctime_ns > before.ctime_ns and yoga.attr("a").mtime_ns == before.mtime_ns
    after = yoga.attr("a").ctime_ns
    yoga.cycle()
    assert yoga.attr("a").ctime_ns == after
    assert yoga.tree.overlay.all_entries() == []


NAMES = {
    "user.a": b"1",
    "trusted.a": b"1",
    "security.label": b"1",
    acl.ACCESS: entries(6, 6, 4, 6, 4),
    acl.DEFAULT: entries(7, 7, 5, 7, 0),
}


@pytest.mark.parametrize("is_shown", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_value_that_is_there_changes_nothing(yoga: Machine, name: str, is_shown: bool) -> None:
    yoga.mkdir("a")
    put(yoga, "a", name, NAMES[name])
    if is_shown:
        yoga.cycle()
    before, pending = yoga.attr("a"), dict(yoga.tree.state.pending)
    gens = [entry.gen for entry in yoga.tree.overlay.all_entries()]
    yoga.fleet.clock.elapsed += 1
    put(yoga, "a", name, NAMES[name])
    assert (yoga.attr("a"), yoga.tree.state.pending) == (before, pending)
    assert [entry.gen for entry in yoga.tree.overlay.all_entries()] == gens == ([] if is_shown else gens)
    changed = entries(6, 6, 4, 4, 4) if name in (acl.ACCESS, acl.DEFAULT) else b"2"
    put(yoga, "a", name, changed)
    assert yoga.attr("a").ctime_ns > before.ctime_ns and get(yoga, "a", name) == changed


def test_an_acl_that_is_the_mode_changes_nothing(yoga: Machine) -> None:
    yoga.write("a", b"x")
    yoga.cycle()
    before = yoga.attr("a")
    yoga.fleet.clock.elapsed += 1
    put(yoga, "a", acl.ACCESS, entries(6, None, 4, 0, 4))
    assert (before.mode, yoga.attr("a"), yoga.tree.overlay.all_entries()) == (0o644, before, [])
    put(yoga, "a", acl.ACCESS, entries(6, None, 4, 0, 0))
    assert yoga.attr("a").mode == 0o640 and yoga.attr("a").ctime_ns > before.ctime_ns
    put(yoga, "a", acl.ACCESS, entries(6, 6, 4, 4, 0))
    put(yoga, "a", acl.ACCESS, entries(6, None, 4, 0, 0))
    assert get(yoga, "a", acl.ACCESS) is None


def test_a_sibling_takes_no_value_that_is_there_either(yoga: Machine, bates: Machine) -> None:
    for machine in (yoga, bates):
        machine.write("a", machine.name.encode())
        put(machine, "a", "user.a", b"1")
        machine.cycle()
    yoga.learn()
    yoga.note()
    (sibling,) = (name for name in yoga.listing() if name != "a")
    assert get(yoga, sibling, "user.a") == b"1"
    with pytest.raises(ReadOnly):
        put(yoga, sibling, "user.a", b"1")


def test_an_acl_and_the_mode_are_one(yoga: Machine) -> None:
    yoga.write("a", b"x")
    put(yoga, "a", acl.ACCESS, entries(6, 7, 4, 6, 0))
    assert yoga.attr("a").mode == 0o660
    yoga.tree.setattr(yoga.ino("a"), mode=0o4710)
    assert yoga.attr("a").mode == 0o4710
    assert get(yoga, "a", acl.ACCESS) == entries(7, 7, 4, 1, 0)
    put(yoga, "a", acl.ACCESS, entries(6, None, 4, 0, 4))
    assert (get(yoga, "a", acl.ACCESS), yoga.attr("a").mode) == (None, 0o4644)
    for name, value, number in (
        (acl.ACCESS, b"rubbish", errno.EINVAL),
        (acl.DEFAULT, entries(7, None, 0, 0, 0), errno.EACCES),
    ):
        with pytest.raises(OSError) as caught:
            put(yoga, "a", name, value)
        assert caught.value.errno == number


def test_an_acl_follows_a_chmod_elsewhere(yoga: Machine, bates: Machine) -> None:
    for path in ("a", "b"):
        yoga.write(path, b"x")
        put(yoga, path, acl.ACCESS, entries(6, 6, 4, 6, 4))
    yoga.link("b", "b2")
    yoga.cycle()
    bates.learn()
    for path in ("a", "b"):
        bates.tree.setattr(bates.ino(path), mode=0o640)
    bates.cycle()
    ino = yoga.ino("a")
    is_open = yoga.open("a")
    yoga.learn()
    yoga.note()
    assert Invalidation(ROOT_ID, "a", ino, "attr") in yoga.told
    for path in ("a", "b", "b2"):
        assert (yoga.attr(path).mode, get(yoga, path, acl.ACCESS)) == (0o640, entries(6, 6, 4, 4, 0))
    row = yoga.tree.state.shown(ROOT_ID, "a")
    assert row is not None and named.xattrs_of(yoga.tree.state, row)[acl.ACCESS] == entries(6, 6, 4, 4, 0)
    yoga.release(is_open)
    put(yoga, "a", "user.mine", b"1")  # it has a node of its own
    yoga.patch("b", 0, b"y")
    for _ in range(2):
        for path in ("a", "b", "b2"):
            assert (yoga.attr(path).mode, get(yoga, path, acl.ACCESS)) == (0o640, entries(6, 6, 4, 4, 0))
        yoga.cycle()
    yoga.tree.setattr(yoga.ino("a"), mode=0o664)
    assert get(yoga, "a", acl.ACCESS) == entries(6, 6, 4, 6, 4)


def test_the_acl_of_a_folder_is_inherited(yoga: Machine) -> None:
    yoga.mkdir("d")
    put(yoga, "d", acl.DEFAULT, entries(7, 7, 5, 7, 0))
    place = yoga.ino("d")
    file = yoga.tree.create(place, "f", FILE, 0o640, 0, 0)
    assert (file.mode, get(yoga, "d/f", acl.ACCESS)) == (0o640, entries(6, 7, 5, 4, 0))
    folder = yoga.tree.create(place, "e", DIR, 0o2777, 0, 0)
    assert (folder.mode, get(yoga, "d/e", acl.DEFAULT)) == (0o2770, entries(7, 7, 5, 7, 0))
    assert get(yoga, "d/e", acl.ACCESS) == entries(7, 7, 5, 7, 0)
    yoga.cycle()
    assert get(yoga, "d/e", acl.DEFAULT) == entries(7, 7, 5, 7, 0)
    assert yoga.tree.create(ROOT_ID, "plain", FILE, 0o640, 0, 0).mode == 0o640


def test_a_lost_fleet_db_takes_those_of_what_was_published(yoga: Machine) -> None:
    yoga.write("a", b"x")
    put(yoga, "a", "trusted.x", b"1")
    yoga.cycle()
    yoga.write("b", b"new")
    put(yoga, "b", "trusted.x", b"2")
    yoga.tree.overlay.commit(full=True)
    yoga.lose_fleet_db()
    assert (get(yoga, "a", "trusted.x"), get(yoga, "b", "trusted.x")) == (None, b"2")


def test_nothing_is_left_of_what_was_removed_elsewhere(yoga: Machine, bates: Machine) -> None:
    for path in ("a", "b"):
        yoga.write(path, b"x")
    yoga.cycle()
    bates.learn()
    for path in ("a", "b"):
        put(yoga, path, "trusted.x", b"1")
    yoga.cycle()
    put(yoga, "b", "trusted.x", b"2")
    yoga.seal()
    for path in ("a", "b"):
        bates.unlink(path)
    bates.cycle()
    yoga.publish()
    yoga.learn()
    yoga.note()
    feed.feed(yoga.tree.state)
    assert not yoga.exists("a")
    kept = yoga.exists("b")
    assert len(yoga.tree.overlay.local_xattrs) == int(kept)


def test_an_acl_that_is_not_there_can_be_removed(yoga: Machine) -> None:
    yoga.write("a", b"x")
    for name in (acl.ACCESS, acl.DEFAULT):
        yoga.tree.removexattr(yoga.ino("a"), name)
    with pytest.raises(OSError) as caught:
        yoga.tree.removexattr(yoga.ino("a"), "trusted.x")
    assert caught.value.errno == errno.ENODATA


def test_a_folder_that_somebody_tried_to_open_keeps_them(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    bates.cycle()
    yoga.learn()
    put(yoga, "d", "trusted.x", b"kept")
    yoga.cycle()
    for write in (False, True):
        with pytest.raises(IsADirectoryError):
            yoga.tree.open(yoga.ino("d"), write=write, truncate=write)
    yoga.write("d/a", b"x")
    yoga.tree.overlay.commit(full=True)
    yoga.restart()
    assert get(yoga, "d", "trusted.x") == b"kept"
