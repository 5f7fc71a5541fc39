import errno
import os
import shutil
from pathlib import Path

import pytest
from cachekit import KEYS, PAGE, cache_at, fill, later, pages

from sync.core.codec import chunk_id
from sync.core.filekey import FileKey
from sync.env import FakeEnv


@pytest.fixture
def env() -> FakeEnv:
    return FakeEnv()


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
    assert (cache.has(first), cache.get(first), cache.room.evict(1)) == (False, None, 0)
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
    cache.room.recount_whole()
    assert cache.has_whole(content)
    usage = cache.usage()
    assert (usage.used, usage.whole, usage.chunks) == (3 * PAGE, 1, 0)
    cache.drop_whole(content)
    assert not cache.has_whole(content)
    cache.drop_whole(content)


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
