"""Renaming: what the seals say, what waits for what, and what other machines see."""

import pytest
from treekit import Machine

from fs.tree import keepers
from sync.core.errors import AlreadyExists, NotEmpty, NotFound


def sealed(machine: Machine) -> list[tuple[str, str | None, str]]:
    return [(seal.op, seal.from_path, seal.path) for seal in machine.seal()]


def same(yoga: Machine, bates: Machine, expected: dict[str, object]) -> None:
    yoga.cycle()
    bates.learn()
    assert yoga.walk() == expected
    assert bates.walk() == expected
    assert yoga.tree.overlay.all_entries() == []


def test_a_new_file_just_changes_its_name(yoga: Machine) -> None:
    yoga.write("tmp", b"x")
    number = yoga.ino("tmp")
    yoga.rename("tmp", "a")
    assert yoga.ino("a") == number
    assert sealed(yoga) == [("put", None, "a")]
    assert yoga.seals()[0].moved_from is None
    yoga.cycle()


def test_a_published_file_leaves_a_removal_that_knows_it(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"x")
    yoga.cycle()
    version = yoga.db.heads("a")[0].id
    number = yoga.ino("a")
    yoga.rename("a", "b")
    assert sealed(yoga) == [("put", None, "b"), ("remove", None, "a")]
    put, removal = yoga.seals()
    assert put.moved_from is not None
    assert (put.moved_from.path, put.moved_from.version, put.seen, put.last) == ("a", version, [], None)
    assert (removal.moved_to, removal.seen, removal.last) == ("b", [version], version)
    same(yoga, bates, {"b": b"x"})
    assert yoga.ino("b") == number


def test_renamed_twice_before_sealing(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"x")
    yoga.cycle()
    yoga.rename("a", "b")
    yoga.rename("b", "c")
    assert sealed(yoga) == [("put", None, "c"), ("remove", None, "a")]
    put, removal = yoga.seals()
    assert put.moved_from is not None
    assert (put.moved_from.path, removal.moved_to) == ("a", "c")
    same(yoga, bates, {"c": b"x"})


def test_renamed_while_its_version_has_no_name_yet(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"x")
    yoga.seal()
    yoga.rename("a", "b")
    yoga.publish()
    yoga.note()
    version = yoga.db.heads("a")[0].id
    put = next(seal for seal in yoga.seal() if seal.op == "put")
    assert put.moved_from is not None
    assert (put.moved_from.path, put.moved_from.version) == ("a", version)
    same(yoga, bates, {"b": b"x"})


def test_moved_away_and_back_is_still_answered_for(yoga: Machine, bates: Machine) -> None:
    """(!) A row goes only by the answer for exactly the state it holds."""
    yoga.write("a", b"x")
    yoga.cycle()
    yoga.rename("a", "b")
    yoga.rename("b", "a")
    assert [entry.name for entry in yoga.tree.overlay.all_entries()] == ["a"]
    assert sealed(yoga) == [("put", None, "a")]
    same(yoga, bates, {"a": b"x"})
    assert len(yoga.db.history("a")) == 1


def test_what_it_has_left_is_forgotten_once_that_is_published(yoga: Machine) -> None:
    """An editor that keeps a backup renames a file at each save, for as long as the mount lives."""
    for n in range(3):
        yoga.write("a", b"%d" % n)
        yoga.cycle()
        yoga.rename("a", "a~")
        yoga.cycle()
    yoga.mkdir("d")
    yoga.cycle()
    yoga.rename("d", "e")
    yoga.cycle()
    assert yoga.tree.state.left_by == {}


def test_what_has_lost_its_new_name_is_not_waited_for(yoga: Machine, bates: Machine) -> None:
    """What was moved into a folder that has another number by now gives way to what has its name there."""
    yoga.mkdir("d")
    yoga.mkdir("e")
    yoga.write("a", b"a")
    yoga.cycle()
    yoga.rename("a", "d/b")
    yoga.write("d/b", b"moved")
    yoga.write("e/b", b"there")
    keepers.rehang(yoga.tree.state, yoga.ino("d"), yoga.ino("e"))
    same(yoga, bates, {"d": None, "e": None, "e/b": b"there", "e/b.yoga.conflict": b"moved"})
    assert yoga.tree.state.left_by == {}


def test_what_was_only_moved_and_has_lost_its_new_name_stays(yoga: Machine, bates: Machine) -> None:
    for name in ("d", "e"):
        yoga.mkdir(name)
    yoga.write("a", b"a")
    yoga.cycle()
    yoga.rename("a", "d/b")
    yoga.write("e/b", b"there")
    keepers.rehang(yoga.tree.state, yoga.ino("d"), yoga.ino("e"))
    same(yoga, bates, {"d": None, "e": None, "e/b": b"there", "e/b.yoga.conflict": b"a"})


def test_moved_away_and_back_around_a_seal(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"x")
    yoga.cycle()
    yoga.rename("a", "b")
    yoga.seal()
    yoga.rename("b", "a")
    same(yoga, bates, {"a": b"x"})


def test_a_removal_waits_for_the_busy_file_that_left(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"x")
    yoga.cycle()
    handle = yoga.open("a", write=True)
    handle.write(0, b"y")
    yoga.rename("a", "b")
    assert sealed(yoga) == []
    yoga.release(handle)
    assert sealed(yoga) == [("put", None, "b"), ("remove", None, "a")]
    same(yoga, bates, {"b": b"y"})


def test_replacing_sees_what_name_showed(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"1")
    yoga.cycle()
    version = yoga.db.heads("a")[0].id
    yoga.write("tmp", b"2")
    yoga.rename("tmp", "a")
    seal = yoga.seal()[0]
    assert (seal.seen, seal.last) == ([version], version)
    same(yoga, bates, {"a": b"2"})


def test_moving_over_a_name_not_yet_learned_keeps_both(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"mine")
    yoga.cycle()
    bates.write("b", b"theirs")
    bates.cycle()
    yoga.rename("a", "b")
    yoga.learn()
    yoga.cycle()
    assert yoga.walk() == {"b": b"mine", "b.bates.conflict": b"theirs"}


def test_what_cannot_be_renamed(yoga: Machine) -> None:
    for folder in ("d", "e", "e/f"):
        yoga.mkdir(folder)
    yoga.write("a", b"1")
    with pytest.raises(NotFound):
        yoga.rename("nothing", "b")
    with pytest.raises(AlreadyExists):
        yoga.rename("a", "d", noreplace=True)
    with pytest.raises(IsADirectoryError):
        yoga.rename("a", "d")
    with pytest.raises(NotADirectoryError):
        yoga.rename("d", "a")
    with pytest.raises(NotEmpty):
        yoga.rename("d", "e")
    with pytest.raises(OSError, match="below itself"):
        yoga.rename("e", "e/f/g")
    yoga.rename("a", "a")
    yoga.rename("e/f", "d")
    assert yoga.walk() == {"a": b"1", "d": None, "e": None}
    yoga.cycle()


# ---- directories


@pytest.fixture
def folder(yoga: Machine, bates: Machine) -> Machine:
    """yoga with a published d/x, d/sub/y."""
    yoga.mkdir("d")
    yoga.write("d/x", b"x")
    yoga.mkdir("d/sub")
    yoga.write("d/sub/y", b"y")
    yoga.cycle()
    return yoga


MOVED: dict[str, object] = {"e": None, "e/x": b"x", "e/sub": None, "e/sub/y": b"y"}


def test_a_directory_moves_with_one_seal(folder: Machine, bates: Machine) -> None:
    numbers = {path: folder.ino(path) for path in ("d", "d/x", "d/sub/y")}
    folder.rename("d", "e")
    assert folder.walk() == MOVED
    assert sealed(folder) == [("movedir", "d", "e")]
    same(folder, bates, MOVED)
    assert numbers == {"d" + path[1:]: folder.ino(path) for path in ("e", "e/x", "e/sub/y")}


def test_there_and_back(folder: Machine, bates: Machine) -> None:
    """(!) The second rename has seen the tombstones of the first."""
    folder.rename("d", "e")
    same(folder, bates, MOVED)
    folder.rename("e", "d")
    same(folder, bates, {path.replace("e", "d", 1): item for path, item in MOVED.items()})


def test_there_and_back_before_sealing(folder: Machine, bates: Machine) -> None:
    before = folder.walk()
    folder.rename("d", "e")
    folder.rename("e", "d")
    assert not any(op == "movedir" for op, _, _ in sealed(folder))
    same(folder, bates, before)


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_there_and_back_around_a_seal(folder: Machine, bates: Machine, times: int, is_killed: bool) -> None:
    before = folder.walk()
    for _ in range(times):
        folder.rename("d", "e")
        folder.seal()
        folder.rename("e", "d")
        assert folder.walk() == before
        folder.seal()
        if is_killed:
            folder.tree.overlay.commit(full=True)
            folder.restart()
    folder.write("d/x", b"changed")
    same(folder, bates, before | {"d/x": b"changed"})


def test_there_and_back_while_its_folder_moves(folder: Machine, bates: Machine) -> None:
    folder.mkdir("p")
    folder.rename("d", "p/d")
    folder.cycle()
    folder.rename("p/d", "p/e")
    folder.seal()
    folder.rename("p/e", "p/d")
    folder.rename("p", "q")
    folder.patch("q/d/x", 0, b"X")
    assert "q/d/x" in folder.walk()
    same(
        folder,
        bates,
        {"q": None} | {path.replace("e", "q/d", 1): item for path, item in MOVED.items()} | {"q/d/x": b"X"},
    )


def test_there_and_back_while_somebody_writes_in_it(folder: Machine, bates: Machine) -> None:
    bates.learn()
    folder.rename("d", "e")
    folder.seal()
    folder.rename("e", "d")
    bates.write("d/x", b"theirs")
    bates.write("d/new", b"new")
    bates.cycle()
    for _ in range(3):
        for machine in (folder, bates):
            machine.learn()
            machine.cycle()
    assert folder.walk() == bates.walk()
    assert folder.read("d/x") == b"theirs" and folder.read("d/new") == b"new" and folder.read("d/sub/y") == b"y"
    folder.check()
    bates.check()


def test_back_and_on_around_a_seal(folder: Machine, bates: Machine) -> None:
    folder.rename("d", "e")
    folder.seal()
    folder.rename("e", "d")
    folder.rename("d", "t")
    folder.mkdir("d")
    folder.publish()
    folder.rename("t", "e")
    same(folder, bates, MOVED | {"d": None})


@pytest.mark.parametrize("is_published", [False, True])
def test_its_new_name_made_again_when_it_went_back(folder: Machine, bates: Machine, is_published: bool) -> None:
    before = folder.walk()
    folder.rename("d", "e")
    folder.seal()
    folder.rename("e", "d")
    folder.mkdir("e")
    folder.write("e/x", b"other")
    if is_published:
        folder.publish()
    folder.patch("d/x", 0, b"X")
    same(folder, bates, before | {"d/x": b"X", "e": None, "e/x": b"other"})


def test_back_and_gone_around_a_seal(folder: Machine, bates: Machine) -> None:
    folder.rename("d", "e")
    folder.seal()
    folder.rename("e", "d")
    for path in ("d/sub/y", "d/x"):
        folder.unlink(path)
    for path in ("d/sub", "d"):
        folder.rmdir(path)
    same(folder, bates, {})


def test_a_dirty_child_goes_out_at_the_new_path_after_the_move(folder: Machine, bates: Machine) -> None:
    folder.write("d/x", b"changed")
    folder.rename("d", "e")
    assert sealed(folder) == [("movedir", "d", "e"), ("put", None, "e/x")]
    same(folder, bates, MOVED | {"e/x": b"changed"})


def test_a_busy_child_follows_later(folder: Machine, bates: Machine) -> None:
    handle = folder.open("d/x", write=True)
    handle.write(0, b"X")
    folder.rename("d", "e")
    assert sealed(folder) == [("movedir", "d", "e")]
    handle.write(1, b"Y")
    folder.publish()
    folder.note()
    folder.release(handle)
    same(folder, bates, MOVED | {"e/x": b"XY"})


def test_children_changed_before_the_note(folder: Machine, bates: Machine) -> None:
    folder.rename("d", "e")
    folder.seal()
    folder.write("e/x", b"changed")
    folder.unlink("e/sub/y")
    folder.publish()
    same(folder, bates, {"e": None, "e/x": b"changed", "e/sub": None})


def test_a_child_that_leaves_the_renamed_directory(folder: Machine, bates: Machine) -> None:
    folder.rename("d", "e")
    folder.rename("e/x", "x")
    folder.rename("e/sub", "sub")
    same(folder, bates, {"e": None, "x": b"x", "sub": None, "sub/y": b"y"})


def test_the_old_name_made_again_before_the_note(folder: Machine, bates: Machine) -> None:
    """(!)"""
    folder.rename("d", "e")
    folder.mkdir("d")
    folder.write("d/x", b"new")
    assert folder.walk() == MOVED | {"d": None, "d/x": b"new"}
    same(folder, bates, MOVED | {"d": None, "d/x": b"new"})


def test_the_old_name_taken_by_a_file(folder: Machine, bates: Machine) -> None:
    folder.rename("d", "e")
    folder.seal()
    folder.write("d", b"a file now")
    same(folder, bates, MOVED | {"d": b"a file now"})


def test_a_chain_of_renames_between_seals(folder: Machine, bates: Machine) -> None:
    folder.rename("d", "t")
    folder.seal()
    folder.rename("t", "u")
    folder.mkdir("t")
    folder.seal()
    folder.publish()
    folder.rename("u", "e")
    same(folder, bates, MOVED | {"t": None})


def test_hundreds_of_folders_rotate_in_one_round(yoga: Machine, bates: Machine) -> None:
    """As backups do it: `mv 299 300; mv 298 299; ...`. Each waits for the one before; the last is asked for."""
    count = 300
    for number in range(count):
        yoga.mkdir(f"b.{number}")
        yoga.write(f"b.{number}/f", str(number).encode())
    yoga.cycle()
    for number in reversed(range(count)):
        yoga.rename(f"b.{number}", f"b.{number + 1}")
    yoga.write("b.0", b"new")
    assert len(yoga.seal(["b.1"])) == count
    folders = {f"b.{number + 1}": None for number in range(count)}
    files = {f"b.{number + 1}/f": str(number).encode() for number in range(count)}
    same(yoga, bates, {**folders, **files, "b.0": b"new"})


def test_a_new_parent_comes_first(folder: Machine, bates: Machine) -> None:
    folder.mkdir("n")
    folder.rename("d", "n/e")
    assert sealed(folder) == [("put", None, "n"), ("movedir", "d", "n/e")]
    same(folder, bates, {"n": None} | {f"n/{path}": item for path, item in MOVED.items()})


def test_files_may_swap_their_names(yoga: Machine, bates: Machine) -> None:
    yoga.write("a", b"1")
    yoga.write("b", b"2")
    yoga.cycle()
    yoga.rename("a", "t")
    yoga.rename("b", "a")
    yoga.rename("t", "b")
    same(yoga, bates, {"a": b"2", "b": b"1"})


def test_a_directory_changed_and_moved(folder: Machine, bates: Machine) -> None:
    folder.tree.setattr(folder.ino("d"), mode=0o700)
    folder.rename("d", "e")
    same(folder, bates, MOVED)
    assert folder.attr("e").mode == bates.attr("e").mode == 0o700


def test_a_local_directory_moves_without_a_movedir(yoga: Machine, bates: Machine) -> None:
    yoga.mkdir("d")
    yoga.write("d/x", b"x")
    yoga.rename("d", "e")
    assert sealed(yoga) == [("put", None, "e"), ("put", None, "e/x")]
    same(yoga, bates, {"e": None, "e/x": b"x"})


def test_a_directory_whose_seal_is_under_way_moves_after_the_answer(yoga: Machine, bates: Machine) -> None:
    yoga.mkdir("d")
    yoga.write("d/x", b"x")
    yoga.seal()
    yoga.rename("d", "e")
    yoga.write("e/z", b"z")
    yoga.publish()
    same(yoga, bates, {"e": None, "e/x": b"x", "e/z": b"z"})


def test_replacing_an_empty_directory(folder: Machine, bates: Machine) -> None:
    folder.mkdir("e")
    folder.cycle()
    folder.rename("d", "e")
    same(folder, bates, MOVED)


def test_renamed_and_killed(folder: Machine, bates: Machine) -> None:
    folder.rename("d", "e")
    folder.write("e/x", b"changed")
    folder.restart()
    assert folder.walk() == MOVED | {"e/x": b"changed"}
    folder.seal()
    folder.restart()
    same(folder, bates, MOVED | {"e/x": b"changed"})


def test_a_directory_takes_the_name_of_a_file_that_moved_into_it(yoga: Machine, bates: Machine) -> None:
    yoga.write("f", b"1")
    yoga.mkdir("d")
    yoga.cycle()
    yoga.rename("f", "d/g")
    yoga.rename("d", "f")
    same(yoga, bates, {"f": None, "f/g": b"1"})


@pytest.mark.parametrize("is_noted", [False, True])
def test_a_directory_leaves_a_name_that_a_file_has_left_and_could_not_go_from(
    yoga: Machine, bates: Machine, is_noted: bool
) -> None:
    yoga.write("f", b"1")
    yoga.mkdir("d")
    yoga.write("d/x", b"x")
    yoga.cycle()
    busy = yoga.open("f", write=True)
    busy.write(0, b"2")
    yoga.rename("f", "g")
    yoga.rename("d", "f")
    yoga.cycle() if is_noted else yoga.seal()
    yoga.mkdir("n")
    yoga.write("n/y", b"y")
    yoga.rename("f", "d")
    yoga.rename("n", "f")
    yoga.cycle()
    yoga.release(busy)
    yoga.cycle()
    yoga.check()
    same(yoga, bates, {"g": b"2", "d": None, "d/x": b"x", "f": None, "f/y": b"y"})
