"""What must always be true of fleet.db is looked for folder by folder: whatever is wrong is found, in little memory."""

import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from made_versions import Journal, put

from sync.env import FakeEnv
from sync.state import check as check_module
from sync.state import moments as moments_module
from sync.state.check import _names, check
from sync.state.fleet import FleetDb
from sync.state.moments import Changes, ShortMoments

# Names that sort around one another: '.' comes before '/', '0' behind it, and the control character before both.
PATHS = ["a", "a.b", "a/x", "a/x/deep/er", "a0", "a\x01", "a\x01/y", "b/c/d/e", "b/c0", "b/c.d", "z"]


@pytest.fixture
def db() -> Iterator[FleetDb]:
    made = FleetDb.create(FakeEnv(), ":memory:", "fleet", Journal("yoga").machine_id, "yoga")
    yield made
    made.close()


def fill(db: FleetDb, paths: list[str]) -> None:
    journal = Journal("yoga")
    for path in paths:
        put(db, journal.write(path, "x"))


def edit(db: FleetDb, sql: str, *arguments: object) -> None:
    with db.transaction() as txn:
        txn._execute(sql, *arguments)


def paths_below(db: FleetDb, folder: str = "") -> list[str]:
    found = []
    for name in _names(db, folder):
        path = f"{folder}/{name.name}" if folder else name.name
        found += [path] if name.has_versions else []
        found += paths_below(db, path) if name.has_more_below else []
    return found


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_every_path_is_come_upon_once(db: FleetDb, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(check_module, "PAGE", page)
    monkeypatch.setattr(check_module, "PAGE_MIN", min(page, 16))
    fill(db, [path for path in PATHS if path not in ("a", "a\x01")])
    assert sorted(paths_below(db)) == sorted(path for path in PATHS if path not in ("a", "a\x01"))
    assert check(db) == []
    fill(db, ["a", "a\x01"])  # files that meet folders
    assert sorted(paths_below(db)) == sorted(PATHS)
    assert check(db) == []


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("UPDATE shown SET size = 99 WHERE name = 'er'", "shown 'a/x/deep/er': is "),
        ("DELETE FROM shown WHERE name = 'z'", "shown 'z': is None, should be "),
        ("DELETE FROM shown WHERE name = 'deep'", "1 rows of shown hang below no directory"),
        ("UPDATE shown SET name = 'other' WHERE name = 'c.d'", "shown 'b/other': is "),
        ("UPDATE shown SET kind = 2 WHERE name = 'z'", "shown 'z': is "),
        ("UPDATE head SET dead = 1 WHERE path = 'z'", "heads of 'z': 1 are marked dead, should be 0"),
        ("DELETE FROM head WHERE path = 'b/c0'", "heads of 'b/c0': stored [], should be ["),
        ("UPDATE head SET path = 'z' WHERE path = 'b/c0'", "a head is one of another path"),
    ],
)
def test_what_is_wrong_is_said(db: FleetDb, sql: str, told: str) -> None:
    fill(db, [path for path in PATHS if path not in ("a", "a\x01")])
    edit(db, sql)
    assert [sentence for sentence in check(db) if sentence.startswith(told)], check(db)


def test_rows_below_what_should_hold_none(db: FleetDb) -> None:
    fill(db, ["f", "d/x"])
    columns = "(id, parent, name, kind, mode, mtime_ns, ctime_ns)"
    rows = [(101, 1, "new", 2), (103, 101, "sub", 2), (105, 103, "leaf", 1)]
    for row in rows:
        edit(db, f"INSERT INTO shown {columns} VALUES (?, ?, ?, ?, 0, 0, 0)", *row)
    told = [sentence.split(":")[0] for sentence in check(db)]
    assert told[:3] == ["shown 'new'", "shown 'new/sub'", "shown 'new/sub/leaf'"]
    assert not [sentence for sentence in check(db) if "hang below" in sentence]
    edit(db, "UPDATE shown SET parent = 103 WHERE id = 101")
    assert "3 rows of shown hang below no directory" in check(db)


def test_memory_does_not_grow_with_the_fleet(db: FleetDb) -> None:
    journal = Journal("yoga")
    content = {"chunks": ["ab" * 32] * 40, "chunk_sizes": [1] * 40, "file_size": 40}

    def more(first: int, count: int) -> int:
        with db.transaction() as txn:
            for folder in range(first, first + count):
                for number in range(20):
                    txn.insert_version(*journal.write(f"d{folder}/f{number}", "x", **content))
        tracemalloc.start()
        assert check(db) == []
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    small = more(0, 5)
    assert more(5, 60) < 2 * small


# ---- while somebody writes


class Meanwhile(ShortMoments):
    """Every moment is over at once, and something is done between two of them."""

    def __init__(self, db: FleetDb, path: Path, work: Callable[[], None]) -> None:
        self.connection = FakeEnv().connect(path, readonly=True)
        self.reading = FleetDb(FakeEnv(), self.connection)
        super().__init__(FakeEnv(), self.connection, self.reading)
        self._work = work
        self.passed = 0

    def pass_on(self) -> Changes:
        self._work()
        self.passed += 1
        return super().pass_on()

    def check(self) -> list[str]:
        with closing(self.reading), self.follow() as moments:
            return check(self.reading, moments)


@pytest.fixture
def file_db(tmp_path: Path) -> Iterator[FleetDb]:
    made = FleetDb.create(FakeEnv(), tmp_path / "fleet.db", "fleet", Journal("yoga").machine_id, "yoga")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def short_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments_module, "MOMENT_S", 0.0)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_written_meanwhile_is_not_wrong(file_db: FleetDb, tmp_path: Path, seed: int) -> None:
    """Files come, go, take the places of folders and the other way round, conflict and move, in every folder."""
    rnd = random.Random(seed)
    ours, theirs = Journal("yoga"), Journal("bates")
    paths = [f"{a}{b}{c}" for a in ("a", "b/", "c/d/") for b in ("x", "y/", "z") for c in ("", "e", "f/g")]
    paths = [path for path in paths if not path.endswith("/")]

    def write() -> None:
        journal, path = rnd.choice([ours, theirs]), rnd.choice(paths)
        seen = file_db.heads(path) if rnd.random() < 0.6 else ()
        content = f"v{rnd.random()}" if rnd.random() < 0.7 else None
        put(file_db, journal.write(path, content, seen=seen))

    for _ in range(60):
        write()
    assert check(file_db) == []
    for _ in range(3):
        looking = Meanwhile(file_db, tmp_path / "fleet.db", lambda: write() if rnd.random() < 0.5 else None)
        assert looking.check() == []
        assert looking.passed > 20


def test_what_is_wrong_is_found_while_others_write(file_db: FleetDb, tmp_path: Path) -> None:
    journal = Journal("yoga")
    fill(file_db, [f"d{n}/f{m}" for n in range(5) for m in range(5)])
    edit(file_db, "UPDATE shown SET size = 99 WHERE name = 'f3' AND parent = (SELECT id FROM shown WHERE name = 'd2')")
    edit(
        file_db,
        "INSERT INTO shown (id, parent, name, kind, mode, mtime_ns, ctime_ns) VALUES (901, 999, 'x', 1, 0, 0, 0)",
    )
    rows = [(903, 905, "in", 2), (905, 903, "out", 2)]
    for row in rows:
        edit(
            file_db,
            "INSERT INTO shown (id, parent, name, kind, mode, mtime_ns, ctime_ns) VALUES (?, ?, ?, ?, 0, 0, 0)",
            *row,
        )
    count = iter(range(10_000))

    def write() -> None:
        put(file_db, journal.write(f"d2/new{next(count)}", "x"))

    told = Meanwhile(file_db, tmp_path / "fleet.db", write).check()
    assert [line.split(":")[0] for line in told if line.startswith("shown")] == ["shown 'd2/f3'"]
    assert "3 rows of shown hang below no directory, or in themselves" in told


def test_a_feed_that_is_forgotten_meanwhile(file_db: FleetDb, tmp_path: Path) -> None:
    """What has changed cannot be told then: anything may have."""
    journal = Journal("yoga")
    fill(file_db, [f"d{n}/f{m}" for n in range(5) for m in range(5)])
    count = iter(range(10_000))

    def write() -> None:
        number = next(count)
        put(file_db, journal.write(f"d{number % 5}/f{number % 7}", f"{number}"))
        put(file_db, journal.write(f"d{number % 3}/new{number}", f"{number}"))
        with file_db.transaction() as txn:
            txn.prune_feed(file_db.view.feed_last())

    assert Meanwhile(file_db, tmp_path / "fleet.db", write).check() == []
