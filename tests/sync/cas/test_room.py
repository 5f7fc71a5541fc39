"""Room: the quota of a cache, what is counted and what goes."""

import os
import random
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from cachekit import KEYS, PAGE, cache_at, fill, later, pages

import sync.cas.room as room_module
from sync.cas.room import DEFAULT_QUOTA, default_quota
from sync.core.codec import chunk_id
from sync.env import FakeEnv


@pytest.fixture
def env() -> FakeEnv:
    return FakeEnv()


def test_usage_counts_disk_blocks(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path, 7)
    fill(cache, b"x")
    fill(cache, bytes(PAGE + 1))
    usage = cache.usage()
    assert (usage.used, usage.quota, usage.chunks) == (3 * PAGE, 7 * PAGE, 2)
    assert cache_at(env, tmp_path).usage().used == 3 * PAGE  # the folder is the index


def test_the_least_recently_used_goes_first(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path, 16)
    names = []
    for number in range(15):
        names.append(fill(cache, pages(number)))
        later(env, 10)
    whole = "cd" * 32
    (tmp_path / "whole").mkdir()
    cache.whole_path(whole).write_bytes(pages(99))
    cache.room.recount_whole()
    later(env)
    cache.used([names[0], bytes.fromhex(whole), bytes(32)])
    later(env)
    fill(cache, pages(100, 2))
    assert [number for number, name in enumerate(names) if not cache.has(name)] == [1, 2, 3]
    assert cache.has_whole(whole)
    assert cache.usage().used <= 16 * PAGE


def test_what_is_recent_or_protected_stays_and_then_the_cache_takes_no_more(env: FakeEnv, tmp_path: Path) -> None:
    protected: set[str] = set()
    cache = cache_at(env, tmp_path, 4, protected=lambda: protected)
    names = [fill(cache, pages(number)) for number in range(4)]
    protected.update(name.hex() for name in names[:2])
    extra, data = chunk_id(KEYS, pages(9)), pages(9)
    assert not cache.put(extra, data)
    later(env, 29)
    assert not cache.put(extra, data)
    later(env, 6)
    assert cache.put(extra, data)
    assert [cache.has(name) for name in names] == [True, True, False, False]
    assert cache.put(names[0], pages(0))  # what is there needs no room


def test_a_chunk_larger_than_the_quota_evicts_nothing(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path, 4)
    name = fill(cache, b"small")
    later(env)
    assert not cache.put(chunk_id(KEYS, pages(1, 5)), pages(1, 5))
    assert cache.has(name)


def test_a_full_cache_that_can_free_nothing_is_not_searched_at_every_put(env: FakeEnv, tmp_path: Path) -> None:
    asked = []
    cache = cache_at(env, tmp_path, 1, protected=lambda: asked.append(1) or ())
    fill(cache, pages(0))
    for _ in range(10):
        assert not cache.put(chunk_id(KEYS, pages(1)), pages(1))
    assert len(asked) == 1


def test_evict_frees_what_is_asked_and_leftovers_too(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path)
    names = [fill(cache, pages(number)) for number in range(4)]
    leftover = cache.path(names[0]).with_name(".leftover.tmp")
    leftover.write_bytes(pages(1))
    os.utime(leftover, ns=(0, 0))
    later(env)
    assert cache.room.evict(2 * PAGE) == 2 * PAGE
    assert not leftover.exists()
    assert sum(cache.has(name) for name in names) == 3
    assert cache.room.evict(100 * PAGE) == 3 * PAGE


def test_what_a_clock_that_was_wrong_has_stamped_can_go(env: FakeEnv, tmp_path: Path) -> None:
    """Used next year, it would never be the oldest; what was used just now stays, whatever the clock does."""
    cache = cache_at(env, tmp_path)
    env.wall_offset = 366 * 86400.0
    fill(cache, pages(1))
    env.wall_offset = 0.0
    fresh = fill(cache, pages(2))
    env.wall_offset = -1.0
    assert cache.room.evict(2 * PAGE) == PAGE
    assert cache.has(fresh)


def test_many_threads_stay_within_the_quota(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path, 64)
    kept: list[bytes] = []

    def work(start: int) -> None:
        for number in range(start, start + 40):
            data = number.to_bytes(2, "big") * (PAGE // 2)
            name = chunk_id(KEYS, data)
            if cache.put(name, data):
                kept.append(name)
                assert cache.get(name) == data

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 64  # nothing is old enough to go
    assert cache.usage().used == 64 * PAGE


def test_default_quota_of_a_folder_to_be(tmp_path: Path) -> None:
    assert 0 < default_quota(tmp_path / "not" / "yet") <= DEFAULT_QUOTA


def on_disk(root: Path) -> int:
    """Bytes of the files; one that is renamed meanwhile may be met twice, and counts once."""
    found: dict[int, int] = {}
    for file in root.rglob("*"):
        try:
            about = file.stat()
        except FileNotFoundError:
            continue  # renamed, or evicted, just now
        if stat.S_ISREG(about.st_mode):
            found[about.st_ino] = -(-about.st_size // PAGE) * PAGE
    return sum(found.values())


def test_the_quota_holds_while_many_write_at_once(env: FakeEnv, tmp_path: Path) -> None:
    """Room is reserved before anything is written, so at no moment there is more; what cannot be taken is said."""
    quota = 40
    cache = cache_at(env, tmp_path, pages=quota)
    chunks = [random.Random(number).randbytes(PAGE) for number in range(400)]
    taken: list[bool] = []
    seen: list[int] = []
    done = threading.Event()

    def write(part: int) -> None:
        for data in chunks[part::8]:
            taken.append(cache.put(chunk_id(KEYS, data), data))

    def watch() -> None:
        while not done.is_set():
            seen.append(on_disk(tmp_path))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(3):
        writers = [threading.Thread(target=write, args=(part,)) for part in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        done.set()  # from now on files go while others come: no look at the disk sees one moment
        assert on_disk(tmp_path) <= quota * PAGE
        later(env)  # what is there may go now
    watcher.join()
    assert max(seen) <= quota * PAGE
    assert cache.usage().used <= quota * PAGE
    assert taken.count(True) >= quota and cache.room.evictions > 0 and taken.count(False) > 0


def test_whoever_reads_does_not_wait_until_all_is_counted(
    env: FakeEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be millions of files, and each start counts them: a read behind it had timed out."""
    before = cache_at(env, tmp_path, pages=10)
    fill(before, pages(1, 3))
    is_counting, may_go = threading.Event(), threading.Event()

    def slowly(folders: Iterable[Path]) -> tuple[int, int]:
        is_counting.set()
        assert may_go.wait(10)
        return count(folders)

    count = room_module._count
    monkeypatch.setattr(room_module, "_count", slowly)
    cache = cache_at(env, tmp_path, pages=10)
    counting = threading.Thread(target=cache.room.evict, args=(0,))
    counting.start()
    assert is_counting.wait(10)
    fill(cache, pages(2, 2))
    may_go.set()
    counting.join()
    assert cache.room._used is not None and 5 * PAGE <= cache.room._used <= 7 * PAGE
    later(env)
    cache.room.evict(0)
    assert cache.usage().used == 5 * PAGE


def test_whole_files_that_the_mount_moves_in_count(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path, pages=10)
    fill(cache, pages(1, 4))
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / ("a" * 64)).write_bytes(pages(2, 5))
    cache.room.recount_whole()
    later(env)
    fill(cache, pages(3, 4))  # makes room: together they would be 13 pages
    assert cache.usage().used <= 10 * PAGE
    (tmp_path / "whole" / ("b" * 64)).write_bytes(pages(4, 9))
    os.utime(tmp_path / "whole" / ("b" * 64), ns=(env.now_ns(), env.now_ns()))
    later(env)
    cache.room.recount_whole()
    assert cache.room.evict(0) > 0
    assert cache.usage().used <= 10 * PAGE
    used = cache.usage().used
    cache.room.recount_whole()
    cache.room.recount_whole()
    assert cache.room._used == used
