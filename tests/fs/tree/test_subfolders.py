"""st_nlink of a folder: two, and one more for each folder in it."""

from treekit import Machine

from fs.tree import feed


def links(machine: Machine, *paths: str) -> list[int]:
    """As told, and as counted anew."""
    told = [machine.attr(path).nlink for path in paths]
    machine.tree.state.subfolders.forget_all()
    assert told == [machine.attr(path).nlink for path in paths]
    return told


def test_folders_that_come_and_go_here(yoga: Machine) -> None:
    assert links(yoga, "") == [2]
    yoga.mkdir("a")
    yoga.mkdir("a/b")
    yoga.write("a/f", b"x")
    for is_published in (False, True):
        assert links(yoga, "", "a", "a/b") == [3, 3, 2]
        yoga.mkdir("c")
        yoga.rename("a/b", "c/b")
        assert links(yoga, "", "a", "c") == [4, 2, 3]
        yoga.mkdir("a/b")
        yoga.rename("c/b", "a/b")
        yoga.rmdir("c")
        assert links(yoga, "", "a", "a/b") == [3, 3, 2]
        if not is_published:
            yoga.cycle()
    yoga.cycle()
    assert links(yoga, "", "a", "a/b") == [3, 3, 2]
    yoga.rmdir("a/b")
    yoga.unlink("a/f")
    yoga.rmdir("a")
    assert links(yoga, "") == [2]


def test_folders_from_elsewhere(yoga: Machine, bates: Machine) -> None:
    yoga.mkdir("a")
    yoga.mkdir("a/own")
    yoga.cycle()
    bates.learn()
    bates.mkdir("a/theirs")
    bates.mkdir("b")
    bates.rmdir("a/own")
    assert links(yoga, "", "a") == [3, 3]
    bates.cycle()
    yoga.learn()
    feed.feed(yoga.tree.state)
    assert links(yoga, "", "a") == [4, 3]
    bates.rmdir("a/theirs")
    bates.rmdir("a")
    yoga.mkdir("a/late")
    bates.cycle()
    yoga.learn()
    feed.feed(yoga.tree.state)
    yoga.cycle()
    assert links(yoga, "", "a", "b") == [4, 3, 2]


def test_a_folder_from_elsewhere_that_goes_before_the_feed_told_of_it(yoga: Machine, bates: Machine) -> None:
    """Counted before it came: the folder above has no fewer links than two."""
    assert yoga.tree.attr(1).nlink == 2
    bates.mkdir("d")
    bates.cycle()
    yoga.learn()
    yoga.rmdir("d")
    assert yoga.tree.attr(1).nlink == 2
