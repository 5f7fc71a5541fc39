"""A mount without tcfsd: the test plays the engine, writes fleet.db, fills the cache, answers fetches or does not."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from homekit import is_mounted, remove_socket_folders
from made_versions import Journal, Line, put

from sync.core.codec import chunk_id, content_id
from sync.core.keys import Keys
from sync.core.manifest import ChunkId, Kind, Version
from sync.env import RealEnv
from sync.ipc import frames
from sync.state.fleet import FleetDb
from sync.state.home import FleetConfig, FleetPaths, Home
from sync.state.migrate import schema_version
from sync.state.tree.database import tree_schema
from sync.state.view import FLEET_PACKAGE

FLEET_ID = "0f1e2d3c-0000-4000-8000-000000000001"
CHUNK = 1 << 20
HAS_FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK)


def wait_for(condition: Callable[[], Any], seconds: float = 10.0, what: str = "", *, pause: float = 0.005) -> Any:
    """The first true value of condition()."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(pause)


class Fleet:
    """One machine whose engine is the test, and another machine whose versions it learns."""

    def __init__(self, base: Path) -> None:
        self.env = RealEnv()
        self.mountpoint = base / "fleet"
        self.home = Home.from_environ({"TCFS_HOME": str(base / "home")})
        self.paths: FleetPaths = self.home.new_fleet(FLEET_ID)
        self.keys = Keys.from_root(b"k" * 32)
        self.paths.write_key(self.keys.root)
        self.paths.save(
            FleetConfig(
                fleet_id=FLEET_ID,
                name="default",
                store_url="file:///nowhere",
                machine_id="11111111-0000-4000-8000-000000000001",
                machine_name="yoga",
                mountpoint=str(self.mountpoint),
            )
        )
        self.db = FleetDb.create(
            self.env, self.paths.fleet_db, FLEET_ID, "11111111-0000-4000-8000-000000000001", "yoga"
        )
        self.other = Journal("bates", "22222222-0000-4000-8000-000000000002")
        self.process: subprocess.Popen[bytes] | None = None
        self.engine: Engine | None = None

    # ---- what the other machine wrote

    def learn(
        self, path: str, content: bytes | None, *, seen: Sequence[Version] = (), cached: bool = True, **fields: Any
    ) -> Version:
        """A file of the other machine (None: it was removed) is shown now; its chunks are in the cache if `cached`."""
        if content is None:
            line = self.other.write(path, None, seen=seen)
        else:
            line = self.file_line(path, content, seen=seen, cached=cached, **fields)
        put(self.db, line)
        self.hint()
        return line[1]

    def file_line(
        self, path: str, content: bytes, *, seen: Sequence[Version] = (), cached: bool = True, **fields: Any
    ) -> Line:
        """A version of the other machine that is not yet learned; its chunks are in the cache if `cached`."""
        chunks = [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)]
        ids = [chunk_id(self.keys, chunk) for chunk in chunks]
        if cached:
            for chunk in chunks:
                self.cache(chunk)
        return self.other.write(
            path,
            "",
            seen=seen,
            file_size=len(content),
            chunks=[name.hex() for name in ids],
            chunk_sizes=[len(chunk) for chunk in chunks],
            content_id=content_id(self.keys, ids, [len(chunk) for chunk in chunks]),
            **fields,
        )

    def learn_dir(self, path: str, **fields: Any) -> Version:
        line = self.other.mkdir(path, **fields)
        put(self.db, line)
        self.hint()
        return line[1]

    def learn_symlink(self, path: str, target: str) -> Version:
        line = self.other.write(path, target, kind=Kind.SYMLINK)
        put(self.db, line)
        self.hint()
        return line[1]

    def cache(self, data: bytes) -> ChunkId:
        """Put a chunk into the cache as the engine does."""
        name = chunk_id(self.keys, data)
        path = self.chunk_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.with_suffix(f".{threading.get_ident()}")
        temp.write_bytes(data)
        temp.rename(path)
        return name

    def chunk_path(self, name: ChunkId) -> Path:
        return self.paths.cache_dir / "chunks" / name.hex()[:2] / name.hex()

    def hint(self) -> None:
        if self.engine is not None:
            self.engine.say(frames.FeedMoved(self.db.view.feed_last()))

    # ---- the mount

    def mount(self, **environ: str) -> Path:
        """Start the mount process and wait until it stands (a dead mount point looks like a live one)."""
        before = self.log().count("mounted at")
        process = self.start(**environ)
        wait_for(lambda: self.log().count("mounted at") > before or process.poll() is not None, 60, "mounted")
        assert process.poll() is None, self.log()
        return self.mountpoint

    def start(self, **environ: str) -> "subprocess.Popen[bytes]":
        """Start the mount process."""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fs.mount"],
            cwd="/",
            env={
                **os.environ,
                "TCFS_HOME": str(self.home.root),
                "TCFS_FLEET": FLEET_ID,
                "TCFS_START_DAEMON": "0",
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self.process

    def unmount(self, seconds: float = 15) -> int:
        """Ask the mount process to end; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        log = self.paths.log_dir / "mount.log"
        return log.read_text() if log.exists() else ""

    def serve(self, fetch: "Callable[[frames.Fetch], frames.Message | None] | None" = None) -> "Engine":
        """Listen on the socket from now on; `fetch` answers fetches (None: never)."""
        self.engine = Engine(self, fetch or (lambda request: frames.FetchDone(request.id)))
        return self.engine

    def close(self) -> None:
        """End everything; nothing stays mounted."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        wait_for(lambda: not is_mounted(self.mountpoint) or _umount(self.mountpoint), 5)
        if self.engine is not None:
            self.engine.close()
        self.db.close()
        remove_socket_folders(self.home.root)


class Engine:
    """The other end of the socket, in threads of the test."""

    def __init__(self, fleet: Fleet, fetch: Callable[[frames.Fetch], frames.Message | None]) -> None:
        self._fleet = fleet
        self.fetch = fetch
        self.fetches: list[frames.Fetch] = []
        self.heard: list[frames.Message] = []
        self._path = fleet.paths.socket_path
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def say(self, message: frames.Message) -> None:
        with self._lock:
            if self._connection is not None:
                with suppress(OSError):
                    self._connection.sendall(frames.encode(message))

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def wait_for(self, kind: type[Any], seconds: float = 5) -> Any:
        return wait_for(lambda: next((m for m in self.heard if isinstance(m, kind)), None), seconds, kind.__name__)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._connection = connection
                self.say(frames.Hello("engine", fleet_schema=schema_version(FLEET_PACKAGE), tree_schema=tree_schema()))
                self._serve(connection)
                self._connection = None

    def _serve(self, connection: socket.socket) -> None:
        decoder = frames.FrameDecoder()
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            if not data:
                return
            for message in decoder.feed(data):
                self.heard.append(message)
                if isinstance(message, frames.Fetch):
                    self.fetches.append(message)
                    threading.Thread(target=self._answer, args=(message,), daemon=True).start()

    def _answer(self, request: frames.Fetch) -> None:
        answer = self.fetch(request)
        if answer is not None:
            self.say(answer)


def _umount(mountpoint: Path) -> bool:
    subprocess.run(["umount", "-l", str(mountpoint)], check=False, capture_output=True)
    return not is_mounted(mountpoint)


@contextmanager
def fleet(base: Path) -> Iterator[Fleet]:
    """A fleet of its own below `base`, taken down at the end."""
    made = Fleet(base)
    try:
        yield made
    finally:
        made.close()
