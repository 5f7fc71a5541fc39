"""When something was last read: relatime, and no more than that is written."""

from treekit import Machine

from fs.tree.access import DAY_NS, is_due


def test_relatime() -> None:
    assert is_due(5, 5, 4, 6) and is_due(5, 4, 5, 6) and is_due(5, 9, 9, 6)
    assert not is_due(5, 4, 4, 6)
    assert is_due(5, 4, 4, 5 + DAY_NS) and not is_due(5, 4, 4, 4 + DAY_NS)


def later(machine: Machine) -> int:
    machine.fleet.clock.elapsed += 1
    return machine.env.now_ns()


def test_a_read_moves_it_once_until_the_next_change(yoga: Machine) -> None:
    yoga.write("a", b"x")
    for is_published in (False, True):
        if is_published:
            yoga.cycle()
            yoga.tree.setattr(yoga.ino("a"), mtime_ns=later(yoga))
            yoga.cycle()
        now = later(yoga)
        file = yoga.open("a")
        file.was_read()
        assert yoga.attr("a").atime_ns == now
        later(yoga)
        file.was_read()
        yoga.release(file)
        assert yoga.attr("a").atime_ns == now
        before = yoga.attr("a")
        yoga.cycle()
        assert yoga.attr("a")[4:10] == before[4:10]


def test_one_that_was_set_stays_when_it_is_published(yoga: Machine) -> None:
    yoga.write("a", b"x")
    yoga.tree.setattr(yoga.ino("a"), atime_ns=1000, mtime_ns=2000)
    yoga.cycle()
    assert (yoga.attr("a").atime_ns, yoga.attr("a").mtime_ns) == (1000, 2000)
    assert yoga.tree.overlay.all_entries() == []
    yoga.tree.setattr(yoga.ino("a"), mode=0o600)
    assert yoga.attr("a").atime_ns == 1000


def test_folders_and_symlinks(yoga: Machine) -> None:
    yoga.mkdir("d")
    yoga.symlink("s", "there")
    yoga.cycle()
    for path in ("d", "s"):
        now = later(yoga)
        assert yoga.tree.was_read(yoga.ino(path))
        assert yoga.attr(path).atime_ns == now
        assert not yoga.tree.was_read(yoga.ino(path))
    assert not yoga.tree.overlay.has_changes
