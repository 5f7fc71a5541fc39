import asyncio
import tomllib

import msgspec
import pytest
from enginekit import Machine, MountEnd, call, until

from sync.core.errors import BadConfig, BadInput, NotFound
from sync.ipc import frames
from sync.machines.doctor import examine
from sync.state.settings import Settings


@pytest.fixture
def yoga(tmp_path):
    machine = Machine(tmp_path, "yoga")
    for name in ("d/a.txt", "d/b.txt", "d/sub/c.txt", "e/x.md", "e/.hidden"):
        machine.file(name, name.encode() * 100)
    machine.run(lambda engine: call(engine, "push", paths=[str(machine.root / "d"), str(machine.root / "e")]))
    yield machine
    machine.close()


def words(machine):
    return tomllib.loads(machine.paths.policies_toml.read_text())["policies"]


def local(engine, path):
    view = engine.context.db.view
    version = view.identity(view.resolve_path(path).version)
    return all(engine.cache.has(chunk) for chunk in view.chunk_list(version)[0])


def test_what_is_pinned_comes_by_itself_and_stays_pinned(yoga):
    async def pin(engine):
        data = await call(engine, "pin", paths=["d"])
        assert (data["paths"], data["pins"]["files"], data["pins"]["lacking_files"]) == (["d"], 3, 3)
        await until(lambda: local(engine, "d/sub/c.txt") and local(engine, "d/a.txt"))
        assert (await call(engine, "engine"))["pins"]["files"] == 3

    yoga.run(pin)
    assert words(yoga) == {"d": "always"}

    async def later(engine):
        yoga.file("d/new.txt", b"new")
        await call(engine, "push", paths=[str(yoga.root / "d")])
        assert {"d/new.txt"} <= set((await call(engine, "policy", path="d/new.txt"))["policies"][0]["path"].split())
        data = await call(engine, "dehydrate", paths=["d"])
        assert data["files"] == 0
        assert [(one["path"], one["code"]) for one in data["refused"]] == [("d", "not-yet")]
        assert local(engine, "d/a.txt")

    yoga.run(later)


def test_a_lost_fleet_db_loses_no_pin(yoga):
    yoga.run(lambda engine: call(engine, "pin", paths=["d/sub"]))
    yoga.paths.fleet_db.unlink()

    async def scenario(engine):
        await until(lambda: engine.context.db.view.resolve_path("d/sub/c.txt"))
        await until(lambda: local(engine, "d/sub/c.txt"))

    yoga.run(scenario)


def test_globs_and_what_lies_below(yoga):
    async def scenario(engine):
        assert (await call(engine, "pin", paths=["*/*.txt"]))["paths"] == ["d/a.txt", "d/b.txt"]
        assert (await call(engine, "pin", paths=["default:**/*.md", "d"]))["paths"] == ["e/x.md", "d"]
        assert words(yoga) == {"d": "always", "e/x.md": "always"}
        assert (await call(engine, "unpin", paths=["e"]))["paths"] == ["e"]
        assert (await call(engine, "unpin", paths=["d/a.txt"]))["pins"]["files"] == 2
        assert words(yoga) == {"d": "always", "d/a.txt": "on-read"}
        with pytest.raises(NotFound, match="nothing in the fleet matches"):
            await call(engine, "pin", paths=["*.none"])
        with pytest.raises(NotFound):
            await call(engine, "pin", paths=["d/*.txt"], literal=True)
        assert (await call(engine, "pin", paths=["e/*"]))["paths"] == ["e/x.md"]
        assert (await call(engine, "hydrate", paths=["d/*.txt"]))["files"] == 2
        assert (await call(engine, "dehydrate", paths=["d/a.*"]))["files"] == 1

    yoga.run(scenario)


def test_a_file_with_the_name_of_a_glob_is_meant_itself(yoga):
    yoga.file("g/[ab].txt", b"literal")
    yoga.file("g/a.txt", b"a")

    async def scenario(engine):
        await call(engine, "push", paths=[str(yoga.root / "g")])
        assert (await call(engine, "pin", paths=["g/[ab].txt"]))["paths"] == ["g/[ab].txt"]

    yoga.run(scenario)


@pytest.fixture
def brackets(yoga):
    """A mount point is set, and the fleet has two folders: the name of the one is a pattern that matches the other."""
    config = yoga.paths.load()
    yoga.paths.save(msgspec.structs.replace(config, mountpoint="/mnt/fleet"))
    yoga.file("gl/[br]/x1", b"in brackets")
    yoga.file("gl/b/x1", b"not")
    yoga.run(lambda engine: call(engine, "push", paths=[str(yoga.root / "gl")]))
    return "/mnt/fleet/gl/[br]"


def test_the_name_of_the_working_directory_is_no_pattern(yoga, brackets):
    async def scenario(engine):
        for text in ("x*", "../[[]br]/x*", "../*]/x*"):
            assert (await call(engine, "pin", paths=[text], cwd=brackets))["paths"] == ["gl/[br]/x1"]
            assert (await call(engine, "unpin", paths=[text], cwd=brackets))["paths"] == ["gl/[br]/x1"]
        for verb in ("hydrate", "dehydrate"):
            assert (await call(engine, verb, paths=["x*"], cwd=brackets))["bytes"] == len("in brackets")
        copied = await call(engine, "cp", sources=["x*"], target="/mnt/fleet/e/y", cwd=brackets)
        assert (copied["targets"], copied["bytes"]) == (["e/y"], len("in brackets"))

    yoga.run(scenario)


def test_words_are_set_told_and_taken_away(yoga):
    async def scenario(engine):
        said = await call(engine, "policy", path="d/sub/c.txt")
        assert said["policies"] == [{"path": "d/sub/c.txt", "policy": "on-read", "source": None}]
        await call(engine, "policy", path="/", word="never")
        await call(engine, "policy", path="d/sub", word="on-open")
        said = await call(engine, "policy", path="d/sub/c.txt")
        assert said["policies"] == [{"path": "d/sub/c.txt", "policy": "on-open", "source": "d/sub"}]
        said = await call(engine, "policy")
        assert [(one["path"], one["policy"]) for one in said["policies"]] == [("", "never"), ("d/sub", "on-open")]
        await call(engine, "policy", path="/", word="inherit")
        assert words(yoga) == {"d/sub": "on-open"}
        with pytest.raises(BadInput, match="no such policy"):
            await call(engine, "policy", path="d", word="sometimes")
        with pytest.raises(NotFound):
            await call(engine, "policy", path="nothing", word="never")

    yoga.run(scenario)


def test_a_word_of_a_path_that_is_gone_can_be_taken_away(yoga):
    yoga.paths.policies_toml.write_text('[policies]\n"gone" = "always"\n')

    async def scenario(engine):
        await call(engine, "unpin", paths=["gone"])
        assert words(yoga) == {}

    yoga.run(scenario)


def test_the_mount_knows_before_the_verb_returns(yoga):
    async def scenario(engine):
        mount = MountEnd()
        await mount.connect(engine)
        await call(engine, "policy", path="d", word="never")
        assert [one for one in mount.told if isinstance(one, frames.PolicyMoved)]
        await mount.close()

    yoga.run(scenario)


def test_dehydrate_with_unpin(yoga):
    async def scenario(engine):
        await call(engine, "pin", paths=["d/sub", "e"])
        await until(lambda: local(engine, "d/sub/c.txt") and local(engine, "e/x.md"))
        data = await call(engine, "dehydrate", paths=["d"], unpin=True)
        assert (data["refused"], local(engine, "d/sub/c.txt"), local(engine, "e/x.md")) == ([], False, True)
        assert words(yoga) == {"e": "always"}

    yoga.run(scenario)


def test_dehydrate_leaves_what_a_pinned_file_shares(yoga):
    yoga.file("d/twin", b"e/x.md" * 100)

    async def scenario(engine):
        await call(engine, "push", paths=[str(yoga.root / "d")])
        await call(engine, "pin", paths=["e"])
        await call(engine, "hydrate", paths=["/"])
        data = await call(engine, "dehydrate", paths=["d"])
        assert (data["files"], local(engine, "e/x.md"), local(engine, "d/a.txt")) == (
            3,
            True,
            False,
        )  # the twin keeps all

    yoga.run(scenario)


def test_policies_that_cannot_be_read_free_nothing(yoga):
    async def scenario(engine):
        await call(engine, "hydrate", paths=["d"])
        yoga.paths.policies_toml.write_text("broken")
        for verb in ("dehydrate", "pin", "unpin"):
            with pytest.raises(BadConfig):
                await call(engine, verb, paths=["d"])
        assert local(engine, "d/a.txt")

    yoga.run(scenario)


def test_refusals_of_the_mount_are_kept_for_doctor(yoga):
    async def scenario(engine):
        mount = MountEnd()
        await mount.connect(engine)
        mount.send(frames.Refused("tumblerd", "no_hydrate", 1, "d/a.txt", 5))
        mount.send(frames.Refused("tumblerd", "no_hydrate", 3, "d/b.txt", 7))
        mount.send(frames.Refused("cat", "never", 1, "e", 6))
        await until(lambda: len(engine.refusals()) == 2)
        said = (await call(engine, "engine"))["refusals"]
        assert [(one["program"], one["count"], one["at"]) for one in said] == [("tumblerd", 3, 7), ("cat", 1, 6)]
        await mount.close()

    yoga.run(scenario)


def test_a_folder_that_the_mount_names_is_brought(yoga):
    async def scenario(engine):
        mount = MountEnd()
        await mount.connect(engine)
        mount.send(frames.FetchFolder(engine.context.db.view.resolve_path("d").id))
        await until(lambda: local(engine, "d/a.txt") and local(engine, "d/b.txt"))
        await mount.close()

    yoga.run(scenario)


def test_two_at_once_lose_neither(yoga):
    async def scenario(engine):
        await asyncio.gather(
            call(engine, "pin", paths=["d/sub"]),
            call(engine, "policy", path="d/b.txt", word="never"),
            call(engine, "pin", paths=["e"]),
            call(engine, "pin", paths=["d/a.txt"]),
        )
        assert words(yoga) == {"d/a.txt": "always", "d/b.txt": "never", "d/sub": "always", "e": "always"}
        await asyncio.gather(
            call(engine, "unpin", paths=["d/sub"]),
            call(engine, "dehydrate", paths=["e"], unpin=True),
            call(engine, "unpin", paths=["d/a.txt"]),
        )
        assert words(yoga) == {"d/b.txt": "never"}

    yoga.run(scenario)


def test_doctor_tells_of_pins_that_do_not_fit_and_of_who_was_refused(yoga):
    async def findings():
        found = await examine(yoga.env, yoga.home, Settings.load(yoga.home, {}))
        return {item.subject: item for item in found}

    async def scenario(engine):
        assert "pins" not in await findings()
        mount = MountEnd()
        await mount.connect(engine)
        mount.send(frames.Refused("tumblerd", "no_hydrate", 3, "d/b.txt", 1_700_000_000))
        await until(engine.refusals)
        said = (await findings())["refused"]
        assert said.is_ok and "tumblerd" in said.message and "3 times" in said.message and "d/b.txt" in said.message
        assert "2023-11-1" in said.message
        await call(engine, "pin", paths=["d"])
        said = (await findings())["pins"]
        assert not said.is_ok and "the cache may take" in said.message and "unpin" in said.remedy
        await mount.close()

    yoga.file("d/large", bytes(9000))
    yoga.run(lambda engine: call(engine, "push", paths=[str(yoga.root / "d")]))
    yoga.run(scenario, cache_quota="8192")
