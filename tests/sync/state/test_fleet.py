"""FleetDb: transactions, and the books beside the tree."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made_versions import Journal, names, put

from sync.core.errors import AlreadyExists, NoSpace, NotYet, Unsupported
from sync.core.journal import JournalHead, MachineInfo
from sync.core.manifest import (
    ChunkId,
    CondemnedRecord,
    PackedChunk,
    PackRecord,
    RemarkRecord,
    encode_record,
)
from sync.env import Crash, FakeEnv
from sync.state.books import HeldBack, Hole, Machine, OutboxRow, Plain
from sync.state.check import check
from sync.state.fleet import FleetDb
from sync.state.migrate import _migrations, migrate, schema_version
from sync.state.rows import NodePlace, Taken
from sync.state.view import ShownView

# ---- opening


def test_a_database_outlives_its_process(tmp_path: Path, env: FakeEnv, yoga: Journal) -> None:
    path = tmp_path / "fleet.db"
    first = FleetDb.create(env, path, "fleet", yoga.machine_id, "yoga")
    epoch = first.epoch
    put(first, yoga.write("a/f"))
    first.close()
    second = FleetDb.open(FakeEnv(seed=1), path)
    assert (second.epoch, second.fleet_id, second.machine_id, second.machine_name) == (
        epoch,
        "fleet",
        yoga.machine_id,
        "yoga",
    )
    assert (names(second), check(second)) == (["a/", "a/f"], [])
    second.close()


def test_each_database_has_its_own_epoch(env: FakeEnv, db: FleetDb) -> None:
    other = FleetDb.create(env, ":memory:", "fleet", "id", "yoga")
    assert other.epoch != db.epoch
    other.close()


def test_create_does_not_overwrite(tmp_path: Path, env: FakeEnv) -> None:
    FleetDb.create(env, tmp_path / "fleet.db", "fleet", "id", "yoga").close()
    with pytest.raises(AlreadyExists):
        FleetDb.create(env, tmp_path / "fleet.db", "fleet", "id", "yoga")


def test_an_empty_file_is_not_yet_a_database_and_can_become_one(tmp_path: Path, env: FakeEnv) -> None:
    path = tmp_path / "fleet.db"
    path.touch()
    with pytest.raises(NotYet):
        FleetDb.open(env, path)
    FleetDb.create(env, path, "fleet", "id", "yoga").close()
    FleetDb.open(env, path).close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path, env: FakeEnv) -> None:
    path = tmp_path / "fleet.db"
    FleetDb.create(env, path, "fleet", "id", "yoga").close()
    raw = env.connect(path)
    raw.execute("UPDATE meta SET value = 99 WHERE key = 'schema'")
    with pytest.raises(Unsupported):
        FleetDb.open(env, path)
    with pytest.raises(Unsupported):
        ShownView(env, path)
    assert raw.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == (99,)
    raw.close()


def as_made_by(connection: sqlite3.Connection, schema: int) -> None:
    """The tables of a program that knew no more than this schema."""
    for number, sql in _migrations("sync.state"):
        if number <= schema:
            connection.executescript(sql)
    connection.execute("INSERT INTO meta VALUES ('schema', ?)", (schema,))


def test_an_older_database_gets_the_migrations_it_lacks(env: FakeEnv) -> None:
    connection = env.connect(":memory:")
    as_made_by(connection, 6)
    connection.execute("INSERT INTO pack VALUES (5, x'aa', 1, 100, 1)")
    connection.execute("INSERT INTO plain VALUES ('/f', 'f', 'id:1:00000000', 3, 4, 5)")
    assert migrate(connection, "sync.state") == schema_version("sync.state") >= 8
    connection.execute("SELECT * FROM other_record")
    assert connection.execute("SELECT num, pack_id, machine, size, condemned FROM pack").fetchall() == [
        (5, b"\xaa", 1, 100, 1)
    ]
    connection.execute("INSERT INTO pack (pack_id, machine, size) VALUES (x'aa', 2, 3)")
    assert Plain(*connection.execute("SELECT * FROM plain").fetchone()) == Plain("/f", "f", "id:1:00000000", 3, 4, 5, 0)
    assert migrate(connection, "sync.state") == schema_version("sync.state")
    connection.close()


# ---- transactions


def test_left_by_an_exception_nothing_was(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    put(db, yoga.write("f"))
    last = db.view.feed_last()
    with pytest.raises(ZeroDivisionError), db.transaction() as txn:
        txn.insert_version(*bates.write("g"))
        txn.answer(b"seal", "queued")
        raise ZeroDivisionError
    assert (names(db), db.view.feed_last(), db.view.answer(b"seal"), len(db.machines())) == (["f"], last, None, 1)
    put(db, bates.write("h"))
    assert names(db) == ["f", "h"]


def test_a_crash_before_the_commit_loses_the_whole_transaction(tmp_path: Path, env: FakeEnv, yoga: Journal) -> None:
    path = tmp_path / "fleet.db"
    db = FleetDb.create(env, path, "fleet", yoga.machine_id, "yoga")
    env.arm("fleet.before_commit")
    with pytest.raises(Crash):
        put(db, yoga.write("f"))
    db.close()
    again = FleetDb.open(FakeEnv(clock=env.clock), path)
    assert (names(again), again.view.feed_last()) == ([], 0)
    again.close()


def test_transactions_do_not_nest(db: FleetDb) -> None:
    with pytest.raises(RuntimeError), db.transaction(), db.transaction():
        pass


def test_who_reads_in_another_thread_waits_for_no_transaction(tmp_path: Path, env: FakeEnv, yoga: Journal) -> None:
    """A renamed folder is one transaction of many seconds: meanwhile others read what was committed last."""
    db = FleetDb.create(env, tmp_path / "fleet.db", "fleet", yoga.machine_id, "yoga")
    put(db, yoga.write("f"))
    line, version = yoga.write("g")
    reads = [
        lambda: [row.name for row in db.view.children(1)],
        lambda: [path for (path,) in db.query("SELECT path FROM head ORDER BY path")],
        lambda: [path for path in ("f", "g") if db.heads(path)],
        lambda: [path for path in db.live_paths() if db.version(db.heads(path)[0].id)],
    ]
    with ThreadPoolExecutor(1) as other:

        def seen_by_another() -> list[list[str]]:
            return [other.submit(read).result(timeout=10) for read in reads]

        with db.transaction() as txn:
            txn.insert_version(line, version)
            txn.derive()
            assert [["f", "g"], ["f", "g"], ["f", "g"], ["f", "g"]] == [read() for read in reads]
            assert [["f"], ["f"], ["f"], ["f"]] == seen_by_another()
        assert [["f", "g"], ["f", "g"], ["f", "g"], ["f", "g"]] == seen_by_another()
    db.close()


def test_only_a_full_transaction_is_synchronous(env: FakeEnv, db: FleetDb) -> None:
    def synchronous() -> int:
        return int(db.query("PRAGMA synchronous")[0][0])  # of the connection that writes

    with db.transaction(full=True):
        assert synchronous() == 2
    with db.transaction():
        assert synchronous() == 1


def test_inside_a_transaction_reads_see_what_was_inserted(db: FleetDb, yoga: Journal) -> None:
    line = yoga.write("f", "text")
    with db.transaction() as txn:
        assert txn.insert_version(*line)
        assert db.heads("f") == (line[1],)
        assert db.history("f") == [line[1]]
        assert db.own_numbers("f") == {yoga.machine_id: 1}
        assert db.version(line[1].id) == line[1]
        assert not txn.insert_version(*line)
    with db.transaction() as txn:
        assert not txn.insert_version(*line)


# ---- versions


def test_any_record_of_a_journal_can_be_inserted(db: FleetDb, bates: Journal) -> None:
    line, version = bates.write("f")
    pack = PackRecord(seq=2, pack_id="aa" * 32, size=10, chunks=[PackedChunk("cd" * 32, 5, 4, 9, 1)])
    others = [
        encode_record(RemarkRecord(seq=4, text="hello")),
        b'{"type":"of-the-future","seq":5,"more":[1]}',
    ]
    with db.transaction() as txn:
        assert txn.insert(bates.machine_id, line)
        txn.insert(bates.machine_id, encode_record(CondemnedRecord(seq=3, pack_id="aa" * 32)))
        txn.insert(bates.machine_id, encode_record(pack))
        for other in others:
            txn.insert(bates.machine_id, other)
    assert db.heads("f") == (version,)
    assert db.packs.known_chunks([ChunkId(bytes.fromhex("cd" * 32))]) == set()
    assert [row[0] for row in db.query("SELECT record FROM other_record ORDER BY seq")] == others


def test_the_bytes_of_a_record_stay_as_they_came(db: FleetDb, bates: Journal) -> None:
    line = bates.write("f")[0].replace(b'"seq"', b'"of_the_future":{"x" : 1}, "seq"')
    with db.transaction() as txn:
        txn.insert(bates.machine_id, line)
    assert db.query("SELECT record FROM version") == [(line,)]


def test_history_is_newest_first_and_never_against_what_was_seen(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    first = yoga.write("f", "1", written_at=1000)
    second = bates.write("f", "2", seen=[first[1]], written_at=5)  # a clock that goes wrong
    third = yoga.write("f", "3", seen=[first[1]], written_at=2000)
    put(db, first, third, second)
    assert [version.manifest.content_id for version in db.history("f")] == ["c-3", "c-2", "c-1"]


def test_own_numbers_know_every_actor_of_ours(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    first = yoga.write("f", "1")
    second = yoga.write("f", "2")  # has not seen the first
    put(db, first, second, bates.write("f", "3"))
    assert db.own_numbers("f") == {yoga.machine_id: 1, f"{yoga.machine_id}~1": 2}
    assert db.own_numbers("never heard of") == {}


def test_renamed_versions_are_read_through(db: FleetDb, yoga: Journal) -> None:
    line = yoga.write("f")
    put(db, line)
    with db.transaction() as txn:
        txn.rename_version("a:1:00000000", "a:2:00000000")
        txn.rename_version("a:2:00000000", line[1].id)
    assert db.resolve("a:1:00000000") == line[1].id
    assert db.version("a:1:00000000") == line[1]
    assert db.view.manifest("a:1:00000000") == line[1].manifest
    assert db.version("b:1:00000000") is None


def test_paths_with_live_and_with_several_heads(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    gone = yoga.write("d/gone")
    put(db, gone, yoga.write("d/f"), yoga.write("d0"), bates.write("d/f", "other"), yoga.write("d"))
    put(db, yoga.remove("d/gone", seen=[gone[1]]))
    assert db.live_paths() == ["d", "d/f", "d0"]
    assert db.live_paths("d") == ["d", "d/f"]
    assert db.contested_paths() == ["d/f"]
    assert db.all_paths() == ["d", "d/f", "d/gone", "d0"]
    assert sorted(map(len, db.heads_of(["d/f", "d0", "nothing"]).values())) == [0, 1, 2]


# ---- books


def test_the_outbox_holds_what_is_not_confirmed(db: FleetDb, yoga: Journal) -> None:
    with db.transaction(full=True) as txn:
        txn.enqueue(1, 4, b"segment", b"head")
    assert (db.next_seq, db.confirmed, db.queued_seqs()) == (5, None, [(1, 4)])
    assert db.outbox() == [OutboxRow(1, 4, yoga.machine_id, b"segment", b"head")]
    with db.transaction() as txn:
        txn.confirm(1, 4, b"h" * 32)
    assert (db.outbox(), db.confirmed) == ([], JournalHead(1, 4, b"h" * 32))
    assert db.segments(yoga.machine_id) == [JournalHead(1, 4, b"h" * 32)]


def test_machines_are_remembered(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    with db.transaction() as txn:
        txn.remember_machine(MachineInfo(bates.machine_id, "bates", b"k" * 32, 1))
        txn.set_head(bates.machine_id, 1, 3, b"h" * 32)
    assert db.machines() == [
        Machine(yoga.machine_id, "yoga", None, True, None),
        Machine(bates.machine_id, "bates", b"k" * 32, False, JournalHead(1, 3, b"h" * 32)),
    ]


def test_segments_since_a_record(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    heads = [JournalHead(first, last, bytes([first]) * 32) for first, last in ((1, 3), (4, 4), (7, 9))]
    with db.transaction() as txn:
        txn.note_segment(yoga.machine_id, 1, 100, b"y" * 32)
        for head in heads:
            txn.note_segment(bates.machine_id, head.first, head.last, head.segment_hash)
    assert db.segments(bates.machine_id) == heads
    found = {since: len(db.segments(bates.machine_id, since)) for since in (1, 3, 4, 6, 7, 9, 20)}
    assert found == {1: 3, 3: 3, 4: 2, 6: 2, 7: 1, 9: 1, 20: 1}
    assert db.segments("nobody", 5) == []


def test_a_hole_keeps_its_time_until_its_segment_is_noted(db: FleetDb, env: FakeEnv, bates: Journal) -> None:
    since = env.now()
    for reason in ("missing", "broken"):
        with db.transaction() as txn:
            txn.set_hole(bates.machine_id, 5, reason)
        env.wall_offset += 10
    assert db.holes() == [Hole(bates.machine_id, 5, since, "broken")]
    with db.transaction() as txn:
        txn.note_segment(bates.machine_id, 5, 9, b"h" * 32)
    assert db.holes() == []


def test_records_held_back_wait_for_their_batch(db: FleetDb, env: FakeEnv, bates: Journal) -> None:
    with db.transaction() as txn:
        txn.hold_back(bates.machine_id, 7, (5, 8), b"seven")
        txn.hold_back(bates.machine_id, 8, (5, 8), b"eight")
    assert db.held_back(bates.machine_id)[0] == HeldBack(bates.machine_id, 7, 5, 8, env.now(), b"seven")
    with db.transaction() as txn:
        txn.release(bates.machine_id, [7])
    assert [held.seq for held in db.held_back()] == [8]


def test_answers_to_many_seals(db: FleetDb) -> None:
    answers = [(b"%03d" % n, "queued", f"id:{n}:00000000", None) for n in range(70)]
    with db.transaction() as txn:
        txn.answer(b"002", "refused", reason="too deep")
        txn.answer_all(answers)
    taken = {item.seal_id: item for item in db.view.answers([b"000", b"002", b"069", b"none"])}
    assert set(taken) == {b"000", b"002", b"069"}
    assert taken[b"002"].reason == "too deep"  # a seal answered already keeps its answer
    assert taken[b"000"].n < taken[b"069"].n == db.view.last_taken()


def test_a_seal_keeps_its_first_answer_until_it_is_pruned(db: FleetDb) -> None:
    with db.transaction() as txn:
        first = txn.answer(b"one", "queued", "id:1:00000000")
        second = txn.answer(b"two", "refused", reason="too deep")
        assert txn.answer(b"one", "unchanged") == first
    taken = [Taken(first, b"one", "queued", "id:1:00000000", None), Taken(second, b"two", "refused", None, "too deep")]
    assert db.view.taken_after(0) == taken
    assert db.view.answer(b"two") == taken[1]
    with db.transaction() as txn:
        txn.prune_taken(first)
    assert db.view.taken_after(0) == taken[1:]
    with db.transaction() as txn:
        assert txn.answer(b"three", "unchanged") > second


def test_pages_of_a_long_chunk_list_are_kept(db: FleetDb, yoga: Journal) -> None:
    line = yoga.write("big", "", file_size=3, chunk_pages=["ee" * 32])
    put(db, line)
    assert db.view.missing_pages(line[1].id) == [ChunkId(b"\xee" * 32)]
    with pytest.raises(NotYet):
        db.view.chunk_list(line[1].id)
    with db.transaction() as txn:
        txn.add_page(ChunkId(b"\xee" * 32), b'[["' + b"ab" * 32 + b'",3]]')
    assert db.view.chunk_list(line[1].id) == ([ChunkId(b"\xab" * 32)], [3])
    assert db.view.missing_pages(line[1].id) == []


def test_plain_folders_are_remembered(db: FleetDb) -> None:
    with db.transaction() as txn:
        txn.set_plain([Plain("/home/f", "f", "id:1:00000000", 3, 4, 5, 6)])
    assert db.plain("/home/f", "f") == Plain("/home/f", "f", "id:1:00000000", 3, 4, 5, 6)
    assert db.plain("/home/g", "f") is None


# ---- the checker itself


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE shown SET size = 99 WHERE name = 'f'",
        "UPDATE shown SET parent = 999 WHERE name = 'f'",
        "UPDATE shown SET parent = id WHERE name = 'd'",
        "DELETE FROM shown WHERE name = 'f'",
        "DELETE FROM head",
        "UPDATE head SET dead = 1 - dead",
        "DELETE FROM feed WHERE name = 'f'",
        "INSERT INTO shown (id, parent, name, kind, mode, mtime_ns, ctime_ns) VALUES (50, 1, 'x', 2, 0, 0, 0)",
        "UPDATE meta SET value = 2 WHERE key = 'next_ino'",
        "INSERT INTO chunk VALUES (x'00', 9, 0, 0, 0, 0)",
        "UPDATE meta SET value = 9 WHERE key = 'next_seq'",
    ],
)
def test_the_checker_finds(env: FakeEnv, yoga: Journal, damage: str) -> None:
    db = FleetDb.create(env, ":memory:", "fleet", yoga.machine_id, "yoga")
    put(db, yoga.write("d/f"), yoga.write("g"), place=NodePlace(None))
    with db.transaction() as txn:
        txn.enqueue(1, 2, b"", b"")
    assert check(db) == []
    db.query(damage)
    assert check(db) != []
    db.close()


def test_a_full_disk_is_said_so(env: FakeEnv, db: FleetDb) -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    with pytest.raises(NoSpace), db.transaction():
        raise error
    with db.transaction():
        pass
