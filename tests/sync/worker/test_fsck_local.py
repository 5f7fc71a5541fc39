"""fsck of fleet.db, the overlay and the cache: what is wrong on this machine is named, and where it matters."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fsckkit import Two, damaged, made, paths_of
from worldkit import World, WorldMachine

from fs.tree import sealing
from sync.core.journal import segment_key
from sync.core.manifest import Version
from sync.state import check as check_module
from sync.state import moments as moments_module
from sync.state.lock import FileLock
from sync.state.tree.reader import layer_path
from sync.worker.fsck import Finding, Severity, Tally, fsck
from sync.worker.fsck import books as books_module
from sync.worker.fsck import cache as cache_module
from sync.worker.fsck.check import Check

two = pytest.fixture(made, name="two")


def messages(findings: list[Finding], severity: Severity = Severity.ERROR) -> list[str]:
    return [f"{f.object}: {f.path}: {f.message}" for f in findings if f.severity is severity]


# ---- fleet.db


def execute(two: Two, sql: str, *arguments: object) -> None:
    """Behind the back of the rules."""
    connection = two.bates.env.connect(two.bates.folder / "fleet.db")
    try:
        connection.execute(sql, arguments)
    finally:
        connection.close()


def test_what_is_written_meanwhile_need_not_stay_in_the_log(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of fleet.db can be emptied only up to where the oldest reader began."""
    monkeypatch.setattr(moments_module, "MOMENT_S", 0.0)
    emptied: list[int] = []
    show = check_module._TreeCheck._show

    def meanwhile(self: check_module._TreeCheck, path: str) -> object:
        execute(two, "INSERT OR REPLACE INTO meta VALUES ('x', ?)", len(emptied))
        connection = two.bates.env.connect(two.bates.folder / "fleet.db")
        emptied.append(connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[2])
        connection.close()
        return show(self, path)

    monkeypatch.setattr(check_module._TreeCheck, "_show", meanwhile)
    assert messages(two.fsck()) == []
    assert len(set(emptied)) > 3


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("DELETE FROM head WHERE path = 'docs/f1'", "heads of 'docs/f1'"),
        ("UPDATE shown SET size = 1 WHERE name = 'large'", "shown 'large'"),
        ("DELETE FROM shown WHERE name = 'docs'", "hang below no directory"),
        ("DELETE FROM chunk", "is in no pack that a journal names"),
        ("UPDATE chunk SET raw_length = raw_length - 1", "its index and the journal's record differ"),
        ("DELETE FROM pack", "is not in fleet.db as record"),
        ("DELETE FROM segment WHERE machine = (SELECT num FROM machine WHERE own = 0)", "was passed over"),
        (
            "DELETE FROM segment WHERE machine = (SELECT num FROM machine WHERE own = 1)",
            "neither queued nor in a segment",
        ),
        ("DELETE FROM version WHERE path = 'docs/f2'", "is not in fleet.db"),
        ("UPDATE segment SET hash = zeroblob(32)", "is not the segment that was applied here"),
        ("INSERT INTO taken (seal_id, answer, version) VALUES (x'00', 'queued', 'm:1:00000000')", "answer to a seal"),
    ],
)
def test_rows_that_are_wrong(two: Two, sql: str, text: str) -> None:
    execute(two, sql)
    found = messages(two.fsck())
    assert any(text in message for message in found), found


def test_a_plain_that_knows_no_version_is_a_warning(two: Two) -> None:
    execute(two, "UPDATE plain SET version = 'm:1:00000000'")
    (message,) = messages(two.fsck(), Severity.WARNING)
    assert ": reply:" in message


def test_a_version_that_nobody_will_ever_see(two: Two) -> None:
    """What promise 1 forbids: an own version, gone from the outbox, and not in the journal."""
    execute(two, "DELETE FROM segment WHERE machine = (SELECT num FROM machine WHERE own = 1)")
    found = [finding for finding in two.fsck() if "neither queued" in finding.message]
    assert [finding.path for finding in found] == ["reply"]


def queue(two: Two) -> None:
    """bates has two publications in its outbox, and the store is away."""
    two.fleet.memory.is_away = True
    for name in ("one", "two"):
        two.bates.write(name, name)
        two.do(_push_into_outbox(two, name))
    two.fleet.memory.is_away = False
    assert len(two.bates.db.queued_seqs()) == 2


async def _push_into_outbox(two: Two, name: str) -> None:
    from sync.core.manifest import Kind
    from sync.worker.change import Change
    from sync.worker.commit import Committer

    with two.bates.db.transaction() as txn:
        committer = Committer(two.bates.context, txn)
        committer.add_batch([Change(name, Kind.SYMLINK, target="there")])
        committer.finish()


def test_an_outbox_that_is_right(two: Two) -> None:
    queue(two)
    assert two.fsck() == []
    first = two.bates.db.queued_seqs()[0][0]
    key = segment_key(two.bates.db.machine_id, first)
    two.objects[key] = two.bates.db.outbox()[0].segment  # put, and then it died
    assert messages(two.fsck()) == []


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("UPDATE outbox SET segment = x'00'", "does not open"),
        ("UPDATE outbox SET head = (SELECT head FROM outbox ORDER BY first LIMIT 1)", "do not fit together"),
        ("DELETE FROM outbox WHERE first = (SELECT min(first) FROM outbox)", "is not the end of what comes before"),
        ("DELETE FROM version WHERE path = 'two'", "is not known"),
        ("DELETE FROM outbox", "neither queued nor in a segment"),
    ],
)
def test_an_outbox_that_is_wrong(two: Two, sql: str, text: str) -> None:
    queue(two)
    execute(two, sql)
    found = messages(two.fsck())
    assert any(text in message for message in found), found


def test_a_clone_that_wrote_under_our_id(two: Two) -> None:
    queue(two)
    first = two.bates.db.queued_seqs()[0][0]
    other = two.bates.db.outbox()[0].segment
    two.bates.db.query("SELECT 1")
    key = segment_key(two.bates.db.machine_id, first)
    two.objects[key] = other
    execute(two, "DELETE FROM outbox")
    found = messages(two.fsck())
    assert any(key in message and "a clone of it" in message for message in found), found


def test_a_database_that_is_no_database(two: Two) -> None:
    tree = two.bates.folder / "tree.db"
    tree.write_bytes(b"this is no database, but long enough to look like one" * 100)
    (message,) = messages(two.fsck())
    assert message.startswith("tree.db")


# ---- cache


def test_damaged_chunks_of_the_cache_are_warnings(two: Two) -> None:
    files = [path for path in (two.bates.folder / "cache/chunks").rglob("*") if path.is_file()]
    assert files
    for how in ("flip", "cut", "empty"):
        for path in files:
            whole = path.read_bytes()
            path.write_bytes(b"" if how == "empty" else damaged(whole, how))
            (finding,) = two.fsck()
            assert (finding.severity, finding.object) == (Severity.WARNING, str(path))
            path.write_bytes(whole)
    tally = Tally()
    assert two.fsck(tally=tally) == []
    assert tally.cache_verified == tally.cache_files == len(files)
    assert tally.cache_bytes == sum(path.stat().st_size for path in files)


def test_what_fsck_reads_was_not_used_by_that(two: Two) -> None:
    """Else nothing could be evicted behind it, and then everything in any order."""
    head: Version = two.bates.db.heads("large")[0]
    whole = two.bates.cache.whole_path(head.manifest.content_id)
    whole.parent.mkdir(parents=True)
    whole.write_bytes(two.do(two.bates.content("large")))
    files = [path for path in (two.bates.folder / "cache").rglob("*") if path.is_file()]
    for path in files:
        os.utime(path, ns=(1, 1))
    tally = Tally()
    assert two.fsck(deep=True, tally=tally) == []
    assert tally.cache_verified == len(files)
    assert {path.stat().st_atime_ns for path in files} == {1}
    two.do(two.bates.content("large"))
    assert whole.stat().st_atime_ns == 1  # the engine tells what it uses


def test_a_large_cache_is_read_in_part_and_that_is_said(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "VERIFY_MAX", 1)
    two.do(two.bates.content("large"))
    tally = Tally()
    assert two.fsck(tally=tally) == []
    assert tally.cache_verified == 1 < tally.cache_files
    assert len(tally.unverified) == 1
    tally = Tally()
    assert two.fsck(deep=True, tally=tally) == []
    assert tally.cache_verified == tally.cache_files


def test_whole_files(two: Two) -> None:
    head: Version = two.bates.db.heads("large")[0]
    path = two.bates.cache.whole_path(head.manifest.content_id)
    path.parent.mkdir(parents=True)
    body = two.do(two.bates.content("large"))
    path.write_bytes(body)
    assert two.fsck(deep=True) == []
    path.write_bytes(damaged(body, "flip"))
    assert two.fsck() == []
    assert [finding.object for finding in two.fsck(deep=True)] == [str(path)]
    path.write_bytes(damaged(body, "cut"))
    (finding,) = two.fsck()
    assert (finding.severity, finding.object) == (Severity.WARNING, str(path))


# ---- overlay, as a real mount writes it


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def look(machine: WorldMachine, deep: bool = False) -> list[Finding]:
    return machine.world.do(fsck(machine.context, machine.paths, deep=deep))


def changed(world: World) -> WorldMachine:
    """A published file with a change on it, a new file, a renamed folder with a changed child, and a removal."""
    yoga = world.machine("yoga")
    yoga.mkdir("d")
    yoga.write("d/child", b"c" * 3000)
    yoga.write("a", b"a" * 3000)
    yoga.write("gone", b"g")
    world.settle()
    yoga.patch("a", 1000, b"changed")
    yoga.write("new", b"n" * 500)
    yoga.rename("d", "e")
    yoga.patch("e/child", 10, b"changed")
    yoga.unlink("gone")
    yoga.tree.overlay.commit(full=True)
    return yoga


def test_an_overlay_that_is_right_at_every_step(world: World) -> None:
    yoga = changed(world)
    assert look(yoga) == []
    yoga.seal()
    assert look(yoga) == []
    yoga.patch("a", 2000, b"once more, above the layer")
    yoga.tree.overlay.commit(full=True)
    assert look(yoga) == []
    yoga.work()
    assert look(yoga) == []
    yoga.note()
    yoga.tree.overlay.commit(full=True)
    assert look(yoga) == []
    world.settle()
    assert look(yoga, deep=True) == []


def work_files(machine: WorldMachine) -> list[Path]:
    return sorted(path for path in machine.paths.work_dir.rglob("*") if path.is_file())


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_local_bytes_that_are_lost(world: World, how: str, is_sealed: bool) -> None:
    yoga = changed(world)
    if is_sealed:
        yoga.seal()
    found = set()
    for path in work_files(yoga):
        whole = path.read_bytes()
        path.unlink() if how == "gone" else path.write_bytes(whole[:5])
        for finding in look(yoga):
            assert finding.object == str(path)
            assert finding.severity is (Severity.ERROR if is_sealed or how == "gone" else Severity.WARNING)
            found.add(finding.path)
        path.write_bytes(whole)
    assert found == {"a", "new", "e/child"}
    assert look(yoga) == []


def test_a_layer_that_was_answered_may_be_gone(world: World) -> None:
    """The mount has renamed it into the cache, and has not committed that yet."""
    yoga = changed(world)
    yoga.seal()
    yoga.work()
    for path in work_files(yoga):
        path.unlink()
    assert messages(look(yoga)) == []


def break_tree(machine: WorldMachine, sql: str) -> None:
    machine.tree.abandon()
    connection = machine._env.connect(machine.paths.tree_db)
    try:
        connection.execute(sql)
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("DELETE FROM work", "is not there"),
        ("DELETE FROM seal", "waits for a seal that is not there"),
        ("UPDATE node SET seal_id = NULL, sealed_gen = NULL", "has a layer that no seal holds"),
        ("UPDATE entry SET sealed_gen = NULL WHERE name = 'new'", "new has half a seal"),
        ("UPDATE node SET sealed_gen = NULL WHERE kind = 1", "has half a seal"),
        ("UPDATE entry SET local_only = 1 WHERE name = 'new'", "stays on this machine and is to be published"),
        (
            "UPDATE entry SET node = (SELECT node FROM entry WHERE name = 'e') WHERE name = 'new'",
            "stands under two names",
        ),
        ("UPDATE node SET kind = 8", "is of no kind"),
        ("UPDATE node SET work = layer WHERE layer IS NOT NULL", "is sealed, and would be written"),
        ("DELETE FROM entry WHERE name = 'new'", "has no name and is not to be published"),
        ("DELETE FROM node", "shows node"),
        ('UPDATE span SET start = "end"', "impossible ranges"),
        ("UPDATE node SET base = 'm:1:00000000' WHERE base IS NOT NULL", "builds on version m:1:00000000"),
        ("UPDATE seal SET base = 'm:1:00000000' WHERE base IS NOT NULL", "builds on version m:1:00000000"),
        ("UPDATE seal SET path = '../out'", "not a path inside the fleet"),
        ("UPDATE seal SET seen = 'nonsense'", "cannot be read"),
        ("UPDATE work SET sealed = 0", "may still be written"),
        ("UPDATE entry SET parent = 4444 WHERE name = 'new'", "which is nowhere"),
    ],
)
def test_rows_of_tree_db_that_are_wrong(world: World, sql: str, text: str) -> None:
    yoga = changed(world)
    yoga.seal()
    yoga.tree.overlay.commit(full=True)
    break_tree(yoga, sql)
    with FileLock(yoga.paths.mount_lock) as lock:
        assert lock.try_acquire()  # as a mount does that runs
        found = messages(look(yoga))
    assert any(text in message for message in found), found


def test_what_the_next_start_mends_is_a_warning_while_no_mount_runs(world: World) -> None:
    """The mount was killed while a round of seals was brought to the disk."""
    yoga = changed(world)
    sealing.begin(yoga.tree.state, None)
    yoga.tree.overlay.commit()
    yoga.tree.abandon()
    found = look(yoga)
    assert {finding.severity for finding in found} == {Severity.WARNING}
    assert {finding.path for finding in found} == {"a", "new", "e", "e/child", "gone", "d"}
    yoga.crash_mount()
    assert look(yoga) == []


def test_a_round_of_seals_under_way_is_waited_for(world: World) -> None:
    yoga = changed(world)
    with FileLock(yoga.paths.mount_lock) as lock:
        assert lock.try_acquire()
        seal_round = sealing.begin(yoga.tree.state, None)
        yoga.tree.overlay.commit()

        async def settle() -> None:
            seal_round.sync()
            sealing.finish(yoga.tree.state, seal_round)

        assert messages(look(yoga)) != []
        assert world.do(fsck(yoga.context, yoga.paths, settle=settle)) == []


def test_a_work_file_that_belongs_to_nothing_is_a_warning(world: World) -> None:
    yoga = changed(world)
    break_tree(yoga, "INSERT INTO work VALUES (77, 3, 0, 0)")
    assert [finding.severity for finding in look(yoga)] == [Severity.WARNING]


def test_what_only_one_look_finds_is_no_finding(world: World) -> None:
    """The mount is in the middle of something: a file is made a moment after its row was read."""
    yoga = changed(world)
    (path, *_) = work_files(yoga)
    whole = path.read_bytes()
    path.unlink()

    async def pause(seconds: float) -> None:
        path.write_bytes(whole)

    yoga.context.env.sleep = pause  # type: ignore[method-assign]
    assert look(yoga) == []


def test_another_fleet_db(world: World) -> None:
    yoga = changed(world)
    break_tree(yoga, "UPDATE meta SET value = 'other' WHERE key = 'fleet_epoch'")
    found = look(yoga)
    assert [finding.severity for finding in found] == [Severity.WARNING]
    assert "another fleet.db" in found[0].message


def test_layer_files_are_where_fsck_looks(world: World) -> None:
    yoga = changed(world)
    ids = [row[0] for row in _rows(yoga, "SELECT id FROM work")]
    assert {layer_path(yoga.paths.work_dir, each) for each in ids} == set(work_files(yoga))


def _rows(machine: WorldMachine, sql: str) -> list[tuple[int]]:
    connection = machine._env.connect(machine.paths.tree_db, readonly=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


Step = Callable[[WorldMachine], object]


@pytest.mark.parametrize("point", ["publish.after_outbox", "publish.after_segment_put", "publish.after_head_put"])
def test_a_crash_leaves_nothing_wrong(world: World, point: str) -> None:
    yoga = changed(world)
    yoga.seal()
    with yoga.crash_at(point):
        yoga.work()
    assert messages(look(yoga)) == []
    world.settle()
    assert look(yoga) == []


def test_the_thread_of_a_check_that_nobody_waits_for_ends_soon(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books_module, "STEPS", 1)
    check = Check(two.bates.context, deep=False, progress=lambda data: None)
    two.do(books_module.check_books(check, paths_of(two.bates)))
    check.is_over = True
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        two.do(books_module.check_books(check, paths_of(two.bates)))


def test_a_check_that_was_cancelled_is_over(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Check] = []

    async def hangs(check: Check, paths: object) -> None:
        begun.append(check)
        await asyncio.Event().wait()

    monkeypatch.setattr("sync.worker.fsck.check_books", hangs)

    async def scenario() -> None:
        running = asyncio.ensure_future(fsck(two.bates.context, paths_of(two.bates)))
        while not begun:
            await asyncio.sleep(0)
        assert not begun[0].is_over
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    two.do(scenario())
    assert begun[0].is_over
