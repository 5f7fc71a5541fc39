import asyncio

import pytest
from enginekit import Machine, MountEnd, Tree, call, until

from sync.core.errors import NotYet, TcfsError, TimedOut, Unavailable
from sync.ipc import frames
from sync.machines import fuse
from sync.machines.keeper import MountState
from sync.state.lock import FileLock


@pytest.fixture
def yoga(tmp_path):
    machine = Machine(tmp_path, "yoga")
    yield machine
    machine.close()


class FakeKeeper:
    def __init__(self):
        self.wanted = ""
        self.trouble = ""
        self.log = []

    def want(self, mountpoint):
        self.wanted = mountpoint
        self.log.append(mountpoint)

    def state(self):
        return MountState(self.wanted, False, self.trouble)


@pytest.fixture
def mounts(monkeypatch):
    """The mount points that the kernel has, as far as this test is concerned."""
    there = set()
    monkeypatch.setattr(fuse, "is_mounted", there.__contains__)
    monkeypatch.setattr(fuse, "unmount", lambda place, lazy=False: there.discard(place))
    monkeypatch.setattr(fuse, "why_no_fuse", lambda: "")
    return there


def test_an_engine_says_what_it_is_and_what_it_has_moved(yoga):
    async def scenario(engine):
        path = yoga.file("f", b"x" * 5000)
        await call(engine, "push", paths=[path])
        before = (await call(engine, "engine"))["store"]
        assert before["packs"]["puts"] == 1
        assert before["packs"]["bytes_read"] == 0
        await call(engine, "hydrate", paths=["f"])
        said = await call(engine, "engine")
        assert said["store"]["packs"]["bytes_read"] > 0
        assert (said["is_daemon"], said["problems"], said["store_trouble"]) == (False, [], "")
        assert said["mount"]["is_connected"] is False

    yoga.run(scenario)


def test_mount_keeps_it_mounted_and_returns_when_it_answers(yoga, mounts):
    async def scenario(engine):
        engine.keeper = FakeKeeper()
        mounting = asyncio.ensure_future(call(engine, "mount", mountpoint="/mnt"))
        await until(lambda: engine.keeper.wanted == "/mnt")
        mount = MountEnd()
        await mount.connect(engine)
        assert not mounting.done()
        mounts.add("/mnt")
        assert await mounting == {"mountpoint": "/mnt"}
        assert yoga.paths.load().mountpoint == "/mnt"
        with pytest.raises(NotYet, match="mounted at /mnt"):
            await call(engine, "mount", mountpoint="/elsewhere")
        await mount.close()

    yoga.run(scenario)


def test_no_kernel_cache_lasts_until_it_is_unmounted(yoga, mounts):
    async def mounted(engine, **how):
        mounting = asyncio.ensure_future(call(engine, "mount", mountpoint="/mnt", **how))
        await until(lambda: engine.keeper.wanted == "/mnt")
        mount = MountEnd()
        await mount.connect(engine)
        mounts.add("/mnt")
        await mounting
        return mount

    async def scenario(engine):
        engine.keeper = FakeKeeper()
        mount = await mounted(engine, no_kernel_cache=True)
        assert yoga.paths.load().no_kernel_cache
        await call(engine, "mount", mountpoint="/mnt")
        assert yoga.paths.load().no_kernel_cache
        assert await call(engine, "unmount") == {"mountpoint": "/mnt"}
        assert not yoga.paths.load().no_kernel_cache
        await mount.close()
        mount = await mounted(engine)
        assert not yoga.paths.load().no_kernel_cache
        with pytest.raises(NotYet, match="kernel's cache"):
            await call(engine, "mount", mountpoint="/mnt", no_kernel_cache=True)
        await mount.close()

    yoga.run(scenario)


def test_a_mount_that_fails_says_why(yoga, mounts):
    async def scenario(engine):
        engine.keeper = FakeKeeper()
        engine.keeper.trouble = "the folder is not empty"
        with pytest.raises(TcfsError, match="the folder is not empty"):
            await call(engine, "mount", mountpoint="/mnt")

    yoga.run(scenario)


def test_a_mount_that_never_answers_is_given_up(yoga, mounts, monkeypatch):
    monkeypatch.setattr("sync.verbs.process.MOUNT_S", 0.05)

    async def scenario(engine):
        engine.keeper = FakeKeeper()
        with pytest.raises(TimedOut):
            await call(engine, "mount", mountpoint="/mnt")

    yoga.run(scenario)


def test_only_a_daemon_mounts(yoga, mounts):
    async def scenario(engine):
        with pytest.raises(Unavailable):
            await call(engine, "mount", mountpoint="/mnt")

    yoga.run(scenario)


def test_unmount_stops_keeping_it(yoga, mounts):
    async def scenario(engine):
        engine.keeper = FakeKeeper()
        mount = MountEnd()
        await mount.connect(engine)
        mounts.add("/mnt")
        assert await call(engine, "unmount") == {"mountpoint": "/mnt"}
        assert (engine.keeper.log, mounts) == ([""], set())
        assert yoga.paths.load().mountpoint == ""
        await mount.close()

    yoga.run(scenario)


def test_a_busy_mount_stays_and_is_kept(yoga, mounts, monkeypatch):
    def busy(place, lazy=False):
        raise NotYet(f"{place} is in use by vim (3)")

    monkeypatch.setattr(fuse, "unmount", busy)

    async def scenario(engine):
        engine.keeper = FakeKeeper()
        engine.keeper.wanted = "/mnt"
        mount = MountEnd()
        await mount.connect(engine)
        with pytest.raises(NotYet, match="vim"):
            await call(engine, "down")
        assert engine.keeper.wanted == "/mnt"
        assert not engine.stop.is_set()
        await mount.close()

    yoga.run(scenario)


def test_down_lets_everything_come_into_the_store_first(yoga, mounts):
    tree = Tree(yoga)

    def seal(request):
        if not mount.asked[1:]:
            tree.put("a", b"1")
        return frames.SealResult(request.id)

    mount = MountEnd(seal)

    async def scenario(engine):
        engine.keeper = FakeKeeper()
        await mount.connect(engine)
        data = await call(engine, "down")
        assert engine.is_shown("a")
        assert engine.context.db.queued_seqs() == []
        assert {request.reason for request in mount.asked} == {"down"}
        assert engine.stop.is_set()
        # This mount never notes its answers: what it has not noted is safe all the same.
        assert data["left"] == []
        await mount.close()

    yoga.run(scenario)
    tree.close()


def test_down_lists_what_stays(yoga, mounts, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("sync.verbs.process.DOWN_S", 0.2)
    monkeypatch.setattr("sync.verbs.process.LAST_S", 0.1)
    tree = Tree(yoga)
    tree.put("a", b"1")
    tree.dirty("torn", unflushed=True)
    (tmp_path / "store").rename(tmp_path / "gone")

    async def scenario(engine):
        data = await call(engine, "down")
        assert [("a", "sealed"), ("torn", "interrupted")] == [(one["path"], one["state"]) for one in data["left"]]
        assert data["error"]["code"] == "not-yet"
        assert "goes out after the next 'tcfs up'" in data["error"]["hint"]
        assert engine.stop.is_set()

    yoga.run(scenario)
    tree.close()


def test_down_waits_once_for_a_store_that_is_away(yoga, mounts, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("sync.verbs.process.DOWN_S", 0.2)
    tree = Tree(yoga)
    tree.put("a", b"1")
    (tmp_path / "store").rename(tmp_path / "gone")

    async def scenario(engine):
        async with asyncio.timeout(5):
            data = await call(engine, "down")
        assert ["a"] == [one["path"] for one in data["left"]]

    yoga.run(scenario)
    tree.close()


def test_down_does_not_promise_what_will_not_be(yoga, mounts):
    tree = Tree(yoga)
    tree.dirty("torn", unflushed=True)

    async def scenario(engine):
        data = await call(engine, "down")
        assert "goes out after" not in data["error"]["hint"]
        assert "tcfs push" in data["error"]["hint"]

    yoga.run(scenario)
    tree.close()


def test_a_mount_process_that_does_not_end_is_told_to_and_said(yoga, mounts, monkeypatch):
    told = []
    monkeypatch.setattr("sync.verbs.process.UNMOUNT_S", 0.05)
    monkeypatch.setattr("sync.verbs.process.LEAVE_S", 0.05)
    monkeypatch.setattr("sync.verbs.process._end", told.append)

    async def scenario(engine):
        mount = MountEnd()
        await mount.connect(engine)
        with FileLock(yoga.paths.mount_lock) as lock:
            lock.try_acquire()
            with pytest.raises(TimedOut, match="does not end"):
                await call(engine, "unmount")
            assert len(told) == 1
        await mount.close()

    yoga.run(scenario)
