"""What was logged and not committed: it outlives the mount, everybody can see that it is there, and it counts once."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from treekit import Fleet, Machine

from fs.tree import sealing
from sync.env import Crash
from sync.state.tree import reader as reader_module
from sync.state.tree.reader import DirtyState, TreeReader
from sync.state.tree.redo import Logged, log_path


def _logged(yoga: Machine) -> list[str]:
    """Paths that tree.db does not know to be dirty, and its readers do."""
    reader = TreeReader(yoga.engine_env, yoga.paths.tree_db)
    try:
        paths = [item.path for item in reader.dirty(yoga.db.view.path_of)]
        with closing(sqlite3.connect(yoga.paths.tree_db)) as db:
            stored = {name for (name,) in db.execute("SELECT name FROM entry")}
        assert reader.is_sealed_or_dirty() == bool(paths)
        return [path for path in paths if path.rsplit("/", 1)[-1] not in stored]
    finally:
        reader.close()


def test_a_closed_file_outlives_the_mount_without_a_commit(yoga: Machine) -> None:
    yoga.mkdir("d")
    yoga.write("d/f", b"content")
    assert _logged(yoga) == ["d", "d/f"]
    yoga.restart()
    assert yoga.walk() == {"d": None, "d/f": b"content"}
    assert _logged(yoga) == []
    yoga.cycle()
    assert yoga.read("d/f") == b"content"


def test_what_is_logged_is_told_by_its_path_and_state(yoga: Machine) -> None:
    yoga.write("shown", b"1")
    yoga.cycle()
    yoga.unlink("shown")
    yoga.tree.overlay.log()
    reader = TreeReader(yoga.engine_env, yoga.paths.tree_db)
    try:
        found = reader.dirty(yoga.db.view.path_of)
    finally:
        reader.close()
    assert [(item.path, item.state, item.removed) for item in found] == [("shown", DirtyState.UNSEALED, True)]


def test_what_is_committed_while_somebody_reads_is_not_missed(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    original = reader_module.read_logged

    def meanwhile(path: Path) -> Logged:
        yoga.tree.overlay.commit()
        return original(path)

    yoga.write("f", b"1")
    monkeypatch.setattr(reader_module, "read_logged", meanwhile)
    reader = TreeReader(yoga.engine_env, yoga.paths.tree_db)
    try:
        assert [item.path for item in reader.dirty(yoga.db.view.path_of)] == ["f"]
    finally:
        reader.close()


def test_what_is_logged_waits_for_a_commit_and_nothing_else_does(yoga: Machine) -> None:
    file = yoga.create("bad")
    file.node.mtime_ns = 1 << 63
    yoga.tree.overlay.commit()
    assert yoga.tree.overlay.has_changes
    assert not yoga.tree.overlay.has_logged  # else the mount would try for ever
    file.node.mtime_ns = 1
    yoga.tree.overlay.commit()
    yoga.write("f", b"1")
    assert yoga.tree.overlay.has_logged
    yoga.tree.overlay.commit()
    assert not yoga.tree.overlay.has_logged


def test_what_was_committed_since_does_not_come_back(yoga: Machine) -> None:
    yoga.write("f", b"old")
    yoga.tree.overlay.commit()
    before = log_path(yoga.paths.tree_db).read_bytes()
    yoga.unlink("f")
    yoga.tree.overlay.commit()
    log_path(yoga.paths.tree_db).write_bytes(before)  # as the disk may have it after a power cut
    yoga.restart()
    assert not yoga.exists("f")


def test_a_log_beside_a_tree_db_that_was_made_anew_does_not_count(yoga: Machine) -> None:
    yoga.write("f", b"1")
    yoga.tree.abandon()
    for path in yoga.paths.state_dir.glob("tree.db*"):
        if not path.name.endswith("-redo"):
            path.unlink()
    yoga.restart()
    assert yoga.walk() == {}


@pytest.mark.parametrize("point", ["tree.after_log", "tree.before_commit", "tree.after_commit"])
def test_killed_between_logging_and_committing(yoga: Machine, point: str) -> None:
    for n in range(3):
        yoga.write(f"f{n}", b"x" * n)
    yoga.env.arm(point)
    with pytest.raises(Crash):
        yoga.write("last", b"whole")
        yoga.tree.overlay.commit()
    yoga.restart()
    assert yoga.walk() == {"f0": b"", "f1": b"x", "f2": b"xx", "last": b"whole"}


def test_a_file_that_goes_again_leaves_nothing(yoga: Machine) -> None:
    yoga.write("f", b"1")
    (work,) = (path for path in yoga.paths.work_dir.rglob("*") if path.is_file())
    yoga.unlink("f")
    yoga.tree.overlay.commit()
    assert not work.exists()
    yoga.restart()
    assert yoga.walk() == {}


def test_a_row_that_is_only_logged_is_not_read_from_tree_db(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = yoga.tree.overlay
    yoga.write("f", b"1")
    ino = yoga.ino("f")
    overlay.commit()
    monkeypatch.setattr(overlay, "_complete", False)  # as in a tree too large for memory
    node = overlay.node(ino)
    assert node is not None
    entry = overlay.entry_of(node)
    assert entry is not None
    overlay.drop_entry(entry)
    overlay.drop_node(node)
    overlay.log()
    assert overlay.node(ino) is None


def test_a_time_that_tree_db_cannot_hold_is_refused_at_the_close(yoga: Machine) -> None:
    file = yoga.create("f")
    file.write(0, b"1")
    file.node.mtime_ns = 1 << 63
    with pytest.raises(Exception, match="cannot be saved"):
        file.flush()
    file.node.mtime_ns = 1


def test_without_room_for_the_log_every_change_is_committed(yoga: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr("os.posix_fallocate", full)
    yoga.restart()
    yoga.write("f", b"1")
    assert _logged(yoga) == []
    yoga.restart()
    assert yoga.walk() == {"f": b"1"}


def test_what_was_closed_again_behind_a_published_seal_is_not_safe(yoga: Machine) -> None:
    """The seal has its answer, and tree.db knows of nothing newer: the log does."""
    yoga.write("f", b"one")
    yoga.seal()
    yoga.publish()  # and the mount has not taken note of that
    yoga.write("f", b"two")
    with closing(TreeReader(yoga.engine_env, yoga.paths.tree_db)) as reader:
        assert [(item.path, item.state) for item in reader.dirty(yoga.db.view.path_of)] == [("f", DirtyState.UNSEALED)]


def test_a_file_that_is_being_written_is_told_as_such(yoga: Machine) -> None:
    yoga.create("f").write(0, b"1")
    yoga.tree.overlay.log()
    with closing(TreeReader(yoga.engine_env, yoga.paths.tree_db)) as reader:
        assert [(item.path, item.state) for item in reader.dirty(yoga.db.view.path_of)] == [("f", DirtyState.WRITING)]


def test_a_version_without_a_name_is_told_of_though_it_is_only_logged(fleet: Fleet, yoga: Machine) -> None:
    yoga.write("a", b"one")
    yoga.cycle()
    bates = fleet.machine("bates")
    bates.learn()
    handle = yoga.open("a", write=True)
    bates.note()
    bates.write("a", b"theirs")
    bates.cycle()
    yoga.learn()
    handle.write(0, b"O")
    yoga.release(handle)
    with closing(TreeReader(yoga.engine_env, yoga.paths.tree_db)) as reader:
        assert reader.overlay() == []
        assert [(item.path, item.state) for item in reader.dirty(yoga.db.view.path_of)] == [("a", DirtyState.UNSEALED)]
        assert reader.is_sealed_or_dirty()


def test_a_seal_that_is_only_logged_is_none(yoga: Machine) -> None:
    yoga.write("f", b"1")
    sealing.begin(yoga.tree.state)
    yoga.tree.overlay.log()
    with closing(TreeReader(yoga.engine_env, yoga.paths.tree_db)) as reader:
        assert [(item.path, item.state, item.seal_id) for item in reader.dirty(yoga.db.view.path_of)] == [
            ("f", DirtyState.UNSEALED, None)
        ]


def test_nothing_is_logged_behind_a_commit_of_which_nobody_knows_whether_it_is_there(
    yoga: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sync failed: to this mount it is none, and the next one may find it, with another stamp."""
    writer = yoga.tree.overlay._writer

    class Broken:
        def __init__(self, db: sqlite3.Connection) -> None:
            self._db = db

        def __getattr__(self, name: str) -> object:
            return getattr(self._db, name)

        def execute(self, sql: str, *arguments: object) -> object:
            if sql != "COMMIT":
                return self._db.execute(sql, *arguments)
            self._db.execute(sql)
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

    yoga.write("f", b"1")
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_connection", Broken(yoga.tree.overlay._connection))
        with pytest.raises(sqlite3.OperationalError):
            yoga.tree.overlay.commit(full=True)
    yoga.write("g", b"2")
    yoga.restart()
    assert yoga.walk() == {"f": b"1", "g": b"2"}


def test_the_base_of_what_is_only_logged_is_needed(fleet: Fleet, yoga: Machine) -> None:
    """Its content must not leave the cache, for as long as the mount is down."""
    yoga.write("a", b"one")
    yoga.cycle()
    row = yoga.db.view.lookup(1, "a")
    assert row is not None
    (version,) = yoga.db.view.seen_of(row)
    yoga.patch("a", 1, b"N")
    with closing(TreeReader(yoga.engine_env, yoga.paths.tree_db)) as reader:
        assert reader.bases() == {version}
    yoga.tree.abandon()
    with closing(TreeReader(yoga.engine_env, yoga.paths.tree_db)) as reader:
        assert reader.bases() == {version}
    yoga.restart()


def test_names_that_are_only_logged_are_where_they_stand(yoga: Machine) -> None:
    yoga.mkdir("old")
    yoga.write("old/f", b"1")
    yoga.mkdir("old/sub")
    yoga.write("old/sub/g", b"1")
    yoga.write(".f.swp", b"1")
    yoga.tree.overlay.commit()
    yoga.rename("old", "new")
    yoga.write("late", b"1")
    yoga.write(".late.swp", b"1")
    yoga.tree.overlay.log()
    shown_path = yoga.db.view.path_of
    with closing(TreeReader(yoga.engine_env, yoga.paths.tree_db)) as reader:
        found = [item.path for item in reader.dirty(shown_path)]
        assert found == ["late", "new", "new/f", "new/sub", "new/sub/g"]
        assert reader.local_only(shown_path) == [".f.swp", ".late.swp"]
        assert sorted(row.name for row in reader.overlay() if row.node is not None) == [
            ".f.swp", ".late.swp", "f", "g", "late", "new", "sub",
        ]  # fmt: skip


def test_what_was_closed_last_is_not_called_interrupted(yoga: Machine) -> None:
    """tree.db has it as being written, the log as closed."""
    file = yoga.create("f")
    file.write(0, b"1")
    yoga.tree.overlay.commit()
    yoga.release(file)
    with closing(TreeReader(yoga.engine_env, yoga.paths.tree_db)) as reader:
        assert [(item.path, item.state) for item in reader.dirty(yoga.db.view.path_of)] == [("f", DirtyState.UNSEALED)]
