"""Reading of versions: what is kept in memory of them."""

from pathlib import Path

import pytest

from fs.hydrate import reader
from fs.hydrate.cache import CachedContent
from fs.hydrate.reader import VersionReader
from sync.core.manifest import ChunkId, VersionId
from sync.state.rows import Content


class Versions:
    """Each version has as many chunks of one byte as its name says; counts how often a list is made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def content(self, identity: str) -> Content:
        return Content(content_id="00" * 32, chunk_pages=["00" * 32])

    def content_of(self, number: int) -> Content:
        return self.content(str(number))

    def chunk_list(self, identity: str) -> tuple[list[ChunkId], list[int]]:
        self.made.append(identity)
        return [ChunkId(bytes(32))] * int(identity), [1] * int(identity)

    def identity(self, number: int) -> VersionId:
        return VersionId(str(number))


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Versions:
    monkeypatch.setattr(reader, "MAPS_KEPT", 100)
    return Versions()


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        (["30", "31", "30", "31"], ["30", "31"]),
        (["30", "31", "32", "33", "33", "32", "30"], ["30", "31", "32", "33", "30"]),  # no room for four
        (["500", "500", "30", "500"], ["500", "30", "500"]),  # larger than all that is kept: alone, not never
    ],
)
def test_chunk_lists_are_kept_by_their_length(versions: Versions, tmp_path: Path, asked: list[str], made: list[str]):
    read = VersionReader(versions, CachedContent(tmp_path, bytes))
    for version in asked:
        chunks = read.chunks(version)
        assert chunks is not None
        assert int(version) == len(chunks)
    assert made == versions.made
