import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sync.core.errors import NotFound, TimedOut
from sync.env import NICENESS, Crash, Env, FakeClock, FakeEnv, RealEnv, atomic_write, fault_names, fsync_dir

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["real", "fake"])
def env(request):
    made = RealEnv({}) if request.param == "real" else FakeEnv()
    yield made
    made.close()


def run_python(code: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environ}, capture_output=True, timeout=60, check=False
    )


# What both have


def test_uuid4_is_a_lower_case_uuid_of_version_4(env: Env):
    first, second = env.uuid4(), env.uuid4()
    assert first != second
    assert [8, 4, 4, 4, 12] == [len(part) for part in first.split("-")]
    assert "4" == first[14]
    assert first == first.lower()


def test_run_returns_and_raises_what_the_function_does(env: Env):
    async def main() -> None:
        assert 7 == await env.run(int, "7")
        assert 8 == await env.run_io(int, "8")
        assert (9, 10) == (await env.run_store(int, "9"), await env.run_named(int, "10"))
        with pytest.raises(ValueError):
            await env.run(int, "no")
        with pytest.raises(ValueError):
            await env.run_io(int, "no")

    asyncio.run(main())


def test_connection_leaves_transactions_to_the_caller(env: Env, tmp_path: Path):
    db = env.connect(tmp_path / "a.db")
    db.execute("CREATE TABLE t (x)")
    db.execute("BEGIN")
    db.execute("INSERT INTO t VALUES (1)")
    db.execute("ROLLBACK")
    assert ("wal",) == db.execute("PRAGMA journal_mode").fetchone()
    assert (1,) == db.execute("PRAGMA synchronous").fetchone()
    assert [] == db.execute("SELECT * FROM t").fetchall()
    db.close()


def test_readonly_connection_reads_what_was_committed_and_writes_nothing(env: Env, tmp_path: Path):
    path = tmp_path / "odd ?#%.db"
    db = env.connect(path)
    db.execute("CREATE TABLE t (x)")
    reader = env.connect(path, readonly=True)
    assert [] == reader.execute("SELECT * FROM t").fetchall()
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("INSERT INTO t VALUES (1)")
    reader.close()
    db.close()


def test_readonly_connection_never_creates_the_file(env: Env, tmp_path: Path):
    with pytest.raises(NotFound):
        env.connect(tmp_path / "none.db", readonly=True)
    assert [] == list(tmp_path.iterdir())


def test_a_database_can_be_read_by_its_owner_only(env: Env, tmp_path: Path):
    was = os.umask(0)
    try:
        db = env.connect(tmp_path / "new.db")
        db.execute("CREATE TABLE t (x)")
        assert {0o600} == {path.stat().st_mode & 0o7777 for path in tmp_path.iterdir()}
        for path in tmp_path.iterdir():  # as an older program left it
            path.chmod(0o644)
        again = env.connect(tmp_path / "new.db")
        assert {0o600} == {path.stat().st_mode & 0o7777 for path in tmp_path.iterdir()}
        # the first connection still has its locks: the other one, as the last it knows of, must not remove the log
        db.execute("INSERT INTO t VALUES (1)")
        again.close()
        assert (tmp_path / "new.db-wal").exists()
        db.close()
    finally:
        os.umask(was)


def test_a_database_where_none_can_be_made(env: Env, tmp_path: Path):
    with pytest.raises(sqlite3.OperationalError):
        env.connect(tmp_path / "missing" / "a.db")


def test_memory_database(env: Env):
    db = env.connect(":memory:")
    db.execute("CREATE TABLE t (x)")
    db.close()


# RealEnv


@pytest.mark.parametrize("niceness", [0, NICENESS])
def test_real_threads_are_not_the_loops_and_as_nice_as_told(niceness: int):
    env = RealEnv({}, niceness=niceness)

    def about_thread() -> tuple[int, int]:
        thread = threading.get_native_id()
        return thread, os.getpriority(os.PRIO_PROCESS, thread)

    async def main() -> list[tuple[int, int]]:
        return [await env.run(about_thread), await env.run_io(about_thread)]

    found = asyncio.run(main())
    env.close()
    assert threading.get_native_id() not in {thread for thread, _ in found}
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert [priority for _, priority in found] == [max(niceness, here), here]


def test_real_clocks_and_boot_id():
    env = RealEnv({})
    assert env.monotonic() <= env.monotonic()
    assert abs(env.now() - env.now_ns() / 1e9) < 1
    assert env.boot_id() == RealEnv({}).boot_id() != ""


POINTS = "from sync.env import RealEnv; e = RealEnv(); [e.fault(n) for n in ('a.x', 'b.y', 'a.x')]; print('alive')"


def test_fault_kills_the_process_at_the_named_point():
    assert -signal.SIGKILL == run_python(POINTS, TCFS_FAULT="b.y").returncode


def test_fault_kills_at_the_nth_passing_only():
    assert -signal.SIGKILL == run_python(POINTS, TCFS_FAULT="a.x:2").returncode
    assert b"alive\n" == run_python(POINTS, TCFS_FAULT="a.x:3").stdout


def test_fault_log_names_the_points_passed_and_a_second_process_is_spared(tmp_path: Path):
    log = tmp_path / "log"
    assert -signal.SIGKILL == run_python(POINTS, TCFS_FAULT="b.y", TCFS_FAULT_LOG=str(log)).returncode
    assert ["a.x", "b.y", "killed b.y"] == log.read_text().splitlines()
    assert b"alive\n" == run_python(POINTS, TCFS_FAULT="b.y", TCFS_FAULT_LOG=str(log)).stdout


# FakeEnv


def test_fake_time_stands_still_until_advanced():
    async def main() -> None:
        env, woken = FakeEnv(), list[tuple[str, float]]()

        async def sleeper(name: str, seconds: float) -> None:
            await env.sleep(seconds)
            woken.append((name, env.monotonic()))

        tasks = [asyncio.create_task(sleeper("late", 2)), asyncio.create_task(sleeper("early", 1))]
        await env.advance(0.5)
        assert [] == woken
        await env.advance(10)
        assert [("early", 1.0), ("late", 2.0)] == woken
        assert 10.5 == env.monotonic()
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_fake_sleepers_that_sleep_again_wake_at_the_right_moments():
    async def main() -> None:
        env, ticks = FakeEnv(), list[float]()

        async def ticker() -> None:
            while True:
                await env.sleep(1)
                ticks.append(env.monotonic())

        task = asyncio.create_task(ticker())
        await env.advance(3.5)
        assert [1.0, 2.0, 3.0] == ticks
        task.cancel()

    asyncio.run(main())


def test_machines_share_a_clock_but_not_its_offset():
    async def main() -> None:
        clock = FakeClock()
        here, there = FakeEnv(1, clock), FakeEnv(2, clock)
        there.wall_offset = 60
        await here.advance(5)
        assert 5 == there.monotonic()
        assert 60 == there.now() - here.now()
        assert here.random_bytes(8) != there.random_bytes(8)

    asyncio.run(main())


def test_drive_moves_the_clock_as_far_as_needed_and_no_further():
    async def main() -> None:
        env = FakeEnv()

        async def slow() -> str:
            for _ in range(3):
                await env.sleep(100)
            return "done"

        assert "done" == await env.drive(slow())
        assert 300 == env.monotonic()
        with pytest.raises(TimedOut):
            await env.drive(slow(), limit=250)
        with pytest.raises(TimedOut):
            await env.drive(asyncio.get_running_loop().create_future())

    asyncio.run(main())


def test_timeouts_run_on_the_virtual_clock():
    async def main() -> None:
        env = FakeEnv()

        async def impatient(seconds: float | None) -> None:
            async with env.timeout(seconds):
                await env.sleep(10)

        await env.drive(impatient(11))
        await env.drive(impatient(None))
        started = env.monotonic()
        with pytest.raises(TimeoutError):
            await env.drive(impatient(3))
        assert 3 == env.monotonic() - started

    asyncio.run(main())


def test_real_timeout():
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with RealEnv({}).timeout(0.001):
                await asyncio.get_running_loop().create_future()

    asyncio.run(main())


def test_armed_fault_crashes_and_the_machine_stays_dead():
    async def main() -> None:
        env = FakeEnv()
        env.arm("a.x", 2)
        env.fault("a.x")
        with pytest.raises(Crash):
            env.fault("a.x")
        assert {"a.x": 2} == env.passed
        with pytest.raises(Crash):
            env.fault("b.y")
        with pytest.raises(Crash):
            await env.run(int, "1")
        with pytest.raises(Crash):
            await env.sleep(0)

    asyncio.run(main())


def test_same_seed_same_ids():
    assert FakeEnv(7).uuid4() == FakeEnv(7).uuid4() != FakeEnv(8).uuid4()


# Helpers


def test_fault_names_are_found_in_the_source(tmp_path: Path):
    (tmp_path / "a.py").write_text("def f(env):\n    env.fault('a.one')\n    self.env.fault('a.two')\n")
    assert {"a.one": f"{tmp_path}/a.py:2", "a.two": f"{tmp_path}/a.py:3"} == fault_names([tmp_path])


def test_fault_name_that_is_no_literal_is_refused(tmp_path: Path):
    (tmp_path / "a.py").write_text("env.fault(name)\n")
    with pytest.raises(ValueError, match=r"a\.py:1"):
        fault_names([tmp_path])


def test_all_fault_names_of_the_project_are_well_formed():
    for name, where in fault_names([ROOT / "sync", ROOT / "fs", ROOT / "cli"]).items():
        part, _, rest = name.partition(".")
        assert part.isidentifier(), where
        assert rest.replace(".", "_").isidentifier(), where


def test_atomic_write_replaces_with_mode_and_leaves_nothing_else(tmp_path: Path):
    path = tmp_path / "key"
    atomic_write(path, b"old", 0o644)
    atomic_write(path, b"new")
    assert b"new" == path.read_bytes()
    assert 0o600 == path.stat().st_mode & 0o777
    assert [path] == list(tmp_path.iterdir())


def test_atomic_write_that_fails_leaves_the_old_bytes_and_no_temp_file(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic_write(tmp_path / "folder", b"x")
    assert [tmp_path / "folder"] == list(tmp_path.iterdir())


def test_fsync_dir_of_a_missing_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        fsync_dir(tmp_path / "none")
