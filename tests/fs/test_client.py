import logging
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from fs.client import AGAIN_S, FETCH_S, NO_DAEMON_S, SERVED_S, SILENCE_S, Callbacks, Client
from sync.core.errors import NoDaemon, ObjectMissing, StoreAway, TimedOut
from sync.core.filekey import FileKey
from sync.ipc import frames

HELLO = frames.Hello("mount", fleet_schema=1, tree_schema=1)
Script = Callable[["Engine"], Awaitable[None]]


class Engine:
    """The other end of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._decoder = frames.FrameDecoder()
        self._ready: list[frames.Message] = []

    async def send(self, message: frames.Message) -> None:
        await self._stream.send_all(frames.encode(message))

    async def next(self) -> frames.Message:
        while not self._ready:
            data = await self._stream.receive_some(65536)
            if not data:
                raise EOFError
            self._ready += self._decoder.feed(data)
        return self._ready.pop(0)

    async def greet(self, hello: frames.Hello | None = None) -> None:
        assert isinstance(await self.next(), frames.Hello)
        await self.send(hello or frames.Hello("engine", fleet_schema=1, tree_schema=1))

    async def fetch(self) -> frames.Fetch:
        message = await self.next()
        assert isinstance(message, frames.Fetch)
        return message


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tcfs-h8-") as name:  # a short path: sockets have 107 bytes
        yield Path(name)


@asynccontextmanager
async def engines(folder: Path, *scripts: Script) -> AsyncIterator[None]:
    """Listen, and give each connection the next script; the last one also serves all later ones."""
    socket = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await socket.bind(str(folder / "sock"))
    socket.listen(5)
    left = list(scripts)

    async def serve(stream: trio.SocketStream) -> None:
        script = left.pop(0) if len(left) > 1 else left[0]
        try:
            await script(Engine(stream))
        except (EOFError, trio.BrokenResourceError):
            pass
        finally:
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, serve, [trio.SocketListener(socket)]))
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def running(client: Client) -> AsyncIterator[Client]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        try:
            yield client
        finally:
            nursery.cancel_scope.cancel()


def make(folder: Path, callbacks: Callbacks | None = None) -> Client:
    return Client(lambda: folder / "sock", lambda: HELLO, callbacks or Callbacks())


def run(main: Callable[[], Awaitable[None]], clock: MockClock | None = None) -> None:
    async def guarded() -> None:
        with trio.fail_after(10_000):
            await main()

    trio.run(guarded, clock=clock or MockClock(autojump_threshold=0.05))


def test_files_are_told_before_the_fetch_returns_and_for_what_nobody_waits_for(folder: Path) -> None:
    first, second = {b"a" * 32: FileKey(1, 2, 3, 4)}, {b"b" * 32: FileKey(1, 5, 6, 7)}

    async def script(engine: Engine) -> None:
        await engine.greet()
        ahead, request = await engine.fetch(), await engine.fetch()
        assert ahead.priority == 1
        await engine.send(frames.FetchProgress(ahead.id, first))
        await engine.send(frames.FetchDone(request.id, written=second))
        await engine.next()

    async def main() -> None:
        told: list[dict[bytes, FileKey]] = []
        callbacks = Callbacks(written=lambda files: told.append(dict(files)))
        async with engines(folder, script), running(make(folder, callbacks)) as client:
            await client._wait_connected()
            client.prefetch("m:1:0", [3, 4])
            assert await client.fetch("m:1:0", [2]) == {}
            assert told == [first, second]

    run(main)


def test_a_fetch_is_answered(folder: Path) -> None:
    async def script(engine: Engine) -> None:
        await engine.greet()
        request = await engine.fetch()
        assert (request.version, request.indexes, request.priority) == ("m:1:0", [3, 4], 0)
        await engine.send(frames.FetchProgress(request.id))
        await engine.send(frames.FetchDone(request.id, {4: b"bytes"}))
        await engine.next()

    async def main() -> None:
        async with engines(folder, script), running(make(folder)) as client:
            assert await client.fetch("m:1:0", [3, 4]) == {4: b"bytes"}

    run(main)


@pytest.mark.parametrize("code, kind", [("store-away", StoreAway), ("object-missing", ObjectMissing)])
def test_a_failure_comes_as_the_exception_it_was(folder: Path, code: str, kind: type[Exception]) -> None:
    async def script(engine: Engine) -> None:
        await engine.greet()
        request = await engine.fetch()
        await engine.send(frames.Failed(request.id, code, "no", path="a/b"))
        await engine.next()

    async def main() -> None:
        async with engines(folder, script), running(make(folder)) as client:
            with pytest.raises(kind):
                await client.fetch("m:1:0", [0])

    run(main)


def test_no_engine_for_three_seconds_is_no_daemon(folder: Path) -> None:
    async def main() -> None:
        async with running(make(folder)) as client:
            start = trio.current_time()
            with pytest.raises(NoDaemon):
                await client.fetch("m:1:0", [0])
            assert trio.current_time() - start == pytest.approx(NO_DAEMON_S, abs=0.5)
            with pytest.raises(NoDaemon):
                await client.fetch("m:1:0", [0])
            assert trio.current_time() - start == pytest.approx(NO_DAEMON_S, abs=0.5)

    run(main)


def test_silence_ends_in_a_time_out_and_progress_does_not(folder: Path) -> None:
    async def script(engine: Engine) -> None:
        await engine.greet()
        request = await engine.fetch()
        for _ in range(3):
            await trio.sleep(SILENCE_S * 0.9)
            await engine.send(frames.FetchProgress(request.id))
        await trio.sleep_forever()

    async def main() -> None:
        async with engines(folder, script), running(make(folder)) as client:
            start = trio.current_time()
            with pytest.raises(TimedOut):
                await client.fetch("m:1:0", [0])
            assert trio.current_time() - start == pytest.approx(SILENCE_S * 3.7, abs=2)

    run(main)


@pytest.mark.parametrize("indexes", [[0, 1], []])
def test_what_was_given_up_is_not_waited_for_again_at_once(folder: Path, indexes: list[int]) -> None:
    """The kernel asks again, page by page, for what its read ahead has not got."""

    async def script(engine: Engine) -> None:
        await engine.greet()
        await trio.sleep_forever()

    async def main() -> None:
        async with engines(folder, script), running(make(folder)) as client:
            start = trio.current_time()
            for _ in range(2):
                with pytest.raises(TimedOut):
                    await client.fetch("m:1:0", indexes)
                assert trio.current_time() - start == pytest.approx(SILENCE_S, abs=1)
            start = trio.current_time()
            for version, others in (("m:1:0", [7]), ("m:2:0", indexes)):
                with pytest.raises(TimedOut):
                    await client.fetch(version, others)
            assert trio.current_time() - start == pytest.approx(2 * SILENCE_S, abs=2)
            await trio.sleep(AGAIN_S)
            start = trio.current_time()
            with pytest.raises(TimedOut):
                await client.fetch("m:1:0", indexes)
            assert trio.current_time() - start == pytest.approx(SILENCE_S, abs=1)

    run(main)


def test_progress_for_ever_is_not_waited_for(folder: Path) -> None:
    async def script(engine: Engine) -> None:
        await engine.greet()
        request = await engine.fetch()
        while True:
            await trio.sleep(SILENCE_S * 0.9)
            await engine.send(frames.FetchProgress(request.id))

    async def main() -> None:
        async with engines(folder, script), running(make(folder)) as client:
            start = trio.current_time()
            with pytest.raises(TimedOut):
                await client.fetch("m:1:0", [0])
            assert trio.current_time() - start == pytest.approx(FETCH_S, abs=5)

    run(main)


def test_time_in_which_nothing_ran_is_no_silence(folder: Path) -> None:
    """The machine was suspended, or the process stopped, and the clock went on."""
    clock = MockClock(autojump_threshold=0.05)

    async def script(engine: Engine) -> None:
        await engine.greet()
        request = await engine.fetch()
        await trio.sleep(1)
        clock.jump(10 * FETCH_S)
        await trio.sleep(SILENCE_S * 0.9)
        await engine.send(frames.FetchDone(request.id))
        await trio.sleep_forever()

    async def main() -> None:
        async with engines(folder, script), running(make(folder)) as client:
            assert await client.fetch("m:1:0", [0]) == {}
            with pytest.raises(TimedOut):
                await client.fetch("m:1:0", [0])

    run(main, clock)


def test_an_engine_that_has_served_is_started_again_at_once(folder: Path) -> None:
    async def script(engine: Engine) -> None:
        await engine.greet()
        await trio.sleep(SERVED_S)

    async def main() -> None:
        client = Client(lambda: folder / "sock", lambda: HELLO, Callbacks(), daemon=["/bin/true"])
        started: list[float] = []
        client._start_daemon = lambda: started.append(client._started_at)  # type: ignore[method-assign]
        async with running(client):
            async with engines(folder, script):
                while not client.is_connected:
                    await trio.sleep(0.01)
                client._started_at = 5.0
                await trio.sleep(0.01)
                assert client._started_at == 5.0
                while client.is_connected:
                    await trio.sleep(0.01)
            (folder / "sock").unlink(missing_ok=True)
            await trio.sleep(1)
        assert started[-1] == float("-inf")

    run(main)


def test_a_fetch_survives_the_death_of_the_engine(folder: Path) -> None:
    async def dies(engine: Engine) -> None:
        await engine.greet()
        await engine.fetch()

    async def answers(engine: Engine) -> None:
        await engine.greet()
        request = await engine.fetch()
        await engine.send(frames.FetchDone(request.id))
        await engine.next()

    async def main() -> None:
        async with engines(folder, dies, answers), running(make(folder)) as client:
            assert await client.fetch("m:1:0", [0]) == {}

    run(main)


def test_hints_reach_their_callbacks_and_pings_are_answered(folder: Path) -> None:
    said: list[object] = []
    done = trio.Event()

    async def script(engine: Engine) -> None:
        await engine.greet()
        for message in (
            frames.FeedMoved(3),
            frames.TakenMoved(4),
            frames.ContentMoved([5], dropped=True),
            frames.SealNow(7, ["a"], "push"),
            frames.Ping(9),
        ):
            await engine.send(message)
        said.append(await engine.next())
        done.set()

    callbacks = Callbacks(
        feed_moved=lambda: said.append("feed"),
        taken_moved=lambda: said.append("taken"),
        content_moved=lambda moved: said.append(moved.values),
        seal_now=lambda request: said.append(request.paths),
    )

    async def main() -> None:
        async with engines(folder, script), running(make(folder, callbacks)):
            await done.wait()

    run(main)
    assert said == ["feed", "taken", [5], ["a"], frames.Pong(9)]


def test_another_schema_is_refused_and_said_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def script(engine: Engine) -> None:
        await engine.greet(frames.Hello("engine", fleet_schema=2, tree_schema=1))
        await engine.next()

    async def main() -> None:
        async with engines(folder, script), running(make(folder)) as client:
            await trio.sleep(2)
            assert not client.is_connected

    with caplog.at_level(logging.INFO):
        run(main)
    assert len([record for record in caplog.records if "fleet_schema" in record.message]) == 1


def test_hints_without_an_engine_are_forgotten(folder: Path) -> None:
    client = make(folder)
    client.hint(frames.Sealed())
    client.prefetch("m:1:0", [1])
    assert not client.is_connected


def test_an_engine_that_is_about_to_come_is_looked_for_often_and_not_started(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tcfsd has started this mount, and still reads its own code."""
    attempts: list[float] = []
    commands: list[object] = []

    async def main() -> None:
        client = make(folder)
        client._daemon = ["tcfsd"]

        async def connect() -> None:
            attempts.append(round(trio.current_time() - began, 2))
            client._start_daemon()

        monkeypatch.setattr(client, "_connect", connect)
        monkeypatch.setattr(subprocess, "Popen", lambda command, **_: commands.append(command))
        began = trio.current_time()
        async with running(client):
            await trio.sleep(0.9)
            assert commands == []
            await trio.sleep(0.4)
        assert commands == [["tcfsd"]]

    run(main, MockClock(autojump_threshold=0))
    assert attempts[:7] == [0.0, 0.01, 0.03, 0.07, 0.15, 0.31, 0.51]


def test_a_dead_engine_is_started_but_not_at_every_attempt(folder: Path) -> None:
    marks = folder / "started"
    command = ["/bin/sh", "-c", f"echo x >> {marks}"]

    async def main() -> None:
        client = Client(lambda: folder / "sock", lambda: HELLO, Callbacks(), daemon=command)
        async with running(client):
            with trio.move_on_after(20):
                while not marks.exists():
                    await trio.sleep(0.01)
        assert client.child is not None and client.child.wait(10) == 0

    run(main, MockClock(rate=1.0))
    assert marks.read_text() == "x\n"
