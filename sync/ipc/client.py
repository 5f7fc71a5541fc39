"""The CLI's end of the Unix socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from sync.core.errors import NoDaemon, TimedOut
from sync.env import Env
from sync.ipc import frames
from sync.ipc.frames import Hello
from sync.ipc.stream import MessageReader, check_hello

CONNECT_S = 5.0


class Client:
    """A connection to the engine; one call at a time."""

    def __init__(self, engine: Hello, messages: MessageReader, writer: asyncio.StreamWriter) -> None:
        self.engine = engine
        self._messages = messages
        self._writer = writer
        self._next_id = 1

    async def call(
        self, verb: str, args: dict[str, object], progress: Callable[[dict[str, object]], None] | None = None
    ) -> dict[str, object]:
        """What the verb returns; its error as the exception it was; NoDaemon if the engine goes away meanwhile."""
        request_id, self._next_id = self._next_id, self._next_id + 1
        try:
            self._writer.write(frames.encode(frames.Call(request_id, verb, args)))
            await self._writer.drain()
            while (message := await self._messages.next()) is not None:
                match message:
                    case frames.Result(id=request) if request == request_id:
                        return message.data
                    case frames.Failed():
                        raise frames.error_of(message)
                    case frames.Progress() if progress is not None:
                        progress(message.data)
        except ConnectionError as error:
            raise _gone() from error
        raise _gone()

    async def aclose(self) -> None:
        with contextlib.suppress(ConnectionError):
            self._writer.write(frames.encode(frames.Bye()))
            self._writer.close()
            await self._writer.wait_closed()


async def connect(env: Env, path: Path, hello: Hello) -> Client:
    """A connection on which both sides have said Hello. NoDaemon if nobody listens, Unsupported for another version."""
    try:
        async with env.timeout(CONNECT_S):
            reader, writer = await asyncio.open_unix_connection(str(path))
    except (OSError, TimeoutError) as error:
        raise NoDaemon(f"no tcfsd answers at {path}", hint="start it with 'tcfs up'") from error
    messages = MessageReader(reader)
    try:
        writer.write(frames.encode(hello))
        async with env.timeout(CONNECT_S):
            engine = await messages.hello()
        if engine is None:
            raise NoDaemon("tcfsd closed the connection")
        check_hello(hello, engine)
    except TimeoutError as error:
        writer.close()
        raise TimedOut("tcfsd does not answer", hint="try again in a moment; 'tcfs doctor' tells what helps") from error
    except ConnectionError as error:
        writer.close()
        raise NoDaemon("tcfsd closed the connection") from error
    except BaseException:
        writer.close()
        raise
    return Client(engine, messages, writer)


@contextlib.asynccontextmanager
async def connected(env: Env, path: Path, hello: Hello) -> AsyncIterator[Client]:
    client = await connect(env, path, hello)
    try:
        yield client
    finally:
        await client.aclose()


def _gone() -> NoDaemon:
    return NoDaemon("tcfsd went away before it had answered", hint="run the command again")
