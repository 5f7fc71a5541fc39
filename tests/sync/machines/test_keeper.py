import asyncio
import signal

import pytest

from sync.core.errors import NoDaemon
from sync.env import FakeEnv
from sync.ipc.frames import Hello
from sync.machines import fuse, keeper, launch
from sync.machines.keeper import PING_S, SERVED_S, MountKeeper
from sync.machines.launch import errors_path
from sync.machines.processor import ThreadTimes
from sync.state.home import Home
from sync.state.lock import FileLock


class FakeLink:
    def __init__(self):
        self.peer = Hello(role="mount", mountpoint="/m", pid=4242)
        self.answer = None  # an error to raise
        self.pings = 0
        self.is_closed = False
        self.is_stuck = False

    async def ping(self, timeout_s):
        self.pings += 1
        if self.answer is not None:
            raise self.answer
        if self.is_stuck:
            await asyncio.get_running_loop().create_future()  # its connection stands, and nothing comes

    def close(self):
        self.is_closed = True


class FakeProcess:
    pid = 77

    def __init__(self):
        self.code = None

    def poll(self):
        return self.code


class World:
    """A keeper, and what it sees and does."""

    def __init__(self, tmp_path, monkeypatch):
        self.env = FakeEnv()
        self.paths = Home.from_environ({"TCFS_HOME": str(tmp_path)}).new_fleet("0123456789")
        self.link = None
        self.started = []
        self.aborted = []
        self.killed = []
        self.errors = b""
        self.dead = set()  # pids that were killed and are stuck in the kernel
        monkeypatch.setattr(fuse, "why_no_fuse", lambda: "")
        monkeypatch.setattr(fuse, "has_died", self.dead.__contains__)
        monkeypatch.setattr(fuse, "abort", lambda place: self.aborted.append(place) or True)
        monkeypatch.setattr(launch.subprocess, "Popen", self.start)
        monkeypatch.setattr(keeper.os, "kill", lambda pid, number: self.killed.append((pid, number)))
        self.refused_at = float("-inf")
        self.mounts = set()
        monkeypatch.setattr(fuse, "is_mounted", self.mounts.__contains__)
        self.connection = None
        monkeypatch.setattr(fuse, "connection_number", lambda place: self.connection)
        environ = {"TCFS_HOME": str(tmp_path)}
        self.keeper = MountKeeper(self.env, self.paths, environ, lambda: self.link, lambda: self.refused_at)

    def start(self, command, **options):
        options["stderr"].write(self.errors)
        self.started.append((command, options))
        self.process = FakeProcess()
        return self.process

    def run(self, scenario):
        async def main():
            running = asyncio.ensure_future(self.keeper.run())
            try:
                await scenario()
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

        asyncio.run(main())


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def test_no_mount_is_started_unless_wanted(world):
    async def scenario():
        await world.env.advance(60)
        assert world.started == []
        world.keeper.want("/m")
        await world.env.advance(1)
        assert len(world.started) == 1

    world.run(scenario)


@pytest.mark.logs_trouble
def test_one_that_was_started_early_is_not_started_again_and_told_of_if_it_fails(world):
    early = FakeProcess()
    world.errors = b"tcfs mount: the folder is not empty\n"
    errors_path(world.paths).write_bytes(world.errors)
    world.keeper = MountKeeper(world.env, world.paths, {}, lambda: world.link, child=early)

    async def scenario():
        world.keeper.want("/m")
        await world.env.advance(5)
        assert world.started == []
        early.code = 1
        await world.env.advance(0.2)
        assert "the folder is not empty" == world.keeper.state().trouble
        await world.env.advance(1)
        assert len(world.started) == 1

    world.run(scenario)


def test_another_one_at_the_same_place_is_no_trouble(world):
    """Two `up` at once have started a mount each; one of them has the lock."""
    early = FakeProcess()
    errors_path(world.paths).write_bytes(b"tcfs mount: a mount of this fleet is running already\n")
    world.keeper = MountKeeper(world.env, world.paths, {}, lambda: world.link, child=early)

    async def scenario():
        world.keeper.want("/m")
        with FileLock(world.paths.mount_lock) as lock:
            lock.try_acquire()
            world.paths.mount_lock.write_text("4711\n/m\n")
            early.code = 4
            await world.env.advance(1)
            assert (world.keeper.state().trouble, world.started) == ("", [])

    world.run(scenario)


@pytest.mark.logs_trouble
def test_another_one_elsewhere_is_told_of(world):
    early = FakeProcess()
    errors_path(world.paths).write_bytes(b"tcfs mount: a mount of this fleet is running already at /n\n")
    world.keeper = MountKeeper(world.env, world.paths, {}, lambda: world.link, child=early)

    async def scenario():
        world.keeper.want("/m")
        with FileLock(world.paths.mount_lock) as lock:
            lock.try_acquire()
            world.paths.mount_lock.write_text("4711\n/n\n")
            early.code = 4
            await world.env.advance(1)
            assert "already at /n" in world.keeper.state().trouble

    world.run(scenario)


def test_the_process_is_not_taken_for_the_daemon(world):
    async def scenario():
        world.keeper.want("/m")
        await world.env.advance(1)

    world.run(scenario)
    command, options = world.started[0]
    assert command[1:] == ["-P", "-m", "fs.mount"]
    assert not any("tcfsd" in word or str(world.paths.run_dir) in word for word in command)
    assert options["cwd"] == "/"
    assert options["start_new_session"]
    assert options["env"]["TCFS_FLEET"] == "0123456789"


def test_a_mount_that_runs_already_is_left_alone(world):
    async def scenario():
        world.keeper.want("/m")
        with FileLock(world.paths.mount_lock) as lock:
            lock.try_acquire()
            await world.env.advance(60)
            assert world.started == []
        await world.env.advance(1)
        assert len(world.started) == 1

    world.run(scenario)


@pytest.mark.logs_trouble
def test_failures_are_told_and_slow_it_down(world):
    async def scenario():
        world.errors = b"noise\ntcfs mount: the folder is not empty\n"
        world.keeper.want("/m")
        for _ in range(3600):
            await world.env.advance(0.1)
            if world.started:
                world.process.code = 1
        assert "the folder is not empty" == world.keeper.state().trouble
        assert 12 < len(world.started) < 25
        world.keeper.want("/m")
        count = len(world.started)
        await world.env.advance(0.2)
        assert len(world.started) == count + 1

    world.run(scenario)


@pytest.mark.logs_trouble
def test_a_mount_that_was_killed_while_it_served_is_no_trouble(world):
    """So that `tcfs up`, or the watch over a kill, is not told of what is being put right."""

    async def scenario():
        world.keeper.want("/m")
        await world.env.advance(1)
        world.link = FakeLink()
        await world.env.advance(1)
        world.link = None
        world.process.code = -signal.SIGKILL
        for _ in range(20):
            await world.env.advance(0.1)
            assert world.keeper.state().trouble == ""
        assert len(world.started) == 2
        world.process.code = 1  # but the next one does not come up
        await world.env.advance(0.2)
        assert "code 1" in world.keeper.state().trouble

    world.run(scenario)


@pytest.mark.logs_trouble
def test_one_that_is_killed_again_and_again_is_started_again_at_once(world):
    """But one that lives for a moment only is started more and more rarely."""

    async def scenario():
        world.keeper.want("/m")
        await world.env.advance(1)
        for count in range(2, 8):
            world.link = FakeLink()
            await world.env.advance(SERVED_S + 0.3)
            world.link, world.process.code = None, -signal.SIGKILL
            await world.env.advance(0.3)
            assert len(world.started) == count
        for _ in range(40):
            world.link = FakeLink()
            await world.env.advance(0.3)
            world.link, world.process.code = None, -signal.SIGKILL
            await world.env.advance(0.3)
        assert len(world.started) < 16

    world.run(scenario)


@pytest.mark.logs_trouble
def test_time_in_which_nothing_ran_is_no_silence(world):
    """The machine was suspended, or both processes were stopped: the mount gets its 10 s from there."""

    async def scenario():
        world.link = FakeLink()
        world.link.is_stuck = True
        world.keeper.want("/m")
        await world.env.advance(PING_S - 0.5)
        world.env.clock.elapsed += 3600
        await world.env.advance(PING_S - 0.5)
        assert world.aborted == []
        await world.env.advance(1.6)
        assert world.aborted == ["/m"]

    world.run(scenario)


@pytest.mark.logs_trouble
@pytest.mark.parametrize("share", [0.0, 0.5, 0.96])
def test_time_in_which_the_mount_had_no_processor_is_no_silence(world, monkeypatch, share):
    """share: of the time. It is aborted all the same once it has had one for 10 s."""
    now = world.env.monotonic

    def times(pid):
        assert pid == 4242
        return {"1": ThreadTimes(int(now() * (1 - share) * 1e9), int(now() * share * 1e9), is_runnable=True)}

    monkeypatch.setattr(keeper, "thread_times", times)

    async def scenario():
        world.link = FakeLink()
        world.link.is_stuck = True
        world.keeper.want("/m")
        await world.env.advance(PING_S / (1 - share) - 0.5)
        assert world.aborted == []
        await world.env.advance(2)
        assert world.aborted == ["/m"]

    world.run(scenario)


@pytest.mark.logs_trouble
def test_one_that_stands_and_does_not_connect_is_freed(world):
    """It was stuck before this daemon was started."""

    async def scenario():
        with FileLock(world.paths.mount_lock) as lock:
            lock.try_acquire()
            world.paths.mount_lock.write_text("4242\n/m\n")
            world.keeper.want("/m")
            await world.env.advance(60)
            assert world.aborted == []  # nothing stands: it is on its way in or out
            world.mounts.add("/m")
            await world.env.advance(PING_S - 0.2)
            world.env.clock.elapsed += 3600
            await world.env.advance(PING_S - 0.2)
            assert world.aborted == []
            await world.env.advance(0.4)
            assert world.aborted == ["/m"]
            assert world.killed == [(4242, signal.SIGKILL)]
        await world.env.advance(1)
        assert len(world.started) == 1

    world.run(scenario)


@pytest.mark.logs_trouble
def test_one_that_has_no_processor_may_take_longer_to_connect(world, monkeypatch):
    def half_of_the_time(pid):
        return {"1": ThreadTimes(0, int(world.env.monotonic() * 0.5e9), is_runnable=False)}

    monkeypatch.setattr(keeper, "thread_times", half_of_the_time)

    async def scenario():
        world.mounts.add("/m")
        with FileLock(world.paths.mount_lock) as lock:
            lock.try_acquire()
            world.paths.mount_lock.write_text("4242\n/m\n")
            world.keeper.want("/m")
            await world.env.advance(2 * PING_S - 1)
            assert world.aborted == []
            await world.env.advance(2)
            assert world.aborted == ["/m"]

    world.run(scenario)


@pytest.mark.logs_trouble
def test_one_that_we_have_started_and_that_never_connects_is_freed(world):
    async def scenario():
        world.keeper.want("/m")
        await world.env.advance(60)
        assert len(world.started) == 1, "one that is not mounted yet may take its time"
        world.mounts.add("/m")
        world.connection = 5
        for _ in range(9):
            await world.env.advance(1)
        assert world.aborted == []
        for _ in range(3):
            await world.env.advance(1)
        assert world.aborted == ["/m"] and world.killed == [(77, signal.SIGKILL)]
        world.process.code = -9
        world.mounts.clear()
        await world.env.advance(2)
        assert len(world.started) == 2

    world.run(scenario)


@pytest.mark.logs_trouble
def test_one_that_has_not_yet_taken_the_place_of_a_dead_one_may_take_its_time(world):
    async def scenario():
        world.mounts.add("/m")
        world.connection = 4
        world.keeper.want("/m")
        for _ in range(60):
            await world.env.advance(1)
        assert (len(world.started), world.aborted, world.killed) == (1, [], [])
        world.connection = 5
        for _ in range(12):
            await world.env.advance(1)
        assert world.aborted == ["/m"] and world.killed == [(77, signal.SIGKILL)]

    world.run(scenario)


def test_one_of_another_version_of_tcfs_lives(world):
    async def scenario():
        with FileLock(world.paths.mount_lock) as lock:
            lock.try_acquire()
            world.mounts.add("/m")
            world.keeper.want("/m")
            for _ in range(600):
                world.refused_at = world.env.monotonic()
                await world.env.advance(0.1)
            assert (world.aborted, world.killed) == ([], [])

    world.run(scenario)


def test_an_orderly_end_is_no_failure(world):
    async def scenario():
        world.keeper.want("/m")
        await world.env.advance(1)
        world.process.code = 0
        await world.env.advance(1)
        assert len(world.started) == 2
        assert world.keeper.state().trouble == ""

    world.run(scenario)


def test_a_mount_that_answers_is_asked_now_and_then(world):
    async def scenario():
        world.link = FakeLink()
        world.keeper.want("/m")
        await world.env.advance(20)
        assert 8 <= world.link.pings <= 11
        assert (world.started, world.aborted) == ([], [])

    world.run(scenario)


@pytest.mark.logs_trouble
def test_a_stuck_mount_is_freed_and_started_again(world):
    async def scenario():
        link = world.link = FakeLink()
        link.is_stuck = True
        world.keeper.want("/m")
        await world.env.advance(PING_S - 0.1)
        assert world.aborted == []
        await world.env.advance(0.2)
        assert world.aborted == ["/m"]
        assert world.killed == [(4242, signal.SIGKILL)]
        assert link.is_closed
        world.link = None
        await world.env.advance(1.2)
        assert len(world.started) == 1

    world.run(scenario)


@pytest.mark.logs_trouble
def test_a_mount_that_was_killed_and_is_stuck_is_freed_at_once(world):
    async def scenario():
        link = world.link = FakeLink()
        world.keeper.want("/m")
        await world.env.advance(1)
        assert world.aborted == []
        world.dead.add(4242)
        await world.env.advance(0.2)
        assert set(world.aborted) == {"/m"}
        assert link.is_closed
        world.link = None
        await world.env.advance(1)
        assert len(world.started) == 1
        assert world.keeper.state().trouble == ""

    world.run(scenario)


@pytest.mark.logs_trouble
def test_one_that_an_earlier_daemon_has_left_like_that_too(world):
    async def scenario():
        with FileLock(world.paths.mount_lock) as lock:
            lock.try_acquire()
            world.paths.mount_lock.write_text("4242\n")
            world.keeper.want("/m")
            await world.env.advance(5)
            assert (world.started, world.aborted) == ([], [])
            world.dead.add(4242)
            await world.env.advance(0.2)
            assert world.aborted == ["/m"]
        await world.env.advance(2)
        assert len(world.started) == 1

    world.run(scenario)


def test_a_lost_connection_is_no_stuck_mount(world):
    async def scenario():
        world.link = FakeLink()
        world.link.answer = NoDaemon("the mount went away")
        await world.env.advance(1)
        assert (world.aborted, world.killed) == ([], [])

    world.run(scenario)


@pytest.mark.logs_trouble
def test_without_fuse_nothing_is_started(world, monkeypatch):
    monkeypatch.setattr(fuse, "why_no_fuse", lambda: "no device")

    async def scenario():
        world.keeper.want("/m")
        await world.env.advance(5)
        assert world.started == []
        assert world.keeper.state().trouble == "no device"

    world.run(scenario)
