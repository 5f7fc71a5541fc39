import errno
import os
import random
import shutil
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

import sync.cas.cache as cache_module
from sync.cas.cache import DEFAULT_QUOTA, ChunkCache, default_quota
from sync.core.codec import chunk_id
from sync.core.filekey import FileKey
from sync.core.keys import Keys
from sync.core.manifest import ChunkId
from sync.env import FakeEnv

KEYS = Keys.from_root(bytes(32))
PAGE = 4096


@pytest.fixture
def env() -> FakeEnv:
    return FakeEnv()


def cache_at(env: FakeEnv, root: Path, pages: int = 1000, **more) -> ChunkCache:
    return ChunkCache(env, root, pages * PAGE, KEYS, **more)


def fill(cache: ChunkCache, data: bytes) -> ChunkId:
    name = chunk_id(KEYS, data)
    assert cache.put(name, data)
    return name


def pages(number: int, count: int = 1) -> bytes:
    return bytes([number]) * (count * PAGE)


def later(env: FakeEnv, seconds: float = 31) -> None:
    env.clock.elapsed += seconds


def test_what_was_put_is_there_at_its_path(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path / "cache")
    name = chunk_id(KEYS, b"data")
    assert (cache.has(name), cache.get(name)) == (False, None)
    assert cache.put(name, memoryview(b"data"))
    assert (cache.has(name), cache.get(name)) == (True, b"data")
    assert cache.path(name) == tmp_path / "cache" / "chunks" / name.hex()[:2] / name.hex()
    assert cache.path(name).read_bytes() == b"data"
    assert cache.path(name).stat().st_mode & 0o777 == 0o600
    assert cache.path(name).parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in (tmp_path / "cache").rglob("*") if file.is_file()] == [name.hex()]


def test_other_bytes_are_never_put(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path)
    with pytest.raises(ValueError, match="not the bytes"):
        cache.put(chunk_id(KEYS, b"data"), b"other")
    assert cache.usage().chunks == 0


@pytest.mark.parametrize("wrong", [b"", b"dat", b"datb", b"data+"])
def test_a_wrong_file_is_missing_and_goes(env: FakeEnv, tmp_path: Path, wrong: bytes) -> None:
    cache = cache_at(env, tmp_path)
    name = fill(cache, b"data")
    cache.path(name).write_bytes(wrong)
    assert cache.get(name) is None
    assert not cache.path(name).exists()
    assert cache.usage().bad == 1
    assert cache.put(name, b"data")
    assert cache.get(name) == b"data"


def test_a_cut_file_is_replaced_by_put(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path)
    name = fill(cache, b"data")
    cache.path(name).write_bytes(b"")
    assert not cache.has(name)
    fill(cache, b"data")
    assert cache.get(name) == b"data"


def test_the_whole_folder_may_go_at_any_time(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path / "cache")
    first = fill(cache, b"first")
    shutil.rmtree(tmp_path / "cache")
    assert (cache.has(first), cache.get(first), cache.evict(1)) == (False, None, 0)
    cache.drop(first)
    cache.used([first])
    assert cache.usage().used == 0
    second = fill(cache, b"second")
    assert cache.get(second) == b"second"


def test_whole_files(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path)
    content = "ab" * 32
    assert cache.whole_path(content) == tmp_path / "whole" / content
    assert not cache.has_whole(content)
    (tmp_path / "whole").mkdir()
    cache.whole_path(content).write_bytes(pages(1, 3))
    cache.recount_whole()
    assert cache.has_whole(content)
    usage = cache.usage()
    assert (usage.used, usage.whole, usage.chunks) == (3 * PAGE, 1, 0)
    cache.drop_whole(content)
    assert not cache.has_whole(content)
    cache.drop_whole(content)


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
    cache.recount_whole()
    later(env)
    cache.used([names[0], bytes.fromhex(whole), bytes(32)])
    later(env)
    fill(cache, pages(100, 2))
    assert [number for number, name in enumerate(names) if not cache.has(name)] == [1, 2, 3]
    assert cache.has_whole(whole)
    assert cache.usage().used <= 16 * PAGE


def test_what_was_used_is_still_the_same_file(env: FakeEnv, tmp_path: Path) -> None:
    """Who has compared its bytes with its name need not do so again."""
    cache = cache_at(env, tmp_path)
    name = fill(cache, b"x")
    before = FileKey.of(cache.path(name).stat())
    later(env, 100)
    cache.used([name])
    assert FileKey.of(cache.path(name).stat()) == before
    assert cache.path(name).stat().st_atime_ns == env.now_ns()


def test_a_file_that_seems_to_be_somebody_elses_is_read(
    env: FakeEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a share, or in a folder that another machine lends, O_NOATIME is refused: it is for a file's owner."""
    original = os.open

    def strict(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_NOATIME:
            raise PermissionError(errno.EPERM, "Operation not permitted", path)
        return original(path, flags, mode)

    cache = cache_at(env, tmp_path)
    name = fill(cache, b"x")
    monkeypatch.setattr(os, "open", strict)
    assert cache.get(name) == b"x"


def test_a_time_of_writing_that_is_still_to_come_is_put_right(env: FakeEnv, tmp_path: Path) -> None:
    """Else it would count as the last use for as long as the clock was ahead."""
    cache = cache_at(env, tmp_path)
    name = fill(cache, b"x")
    env.wall_offset = -3600.0
    cache.used([name])
    found = cache.path(name).stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (env.now_ns(), env.now_ns())


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
    assert cache.evict(2 * PAGE) == 2 * PAGE
    assert not leftover.exists()
    assert sum(cache.has(name) for name in names) == 3
    assert cache.evict(100 * PAGE) == 3 * PAGE


def test_what_a_clock_that_was_wrong_has_stamped_can_go(env: FakeEnv, tmp_path: Path) -> None:
    """Used next year, it would never be the oldest; what was used just now stays, whatever the clock does."""
    cache = cache_at(env, tmp_path)
    env.wall_offset = 366 * 86400.0
    fill(cache, pages(1))
    env.wall_offset = 0.0
    fresh = fill(cache, pages(2))
    env.wall_offset = -1.0
    assert cache.evict(2 * PAGE) == PAGE
    assert cache.has(fresh)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_nothing_is_a_no(
    env: FakeEnv, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_at(env, tmp_path)
    name = chunk_id(KEYS, b"data")

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        assert not cache.put(name, b"data")
    usage = cache.usage()
    assert (usage.failed_writes, usage.chunks, usage.used) == (1, 0, 0)
    assert os.strerror(number) in usage.last_error
    assert cache.put(name, b"data")


def test_what_is_wrong_is_removed_when_it_is_read(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path)
    good, bad = fill(cache, b"good"), fill(cache, b"bad")
    cache.path(bad).write_bytes(b"BAD")
    assert (cache.get(good), cache.get(bad)) == (b"good", None)
    assert (cache.has(good), cache.has(bad)) == (True, False)


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
    assert taken.count(True) >= quota and cache.evictions > 0 and taken.count(False) > 0


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

    count = cache_module._count
    monkeypatch.setattr(cache_module, "_count", slowly)
    cache = cache_at(env, tmp_path, pages=10)
    counting = threading.Thread(target=cache.evict, args=(0,))
    counting.start()
    assert is_counting.wait(10)
    fill(cache, pages(2, 2))
    may_go.set()
    counting.join()
    assert cache._used is not None and 5 * PAGE <= cache._used <= 7 * PAGE
    later(env)
    cache.evict(0)
    assert cache.usage().used == 5 * PAGE


def test_whole_files_that_the_mount_moves_in_count(env: FakeEnv, tmp_path: Path) -> None:
    cache = cache_at(env, tmp_path, pages=10)
    fill(cache, pages(1, 4))
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / ("a" * 64)).write_bytes(pages(2, 5))
    cache.recount_whole()
    later(env)
    fill(cache, pages(3, 4))  # makes room: together they would be 13 pages
    assert cache.usage().used <= 10 * PAGE
    (tmp_path / "whole" / ("b" * 64)).write_bytes(pages(4, 9))
    os.utime(tmp_path / "whole" / ("b" * 64), ns=(env.now_ns(), env.now_ns()))
    later(env)
    cache.recount_whole()
    assert cache.evict(0) > 0
    assert cache.usage().used <= 10 * PAGE
    used = cache.usage().used
    cache.recount_whole()
    cache.recount_whole()
    assert cache._used == used
