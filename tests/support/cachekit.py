"""A cache whose quota is counted in pages, and what to fill it with."""

from pathlib import Path

from sync.cas.cache import ChunkCache
from sync.core.codec import chunk_id
from sync.core.keys import Keys
from sync.core.manifest import ChunkId
from sync.env import FakeEnv

KEYS = Keys.from_root(bytes(32))
PAGE = 4096


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
