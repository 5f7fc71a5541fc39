"""Real engines in the test's own process: a home below a temporary folder, a directory store, the real socket."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

import pytest
import workerkit

from sync.core.errors import TcfsError
from sync.engine import Engine, run_engine
from sync.env import RealEnv
from sync.ipc import frames
from sync.ipc.frames import Hello
from sync.ipc.stream import MessageReader
from sync.machines.identity import create_fleet, join_fleet
from sync.state.home import FleetPaths, Home
from sync.state.migrate import schema_version
from sync.state.settings import Settings
from sync.state.tree.database import tree_schema
from sync.state.view import FLEET_PACKAGE
from sync.verbs import find_verb

T = TypeVar("T")


class Machine:
    """A member of the fleet on root/store; the first that is made creates it."""

    def __init__(self, root: Path, name: str, first: "Machine | None" = None) -> None:
        self.root = root / name
        self.root.mkdir()
        self.home = Home.from_environ({"TCFS_HOME": str(self.root / "home")})
        self.env = RealEnv({})
        store = str(root / "store")
        if first is None:
            joining = create_fleet(self.env, self.home, store, fleet_name="default", machine_name=name, host=name)
        else:
            key = first.paths.read_key()
            joining = join_fleet(self.env, self.home, store, key, fleet_name=None, machine_name=name, host=name)
        self.paths: FleetPaths = asyncio.run(joining).paths

    def run(self, scenario: Callable[[Engine], Awaitable[T]], **settings: object) -> T:
        """The scenario beside an engine of this machine, within 20 s."""
        return asyncio.run(self.beside(scenario, **settings))

    async def beside(self, scenario: Callable[[Engine], Awaitable[T]], **settings: object) -> T:
        async def limited(engine: Engine) -> T:
            async with asyncio.timeout(20):
                return await scenario(engine)

        return await run_engine(self.env, self.paths, Settings.load(self.home, {}, settings), find_verb, limited)

    def file(self, name: str, data: bytes) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return str(path)

    def close(self) -> None:
        self.env.close()


async def call(engine: Engine, verb: str, **args: Any) -> dict[str, Any]:
    """A verb, with a cwd that is none of anybody's."""
    if verb not in ("engine", "mount", "unmount", "down", "fsck"):
        args.setdefault("cwd", "/")
    return await engine.call(verb, args, lambda data: None)


class Hanging:
    """A function of a module, about a path, that does not return for the paths that are meant."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, is_meant: Callable[[str], bool]
    ) -> None:
        self._real, self._is_meant = getattr(module, name), is_meant
        self._hangs, self._goes_on = threading.Event(), threading.Event()
        monkeypatch.setattr(module, name, self)

    def __call__(self, path: object, **options: Any) -> Any:
        if self._is_meant(str(path)):
            self._hangs.set()
            self._goes_on.wait(10)
        return self._real(path, **options)

    async def is_given_up(self, engine: Engine, verb: str, **args: Any) -> TcfsError:
        """The verb's error in the end; until then it keeps no other one waiting."""
        asking = asyncio.ensure_future(call(engine, verb, **args))
        await until(self._hangs.is_set)
        assert "pid" in await call(engine, "engine")
        assert not asking.done()
        with pytest.raises(TcfsError) as caught:
            await asking
        return caught.value

    def go_on(self) -> None:
        self._goes_on.set()


async def until(condition: Callable[[], Any], seconds: float = 5) -> Any:
    """The first true value of condition()."""
    async with asyncio.timeout(seconds):
        while not (value := condition()):
            await asyncio.sleep(0.002)
        return value


class Tree(workerkit.Mount):
    """tree.db as a mount would leave it, written by hand. Entries are of the root; a path's node is its number."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(SimpleNamespace(env=machine.env, folder=machine.paths.state_dir))  # type: ignore[arg-type]
        self._ino = 101

    def dirty(self, name: str, *, unflushed: bool = False, seal_id: bytes | None = None) -> None:
        """A changed file that is not sealed, or frozen by seal_id."""
        self._ino += 2
        self.connection.execute(
            "INSERT INTO node (id, kind, mode, uid, gid, atime_ns, mtime_ns, ctime_ns, unflushed)"
            " VALUES (?, 1, 420, 0, 0, 1, 1, 1, ?)",
            (self._ino, int(unflushed)),
        )
        sealed = 1 if seal_id is not None else None
        row = (name, self._ino, seal_id, sealed)
        self.connection.execute(
            "INSERT INTO entry (parent, name, node, seal_id, sealed_gen) VALUES (1, ?, ?, ?, ?)", row
        )

    def put(self, name: str, data: bytes, **columns: Any) -> bytes:
        """A new file that is sealed."""
        with self.round():
            seal_id = self.put_file(name, data, **columns)
            self.connection.execute("DELETE FROM entry WHERE name = ?", (name,))
            self.dirty(name, seal_id=seal_id)
        return seal_id

    def forget(self, name: str) -> None:
        """The answer is noted, and nothing has changed since."""
        with self.round():
            self.connection.execute("DELETE FROM seal WHERE path = ?", (name,))
            self.connection.execute("DELETE FROM entry WHERE name = ?", (name,))


class MountEnd:
    """A mount's end of the socket: answers SealNow as the test says, and keeps what the engine told."""

    def __init__(self, seal: Callable[[frames.SealNow], frames.SealResult] | None = None) -> None:
        self.seal = seal or (lambda request: frames.SealResult(request.id))
        self.asked: list[frames.SealNow] = []
        self.told: list[Any] = []

    async def connect(self, engine: Engine, mountpoint: str = "/mnt") -> None:
        reader, self.writer = await asyncio.open_unix_connection(str(engine.paths.socket_path))
        self.messages = MessageReader(reader)
        schemas = {"fleet_schema": schema_version(FLEET_PACKAGE), "tree_schema": tree_schema()}
        self.send(Hello(role="mount", mountpoint=mountpoint, pid=0, **schemas))
        self.hello = await self.messages.hello()
        self.task = asyncio.ensure_future(self._serve())
        await until(lambda: engine.server.mount)

    def send(self, message: frames.Message) -> None:
        self.writer.write(frames.encode(message))

    async def _serve(self) -> None:
        while (message := await self.messages.next()) is not None:
            match message:
                case frames.SealNow():
                    self.asked.append(message)
                    self.send(self.seal(message))
                case frames.Ping():
                    self.send(frames.Pong(message.id))
                case _:
                    self.told.append(message)

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.writer.close()
        await self.writer.wait_closed()
