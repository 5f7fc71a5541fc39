import asyncio
import socket
import stat

import pytest

from sync.core.errors import BadFormat, NoDaemon, NotFound, NotYet, TimedOut, Unsupported
from sync.core.filekey import FileKey
from sync.env import RealEnv
from sync.ipc import frames
from sync.ipc.client import connect, connected
from sync.ipc.frames import Hello
from sync.ipc.server import Server
from sync.ipc.stream import MessageReader


def test_an_engine_that_takes_leave_at_once_is_none(tmp_path):
    async def scenario():
        async def leave(reader, writer):
            writer.write(frames.encode(frames.Bye()))
            writer.close()
            await writer.wait_closed()

        path = tmp_path / "socket"
        server = await asyncio.start_unix_server(leave, path)
        env = RealEnv({})
        with pytest.raises(NoDaemon):
            await connect(env, path, Hello(role="cli"))
        env.close()
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())


class FakeService:
    def __init__(self):
        self.log = []
        self.release = asyncio.Event()
        self.moved, self.step = 0, 1
        self.written = {}

    def hello(self):
        return Hello(role="engine", fleet_schema=3, tree_schema=2, pid=1)

    async def call(self, verb, args, progress):
        if verb == "missing":
            raise NotFound("no such file", path="a", hint="look again")
        if verb == "bug":
            raise ZeroDivisionError("oops")
        if verb == "slow":
            self.log.append("started")
            try:
                await self.release.wait()
            finally:
                self.log.append("ended")
        progress({"done": 1})
        return {"verb": verb, **args}

    async def fetch(self, request, written):
        for chunk, file in self.written.items():
            written(chunk, file)
        await self.release.wait()
        return {0: b"inline"}

    def bytes_fetched(self):
        self.moved += self.step
        return self.moved

    def sealed(self):
        self.log.append("sealed")

    def noted(self, taken_upto, durable):
        self.log.append(("noted", taken_upto, durable))

    def used(self, message):
        self.log.append(("used", message.chunks))

    def fetch_folder(self, folder):
        self.log.append(("folder", folder))

    def refused(self, message):
        self.log.append(("refused", message.program))

    def mount_came(self, link):
        self.log.append(("came", link.peer.mountpoint))

    def mount_went(self, link):
        self.log.append(("went", link.peer.mountpoint))


class FakeMount:
    """A mount's end of the socket, driven by hand."""

    def __init__(self, reader, writer):
        self.messages = MessageReader(reader)
        self.writer = writer

    @classmethod
    async def connect(cls, path, **hello):
        mount = cls(*await asyncio.open_unix_connection(str(path)))
        await mount.send(Hello(**{"role": "mount", "mountpoint": "/mnt", "fleet_schema": 3, "tree_schema": 2} | hello))
        assert (await mount.messages.hello()).role == "engine"
        return mount

    async def send(self, *messages):
        self.writer.write(b"".join(frames.encode(message) for message in messages))
        await self.writer.drain()

    async def close(self):
        self.writer.close()
        await self.writer.wait_closed()


CLI = Hello(role="cli")
ENV = RealEnv({})


def run(tmp_path, scenario):
    async def main():
        service = FakeService()
        server = Server(ENV, tmp_path / "sock", service)
        await server.start()
        try:
            async with asyncio.timeout(10):
                await scenario(server, service, tmp_path / "sock")
        finally:
            await server.aclose()

    asyncio.run(main())


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def test_the_socket_is_private_and_goes_with_the_server(tmp_path):
    async def scenario(server, service, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    run(tmp_path, scenario)
    assert not (tmp_path / "sock").exists()


def test_a_stale_socket_is_replaced(tmp_path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "sock"))

    async def scenario(server, service, path):
        async with connected(ENV, path, CLI) as client:
            assert await client.call("x", {}) == {"verb": "x"}

    run(tmp_path, scenario)


def test_a_call_returns_data_after_progress(tmp_path):
    async def scenario(server, service, path):
        seen = []
        async with connected(ENV, path, CLI) as client:
            assert client.engine.role == "engine"
            assert await client.call("push", {"a": 1}, seen.append) == {"verb": "push", "a": 1}
        assert seen == [{"done": 1}]

    run(tmp_path, scenario)


@pytest.mark.logs_trouble
def test_errors_arrive_as_what_they_were(tmp_path):
    async def scenario(server, service, path):
        async with connected(ENV, path, CLI) as client:
            with pytest.raises(NotFound, match="no such file") as caught:
                await client.call("missing", {})
            assert (caught.value.path, caught.value.hint) == ("a", "look again")
            with pytest.raises(Exception, match="ZeroDivisionError") as bug:
                await client.call("bug", {})
            assert bug.value.exit_code == 1
            assert await client.call("x", {}) == {"verb": "x"}

    run(tmp_path, scenario)


def test_a_call_is_cancelled_when_its_client_leaves(tmp_path):
    async def scenario(server, service, path):
        client = await connect(ENV, path, CLI)
        call = asyncio.create_task(client.call("slow", {}))
        await until(lambda: service.log == ["started"])
        call.cancel()
        await client.aclose()
        await until(lambda: service.log == ["started", "ended"])

    run(tmp_path, scenario)


def test_the_client_is_told_when_the_engine_goes(tmp_path):
    async def scenario(server, service, path):
        async with connected(ENV, path, CLI) as client:
            call = asyncio.create_task(client.call("slow", {}))
            await until(lambda: service.log == ["started"])
            await server.aclose()
            with pytest.raises(NoDaemon):
                await call
        with pytest.raises(NoDaemon):
            await connect(ENV, path, CLI)

    run(tmp_path, scenario)


def test_versions_must_agree(tmp_path):
    async def scenario(server, service, path):
        with pytest.raises(Unsupported, match="fleet_schema 3, this cli has 4"):
            await connect(ENV, path, Hello(role="cli", fleet_schema=4))
        mount = await FakeMount.connect(path, tree_schema=9)
        failed = await mount.messages.next()
        assert (failed.code, server.mount) == ("unsupported", None)
        await mount.close()

    run(tmp_path, scenario)


def test_hints_go_both_ways(tmp_path):
    async def scenario(server, service, path):
        mount = await FakeMount.connect(path)
        await mount.send(frames.Sealed(), frames.Noted(7, True), frames.Used([b"c"]))
        await until(lambda: len(service.log) == 4)
        assert service.log == [("came", "/mnt"), "sealed", ("noted", 7, True), ("used", [b"c"])]
        server.hint(frames.FeedMoved(4))
        assert await mount.messages.next() == frames.FeedMoved(4)
        await mount.close()
        await until(lambda: service.log[-1] == ("went", "/mnt"))
        server.hint(frames.FeedMoved(5))

    run(tmp_path, scenario)


def test_messages_right_behind_hello_are_not_lost(tmp_path):
    async def scenario(server, service, path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        mount = FakeMount(reader, writer)
        await mount.send(Hello(role="mount"), frames.Sealed())
        await until(lambda: "sealed" in service.log)
        await mount.close()

    run(tmp_path, scenario)


def test_seal_now_and_ping_are_answered_also_while_fetches_wait(tmp_path):
    async def scenario(server, service, path):
        mount = await FakeMount.connect(path)
        await mount.send(*(frames.Fetch(n, "m:1:00000000", [0]) for n in range(200)))
        await until(lambda: server.mount)
        sealing = asyncio.create_task(server.mount.seal_now(["a"], "push", 5))
        asked = await mount.messages.next()
        assert asked == frames.SealNow(asked.id, ["a"], "push")
        await mount.send(frames.SealResult(asked.id, busy=["b"]))
        assert (await sealing).busy == ["b"]
        pinging = asyncio.create_task(server.mount.ping(5))
        await mount.send(frames.Pong((await mount.messages.next()).id))
        await pinging
        service.release.set()
        assert await mount.messages.next() == frames.FetchDone(0, {0: b"inline"})
        await mount.close()

    run(tmp_path, scenario)


def test_a_mount_that_is_silent_or_gone_ends_the_wait(tmp_path):
    async def scenario(server, service, path):
        mount = await FakeMount.connect(path)
        await until(lambda: server.mount)
        with pytest.raises(TimedOut):
            await server.mount.ping(0.01)
        sealing = asyncio.create_task(server.mount.seal_now(None, "wait", 5))
        await asyncio.sleep(0)
        await mount.close()
        with pytest.raises(NoDaemon):
            await sealing

    run(tmp_path, scenario)


def test_the_files_of_fetched_chunks_come_with_the_answer_or_ahead_of_it(tmp_path):
    async def scenario(server, service, path):
        service.release.set()
        service.written = files = {b"a" * 32: FileKey(1, 2, 3, 4), b"b" * 32: FileKey(1, 2**63, 5, 6)}
        mount = await FakeMount.connect(path)
        await mount.send(frames.Fetch(1, "m:1:00000000", [0, 1]))
        assert await mount.messages.next() == frames.FetchDone(1, {0: b"inline"}, files)
        await mount.send(frames.Fetch(2, "m:1:00000000", [0, 1], priority=1))
        for chunk, file in files.items():  # each as soon as it is there: a reader does not wait for the last one
            assert await mount.messages.next() == frames.FetchProgress(2, {chunk: file})
        assert await mount.messages.next() == frames.FetchDone(2, {0: b"inline"})
        await mount.close()

    run(tmp_path, scenario)


def test_a_fetch_from_a_store_that_hangs_shows_no_life(tmp_path, monkeypatch):
    monkeypatch.setattr("sync.ipc.server.PROGRESS_S", 0.0)

    async def scenario(server, service, path):
        service.step = 0
        mount = await FakeMount.connect(path)
        await mount.send(frames.Fetch(5, "m:1:00000000", [0]))
        for _ in range(20):
            await asyncio.sleep(0)
        service.release.set()
        assert await mount.messages.next() == frames.FetchDone(5, {0: b"inline"})
        await mount.close()

    run(tmp_path, scenario)


def test_a_slow_fetch_shows_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr("sync.ipc.server.PROGRESS_S", 0.001)

    async def scenario(server, service, path):
        mount = await FakeMount.connect(path)
        await mount.send(frames.Fetch(5, "m:1:00000000", [0]))
        assert await mount.messages.next() == frames.FetchProgress(5)
        service.release.set()
        while isinstance(message := await mount.messages.next(), frames.FetchProgress):
            pass
        assert message == frames.FetchDone(5, {0: b"inline"})
        await mount.close()

    run(tmp_path, scenario)


def test_the_newest_mount_counts(tmp_path):
    async def scenario(server, service, path):
        old = await FakeMount.connect(path, mountpoint="/old")
        await until(lambda: server.mount)
        new = await FakeMount.connect(path, mountpoint="/new")
        await until(lambda: server.mount.peer.mountpoint == "/new")
        await until(lambda: ("went", "/old") in service.log)
        assert server.mount.peer.mountpoint == "/new"
        await old.close()
        await new.close()

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n", frames.encode(frames.Sealed()), b"\x00\x00\x00\x02\xc1\xc1"]
)
def test_noise_closes_only_its_own_connection(tmp_path, noise, caplog):
    async def scenario(server, service, path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(noise)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        async with connected(ENV, path, CLI) as client:
            assert await client.call("x", {}) == {"verb": "x"}

    run(tmp_path, scenario)
    assert "connection closed" in caplog.text


def test_a_stream_that_ends_within_a_message_is_said():
    async def main():
        reader = asyncio.StreamReader()
        reader.feed_data(frames.encode(frames.Ping(1))[:-1])
        reader.feed_eof()
        with pytest.raises(BadFormat, match="within a message"):
            await MessageReader(reader).next()

    asyncio.run(main())


def test_a_call_that_takes_too_long_is_given_up_when_the_engine_stops(tmp_path, monkeypatch):
    """And told so by an error for which nobody asks another engine: the work would begin anew behind a 'down'."""
    monkeypatch.setattr("sync.ipc.server.STOP_S", 0.05)

    async def scenario(server, service, path):
        async with connected(ENV, path, CLI) as client:
            call = asyncio.create_task(client.call("slow", {}))
            await until(lambda: service.log == ["started"])
            await server.answered_all()
            assert service.log == ["started", "ended"]
            with pytest.raises(NotYet, match="tcfsd was stopped"):
                await call

    run(tmp_path, scenario)


def test_an_answer_is_out_before_the_server_is_closed(tmp_path):
    async def scenario(server, service, path):
        async with connected(ENV, path, CLI) as client:
            call = asyncio.create_task(client.call("slow", {}))
            await until(lambda: service.log == ["started"])
            service.release.set()
            await server.answered_all()
            await server.aclose()
            assert await call == {"verb": "slow"}

    run(tmp_path, scenario)
