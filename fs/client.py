"""The mount's side of the Unix socket: one connection to the engine, made again whenever it breaks.

Requests wait with deadlines of their own; hints go out when they can and are lost without harm when they cannot.
"""

import logging
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from fs.hydrate.readahead import FETCH_RUN
from sync.core.errors import BadFormat, NoDaemon, TcfsError, TimedOut, Unsupported
from sync.core.filekey import FileKey
from sync.ipc import frames
from sync.ipc.frames import Message

RECONNECT_S = 0.2
SOON_S = 0.01  # at the start, before the second attempt; doubled at each, up to RECONNECT_S
FIRST_S = 1.0  # a tcfsd that has just started this mount may take so long until it listens
NO_DAEMON_S = 3.0  # a reader waits this long for an engine
SILENCE_S = 30.0  # and this long for the next frame about its fetch
AGAIN_S = 1.0  # within this the kernel asks once more for pages that its read ahead has not got
FETCH_S = 300.0  # and never longer than this: a request that we have read cannot be interrupted
STOPPED_S = 5.0  # so late, and a deadline was not missed: this process did not run
START_AGAIN_S = 5.0  # between two attempts to start a dead engine
SERVED_S = 1.0  # an engine that was there for so long is started again at once
CALL_S = 5.0  # a verb that a program waits for; the kernel lets nobody into a folder meanwhile
DRAIN_S = 0.5
LIST = -1  # stands for the list of chunks, which a fetch without indexes brings
SEND_QUEUE_MAX = 4096  # messages
RECEIVE_BYTES = 1024 * 1024

log = logging.getLogger(__name__)


@dataclass
class Callbacks:
    """What the mount does when the engine says something; called in the trio thread, must not block."""

    feed_moved: Callable[[], None] = lambda: None
    taken_moved: Callable[[], None] = lambda: None
    content_moved: Callable[[frames.ContentMoved], None] = lambda moved: None
    policy_moved: Callable[[], None] = lambda: None
    seal_now: Callable[[frames.SealNow], None] = lambda request: None
    written: Callable[[Mapping[bytes, FileKey]], None] = lambda files: None
    connected: Callable[[frames.Hello], None] = lambda hello: None


@dataclass
class _Waiting:
    """A fetch that somebody waits for."""

    request: frames.Fetch | frames.Call
    scope: trio.CancelScope
    latest: float  # trio time when it gives up whatever comes
    done: trio.Event = field(default_factory=trio.Event)
    inline: dict[int, bytes] = field(default_factory=dict)
    failure: TcfsError | None = None

    def wait_on(self, seconds: float) -> None:
        self.scope.deadline = min(trio.current_time() + seconds, self.latest)


class Client:
    """Talks to whatever engine holds the fleet. `run` is its task; all else may be called before it connects."""

    def __init__(
        self,
        socket_path: Callable[[], Path],
        hello: Callable[[], frames.Hello],
        callbacks: Callbacks,
        *,
        daemon: Sequence[str] | None = None,
    ) -> None:
        """socket_path is asked at each attempt. daemon: the command that starts a dead engine; None: nobody does."""
        self._socket_path = socket_path
        self._hello = hello
        self._callbacks = callbacks
        self._daemon = daemon
        self.child: subprocess.Popen[bytes] | None = None
        self._started_at = float("-inf")
        self._next_id = 1
        self._connected_at = 0.0
        self._complaint = ""
        self._away_since: float | None = None  # trio time; None: nobody has asked or looked yet
        self._sent = trio.Event()
        self._waiting: dict[int, _Waiting] = {}
        self._given_up: dict[tuple[str, int], float] = {}  # (version, chunk index) -> when (trio time)
        self._outgoing: trio.MemorySendChannel[Message] | None = None
        self._connected = trio.Event()

    @property
    def is_connected(self) -> bool:
        return self._outgoing is not None

    async def run(self) -> None:
        """Connect, serve, connect again; for ever."""
        now = trio.current_time()
        if self._away_since is None:
            self._away_since = now
        self._started_at = now + FIRST_S - START_AGAIN_S
        pause = SOON_S
        while True:
            stream = await self._connect()
            if stream is not None:
                await self._serve(stream)
                pause = RECONNECT_S
            await trio.sleep(pause)
            pause = min(pause * 2, RECONNECT_S)

    async def fetch(self, version: str, indexes: Sequence[int], priority: int = 0) -> dict[int, bytes]:
        """Have these chunks of a version brought into the cache; returns those that the cache could not take.

        NoDaemon once there has been no engine for 3 s, TimedOut after 30 s without a sign of life about this fetch, and
        at once when one of the chunks was given up on a moment ago; else what the engine reports. A fetch survives a
        reconnect: it is asked for again.
        """
        await self._wait_connected()
        if self._was_given_up(version, indexes):
            raise _timed_out(version)
        request = frames.Fetch(self._take_id(), version, list(indexes), priority)
        waiting = _Waiting(request, trio.CancelScope(), trio.current_time() + FETCH_S)
        waiting.wait_on(SILENCE_S)
        self._waiting[request.id] = waiting
        try:
            self._send(request)
            await self._wait_for(waiting)
        finally:
            del self._waiting[request.id]
        if waiting.failure is not None:
            raise waiting.failure
        if not waiting.done.is_set() and not self.is_connected:
            raise _no_daemon()
        if not waiting.done.is_set():
            self._give_up(version, indexes)
            raise _timed_out(version)
        return waiting.inline

    async def _wait_for(self, waiting: _Waiting) -> None:
        """Until it is done or its deadline has passed. What passed while the machine slept, or we were stopped, does
        not count: the answer may have been on its way.
        """
        while True:
            with waiting.scope:
                await waiting.done.wait()
            late = trio.current_time() - waiting.scope.deadline
            if waiting.done.is_set() or late < STOPPED_S:
                return
            waiting.latest += late
            waiting.scope = trio.CancelScope()
            waiting.wait_on(SILENCE_S if self.is_connected else NO_DAEMON_S)

    async def call(self, verb: str, args: dict[str, object]) -> None:
        """Have the engine do something that may be done twice, and quickly. NoDaemon once there has been none for 3 s,
        TimedOut, or what it reports.
        """
        await self._wait_connected()
        request = frames.Call(self._take_id(), verb, args)
        waiting = _Waiting(request, trio.CancelScope(), trio.current_time() + CALL_S)
        waiting.scope.deadline = waiting.latest
        self._waiting[request.id] = waiting
        try:
            self._send(request)
            with waiting.scope:
                await waiting.done.wait()
        finally:
            del self._waiting[request.id]
        if waiting.failure is not None:
            raise waiting.failure
        if not waiting.done.is_set():
            raise TimedOut(f"tcfsd did not answer to {verb} in time")

    def _was_given_up(self, version: str, indexes: Sequence[int]) -> bool:
        if not self._given_up:
            return False
        since = trio.current_time() - AGAIN_S
        return any(self._given_up.get((version, index), since) > since for index in indexes or (LIST,))

    def _give_up(self, version: str, indexes: Sequence[int]) -> None:
        now = trio.current_time()
        self._given_up = {key: at for key, at in self._given_up.items() if at > now - AGAIN_S}
        self._given_up |= dict.fromkeys(((version, index) for index in indexes or (LIST,)), now)

    def prefetch(self, version: str, indexes: Sequence[int]) -> None:
        """Ask for chunks that nobody waits for yet. Lost if there is no engine."""
        if indexes:
            self._send(frames.Fetch(self._take_id(), version, list(indexes), priority=1))

    def prefetch_all(self, version: str, indexes: Sequence[int]) -> None:
        """As prefetch, for many chunks: in runs, so that none of them is all there is."""
        for start in range(0, len(indexes), FETCH_RUN):
            self.prefetch(version, indexes[start : start + FETCH_RUN])

    def hint(self, message: Message) -> None:
        """Send, or forget if there is no engine or it does not listen."""
        self._send(message)

    async def drain(self) -> None:
        """Give what was said a moment to leave."""
        with trio.move_on_after(DRAIN_S):
            while self._is_sending():
                self._sent = trio.Event()
                await self._sent.wait()

    def _is_sending(self) -> bool:
        return self._outgoing is not None and self._outgoing.statistics().current_buffer_used > 0

    def _complain(self, text: str) -> None:
        """Say it once, not at every attempt."""
        if text != self._complaint:
            log.error("%s", text)
            self._complaint = text

    async def _wait_connected(self) -> None:
        if self._outgoing is not None:
            return
        # Counted from when it went: a program that reads on without it does not wait 3 s at every read.
        if self._away_since is None:
            self._away_since = trio.current_time()
        with trio.move_on_at(self._away_since + NO_DAEMON_S):
            while self._outgoing is None:
                await self._connected.wait()
        if self._outgoing is None:
            raise _no_daemon()

    async def _connect(self) -> trio.SocketStream | None:
        path = str(self._socket_path())
        socket = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        try:
            with trio.fail_after(NO_DAEMON_S):
                await socket.connect(path)
        except (OSError, trio.TooSlowError) as error:
            socket.close()
            if isinstance(error, FileNotFoundError | ConnectionRefusedError):
                self._start_daemon()
            else:
                self._complain(f"cannot connect to {path}: {error}")
            return None
        return trio.SocketStream(socket)

    def _start_daemon(self) -> None:
        if self._daemon is None:
            return
        if self.child is not None and self.child.poll() is not None:
            self.child = None
        now = trio.current_time()
        if self.child is not None or now - self._started_at < START_AGAIN_S:
            return
        self._started_at = now
        log.warning("no engine answers: starting %s", self._daemon[0])
        try:
            self.child = subprocess.Popen(
                self._daemon,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                close_fds=True,
            )
        except OSError as error:
            log.error("cannot start %s: %s", self._daemon[0], error)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """One connection, from Hello to its end. Returns; the reasons are logged."""
        send, receive = trio.open_memory_channel[Message](SEND_QUEUE_MAX)
        try:
            async with stream, trio.open_nursery() as nursery:
                await stream.send_all(frames.encode(self._hello()))
                nursery.start_soon(partial(self._send_loop, stream, receive))
                await self._receive_loop(stream, send)
                nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as group:
            log.info("connection to the engine lost: %s", group.exceptions[0])
        except* BadFormat as group:
            self._complain(f"the engine and the mount do not understand each other: {group.exceptions[0]}")
        finally:
            self._disconnected()

    def _disconnected(self) -> None:
        if self._outgoing is not None:
            self._outgoing.close()
            self._away_since = trio.current_time()
            if self._away_since - self._connected_at >= SERVED_S:
                self._started_at = float("-inf")
        self._outgoing = None
        self._connected = trio.Event()
        for waiting in self._waiting.values():
            # Without an engine a reader waits 3 s, not 30; _reconnected gives the rest back.
            waiting.scope.deadline = min(waiting.scope.deadline, trio.current_time() + NO_DAEMON_S)

    async def _send_loop(self, stream: trio.SocketStream, receive: trio.MemoryReceiveChannel[Message]) -> None:
        async for message in receive:
            batch = bytearray(frames.encode(message))
            while len(batch) < RECEIVE_BYTES:
                try:
                    batch += frames.encode(receive.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
            await stream.send_all(batch)
            self._sent.set()

    async def _receive_loop(self, stream: trio.SocketStream, send: trio.MemorySendChannel[Message]) -> None:
        decoder = frames.FrameDecoder()
        greeted = False
        while data := await stream.receive_some(RECEIVE_BYTES):
            for message in decoder.feed(data):
                if isinstance(message, frames.Hello):
                    self._check_hello(message)
                    greeted = True
                    self._complaint = ""
                    self._reconnected(send)
                    self._callbacks.connected(message)
                elif isinstance(message, frames.Bye):
                    log.info("the engine said bye: %s", message.reason)
                    return
                elif greeted:
                    self._take(message)
                elif isinstance(message, frames.Failed):
                    self._complain(f"the engine refuses the mount: {message.message}")
                    return

    def _check_hello(self, theirs: frames.Hello) -> None:
        ours = self._hello()
        for name in ("protocol", "fleet_schema", "tree_schema"):
            mine, its = getattr(ours, name), getattr(theirs, name)
            if mine != its and mine and its:  # 0: that side does not read this database
                raise Unsupported(f"{name} is {its} there and {mine} here", hint="'tcfs down', then 'tcfs up'")

    def _reconnected(self, send: trio.MemorySendChannel[Message]) -> None:
        self._outgoing = send
        self._connected_at = trio.current_time()
        self._connected.set()
        for waiting in self._waiting.values():
            waiting.wait_on(SILENCE_S)
            self._send(waiting.request)

    def _take(self, message: Message) -> None:
        match message:
            case frames.FetchProgress(id=number, written=written):
                self._callbacks.written(written)
                if waiting := self._waiting.get(number):
                    waiting.wait_on(SILENCE_S)
            case frames.Result(id=number):
                if waiting := self._waiting.get(number):
                    waiting.done.set()
            case frames.Progress():
                pass
            case frames.FetchDone(id=number, inline=inline, written=written):
                self._callbacks.written(written)
                if waiting := self._waiting.get(number):
                    waiting.inline = inline
                    waiting.done.set()
            case frames.Failed(id=number):
                if waiting := self._waiting.get(number):
                    waiting.failure = frames.error_of(message)
                    waiting.done.set()
                else:
                    log.info("%s", message.message)
            case frames.FeedMoved():
                self._callbacks.feed_moved()
            case frames.TakenMoved():
                self._callbacks.taken_moved()
            case frames.PolicyMoved():
                self._callbacks.policy_moved()
            case frames.ContentMoved():
                self._callbacks.content_moved(message)
            case frames.SealNow():
                self._callbacks.seal_now(message)
            case frames.Ping(id=number):
                self._send(frames.Pong(number))
            case _:
                log.warning("unexpected %s from the engine", type(message).__name__)

    def _take_id(self) -> int:
        number = self._next_id
        self._next_id += 1
        return number

    def _send(self, message: Message) -> None:
        if self._outgoing is None:
            return
        try:
            self._outgoing.send_nowait(message)
        except trio.WouldBlock:
            # Lost hints are re-read, lost fetches are asked for again by the next read after their deadline.
            log.warning("the engine does not read: %s dropped", type(message).__name__)
        except trio.BrokenResourceError:
            pass  # the connection ends now; _reconnected sends again what somebody waits for


def _timed_out(version: str) -> TimedOut:
    return TimedOut(f"chunks of {version} did not come in time", hint="is the store slow or stuck?")


def _no_daemon() -> NoDaemon:
    return NoDaemon("tcfsd does not run, and the bytes are not local", hint="start it with `tcfs up`")
