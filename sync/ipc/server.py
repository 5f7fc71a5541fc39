"""The engine's end of the Unix socket: a Link for each connection; what the engine does for it is behind Service."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from sync.core.errors import BadFormat, NoDaemon, NotYet, TimedOut, Unsupported
from sync.core.filekey import FileKey
from sync.env import Env
from sync.ipc import frames
from sync.ipc.frames import Hello, Message, failed_of
from sync.ipc.stream import MessageReader, check_hello
from sync.state.trouble import expected

HELLO_S = 5.0  # a connection that has not said Hello by then is closed
PROGRESS_S = 1.0  # between two progress frames of a fetch
STOP_S = 3.0  # for what is being worked on when the engine ends
FETCHES_MAX = 64  # of one connection that are worked on at a time
BUFFER_MAX = 1 << 20  # bytes waiting for a slow reader above which progress is not sent

Progress = Callable[[dict[str, object]], None]
Written = Callable[[bytes, FileKey], None]


class Service(Protocol):
    """What an engine offers to its connections."""

    def hello(self) -> Hello: ...
    async def call(self, verb: str, args: dict[str, object], progress: Progress) -> dict[str, object]: ...
    async def fetch(self, request: frames.Fetch, written: Written) -> dict[int, bytes]:
        """Brings the chunks into the cache; returns those that it could not take, by index.

        written hears at once of each chunk (its id) that was verified and written for this, and of its file.
        """
        ...

    def bytes_fetched(self) -> int:
        """Grows while the store delivers content: as long as it does a waiting fetch is told that it goes on."""
        ...

    def sealed(self) -> None: ...
    def noted(self, taken_upto: int, durable: bool) -> None: ...
    def fetch_folder(self, folder: int) -> None: ...
    def used(self, message: frames.Used) -> None: ...
    def refused(self, message: frames.Refused) -> None: ...
    def mount_came(self, link: "Link") -> None: ...
    def mount_went(self, link: "Link") -> None: ...


class Link:
    """One connection after its Hello. `peer` is what the other side said."""

    def __init__(self, env: Env, peer: Hello, writer: asyncio.StreamWriter) -> None:
        self.peer = peer
        self.trouble = ""  # of a mount, as it last said
        self._env = env
        self._writer = writer
        self._next_id = 1
        self._is_gone = False
        self._is_ending = False
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._slots = asyncio.Semaphore(FETCHES_MAX)
        self._slots_ahead = asyncio.Semaphore(FETCHES_MAX)  # of those nobody waits for, so that a reader finds a slot
        self._calls = _Tasks()

    def send(self, message: Message) -> None:
        """Queues a message; a connection that is gone swallows it (hints may be lost)."""
        if not self._writer.is_closing():
            self._writer.write(frames.encode(message))

    @property
    def is_behind(self) -> bool:
        """More is queued than the other side reads."""
        return self._writer.transport.get_write_buffer_size() > BUFFER_MAX

    async def seal_now(self, paths: list[str] | None, reason: str, timeout_s: float) -> frames.SealResult:
        """TimedOut without an answer in time, NoDaemon when the mount goes away meanwhile."""
        answer = await self._ask(lambda request_id: frames.SealNow(request_id, paths, reason), timeout_s)
        if not isinstance(answer, frames.SealResult):
            raise BadFormat(f"the mount answered {type(answer).__name__} to SealNow")
        return answer

    async def ping(self, timeout_s: float | None) -> None:
        """Returns once the mount's request loop has answered; TimedOut or NoDaemon otherwise. None: no limit."""
        await self._ask(frames.Ping, timeout_s)

    async def _ask(self, make: Callable[[int], Message], timeout_s: float | None) -> Message:
        request_id, self._next_id = self._next_id, self._next_id + 1
        if self._is_gone:
            raise NoDaemon("the mount went away")
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        try:
            self.send(make(request_id))
            async with self._env.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise TimedOut(f"the mount did not answer within {timeout_s} s") from error
        finally:
            self._waiting.pop(request_id, None)

    def answered(self, message: frames.SealResult | frames.Pong | frames.Failed) -> None:
        """Hands an answer to whoever waits for it; one that came too late is dropped."""
        waiting = self._waiting.get(message.id)
        if waiting is None or waiting.done():
            return
        if isinstance(message, frames.Failed):
            waiting.set_exception(frames.error_of(message))
        else:
            waiting.set_result(message)

    async def quiet(self, seconds: float) -> None:
        """Returns when no call is being worked on and what was sent has been handed to the kernel. What takes longer
        than so many seconds is given up, and whoever asked for it is told.
        """
        self._is_ending = True
        with contextlib.suppress(TimeoutError):
            async with self._env.timeout(seconds):
                await self._calls.wait()
        await self._calls.cancel()
        self._is_ending = False
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def gone(self) -> None:
        self._is_gone = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(NoDaemon("the mount went away"))

    def close(self) -> None:
        self._writer.close()

    async def serve(self, messages: MessageReader, service: Service) -> None:
        """Works off what the other side sends until it closes; what is still being done for it then is cancelled."""
        fetches = _Tasks()
        try:
            while (message := await messages.next()) is not None:
                if isinstance(message, frames.Bye):
                    return
                self._take(message, service, fetches)
                await self._writer.drain()
        finally:
            self.gone()
            await fetches.cancel()
            await self._calls.cancel()

    def _take(self, message: Message, service: Service, fetches: "_Tasks") -> None:
        # Nothing here may wait: an answer to a ping could be behind it.
        match message:
            case frames.Fetch():
                fetches.start(self._fetch(message, service))
            case frames.Call():
                self._calls.start(self._call(message, service))
            case frames.Sealed():
                service.sealed()
            case frames.Noted():
                service.noted(message.taken_upto, message.durable)
            case frames.Used():
                service.used(message)
            case frames.FetchFolder():
                service.fetch_folder(message.folder)
            case frames.Refused():
                service.refused(message)
            case frames.MountTrouble():
                self.trouble = message.message
            case frames.SealResult() | frames.Pong() | frames.Failed():
                self.answered(message)
            case _:
                raise BadFormat(f"{type(message).__name__} is not for the engine")

    async def _fetch(self, message: frames.Fetch, service: Service) -> None:
        beat = asyncio.create_task(self._beat(message.id, service))
        try:
            async with self._slots if message.priority == 0 else self._slots_ahead:
                await self._answer(message.id, self._fetched(message, service))
        finally:
            beat.cancel()

    async def _fetched(self, message: frames.Fetch, service: Service) -> Message:
        files: dict[bytes, FileKey] = {}

        def written(chunk: bytes, file: FileKey) -> None:
            if message.priority == 0:
                files[chunk] = file  # the answer is about to go out
            else:  # a reader may come to the first chunk long before the last one is there
                self.send(frames.FetchProgress(message.id, {chunk: file}))

        return frames.FetchDone(message.id, await service.fetch(message, written), files)

    async def _beat(self, request_id: int, service: Service) -> None:
        before = service.bytes_fetched()
        while True:
            await self._env.sleep(PROGRESS_S)
            now = service.bytes_fetched()
            if now != before:  # a store that hangs must look as it is: the reader gives up in time
                self.send(frames.FetchProgress(request_id))
            before = now

    async def _call(self, message: frames.Call, service: Service) -> None:
        def progress(data: dict[str, object]) -> None:
            if not self.is_behind:
                self.send(frames.Progress(message.id, data))

        async def called() -> Message:
            return frames.Result(message.id, await service.call(message.verb, message.args, progress))

        await self._answer(message.id, called())

    async def _answer(self, request_id: int, work: Awaitable[Message]) -> None:
        try:
            self.send(await work)
        except asyncio.CancelledError:
            if self._is_ending:  # else nobody listens any more, or somebody else is to be asked
                stopped = NotYet("tcfsd was stopped before this was done", hint="run the command again")
                self.send(failed_of(request_id, stopped))
            raise
        except Exception as error:
            known = expected(error)
            if known is not None:
                self.send(failed_of(request_id, known))
                return
            _log.exception("a request failed for a reason that is a bug")
            self.send(frames.Failed(request_id, "internal", f"internal error: {error!r}", "see the log of tcfsd"))


class Server:
    """Listens on the socket of one engine. At most one mount: the newest connection, an older one is closed."""

    def __init__(self, env: Env, path: Path, service: Service) -> None:
        self._env = env
        self._path = path
        self._service = service
        self._server: asyncio.Server | None = None
        self._connections = _Tasks()
        self._links: set[Link] = set()
        self._socket_ino = 0
        self.mount: Link | None = None
        self.mount_refused_at = float("-inf")  # monotonic time when one of another protocol or schema last came

    async def start(self) -> None:
        """Binds with mode 0600. The caller holds the engine lock, so a socket that is there is stale and goes."""
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(str(self._path))
            self._path.chmod(0o600)
            self._socket_ino = self._path.stat().st_ino
            self._server = await asyncio.start_unix_server(self._accept, sock=listening)
        except BaseException:
            listening.close()
            raise

    async def aclose(self) -> None:
        """Stops listening, says Bye, ends all connections and what was being done for them."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == self._socket_ino:
                    self._path.unlink()
        await self._connections.cancel()

    async def answered_all(self) -> None:
        """Returns when no call is being worked on any more and its answer has been handed to the kernel.

        A verb may wait for something that never comes, and whoever stops the engine must not: it has STOP_S.
        """
        await asyncio.gather(*(link.quiet(STOP_S) for link in list(self._links)))

    def hint(self, message: Message) -> None:
        """Sends a hint to the mount, if one is connected."""
        if self.mount is not None:
            self.mount.send(message)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.start(self._connection(reader, writer))

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        messages = MessageReader(reader)
        try:
            peer = await self._greet(messages, writer)
            if peer is not None:
                await self._serve(Link(self._env, peer, writer), messages)
        except (BadFormat, ConnectionError, TimeoutError) as error:
            _log.warning("connection closed: %s", error or type(error).__name__)
        finally:
            if not writer.is_closing():
                writer.write(frames.encode(frames.Bye()))
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, link: Link, messages: MessageReader) -> None:
        self._links.add(link)
        try:
            if link.peer.role == "mount":
                await self._serve_mount(link, messages)
            else:
                await link.serve(messages, self._service)
        finally:
            self._links.discard(link)

    async def _serve_mount(self, link: Link, messages: MessageReader) -> None:
        if self.mount is not None:
            self.mount.close()
        self.mount = link
        self._service.mount_came(link)
        try:
            await link.serve(messages, self._service)
        finally:
            if self.mount is link:
                self.mount = None
            self._service.mount_went(link)

    async def _greet(self, messages: MessageReader, writer: asyncio.StreamWriter) -> Hello | None:
        ours = self._service.hello()
        writer.write(frames.encode(ours))
        async with self._env.timeout(HELLO_S):
            peer = await messages.hello()
        if peer is None:
            return None
        try:
            check_hello(ours, peer)
        except Unsupported as error:
            if peer.role == "mount":
                self.mount_refused_at = self._env.monotonic()
            writer.write(frames.encode(failed_of(0, error)))
            return None
        return peer


class _Tasks:
    """Tasks that are cancelled together. Each handles its own errors; what escapes one is logged as a bug."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a connection failed for a reason that is a bug", exc_info=error)

    async def wait(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cancel(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_log = logging.getLogger("tcfs.ipc")
