"""A Volume over a real tree, with an engine that hands out what a fleet of machines in memory holds."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from blake3 import blake3
from treekit import Fleet, Machine

from fs.hydrate.cache import CachedContent
from fs.hydrate.reader import VersionReader
from fs.ops.volume import Volume
from fs.tree.kernel import Invalidations


class FakeKernel:
    def invalidate_inode(self, inode: int, attr_only: bool = False) -> None: ...

    def invalidate_entry(self, inode_p: int, name: bytes, deleted: int = 0) -> None: ...


class FakeClient:
    """Answers fetches from the fleet's contents: into the cache folder, or inline. `before` runs while one waits."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.fetched: list[tuple[str, list[int]]] = []
        self.ahead: list[tuple[str, list[int]]] = []
        self.inline = False
        self.lose = False
        self.before: Callable[[], None] = lambda: None

    async def fetch(self, version: str, indexes: Sequence[int], priority: int = 0) -> dict[int, bytes]:
        self.before()
        self.fetched.append((version, list(indexes)))
        manifest = self._machine.tree.state.view.manifest(version)
        found: dict[int, bytes] = {}
        for index in indexes:
            data = self._machine.fleet.contents[manifest.chunks[index]]
            if self.inline:
                found[index] = data
            elif not self.lose:
                self.cache(manifest.chunks[index], data)
        return found

    def prefetch(self, version: str, indexes: Sequence[int]) -> None:
        self.ahead.append((version, list(indexes)))

    def cache(self, chunk: str, data: bytes) -> None:
        path = self._machine.paths.cache_dir / "chunks" / chunk[:2] / chunk
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as made:
        yield made


@pytest.fixture
def yoga(fleet: Fleet) -> Machine:
    return fleet.machine("yoga")


@pytest.fixture
def bates(fleet: Fleet) -> Machine:
    return fleet.machine("bates")


@pytest.fixture
def client(yoga: Machine) -> FakeClient:
    return FakeClient(yoga)


@pytest.fixture
def volume(yoga: Machine, client: FakeClient) -> Iterator[Volume]:
    cached = CachedContent(yoga.paths.cache_dir, lambda data: blake3(data).digest())
    reader = VersionReader(yoga.tree.state.view, cached)
    made = Volume(yoga.env, yoga.tree, reader, client, Invalidations(FakeKernel(), yoga.tree.is_known), "epoch")  # type: ignore[arg-type]
    yield made
    for handle in list(made.handles):
        made.handles.pop(handle).file.release()
    cached.drop_descriptors()
