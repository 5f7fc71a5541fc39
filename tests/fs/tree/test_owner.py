"""Owners that were set here: local, and kept through all that happens to the file."""

from treekit import Machine

from fs.tree import feed


def owner(machine: Machine, path: str) -> tuple[int, int]:
    return machine.attr(path).uid, machine.attr(path).gid


def test_it_stays_through_changes_from_everywhere(yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"1")
    bates.mkdir("d")
    bates.cycle()
    yoga.learn()
    assert owner(yoga, "a") == (1000, 1000)
    for path in ("a", "d"):
        yoga.tree.setattr(yoga.ino(path), uid=33, gid=44)
    yoga.cycle()
    assert (owner(yoga, "a"), owner(yoga, "d")) == ((33, 44), (33, 44))
    bates.learn()
    assert owner(bates, "a") == (1000, 1000)
    bates.write("a", b"2")
    bates.tree.setattr(bates.ino("d"), mode=0o700)
    bates.cycle()
    yoga.learn()
    feed.feed(yoga.tree.state)
    assert (yoga.read("a"), owner(yoga, "a"), owner(yoga, "d")) == (b"2", (33, 44), (33, 44))
    yoga.tree.overlay.commit(full=True)
    yoga.restart()
    assert (owner(yoga, "a"), owner(yoga, "d")) == ((33, 44), (33, 44))
    yoga.rename("a", "d/b")
    assert owner(yoga, "d/b") == (33, 44)
    yoga.cycle()
    yoga.rename("d", "e")
    yoga.cycle()
    assert (owner(yoga, "e/b"), owner(yoga, "e")) == ((33, 44), (33, 44))


def test_a_new_file_has_that_of_who_made_it(yoga: Machine, bates: Machine) -> None:
    yoga.tree.create(1, "n", 1, 0o644, 5, 6)
    yoga.cycle()
    bates.learn()
    bates.write("n", b"theirs")
    bates.cycle()
    yoga.learn()
    assert (owner(yoga, "n"), owner(bates, "n")) == ((5, 6), (1000, 1000))
