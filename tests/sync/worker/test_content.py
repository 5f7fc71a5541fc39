"""Contents: layers over bases equal the whole file read from byte 0; long chunk lists; files that change while read."""

import asyncio
import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workerkit import KEYS, Fleet, Mount, run

from sync.core.chunking import ChunkParams
from sync.core.errors import Integrity, NotFound, NotYet
from sync.core.manifest import ChunkId
from sync.core.ranges import RangeSet
from sync.env import FakeEnv
from sync.worker import content as content_module
from sync.worker.change import Content, LayerSource
from sync.worker.content import FileIngest, Ingested
from sync.worker.layers import LayerIngest

PARAMS = ChunkParams(seed=7, min_size=64, avg_size=256, max_size=1024)
BASE = "00000001-0000-4000-8000-000000000000:1:00000000"


class Chunks:
    """A sink and a base at once: what was added can be read again."""

    def __init__(self) -> None:
        self.data: dict[ChunkId, bytes] = {}
        self.lists: dict[str, Content] = {}
        self.read: list[int] = []
        self.kept: set[ChunkId] = set()

    async def add(self, chunks: Sequence[tuple[ChunkId, bytes]]) -> None:
        self.data.update(chunks)

    async def chunk_list(self, version: str) -> tuple[list[ChunkId], list[int]]:
        content = self.lists[version]
        return [ChunkId(bytes.fromhex(chunk)) for chunk in content.chunks], content.chunk_sizes

    async def base_bytes(self, version: str, indexes: Sequence[int]) -> dict[int, bytes]:
        self.read += indexes
        ids, _ = await self.chunk_list(version)
        return {index: self.data[ids[index]] for index in indexes}

    async def keep(self, chunks: Sequence[tuple[ChunkId, bytes]]) -> None:
        self.kept.update(chunk for chunk, _ in chunks)

    async def keep_base(self, version: str, indexes: RangeSet, newer: str) -> None:
        ids, _ = await self.chunk_list(version)
        self.kept.update(ids[index] for start, end in indexes for index in range(start, end))

    def bytes_of(self, content: Content) -> bytes:
        return b"".join(self.data[ChunkId(bytes.fromhex(chunk))] for chunk in content.chunks)


async def whole(path: Path, data: bytes, sink: Chunks, params: ChunkParams = PARAMS) -> Content:
    path.write_bytes(data)
    (found,) = await FileIngest(FakeEnv(), KEYS, params).files([str(path)], sink)
    assert isinstance(found, Ingested)
    return found.content


edits = st.lists(st.tuples(st.integers(0, 6000), st.binary(min_size=1, max_size=700)), max_size=4)


@given(
    seed=st.integers(0, 5),
    old_size=st.integers(0, 6000),
    new_size=st.integers(0, 6500),
    limit=st.integers(0, 6500),
    changes=edits,
)
def test_a_layer_over_a_base_is_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    old_size: int,
    new_size: int,
    limit: int,
    changes: list[tuple[int, bytes]],
) -> None:
    import random

    folder = tmp_path_factory.getbasetemp()
    old = random.Random(seed).randbytes(old_size)
    new = bytearray(old[: min(limit, new_size)].ljust(new_size, b"\0"))
    spans = RangeSet()
    layer = folder / "layer"
    with layer.open("wb") as file:
        for start, data in changes:
            piece = data[: max(0, new_size - start)]
            if piece:
                file.seek(start)
                file.write(piece)
                spans.add(start, start + len(piece))
                new[start : start + len(piece)] = piece

    async def go() -> None:
        chunks = Chunks()
        chunks.lists[BASE] = await whole(folder / "old", old, chunks)
        expected = await whole(folder / "new", bytes(new), chunks)
        source = LayerSource(BASE, str(layer), spans, min(limit, new_size), new_size)  # type: ignore[arg-type]
        (found,) = await LayerIngest(FakeEnv(), KEYS, PARAMS, chunks).layers([source], chunks)
        assert found.content_id == expected.content_id
        assert found.chunks == expected.chunks
        assert found.file_hash in ("", expected.file_hash)
        assert chunks.bytes_of(found) == bytes(new)
        is_complete = spans.covers(0, new_size)
        assert chunks.kept == (set() if is_complete else {bytes.fromhex(chunk) for chunk in found.chunks})

    asyncio.run(go())


def test_a_small_layer_with_holes_is_kept(tmp_path: Path) -> None:
    async def go() -> None:
        sink = Chunks()
        (tmp_path / "whole").write_bytes(b"12345")
        (tmp_path / "holes").write_bytes(b"12")
        sources = [
            LayerSource(None, str(tmp_path / "whole"), RangeSet([(0, 5)]), 0, 5),
            LayerSource(None, str(tmp_path / "holes"), RangeSet([(0, 2)]), 0, 5),
        ]
        _, holes = await LayerIngest(FakeEnv(), KEYS, PARAMS, sink).layers(sources, sink)
        assert sink.kept == {bytes.fromhex(chunk) for chunk in holes.chunks}

    asyncio.run(go())


def test_small_layers_go_to_the_sink_together(tmp_path: Path) -> None:
    """What is known already is asked for once a group, not once a file."""

    class Counting(Chunks):
        calls = 0

        async def add(self, chunks: Sequence[tuple[ChunkId, bytes]]) -> None:
            self.calls += 1
            await super().add(chunks)

    async def go() -> None:
        sink = Counting()
        sources, expected = [], []
        for n in range(60):
            data = b"" if n == 7 else random.Random(n).randbytes(n)
            path = tmp_path / str(n)
            expected.append(await whole(path, data, Chunks()))
            sources.append(LayerSource(None, str(path), RangeSet([(0, n)] if data else []), 0, len(data)))
        assert await LayerIngest(FakeEnv(), KEYS, PARAMS, sink).layers(sources, sink) == expected
        assert all(sink.bytes_of(content) == (tmp_path / str(n)).read_bytes() for n, content in enumerate(expected))
        assert sink.calls == 1

    asyncio.run(go())


def test_a_small_layer_that_is_cut_short_is_told(tmp_path: Path) -> None:
    async def go() -> None:
        (tmp_path / "layer").write_bytes(b"12345")
        source = LayerSource(None, str(tmp_path / "layer"), RangeSet([(0, 6)]), 0, 6)
        with pytest.raises(Integrity, match="ends at 5, not at 6"):
            await LayerIngest(FakeEnv(), KEYS, PARAMS, Chunks()).layers([source], Chunks())

    asyncio.run(go())


def test_one_byte_reads_little_of_the_base(tmp_path: Path) -> None:
    async def go() -> None:
        chunks = Chunks()
        chunks.lists[BASE] = await whole(tmp_path / "old", random.Random(1).randbytes(100_000), chunks)
        layer = tmp_path / "layer"
        with layer.open("wb") as file:
            file.seek(50_000)
            file.write(b"x")
        source = LayerSource(BASE, str(layer), RangeSet([(50_000, 50_001)]), 100_000, 100_000)  # type: ignore[arg-type]
        before = len(chunks.data)
        await LayerIngest(FakeEnv(), KEYS, PARAMS, chunks).layers([source], chunks)
        assert len(chunks.read) <= 8
        assert len(chunks.data) - before <= 4

    asyncio.run(go())


def test_a_long_list_of_chunks_has_pages(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages travel as chunks: who reads the file fetches them once, and a change reuses what they list."""
    monkeypatch.setattr(content_module, "CHUNKS_INLINE_MAX", 8)
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    data = os.urandom(300_000)
    yoga.write("f", data)

    async def go() -> None:
        await yoga.push("f")
        manifest = yoga.db.heads("f")[0].manifest
        assert manifest.chunks == [] and len(manifest.chunk_pages) > 3
        assert (await bates.pull("f", "f")).error() is None
        assert (bates.home / "f").read_bytes() == data
        assert bates.db.view.missing_pages(bates.db.heads("f")[0].id) == []
        bates.write("f", data[:1000] + b"!" + data[1001:])
        report = await bates.push("f")
        assert report.error() is None
        assert (await yoga.pull("f", "f")).error() is None

    run(go(), fleet.clock)
    assert (yoga.home / "f").read_bytes() == (bates.home / "f").read_bytes()


def test_the_pages_of_a_hole_are_one(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_module, "CHUNKS_INLINE_MAX", 8)
    yoga, bates = fleet.machine("yoga"), fleet.machine("bates")
    mount = Mount(yoga)
    size = 100 * fleet.params.max_size + 5

    async def go() -> None:
        with mount.round():
            layer = mount.layer([(size - 3, b"end")])
            mount.seal("put", "f", kind=1, mode=0o644, size=size, mtime_ns=1, ctime_ns=1, layer=layer, limit_below=0)
        await yoga.sealer.run_once()
        manifest = yoga.db.heads("f")[0].manifest
        assert len(manifest.chunk_pages) == 13
        assert len(set(manifest.chunk_pages)) == 2
        await bates.learner.poll(thorough=True)
        assert len(bates.db.view.missing_pages(bates.db.heads("f")[0].id)) == 2
        assert await bates.content("f") == bytes(size - 3) + b"end"
        expected = await whole(yoga.home / "f", bytes(size - 3) + b"end", Chunks(), fleet.params)
        assert manifest.content_id == expected.content_id

    run(go(), fleet.clock)
    mount.close()


def test_a_run_of_chunks_is_added_like_so_many_chunks() -> None:
    one, two = content_module.ContentBuilder(KEYS), content_module.ContentBuilder(KEYS)
    for count, name in ((3, b"a"), (20_000, b"b"), (1, b"c"), (70_000, b"b")):
        chunk = ChunkId(name * 32)
        one.add_run(chunk, 7, count)
        for _ in range(count):
            two.add(chunk, 7)
    assert one.finish("") == two.finish("")


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_file_that_is_written_to_all_the_time(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "busy"
    file.write_bytes(b"x" * size)
    opened = content_module.open_file

    def busy(path: str) -> int:
        descriptor = opened(path)
        with Path(path).open("ab") as out:  # grows between the first look and the reading
            out.write(b"y")
        return descriptor

    real_fstat = os.fstat
    counter = iter(range(1000))

    def fstat(descriptor: int) -> os.stat_result:
        found = list(real_fstat(descriptor))
        found[7] = next(counter)
        return os.stat_result((*found, 0.0, 0.0, 0.0, next(counter), next(counter), 0))

    monkeypatch.setattr(content_module, "open_file", busy)
    monkeypatch.setattr(content_module.os, "fstat", fstat)

    async def go() -> None:
        (found,) = await FileIngest(FakeEnv(), KEYS, PARAMS).files([str(file)], Chunks())
        assert isinstance(found, NotYet)
        assert found.path == str(file)

    asyncio.run(go())


def test_files_that_cannot_be_read_are_errors_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "link").symlink_to("a")

    async def go() -> None:
        paths = [str(tmp_path / name) for name in ("a", "missing", "link")]
        found = await FileIngest(FakeEnv(), KEYS, PARAMS).files(paths, Chunks())
        assert isinstance(found[0], Ingested)
        assert isinstance(found[1], NotFound)
        assert isinstance(found[2], OSError)

    asyncio.run(go())
