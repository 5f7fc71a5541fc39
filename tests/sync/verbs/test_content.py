import shutil

import pytest
from enginekit import Machine, MountEnd, Tree, call, until

from sync.core.errors import BadInput, NoSpace, NotFound
from sync.ipc import frames
from sync.verbs import find_verb


@pytest.fixture
def yoga(tmp_path):
    machine = Machine(tmp_path, "yoga")
    machine.file("d/a", b"a" * 1000)
    machine.file("d/sub/b", b"b" * 2000)
    machine.run(lambda engine: call(engine, "push", paths=[str(machine.root / "d")]))
    yield machine
    machine.close()


def local(engine, path):
    """The cache files of a file's chunks that are there."""
    view = engine.context.db.view
    version = view.identity(view.resolve_path(path).version)
    return [chunk for chunk in view.chunk_list(version)[0] if engine.cache.has(chunk)]


def test_a_push_in_the_mount_puts_again_what_the_store_has_lost(yoga, tmp_path):
    """From the cache; what is not there either is named."""
    from msgspec.structs import replace

    yoga.paths.save(replace(yoga.paths.load(), mountpoint="/mnt"))

    async def scenario(engine):
        mount = MountEnd()
        await mount.connect(engine)
        await call(engine, "hydrate", paths=["d"])
        await call(engine, "dehydrate", paths=["d/sub"])
        for pack in (tmp_path / "store" / "packs").rglob("*"):
            if pack.is_file():
                pack.unlink()
        assert (await call(engine, "push", paths=["/mnt/d"]))["restored"] == 0  # not known yet
        data = await call(engine, "push", paths=["/mnt/d"], force=True)
        assert (data["restored"], data["error"]["code"]) == (1, "integrity")
        assert [failure["path"] for failure in data["failures"]] == ["d/sub/b"]
        data = await call(engine, "push", paths=["/mnt/d/a"])
        assert (data["restored"], data["failures"]) == (0, [])
        await mount.close()
        shutil.rmtree(engine.paths.cache_dir)
        await call(engine, "hydrate", paths=["d/a"])
        assert local(engine, "d/a")

    yoga.run(scenario)


def test_a_folder_is_hydrated_and_dehydrated(yoga):
    async def scenario(engine):
        assert not local(engine, "d/a")
        mount = MountEnd()
        await mount.connect(engine)
        assert await call(engine, "hydrate", paths=["d"]) == {"files": 2, "bytes": 3000, "failures": []}
        assert local(engine, "d/a") and local(engine, "d/sub/b")
        values = {path: engine.context.db.view.resolve_path(path).value for path in ("d/a", "d/sub/b")}
        moved = await until(lambda: [one for one in mount.told if isinstance(one, frames.ContentMoved)])
        assert {value for one in moved for value in one.values} == set(values.values())
        assert not any(one.dropped for one in moved)
        assert await call(engine, "dehydrate", paths=["default:d/sub"]) == {
            "files": 1,
            "bytes": 2000,
            "unchanged": 0,
            "refused": [],
        }
        assert local(engine, "d/a") and not local(engine, "d/sub/b")
        dropped = await until(
            lambda: [one for one in mount.told if isinstance(one, frames.ContentMoved) and one.dropped]
        )
        assert dropped[0].values == [values["d/sub/b"]]
        await mount.close()

    yoga.run(scenario)


def test_what_is_not_in_the_store_is_not_dehydrated(yoga, tmp_path):
    async def scenario(engine):
        await call(engine, "hydrate", paths=["d"])
        shutil.rmtree(tmp_path / "store" / "packs")
        data = await call(engine, "dehydrate", paths=["d"])
        assert (data["files"], data["error"]["code"]) == (0, "not-yet")
        assert {"d/a", "d/sub/b"} == {refused["path"] for refused in data["refused"]}
        assert local(engine, "d/a") and local(engine, "d/sub/b")

    yoga.run(scenario)


def test_with_the_store_away_nothing_is_dehydrated(yoga, tmp_path):
    async def scenario(engine):
        await call(engine, "hydrate", paths=["d"])
        (tmp_path / "store").rename(tmp_path / "away")
        data = await call(engine, "dehydrate", paths=["d"])
        (tmp_path / "away").rename(tmp_path / "store")
        assert (data["files"], data["error"]["code"]) == (0, "not-yet")
        assert data["refused"][0]["path"] == "d/a"
        assert local(engine, "d/a") and local(engine, "d/sub/b")

    yoga.run(scenario)


def test_a_pack_that_was_cut_short_is_not_the_store_holding_it(yoga, tmp_path):
    async def scenario(engine):
        await call(engine, "hydrate", paths=["d/a"])
        for pack in (tmp_path / "store" / "packs").rglob("*"):
            if pack.is_file():
                pack.write_bytes(pack.read_bytes()[:-1])
        assert (await call(engine, "dehydrate", paths=["d/a"]))["error"]["code"] == "not-yet"
        assert local(engine, "d/a")

    yoga.run(scenario)


def test_what_is_dirty_is_not_dehydrated(yoga):
    tree = Tree(yoga)
    tree.dirty("new")

    async def scenario(engine):
        await call(engine, "hydrate", paths=["d"])
        data = await call(engine, "dehydrate", paths=["/"])
        assert (data["files"], data["error"]["path"]) == (2, "new")

    yoga.run(scenario)
    tree.close()


def test_what_is_not_here_is_not_counted_as_dehydrated(yoga, tmp_path):
    yoga.file("d/twin", b"a" * 1000)

    async def scenario(engine):
        await call(engine, "push", paths=[str(yoga.root / "d")])
        await call(engine, "hydrate", paths=["d/a", "d/twin"])  # which have one chunk, and both lose it
        await call(engine, "dehydrate", paths=["d/sub"])  # a neighbour came along
        data = await call(engine, "dehydrate", paths=["d"])
        assert (data["files"], data["bytes"], data["unchanged"]) == (2, 1000, 1)
        (tmp_path / "store").rename(tmp_path / "away")
        data = await call(engine, "dehydrate", paths=["d"])
        (tmp_path / "away").rename(tmp_path / "store")
        assert (data["files"], data["unchanged"], data["refused"]) == (0, 3, [])

    yoga.run(scenario)


def test_a_cache_that_is_too_small_is_said(yoga):
    async def scenario(engine):
        with pytest.raises(NoSpace, match="the cache is full"):
            await call(engine, "hydrate", paths=["d"])

    yoga.run(scenario, cache_quota="1")


def test_damage_is_named_and_the_rest_is_hydrated(yoga, tmp_path):
    large = 300 << 10  # no file of this size comes along with its neighbour
    folder = yoga.root / "big"
    yoga.file("big/a", bytes(range(256)) * (large // 256))
    yoga.file("big/b", bytes(range(255, -1, -1)) * (large // 256))

    async def scenario(engine):
        await call(engine, "push", paths=[str(folder)])
        await call(engine, "hydrate", paths=["big/a"])
        shutil.rmtree(tmp_path / "store" / "packs")
        data = await call(engine, "hydrate", paths=["big"])
        assert data["files"] == 1
        assert [("big/b", "object-missing")] == [(one["path"], one["code"]) for one in data["failures"]]
        assert data["error"] == data["failures"][0]

    yoga.run(scenario)


def test_what_is_not_there_is_not_found(yoga):
    async def scenario(engine):
        with pytest.raises(NotFound):
            await call(engine, "hydrate", paths=["nothing"])

    yoga.run(scenario)


def test_unknown_verbs_and_arguments_are_refused(yoga):
    with pytest.raises(BadInput):
        find_verb("nonsense")

    async def scenario(engine):
        with pytest.raises(BadInput, match="bad arguments"):
            await engine.call("hydrate", {"paths": 3, "cwd": "/"}, lambda data: None)
        with pytest.raises(BadInput, match="bad arguments"):
            await call(engine, "hydrate", paths=[], colour="red")

    yoga.run(scenario)
