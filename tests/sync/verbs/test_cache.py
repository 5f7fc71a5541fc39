import pytest
from enginekit import Machine, call, until

from sync.core.manifest import ChunkId


@pytest.fixture
def yoga(tmp_path):
    machine = Machine(tmp_path, "yoga")
    machine.file("d/a", b"a" * 5000)
    machine.file("d/b", b"b" * 100)
    machine.run(lambda engine: call(engine, "push", paths=[str(machine.root / "d")]))
    yield machine
    machine.close()


def test_what_is_there_is_told(yoga):
    async def scenario(engine):
        data = await call(engine, "cache")
        assert (data["used"], data["chunks"], data["whole"], data["evictions"], data["damaged"]) == (0, 0, 0, 0, 0)
        assert "files" not in data and data["quota"] > 0
        await call(engine, "pin", paths=["d/a"])
        await until(lambda: engine.cache.usage().chunks == 1)
        data = await call(engine, "cache", path="")
        assert data["files"] == [{"path": "d/a", "size": 5000, "local": 5000, "pinned": True}]
        assert (data["used"], data["pinned"]["files"], data["pinned"]["bytes"]) == (8192, 1, 5000)
        await call(engine, "hydrate", paths=["d"])
        data = await call(engine, "cache", path="d")
        assert [(one["path"], one["pinned"]) for one in data["files"]] == [("d/a", True), ("d/b", False)]
        chunk = next(file for file in engine.paths.cache_dir.rglob("*") if file.is_file())
        chunk.write_bytes(b"x" * chunk.stat().st_size)
        assert engine.cache.get(ChunkId(bytes.fromhex(chunk.name))) is None
        assert (await call(engine, "cache"))["damaged"] == 1

    yoga.run(scenario)
