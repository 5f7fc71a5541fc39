"""Ownership that is synced (setting sync_ownership): published and shown by name, through whole machines."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest
from worldkit import World, WorldMachine

from fs.tree import sealing
from fs.tree.owners import Names

ADA, BEA, STAFF = 501, 502, 50  # on yoga


K = TypeVar("K")
V = TypeVar("V")


class Known(dict[K, V]):
    """A name service that answers at once, but for what is `late`: asked so many seconds ago."""

    def __init__(self, known: Mapping[K, V]) -> None:
        super().__init__(known)
        self.late: dict[K, float] = {}

    def find(self, key: K) -> V | None:
        return None if key in self.late else self.get(key)

    def valid_s(self, key: K) -> float | None:
        return 1.0 if key in self.late else None if key in self else 60.0

    def asked_s(self, key: K) -> float | None:
        return self.late.get(key)

    def is_asking(self) -> bool:
        return bool(self.late)


def names(users: dict[str, int], groups: dict[str, int]) -> Names:
    return Names(
        user=Known({uid: name for name, uid in users.items()}),
        group=Known({gid: name for name, gid in groups.items()}),
        uid=Known(users),
        gid=Known(groups),
    )


YOGA = names({"ada": ADA, "bea": BEA, "me": 1000}, {"staff": STAFF, "me": 1000})
BATES = names({"ada": 601, "bea": 602, "myself": 1000}, {"staff": 60, "myself": 1000})
CY = names({"myself": 1000}, {"myself": 1000})  # knows nobody


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as made:
        yield made


def machine(world: World, name: str, owner_names: Names | None) -> WorldMachine:
    made = world.machine(name)
    switch(made, owner_names)
    return made


def switch(made: WorldMachine, owner_names: Names | None) -> None:
    """The mount is started anew with this setting."""
    made.tree.overlay.commit(full=True)
    made.owner_names = owner_names
    made.crash_mount()


@pytest.fixture
def yoga(world: World) -> WorldMachine:
    return machine(world, "yoga", YOGA)


@pytest.fixture
def bates(world: World, yoga: WorldMachine) -> WorldMachine:
    return machine(world, "bates", BATES)


@pytest.fixture
def off(world: World, yoga: WorldMachine) -> WorldMachine:
    """A machine without the setting."""
    return machine(world, "off", None)


def owner(of: WorldMachine, path: str) -> tuple[int, int]:
    attr = of.attr(path)
    return attr.uid, attr.gid


def chown(of: WorldMachine, path: str, uid: int, gid: int) -> None:
    of.tree.setattr(of.ino(path), uid=uid, gid=gid)


def published(of: WorldMachine, path: str) -> tuple[str, str]:
    """owner and group of the one head of a path."""
    (head,) = of.db.heads(path)
    return head.manifest.owner, head.manifest.group


def seq(of: WorldMachine, path: str) -> list[str]:
    return [head.id for head in of.db.heads(path)]


def make_all(of: WorldMachine) -> list[str]:
    of.write("f", b"text")
    of.mkdir("d")
    of.symlink("l", "f")
    return ["f", "d", "l"]


def test_a_chown_of_a_file_a_folder_and_a_symlink_goes_by_name(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    paths = make_all(yoga)
    world.settle()
    assert {published(bates, path) for path in paths} == {("me", "me")}
    assert {owner(bates, path) for path in paths} == {(1000, 1000)}  # there is no "me"
    for path in paths:
        chown(yoga, path, ADA, STAFF)
    world.settle()
    assert {published(bates, path) for path in paths} == {("ada", "staff")}
    assert {owner(yoga, path) for path in paths} == {(ADA, STAFF)}
    assert {owner(bates, path) for path in paths} == {(601, 60)}
    chown(bates, "f", 602, 60)
    world.settle()
    assert (owner(yoga, "f"), owner(bates, "f")) == ((BEA, STAFF), (602, 60))
    for each in (yoga, bates):
        each.crash_mount()
    assert (owner(yoga, "f"), owner(bates, "f")) == ((BEA, STAFF), (602, 60))


def test_an_id_without_a_name_goes_as_its_number(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.write("f", b"")
    chown(yoga, "f", 12345, 0)
    world.settle()
    assert published(bates, "f") == ("12345", "0")
    assert owner(bates, "f") == (12345, 0)


@pytest.mark.parametrize("name", ["nobody-here", "4294967295", "-1", "\u0661", "1e3", "9" * 200])
def test_who_is_unknown_is_who_mounted(world: World, yoga: WorldMachine, bates: WorldMachine, name: str) -> None:
    switch(yoga, names({name: ADA}, {name: STAFF}))
    yoga.write("f", b"")
    chown(yoga, "f", ADA, STAFF)
    world.settle()
    assert published(bates, "f") == (name, name)
    assert owner(bates, "f") == (1000, 1000)


def test_an_unknown_owner_outlives_changes_of_those_who_do_not_know_him(world: World, yoga: WorldMachine) -> None:
    cy = machine(world, "cy", CY)
    yoga.write("f", b"one")
    chown(yoga, "f", ADA, STAFF)
    world.settle()
    cy.write("f", b"two")
    cy.tree.setattr(cy.ino("f"), mode=0o600)
    world.settle()
    assert (yoga.text("f"), published(cy, "f")) == ("two", ("ada", "staff"))
    assert (owner(yoga, "f"), owner(cy, "f")) == ((ADA, STAFF), (1000, 1000))
    chown(cy, "f", 4, 1000)
    world.settle()
    assert published(yoga, "f") == ("4", "staff")


def test_an_unknown_owner_stays_with_what_loses_its_name(world: World, yoga: WorldMachine) -> None:
    """What is written on through a handle whose name moved on, and what a power cut has parted from its name."""
    cy = machine(world, "cy", CY)
    yoga.write("f", b"one")
    yoga.write("g", b"one")
    for path in ("f", "g"):
        chown(yoga, path, ADA, STAFF)
    world.settle()
    file = cy.open("f", write=True)
    yoga.write("f", b"two")
    yoga.publish()
    cy.learn()
    cy.feed()
    file.write(0, b"mine")
    cy.release(file)
    world.settle()
    cy.patch("g", 0, b"not synced")
    cy.tree.overlay.commit(full=True)
    cy.crash_mount(other_boot=True)
    world.settle()
    heads = [head.manifest for path in ("f", "g") for head in cy.db.heads(path)]
    assert [(manifest.rel_path, manifest.machine_name) for manifest in heads].count(("g", "cy")) == 2
    assert {manifest.machine_name for manifest in heads if manifest.rel_path == "f"} == {"yoga", "cy"}
    assert {(manifest.owner, manifest.group) for manifest in heads} == {("ada", "staff")}


def test_without_the_setting_nothing_is_applied_published_or_lost(
    world: World, yoga: WorldMachine, off: WorldMachine
) -> None:
    paths = make_all(yoga)
    for path in paths:
        chown(yoga, path, ADA, STAFF)
    world.settle()
    before = {path: seq(off, path) for path in paths}
    assert {owner(off, path) for path in paths} == {(1000, 1000)}
    for path in ("f", "l"):
        chown(off, path, 33, 44)
    world.settle()
    assert {path: seq(off, path) for path in ("f", "l")} == {path: before[path] for path in ("f", "l")}
    off.write("f", b"edited")
    off.tree.setattr(off.ino("d"), mode=0o700)
    off.link("f", "second")
    off.rename("l", "d/l")
    world.settle()
    off.rename("d", "e")
    off.rename("f", "e/f")
    off.write("e/f", b"again")
    world.settle()
    for path in ("e", "e/f", "e/l", "second"):
        assert published(yoga, path) == ("ada", "staff"), path
        assert owner(yoga, path) == (ADA, STAFF), path
    assert owner(off, "e/f") == owner(off, "e/l") == (33, 44)


def test_a_file_saved_by_rename_keeps_its_owner_without_the_setting(
    world: World, yoga: WorldMachine, off: WorldMachine
) -> None:
    yoga.write("f", b"one")
    yoga.symlink("l", "f")
    yoga.mkdir("d")
    for path in ("f", "l", "d"):
        chown(yoga, path, ADA, STAFF)
    world.settle()
    off.write("new", b"two")
    off.rename("new", "f")
    off.unlink("l")
    off.symlink("l", "elsewhere")
    off.rmdir("d")
    off.write("d", b"no folder any more")
    world.settle()
    assert (yoga.text("f"), published(yoga, "f"), published(yoga, "l")) == ("two", ("ada", "staff"), ("ada", "staff"))
    assert published(yoga, "d") == ("", "")
    off.unlink("f")
    world.settle()
    off.write("f", b"another file")
    world.settle()
    assert published(yoga, "f") == ("", "")


def test_what_is_made_without_the_setting_says_nothing(world: World, yoga: WorldMachine, off: WorldMachine) -> None:
    paths = make_all(off)
    for path in paths:
        chown(off, path, 33, 44)
    world.settle()
    for path in paths:
        ((line,),) = off.db.query("SELECT record FROM version WHERE path = ? ORDER BY num DESC LIMIT 1", path)
        assert b'"owner"' not in line and b'"group"' not in line
    assert {owner(yoga, path) for path in paths} == {(1000, 1000)}
    assert {owner(off, path) for path in paths} == {(33, 44)}
    yoga.write("f", b"more")
    world.settle()
    assert published(yoga, "f") == ("me", "me")


def test_the_setting_is_switched_on_and_off(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    switch(bates, None)
    yoga.write("f", b"one")
    yoga.write("g", b"one")
    chown(yoga, "f", ADA, STAFF)
    world.settle()
    bates.write("own", b"")
    for path in ("f", "g", "own"):
        chown(bates, path, 33, 44)
    world.settle()
    assert {owner(bates, path) for path in ("f", "g", "own")} == {(33, 44)}
    switch(bates, BATES)
    assert (owner(bates, "f"), owner(bates, "own")) == ((601, 60), (33, 44))  # it has no other owner yet
    bates.patch("f", 0, b"two")
    world.settle()
    assert (published(yoga, "f"), owner(yoga, "f")) == (("ada", "staff"), (ADA, STAFF))
    bates.patch("own", 0, b"x")
    world.settle()
    assert (published(yoga, "own"), owner(bates, "own")) == (("33", "44"), (33, 44))
    switch(bates, None)
    bates.patch("f", 0, b"six")
    world.settle()
    assert published(yoga, "f") == ("ada", "staff")


def test_what_was_changed_before_it_is_switched_on_keeps_its_owner(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    switch(bates, None)
    for path in ("f", "g"):
        yoga.write(path, b"one")
        chown(yoga, path, ADA, STAFF)
    world.settle()
    bates.patch("f", 0, b"two")
    bates.write("new", b"one")
    bates.rename("new", "g")
    switch(bates, BATES)
    assert owner(bates, "f") == (601, 60)
    world.settle()
    assert (yoga.text("f"), published(yoga, "f")) == ("two", ("ada", "staff"))
    assert (yoga.text("g"), published(yoga, "g")) == ("one", ("myself", "myself"))  # a new file, made here


def test_who_comes_to_be_known_owns_what_was_changed_before(world: World, yoga: WorldMachine) -> None:
    cy = machine(world, "cy", names({"myself": 1000}, {"myself": 1000}))
    yoga.write("f", b"one")
    chown(yoga, "f", ADA, STAFF)
    world.settle()
    cy.patch("f", 0, b"two")
    assert owner(cy, "f") == (1000, 1000)
    cy.owner_names.uid["ada"] = 701
    assert owner(cy, "f") == (701, 1000)
    world.settle()
    assert (published(yoga, "f"), owner(cy, "f")) == (("ada", "staff"), (701, 1000))


def test_a_chown_back_is_one(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.write("f", b"one")
    chown(yoga, "f", ADA, STAFF)
    world.settle()
    chown(bates, "f", 1000, 1000)
    chown(bates, "f", 601, 1000)
    world.settle()
    assert published(yoga, "f") == ("ada", "myself")


def test_until_a_name_is_known_it_is_shown_as_unknown_for_a_moment(world: World, yoga: WorldMachine) -> None:
    bates = machine(world, "bates", names({"ada": 601}, {"staff": 60}))
    yoga.write("f", b"one")
    chown(yoga, "f", ADA, STAFF)
    world.settle()
    late = bates.owner_names.uid.late
    late["ada"] = 0.0
    assert (owner(bates, "f"), bates.attr("f").valid_s) == ((1000, 60), 1.0)
    bates.patch("f", 0, b"two")
    assert (owner(bates, "f"), bates.attr("f").valid_s) == ((1000, 60), 1.0)
    late.clear()
    assert (owner(bates, "f"), bates.attr("f").valid_s) == ((601, 60), None)
    late["ada"] = 0.0
    chown(bates, "f", 1000, 60)  # as it shows, but who can say whether that is ada
    late.clear()
    world.settle()
    assert published(yoga, "f") == ("1000", "staff")


@pytest.mark.parametrize("kind", ["user", "group"])
def test_publishing_waits_for_what_ids_are_called(world: World, yoga: WorldMachine, kind: str) -> None:
    bates = machine(world, "bates", names({"ada": 601}, {"staff": 60}))
    yoga.write("f", b"one")
    yoga.write("g", b"one")
    for path in ("f", "g"):
        chown(yoga, path, BEA, 7)
    world.settle()
    table = getattr(bates.owner_names, kind)
    number = {"user": 601, "group": 60}[kind]
    table.late[number] = 29.0
    bates.write("new", b"one")
    for path in ("f", "new"):
        chown(bates, path, 601, 60)
    bates.patch("g", 0, b"two")
    bates.link("f", "second")
    world.settle()
    assert (published(yoga, "f"), yoga.text("g"), yoga.listing()) == (("bea", "7"), "two", ["f", "g"])
    table.late.clear()
    world.settle()
    for path in ("f", "second", "new"):
        assert published(yoga, path) == ("ada", "staff"), path


def test_what_is_to_wait_holds_up_nothing_else(world: World) -> None:
    bates = machine(world, "bates", BATES)
    bates.mkdir("d")
    bates.write("d/f", b"")
    bates.write("a", b"")
    world.settle()
    late = bates.owner_names.user.late
    late[601] = 1.0
    bates.write("d/f", b"more")
    bates.rename("a", "b")
    for path in ("d", "b"):
        chown(bates, path, 601, 60)
    bates.write("z", b"elsewhere")
    st = bates.tree.state
    st.pending = dict.fromkeys(st.pending, 0.0)
    assert sealing.seal_due(st, st.env.monotonic()).ready == 1
    sealed = sealing.begin(st, only_due=True)
    assert [item.ref.path for item in sealed.items] == ["z"]
    sealing.abort(st, sealed)
    late.clear()
    st.pending = dict.fromkeys(st.pending, 0.0)
    assert sealing.seal_due(st, st.env.monotonic()).ready == 5


def test_what_has_lost_its_name_waits_as_well(world: World, yoga: WorldMachine) -> None:
    bates = machine(world, "bates", BATES)
    yoga.write("f", b"one")
    world.settle()
    file = bates.open("f", write=True)
    yoga.write("f", b"two")
    yoga.publish()
    bates.learn()
    bates.feed()
    file.write(0, b"mine")
    (node,) = (node for node in bates.tree.overlay.all_nodes() if node.lost_path)
    bates.tree.setattr(node.id, uid=601, gid=60)
    bates.release(file)
    late = bates.owner_names.user.late
    late[601] = 1.0
    world.settle()
    assert bates.listing() == ["f"]
    late.clear()
    world.settle()
    assert {head.manifest.owner for head in yoga.db.heads("f")} == {"me", "ada"}


def test_what_is_shown_stays_while_a_name_is_looked_up(world: World) -> None:
    bates = machine(world, "bates", BATES)
    bates.write("f", b"one")
    chown(bates, "f", 601, 60)
    bates.owner_names.uid.late["ada"] = 0.0
    bates.seal()
    assert (owner(bates, "f"), bates.attr("f").valid_s) == ((601, 60), 1.0)
    bates.owner_names.uid.late.clear()


def test_publishing_does_not_wait_for_ever(world: World, yoga: WorldMachine) -> None:
    bates = machine(world, "bates", names({"ada": 601}, {"staff": 60}))
    yoga.write("f", b"one")
    chown(yoga, "f", BEA, STAFF)
    world.settle()
    bates.owner_names.user.late[601] = 30.0
    bates.write("f", b"two")
    bates.write("new", b"one")
    chown(bates, "f", 601, 60)
    chown(bates, "new", 601, 60)
    world.settle()
    assert (yoga.text("f"), published(yoga, "f")) == ("two", ("bea", "staff"))
    assert published(yoga, "new") == ("", "staff")
    assert owner(bates, "new") == (601, 60)


def test_what_was_only_shown_by_name_is_nothing_that_was_set_here(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    yoga.write("f", b"one")
    chown(yoga, "f", ADA, STAFF)
    world.settle()
    bates.tree.setattr(bates.ino("f"), mode=bates.attr("f").mode)
    world.settle()
    assert owner(bates, "f") == (601, 60)
    switch(bates, None)
    assert owner(bates, "f") == (1000, 1000)


def test_owner_and_content_changed_at_once_make_no_conflict(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    yoga.write("f", b"one")
    chown(yoga, "f", ADA, STAFF)
    world.settle()
    chown(yoga, "f", BEA, STAFF)
    bates.write("f", b"two")
    world.settle()
    for each in (yoga, bates):
        assert (each.text("f"), each.listing()) == ("two", ["f"])
    assert (owner(yoga, "f"), owner(bates, "f")) == ((BEA, STAFF), (602, 60))
    bates.write("f", b"six")
    world.settle()
    assert published(yoga, "f") == ("bea", "staff")


def test_a_conflicting_version_keeps_its_owner(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    cy = machine(world, "cy", CY)
    yoga.write("f", b"one")
    chown(yoga, "f", ADA, STAFF)
    bates.write("f", b"two")
    chown(bates, "f", 602, 60)
    world.settle()
    assert owner(yoga, "f") == (ADA, STAFF) and owner(yoga, "f.bates.conflict") == (BEA, STAFF)
    assert owner(cy, "f") == (1000, 1000)
    (sibling,) = (name for name in cy.names() if name != "f")
    theirs = cy.text(sibling)
    cy.rename(sibling, "f")
    world.settle()
    ids = (602, 60) if theirs == "two" else (601, 60)
    assert (bates.text("f"), owner(bates, "f"), bates.listing()) == (theirs, ids, ["f"])


def test_names_of_one_file_have_one_owner(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.write("f", b"one")
    yoga.link("f", "g")
    world.settle()
    chown(yoga, "g", ADA, STAFF)
    world.settle()
    for each, ids in ((yoga, (ADA, STAFF)), (bates, (601, 60))):
        assert (owner(each, "f"), owner(each, "g")) == (ids, ids)
        assert each.ino("f") == each.ino("g") and each.attr("f").nlink == 2
        assert published(each, "f") == published(each, "g") == ("ada", "staff")


def test_names_of_one_file_that_come_to_owned_places_stay_one(
    world: World, yoga: WorldMachine, off: WorldMachine
) -> None:
    yoga.write("f", b"one")
    yoga.write("h", b"three")
    for name in ("f", "h"):
        chown(yoga, name, 1001 if name == "f" else 1002, 1001)
    world.settle()
    off.write("t", b"two")
    off.tree.link(off.ino("t"), 1, "g")
    off.tree.link(off.ino("t"), 1, "u")
    off.tree.rename(1, "t", 1, "f")
    off.tree.rename(1, "u", 1, "h")
    world.settle()
    for machine in (off, yoga):
        assert machine.ino("f") == machine.ino("g") == machine.ino("h") and machine.attr("f").nlink == 3


def test_a_folder_that_is_renamed_takes_all_owners_along(world: World, yoga: WorldMachine, bates: WorldMachine) -> None:
    yoga.mkdir("d")
    yoga.mkdir("d/e")
    yoga.write("d/e/f", b"one")
    for path in ("d", "d/e", "d/e/f"):
        chown(yoga, path, ADA, STAFF)
    world.settle()
    bates.rename("d", "moved")
    chown(bates, "moved", 602, 60)
    world.settle()
    assert [owner(yoga, path) for path in ("moved", "moved/e", "moved/e/f")] == [
        (BEA, STAFF),
        (ADA, STAFF),
        (ADA, STAFF),
    ]


def test_an_owner_changed_elsewhere_moves_ctime_and_is_told(
    world: World, yoga: WorldMachine, bates: WorldMachine
) -> None:
    yoga.write("f", b"one")
    world.settle()
    before = bates.attr("f")
    chown(yoga, "f", ADA, STAFF)
    yoga.publish()
    bates.tree.lookup(*bates.place("f"))
    bates.learn()
    bates.tree.state.changes.clear()
    bates.feed()
    after = bates.attr("f")
    assert after.ctime_ns > before.ctime_ns and after.mtime_ns == before.mtime_ns
    assert [(change.what, change.name) for change in bates.tree.state.changes] == [("attributes", "f")]
    bates.tree.forget(after.ino, 1)


@pytest.mark.parametrize("odd", ["jos\udce9", "n" * 257, "a\0b"])
def test_a_name_that_no_version_can_have_goes_as_its_number(
    world: World, yoga: WorldMachine, off: WorldMachine, odd: str
) -> None:
    switch(off, names({odd: 1234}, {odd: 1234}))
    off.write("f", b"one")
    chown(off, "f", 1234, 1234)
    world.settle()
    assert published(yoga, "f") == ("1234", "1234")
