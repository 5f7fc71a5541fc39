import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from fs.hydrate import cache
from fs.hydrate.cache import CachedContent
from fs.hydrate.plan import ChunkMap
from sync.core.filekey import FileKey
from sync.core.manifest import ChunkId

KEY = b"k" * 32


def hash_chunk(data: bytes) -> bytes:
    return blake3(data, key=KEY).digest()


def put(root: Path, data: bytes) -> ChunkId:
    chunk = ChunkId(hash_chunk(data))
    path = root / "chunks" / chunk.hex()[:2] / chunk.hex()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return chunk


def path_of(root: Path, chunk: ChunkId) -> Path:
    return root / "chunks" / chunk.hex()[:2] / chunk.hex()


@pytest.fixture
def content(tmp_path: Path) -> Iterator[CachedContent]:
    reader = CachedContent(tmp_path, hash_chunk)
    yield reader
    reader.drop_descriptors()


def test_reads_parts_of_a_chunk(content: CachedContent, tmp_path: Path) -> None:
    chunk = put(tmp_path, b"0123456789")
    assert content.read(chunk, 2, 5, 10) == b"234"
    assert content.read(chunk, 0, 10, 10) == b"0123456789"
    assert content.take_used() == [chunk]
    assert content.take_used() == []


def test_files_that_seem_to_be_somebody_elses_are_read(
    content: CachedContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a share, or in a folder that another machine lends, O_NOATIME is refused: it is for a file's owner."""
    original = os.open

    def strict(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_NOATIME:
            raise PermissionError(errno.EPERM, "Operation not permitted", path)
        return original(path, flags, mode)

    name = put(tmp_path, b"content")
    monkeypatch.setattr(os, "open", strict)
    assert content.read(name, 0, 7, 7) == b"content"


def test_an_absent_chunk_is_none(content: CachedContent) -> None:
    assert content.read(ChunkId(b"x" * 32), 0, 1, 1) is None
    assert content.damaged == 0


@pytest.mark.parametrize("damage", [b"0123456780", b"0123", b"", b"0123456789+"])
def test_a_damaged_chunk_is_removed_and_never_returned(
    content: CachedContent, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    chunk = put(tmp_path, b"0123456789")
    path_of(tmp_path, chunk).write_bytes(damage)
    if damage == b"0123456789+":  # longer than it should be: its first bytes are the chunk's
        assert content.read(chunk, 2, 5, 10) == b"234"
        return
    with caplog.at_level(logging.ERROR):
        assert content.read(chunk, 2, 5, 10) is None
    assert not path_of(tmp_path, chunk).exists()
    assert content.damaged == 1
    assert chunk.hex() in caplog.text
    put(tmp_path, b"0123456789")
    assert content.read(chunk, 2, 5, 10) == b"234"


@pytest.mark.logs_trouble
def test_damage_after_the_first_use_is_found(content: CachedContent, tmp_path: Path) -> None:
    chunk = put(tmp_path, b"0123456789")
    assert content.read(chunk, 0, 10, 10) == b"0123456789"
    path = path_of(tmp_path, chunk)
    path.write_bytes(b"0123456_89")
    os.utime(path, ns=(1, 1))
    assert content.read(chunk, 0, 10, 10) is None


def test_a_link_in_the_cache_is_not_followed(content: CachedContent, tmp_path: Path) -> None:
    chunk = put(tmp_path, b"0123456789")
    path = path_of(tmp_path, chunk)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert content.read(chunk, 0, 10, 10) is None


@pytest.mark.logs_trouble
def test_a_whole_file_is_verified_chunk_by_chunk(content: CachedContent, tmp_path: Path) -> None:
    parts = [b"first", b"second!"]
    chunks = ChunkMap([ChunkId(hash_chunk(part)) for part in parts], [len(part) for part in parts])
    (tmp_path / "whole").mkdir()
    whole = tmp_path / "whole" / "c0"
    whole.write_bytes(b"firstsecond!")
    assert content.read_whole("c0", chunks, 1, 1, 4) == b"eco"
    whole.write_bytes(b"firsTsecond!")
    os.utime(whole, ns=(1, 1))
    assert content.read_whole("c0", chunks, 1, 1, 4) == b"eco"
    assert content.read_whole("c0", chunks, 0, 0, 5) is None
    assert not whole.exists()


def test_few_descriptors_stay_open(content: CachedContent, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for n in range(cache.OPEN_MAX + 20):
        data = b"chunk %d" % n
        assert content.read(put(tmp_path, data), 0, len(data), len(data)) == data
    assert len(os.listdir("/proc/self/fd")) - before == cache.OPEN_MAX
    content.drop_descriptors()
    assert len(os.listdir("/proc/self/fd")) == before


def counting(root: Path) -> tuple[CachedContent, list[bytes]]:
    """A reader, and what it has compared with an id."""
    compared: list[bytes] = []

    def hash_and_note(data: bytes) -> bytes:
        compared.append(data)
        return hash_chunk(data)

    return CachedContent(root, hash_and_note), compared


@pytest.mark.parametrize("size", [10, cache.CHECK_AT_ONCE + 1])
def test_a_file_that_the_engine_has_just_written_is_not_compared_again(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    chunk = put(tmp_path, data)
    content, compared = counting(tmp_path)
    content.trust({bytes(chunk): FileKey.of(path_of(tmp_path, chunk).stat())})
    assert content.read(chunk, 2, 8, size) == data[2:8]
    assert compared == []
    assert content.take_used() == [chunk]
    content.drop_descriptors()


@pytest.mark.parametrize("field", FileKey._fields)
def test_any_other_file_than_the_one_that_was_written_is_compared(tmp_path: Path, field: str) -> None:
    chunk = put(tmp_path, b"0123456789")
    content, compared = counting(tmp_path)
    key = FileKey.of(path_of(tmp_path, chunk).stat())
    content.trust({bytes(chunk): key._replace(**{field: getattr(key, field) + 1})})
    assert content.read(chunk, 2, 5, 10) == b"234"
    assert compared == [b"0123456789"]
    content.drop_descriptors()


@pytest.mark.logs_trouble
def test_a_file_that_took_the_place_of_the_written_one_is_found_wrong(content: CachedContent, tmp_path: Path) -> None:
    chunk = put(tmp_path, b"0123456789")
    path = path_of(tmp_path, chunk)
    key = FileKey.of(path.stat())
    content.trust({bytes(chunk): key})
    (tmp_path / "other").write_bytes(b"0123456_89")
    os.utime(tmp_path / "other", ns=(key.mtime_ns, key.mtime_ns))
    (tmp_path / "other").rename(path)
    assert content.read(chunk, 0, 10, 10) is None
    assert not path.exists()


@pytest.mark.logs_trouble
def test_a_written_file_that_was_changed_since_is_found_wrong(content: CachedContent, tmp_path: Path) -> None:
    chunk = put(tmp_path, b"0123456789")
    path = path_of(tmp_path, chunk)
    os.utime(path, ns=(10**18, 10**18))
    content.trust({bytes(chunk): FileKey.of(path.stat())})
    path.write_bytes(b"0123456_89")
    assert content.read(chunk, 0, 10, 10) is None


@pytest.mark.logs_trouble
def test_a_file_is_believed_to_be_one_chunk_only(content: CachedContent, tmp_path: Path) -> None:
    one, other = put(tmp_path, b"0123456789"), put(tmp_path, b"abcdefghij")
    content.trust({bytes(one): FileKey.of(path_of(tmp_path, one).stat())})
    path_of(tmp_path, one).rename(path_of(tmp_path, other))
    assert content.read(other, 0, 10, 10) is None


@pytest.mark.logs_trouble
@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_large_chunk_is_looked_at_first(content: CachedContent, tmp_path: Path, is_damaged: bool) -> None:
    data = bytes(cache.CHECK_AT_ONCE) + b"end"
    chunk = put(tmp_path, data)
    if is_damaged:
        path_of(tmp_path, chunk).write_bytes(b"x" + data[1:])
    unchecked = content.read(chunk, 5, 10, len(data))
    assert isinstance(unchecked, cache.Unchecked)
    is_right = unchecked.is_right()
    content.settle(unchecked, is_right)
    assert is_right is not is_damaged
    assert content.read(chunk, len(data) - 3, len(data), len(data)) == (None if is_damaged else b"end")
    assert path_of(tmp_path, chunk).exists() is not is_damaged


@pytest.mark.logs_trouble
@pytest.mark.parametrize("how", ["written", "read"])
def test_a_chunk_is_believed_at_its_own_size_only(content: CachedContent, tmp_path: Path, how: str) -> None:
    """A version that says the chunk is shorter than it is shows no part of it, however it was found right before."""
    chunk = put(tmp_path, b"0123456789")
    if how == "written":
        content.trust({chunk: FileKey.of(path_of(tmp_path, chunk).stat())})
    else:
        assert content.read(chunk, 0, 10, 10) == b"0123456789"
    assert content.read(chunk, 0, 5, 5) is None
