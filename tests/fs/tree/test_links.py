"""Hard links: one node behind several names, here and on the other machine, whatever is done to which of them."""

import pytest
from linkkit import go_round, same
from treekit import Fleet, Machine

from fs.tree import sealing
from fs.tree.model import FIFO
from sync.core.errors import AlreadyExists, NotFound, ReadOnly
from sync.state.tree.reader import TreeReader


def test_names_that_come_and_go_are_stamped_as_everything_else(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel's coarse clock: with a finer one the next change would be older."""
    coarse = yoga.env.now_ns() - 3_000_000
    monkeypatch.setattr(yoga.env, "file_time_ns", lambda: coarse)
    yoga.mkdir("d")
    yoga.write("a", b"one")
    yoga.link("a", "d/b")
    assert yoga.attr("a").ctime_ns == yoga.attr("d").mtime_ns == yoga.attr("d").ctime_ns == coarse
    coarse += 1_000_000
    yoga.unlink("d/b")
    assert yoga.attr("a").ctime_ns == yoga.attr("d").mtime_ns == coarse


def test_two_files_give_each_other_a_name(yoga: Machine, bates: Machine) -> None:
    """As `mv a t; mv b a; mv t b`: what was a name of the one is a name of the other, in one step."""
    for path in ("a", "b"):
        yoga.write(path, path.encode())
        yoga.link(path, f"{path}2")
        yoga.link(path, f"{path}3")
    go_round(yoga, bates)
    numbers = [yoga.ino("a"), yoga.ino("b")]
    yoga.rename("a", "t")
    yoga.rename("b", "a")
    yoga.rename("t", "b")
    go_round(yoga, bates)
    assert [yoga.ino("b"), yoga.ino("a")] == numbers
    for machine in (yoga, bates):
        assert machine.walk() == {"a": b"b", "a2": b"a", "a3": b"a", "b": b"a", "b2": b"b", "b3": b"b"}
        assert same(machine, "a", "b2", "b3") and same(machine, "b", "a2", "a3")


@pytest.mark.parametrize("names", [("a", "n/b/a"), ("n/b/a", "a"), ("n/a", "n/b/a"), ("n/b/a", "n/a")])
@pytest.mark.parametrize("opened", [0, 1])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_folder_is_renamed_while_a_file_with_a_name_in_it_is_open(
    yoga: Machine, bates: Machine, names: tuple[str, str], opened: int, is_first: bool
) -> None:
    """Publishing that changes no number: what is written through the handle is in the file, under both names."""
    yoga.mkdir("n")
    yoga.mkdir("n/b")
    yoga.write(names[0], b"one")
    yoga.link(*names)
    go_round(yoga, bates)
    number = yoga.attr(names[0]).ino
    file = yoga.open(names[opened], write=True) if is_first else None
    yoga.rename("n", "c")
    now = [name.replace("n/", "c/") for name in names]
    file = file if file is not None else yoga.open(now[opened], write=True)
    yoga.cycle()
    assert [yoga.attr(name).ino for name in now] == [number, number]
    file.write(0, b"two")
    yoga.release(file)
    assert [yoga.read(name) for name in now] == [b"two", b"two"]
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert machine.walk() == {"c": None, "c/b": None, **dict.fromkeys(now, b"two")}
        assert same(machine, *now)
    assert yoga.attr(now[0]).ino == number


@pytest.mark.parametrize("how", ["write", "open", "chmod", "rename", "link", "unlink"])
def test_another_name_lies_in_a_folder_that_was_replaced_here(yoga: Machine, bates: Machine, how: str) -> None:
    """And has the number of all: nobody sees it here, so what is done is done to the other name alone."""
    bates.mkdir("d")
    go_round(bates, yoga)
    yoga.mkdir("n")
    yoga.rename("n", "d")
    bates.write("d/y", b"one")
    bates.link("d/y", "a")
    bates.cycle()
    yoga.learn()
    row = yoga.db.view.resolve_path("d/y")
    assert row is not None and row.id == yoga.attr("a").ino and yoga.listing("d") == []
    match how:
        case "write":
            yoga.patch("a", 0, b"two")
        case "open":
            file = yoga.open("a", write=True)
            yoga.note()
            file.write(0, b"two")
            yoga.release(file)
        case "chmod":
            yoga.tree.setattr(yoga.ino("a"), mode=0o600)
        case "rename":
            yoga.rename("a", "b")
        case "link":
            yoga.link("a", "b")
        case "unlink":
            yoga.unlink("a")
    go_round(yoga, bates)
    now = b"two" if how in ("write", "open") else b"one"
    names = {"rename": ["b"], "link": ["a", "b"], "unlink": []}.get(how, ["a"])
    for machine in (yoga, bates):
        assert machine.walk() == {"d": None, "d/y": b"one", **dict.fromkeys(names, now)}
    assert yoga.linked() == bates.linked()


@pytest.mark.parametrize("state", ["new", "sealed", "published", "dirty", "open"])
def test_a_second_name(yoga: Machine, bates: Machine, state: str) -> None:
    yoga.mkdir("d")
    yoga.write("a", b"one")
    if state == "sealed":
        yoga.seal()
    if state in ("published", "dirty"):
        yoga.cycle()
    if state == "dirty":
        yoga.patch("a", 0, b"two")
    file = yoga.open("a", write=True) if state == "open" else None
    before = yoga.attr("a")
    yoga.link("a", "d/b")
    after = yoga.attr("a")
    assert same(yoga, "a", "d/b") and after.ino == before.ino and after.ctime_ns >= before.ctime_ns
    assert yoga.read("d/b") == yoga.read("a")
    if file is not None:
        file.write(0, b"six")
        yoga.release(file)
        assert yoga.read("d/b") == b"six"
    go_round(yoga, bates)
    assert same(yoga, "a", "d/b") and yoga.attr("a").ino == before.ino
    assert same(bates, "a", "d/b") and bates.read("d/b") == yoga.read("a")
    yoga.restart()
    assert same(yoga, "a", "d/b")


def test_what_cannot_be(yoga: Machine, bates: Machine) -> None:
    yoga.mkdir("d")
    yoga.write("a", b"one")
    for _ in range(2):
        with pytest.raises(PermissionError):
            yoga.link("d", "e")
        with pytest.raises(AlreadyExists):
            yoga.link("a", "d")
        yoga.cycle()
    bates.write("a", b"theirs")
    bates.cycle()
    yoga.learn()
    with pytest.raises(ReadOnly):
        yoga.link("a.bates.conflict", "x")
    file = yoga.open("a")
    yoga.unlink("a")
    with pytest.raises(NotFound):
        yoga.tree.link(file.node.id, 1, "x")
    yoga.write(".gitignore", b"")
    yoga.mkdir(".git")
    with pytest.raises(OSError, match="all stay"):
        yoga.link(".gitignore", ".git/x")
    yoga.link(".gitignore", "ignore")
    with pytest.raises(OSError, match="all stay"):
        yoga.rename("ignore", ".git/x")


def test_links_of_what_stays_here(yoga: Machine) -> None:
    yoga.mkdir(".git")
    yoga.write(".git/a", b"one")
    yoga.link(".git/a", ".git/b")
    yoga.tree.create(1, "fifo", FIFO, 0o600, 1, 1)
    yoga.link("fifo", "pipe")
    yoga.cycle()
    yoga.tree.overlay.commit()
    yoga.restart()
    assert same(yoga, ".git/a", ".git/b") and same(yoga, "fifo", "pipe")
    yoga.unlink("pipe")
    yoga.unlink(".git/a")
    assert yoga.attr("fifo").nlink == 1 and yoga.read(".git/b") == b"one"
    yoga.rename(".git/b", "out")
    yoga.cycle()
    assert yoga.read("out") == b"one"


def test_a_link_of_a_symlink(yoga: Machine, bates: Machine) -> None:
    yoga.symlink("a", "target")
    yoga.link("a", "b")
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert same(machine, "a", "b") and machine.tree.readlink(machine.ino("b")) == "target"


@pytest.mark.parametrize("by", ["yoga", "bates"])
@pytest.mark.parametrize("name", ["a", "b", "d/c"])
def test_what_is_written_through_one_name_is_in_all_in_one_batch(
    fleet: Fleet, yoga: Machine, bates: Machine, by: str, name: str
) -> None:
    yoga.mkdir("d")
    yoga.write("a", b"one")
    yoga.link("a", "b")
    yoga.link("b", "d/c")
    go_round(yoga, bates)
    writer = yoga if by == "yoga" else bates
    writer.patch(name, 1, b"NEW")
    assert same(writer, "a", "b", "d/c") and writer.read("a") == writer.read("d/c") == b"oNEW"
    assert len(writer.seal()) == 3 and len({seal.grp for seal in writer.seals()}) == 1
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert same(machine, "a", "b", "d/c") and machine.read("b") == b"oNEW"


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", ["a", "b"])
def test_one_name_goes(yoga: Machine, bates: Machine, name: str, published: bool) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    if published:
        go_round(yoga, bates)
    ino, other = yoga.ino("a"), "ab".replace(name, "")
    yoga.unlink(name)
    assert yoga.attr(other).nlink == 1 and yoga.read(other) == b"one" and yoga.ino(other) == ino
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert machine.listing() == [other] and machine.read(other) == b"one" and machine.attr(other).nlink == 1
    assert yoga.ino(other) == ino
    yoga.patch(other, 0, b"two")
    go_round(yoga, bates)
    assert bates.read(other) == b"two"


def test_one_name_is_replaced(yoga: Machine, bates: Machine) -> None:
    """As editors do, and as `cp` of equal content: the names are two files."""
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    attr = yoga.attr("a")
    yoga.write("tmp", b"one")
    yoga.tree.setattr(yoga.ino("tmp"), mode=attr.mode, mtime_ns=attr.mtime_ns)
    yoga.rename("tmp", "a")
    assert yoga.attr("a").nlink == yoga.attr("b").nlink == 1 and yoga.ino("a") != yoga.ino("b")
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert machine.attr("a").nlink == machine.attr("b").nlink == 1 and machine.ino("a") != machine.ino("b")
    bates.patch("a", 0, b"two")
    go_round(yoga, bates)
    assert yoga.read("b") == b"one" and yoga.read("a") == b"two"


def test_while_the_new_file_at_one_name_is_open(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    file = yoga.create("tmp")
    file.write(0, b"new")
    yoga.rename("tmp", "a")
    yoga.cycle()
    assert yoga.attr("b").nlink == 1 and yoga.read("b") == b"one"
    yoga.patch("b", 0, b"two")
    assert yoga.read("a") == b"new" and yoga.read("b") == b"two"
    yoga.release(file)
    go_round(yoga, bates)
    assert bates.read("a") == b"new" and bates.read("b") == b"two"


@pytest.mark.parametrize("published", [False, True])
def test_names_are_renamed(yoga: Machine, bates: Machine, published: bool) -> None:
    for folder in ("d", "e"):
        yoga.mkdir(folder)
    yoga.write("d/a", b"one")
    yoga.link("d/a", "d/b")
    if published:
        go_round(yoga, bates)
    ino = yoga.ino("d/a")
    yoga.rename("d/a", "d/b")  # two names of one file: nothing happens
    assert same(yoga, "d/a", "d/b")
    yoga.rename("d/a", "e/c")
    assert same(yoga, "d/b", "e/c") and yoga.ino("e/c") == ino
    yoga.rename("e", "f")
    assert same(yoga, "d/b", "f/c")
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert same(machine, "d/b", "f/c") and machine.read("f/c") == b"one"
    yoga.rename("f", "g")
    yoga.cycle()
    yoga.link("g/c", "d/a")
    go_round(yoga, bates)
    assert same(bates, "d/a", "d/b", "g/c") and same(yoga, "d/a", "d/b", "g/c")


def test_a_name_on_the_way_changes(yoga: Machine, bates: Machine) -> None:
    """Between seal and answer: written, another name, one less."""
    yoga.write("a", b"one")
    yoga.link("a", "b")
    for change in (
        lambda: yoga.patch("a", 0, b"two"),
        lambda: yoga.link("b", "c"),
        lambda: yoga.unlink("a"),
        lambda: yoga.rename("b", "d"),
    ):
        yoga.tree.setattr(yoga.ino("b" if yoga.exists("b") else "d"), mode=0o600)
        yoga.seal()
        yoga.publish()
        change()
        yoga.note()
        yoga.check()
    assert same(yoga, "c", "d")
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert machine.listing() == ["c", "d"] and same(machine, "c", "d") and machine.read("c") == b"two"


def test_all_names_go_while_it_is_open(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    file = yoga.open("a", write=True)
    yoga.seal()
    yoga.unlink("a")
    yoga.unlink("b")
    file.write(0, b"two")
    assert file.node.unlinked and yoga.tree.attr(file.node.id).nlink == 0
    yoga.release(file)
    go_round(yoga, bates)
    assert yoga.listing() == bates.listing() == []


def test_two_machines_change_it(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    yoga.patch("a", 0, b"YOG")
    bates.patch("b", 0, b"BAT")
    go_round(yoga, bates)
    for machine, mine, other, theirs in ((yoga, b"YOG", "bates", b"BAT"), (bates, b"BAT", "yoga", b"YOG")):
        for name in "ab":
            assert machine.read(name) == mine and machine.read(f"{name}.{other}.conflict") == theirs
        assert same(machine, "a", "b")


def test_one_machine_replaces_a_name_while_the_other_writes(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    bates.write("tmp", b"new")
    bates.rename("tmp", "a")
    yoga.patch("b", 0, b"YOG")
    go_round(yoga, bates)
    assert yoga.read("a") == b"YOG" and yoga.read("a.bates.conflict") == b"new" and yoga.read("b") == b"YOG"
    assert bates.read("a") == b"new" and bates.read("a.yoga.conflict") == b"YOG" and bates.read("b") == b"YOG"
    assert bates.attr("b").nlink == 1


def test_another_machine_adds_and_takes_names(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    ino = yoga.ino("b")
    bates.link("a", "c")
    go_round(yoga, bates)
    assert same(yoga, "a", "b", "c") and yoga.ino("c") == ino
    file = yoga.open("b", write=True)
    bates.unlink("a")
    go_round(yoga, bates)
    assert same(yoga, "b", "c") and same(bates, "b", "c")
    file.write(0, b"two")
    yoga.release(file)
    go_round(yoga, bates)
    assert bates.read("b") == b"two" and bates.listing() == ["b", "c"] and same(bates, "b", "c")


def test_a_name_that_comes_while_the_others_are_changed_here(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    bates.link("a", "c")
    bates.cycle()
    yoga.patch("a", 0, b"two")
    yoga.learn()
    assert yoga.read("c") == b"one" and yoga.ino("c") != yoga.ino("a") and yoga.attr("a").nlink == 2
    yoga.patch("c", 0, b"SEE")
    assert yoga.read("a") == yoga.read("b") == b"two"
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert (machine.read("a"), machine.read("b"), machine.read("c")) == (b"two", b"two", b"SEE")


def test_one_name_lies_in_a_folder_that_something_of_ours_hides(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    bates.write("d/x", b"one")
    bates.link("d/x", "a")
    bates.cycle()
    yoga.write("d", b"a file")
    yoga.learn()
    yoga.link("a", "b")
    yoga.patch("a", 0, b"two")
    assert same(yoga, "a", "b") and yoga.read("b") == b"two"
    go_round(yoga, bates)
    assert same(yoga, "a", "b") and same(bates, "a", "b")
    assert yoga.read("a") == bates.read("a") == b"two" and yoga.read("d/x") == bates.read("d/x") == b"one"


def test_equal_again_by_hand_is_not_one_file(yoga: Machine, bates: Machine) -> None:
    """`cp -p` over a file that once was the same one."""
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    bates.link("a", "c")
    bates.cycle()
    yoga.patch("a", 0, b"two")
    go_round(yoga, bates)
    assert not same(yoga, "a", "b", "c")
    attr = yoga.attr("a")
    yoga.patch("c", 0, b"two")
    yoga.tree.setattr(yoga.ino("c"), mtime_ns=attr.mtime_ns, mode=attr.mode)
    go_round(yoga, bates)
    assert yoga.ino("c") != yoga.ino("a") and bates.ino("c") != bates.ino("a") and same(bates, "a", "b")


@pytest.mark.parametrize("published", [False, True])
def test_a_lost_fleet_db(yoga: Machine, bates: Machine, published: bool) -> None:
    yoga.mkdir("d")
    yoga.write("d/a", b"one")
    yoga.link("d/a", "b")
    if published:
        go_round(yoga, bates)
        yoga.patch("b", 0, b"two")
    yoga.tree.overlay.commit()
    yoga.lose_fleet_db()
    assert same(yoga, "d/a", "b") and yoga.read("d/a") == (b"two" if published else b"one")
    go_round(yoga, bates)
    assert same(bates, "d/a", "b") and same(yoga, "d/a", "b") and bates.read("b") == yoga.read("d/a")


@pytest.mark.parametrize("moment", ["dirty", "frozen", "sealed", "answered"])
def test_the_mount_dies(yoga: Machine, bates: Machine, moment: str) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    yoga.patch("b", 0, b"two")
    if moment == "frozen":
        sealing.begin(yoga.tree.state, None)
        yoga.tree.overlay.commit()
    elif moment != "dirty":
        yoga.seal()
    if moment == "answered":
        yoga.publish()
    yoga.restart()
    yoga.check()
    assert same(yoga, "a", "b") and yoga.read("a") == b"two"
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert same(machine, "a", "b") and machine.read("a") == b"two"


def test_a_mount_with_more_rows_than_fit_into_memory(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")
    for n in range(30):
        yoga.write(f"a{n}", b"one")
        yoga.link(f"a{n}", f"b{n}")
    yoga.tree.overlay._keep = 4
    yoga.tree.overlay.commit()
    for n in range(30):
        assert same(yoga, f"a{n}", f"b{n}")
        yoga.patch(f"b{n}", 0, b"two")
        yoga.tree.overlay.commit()
        assert yoga.read(f"a{n}") == b"two"
    yoga.cycle()
    assert all(same(yoga, f"a{n}", f"b{n}") for n in range(30))


def test_owner_and_ctime_stay_here(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    yoga.tree.setattr(yoga.ino("b"), uid=7, gid=8)
    before = yoga.attr("a")
    yoga.cycle()
    after = yoga.attr("a")
    assert (after.uid, after.gid, after.ctime_ns, after.ino) == (7, 8, before.ctime_ns, before.ino)
    assert yoga.attr("b")._replace(told=0) == after._replace(told=0)


def test_status_names_all(yoga: Machine) -> None:
    yoga.write("a", b"one")
    yoga.link("a", "b")
    yoga.tree.overlay.commit()
    reader = TreeReader(yoga.env, yoga.paths.tree_db)
    assert [item.path for item in reader.dirty(yoga.db.view.path_of)] == ["a", "b"]
    reader.close()


def test_a_power_cut_before_it_was_synced(yoga: Machine, bates: Machine) -> None:
    """All names show what was safe, and what the disk has of the rest stands beside one of them."""
    yoga.write("a", b"one")
    yoga.link("a", "b")
    go_round(yoga, bates)
    yoga.patch("b", 0, b"two")
    yoga.tree.overlay.commit()
    yoga.restart(boot="two")
    yoga.check()
    assert same(yoga, "a", "b") and yoga.read("a") == yoga.read("b") == b"one"
    go_round(yoga, bates)
    for machine in (yoga, bates):
        assert same(machine, "a", "b") and machine.read("b") == b"one"
        assert [machine.read(name) for name in machine.listing() if name.endswith(".conflict")] == [b"two"]
