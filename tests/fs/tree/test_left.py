"""What the kernel has and nothing stands for any more is told of once, with the place where it was."""

import pytest
from treekit import Machine

from fs.tree.feed import take_changes
from fs.tree.left import attr_of, is_left, take
from fs.tree.model import DIR, FILE, ROOT_ID


def learn(here: Machine, there: Machine) -> None:
    there.cycle()
    here.learn()
    here.note()


def know(machine: Machine, path: str) -> int:
    """The kernel looks a path up, and does not forget it."""
    parent = ROOT_ID
    for name in path.split("/"):
        parent = machine.tree.lookup(parent, name).ino
    return parent


def left(machine: Machine) -> list[int]:
    """The numbers that are left, each told of once."""
    numbers = list(take(machine.tree.state))
    assert take(machine.tree.state) == {}
    return numbers


def test_a_tree_that_is_removed_is_left_with_all_that_the_kernel_has_of_it(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    bates.mkdir("d/sub")
    bates.write("d/sub/a", b"one")
    bates.write("d/b", b"two")
    learn(yoga, bates)
    folder, sub, file = know(yoga, "d"), know(yoga, "d/sub"), know(yoga, "d/sub/a")
    assert left(yoga) == []
    for path in ("d/sub/a", "d/b"):
        bates.unlink(path)
    for path in ("d/sub", "d"):
        bates.rmdir(path)
    learn(yoga, bates)
    assert take(yoga.tree.state) == {file: (sub, "a"), sub: (folder, "sub"), folder: (ROOT_ID, "d")}
    assert all(is_left(yoga.tree.state, ino) for ino in (folder, sub, file))
    told = attr_of(yoga.tree.state, sub, 0), attr_of(yoga.tree.state, file, 0)
    assert [(attr.ino, attr.kind, attr.nlink, attr.size) for attr in told if attr] == [
        (sub, DIR, 0, 0),
        (file, FILE, 0, 3),
    ]
    yoga.tree.forget(file, yoga.tree.state.inodes.known[file].count)
    assert not is_left(yoga.tree.state, file) and attr_of(yoga.tree.state, file, 0) is None


def test_what_moves_with_its_folder_is_left_where_it_was(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    bates.mkdir("d/sub")
    bates.write("d/sub/a", b"one")
    learn(yoga, bates)
    numbers = [know(yoga, path) for path in ("d", "d/sub", "d/sub/a")]
    bates.rename("d", "e")
    learn(yoga, bates)
    assert sorted(left(yoga)) == sorted(numbers)


def test_another_content_leaves_the_number_of_the_one_before(yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"one")
    bates.write("b", b"one")
    learn(yoga, bates)
    first, other = know(yoga, "a"), know(yoga, "b")
    bates.fleet.clock.elapsed += 1
    bates.write("a", b"longer")
    bates.tree.setattr(bates.ino("b"), mode=0o600)
    bates.cycle()
    yoga.learn()
    second = know(yoga, "a")  # before the feed has told of it
    assert second not in (first, other)
    yoga.note()
    assert left(yoga) == [first]
    assert attr_of(yoga.tree.state, first, 0).size == 3  # type: ignore[union-attr]


@pytest.mark.parametrize("is_looked_up", [False, True])
def test_what_is_open_is_left_as_it_was_opened(yoga: Machine, bates: Machine, is_looked_up: bool) -> None:
    bates.write("a", b"one")
    learn(yoga, bates)
    ino, file = know(yoga, "a"), yoga.open("a")
    before = yoga.tree.attr(ino)
    bates.fleet.clock.elapsed += 1
    bates.write("a", b"longer")
    bates.cycle()
    yoga.learn()
    if is_looked_up:
        assert know(yoga, "a") != ino
    yoga.note()
    assert left(yoga) == [ino]
    assert attr_of(yoga.tree.state, ino, 0) == before._replace(nlink=0)
    assert yoga.bytes_of(file) == b"one"
    yoga.release(file)


def test_what_was_done_here_is_not_left(yoga: Machine, bates: Machine) -> None:
    for name in ("a", "b", "c"):
        bates.write(name, b"one")
    bates.mkdir("d")
    learn(yoga, bates)
    for name in ("a", "b", "c", "d"):
        know(yoga, name)
    file, other = yoga.open("a", write=True), yoga.open("c")
    file.write(0, b"ours")
    yoga.write("b", b"ours")
    yoga.rename("b", "b2")
    yoga.unlink("c")
    yoga.rename("d", "e")
    yoga.mkdir("f")
    know(yoga, "f")
    yoga.rmdir("f")
    yoga.cycle()
    assert left(yoga) == []
    bates.learn()
    bates.note()
    bates.fleet.clock.elapsed += 1
    bates.write("a", b"theirs")
    learn(yoga, bates)
    assert left(yoga) == []
    for opened in (file, other):
        yoga.release(opened)


def test_what_is_kept_though_the_kernel_has_dropped_its_folder(yoga: Machine, bates: Machine) -> None:
    """A watch holds an inode alone: short of memory the kernel drops the names around it."""
    bates.mkdir("d")
    for name in ("a", "b", "c"):
        bates.write(f"d/{name}", b"one")
    learn(yoga, bates)
    folder, numbers = know(yoga, "d"), {name: know(yoga, f"d/{name}") for name in ("a", "b", "c")}
    yoga.tree.forget(folder, yoga.tree.state.inodes.known[folder].count)
    take_changes(yoga.tree.state)
    bates.fleet.clock.elapsed += 1
    bates.unlink("d/a")
    bates.rename("d/b", "d/b2")
    bates.write("d/c", b"longer")
    learn(yoga, bates)
    changes = take_changes(yoga.tree.state)
    assert {(change.what.value, change.path, change.ino) for change in changes} == {
        ("removed", "d/a", numbers["a"]),
        ("moved", "d/b2", numbers["b"]),
        ("modified", "d/c", numbers["c"]),
    }
    assert sorted(left(yoga)) == sorted(numbers.values())
