"""A fleet of whole machines in one process, without a kernel: real trees, engines, packs and journals over one store.

Every step that processes take by themselves is a call here (seal, work, note, learn), so that a test can put anything
between two of them, and crash either side. User operations are those of treekit.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

from treekit import Fleet, Machine

from fs.tree import feed, note, sealing
from fs.tree.check import check_state
from fs.tree.files import OpenFile
from fs.tree.owners import Names
from fs.tree.tree import Tree
from fs.work.stack import BasePiece, LocalPiece
from sync.cas.cache import ChunkCache
from sync.core.chunking import ChunkParams
from sync.core.errors import StoreAway
from sync.core.journal import (
    FLEET_KEY,
    Chunking,
    FleetInfo,
    MachineInfo,
    encode_fleet,
    encode_machine,
    machine_key,
)
from sync.core.keys import Keys
from sync.core.sealed import SigningKey
from sync.core.show import Mode
from sync.env import Crash, RealEnv
from sync.events.memory import MemoryBus, MemoryEvents
from sync.state.check import check
from sync.state.fleet import FleetDb
from sync.state.home import Home
from sync.state.tree.reader import TreeReader
from sync.store.memory import MemoryStore
from sync.worker.chunks import chunk_reader
from sync.worker.context import Context
from sync.worker.fetch import Fetcher
from sync.worker.journals import JournalReader
from sync.worker.large import LARGE
from sync.worker.learn import Learner
from sync.worker.publish import Publisher
from sync.worker.seals import SealWorker

T = TypeVar("T")
FLEET_ID = "f1ee7000-0000-4000-8000-000000000000"
CHUNKING = Chunking(min=64, avg=256, max=1024)


class HookedEnv(RealEnv):
    """At a fault point named in `hooks` the function is called: it may raise Crash, or let others do something."""

    def __init__(self) -> None:
        super().__init__({})
        self.hooks: dict[str, Callable[[], None]] = {}
        self.boot = "one"

    def boot_id(self) -> str:
        return self.boot

    def fault(self, name: str) -> None:
        hook = self.hooks.get(name)
        if hook is not None:
            hook()


class World:
    """One store, one key, and the machines that a test makes. large: bytes that make a file large (SealWorker).

    As a context: at its end everything is settled and verified.
    """

    def __init__(self, root: Path, *, large: int = LARGE) -> None:
        self.root = root
        self.large = large
        self.runner = asyncio.Runner()
        self.keys = Keys.from_root(bytes(range(32)))
        self.store = MemoryStore(HookedEnv())
        self.bus = MemoryBus()
        self.machines: list[WorldMachine] = []
        info = FleetInfo(1, FLEET_ID, "default", CHUNKING, self.keys.check.hex())
        self.do(self.store.put(FLEET_KEY, encode_fleet(info)))

    def do(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.runner.run(wait())

    def machine(self, name: str, mode: Mode = Mode.INTERACTIVE) -> "WorldMachine":
        machine = WorldMachine(self, name, mode)
        self.machines.append(machine)
        return machine

    def settle(self) -> None:
        """Close what is open, then let everybody publish and learn until nothing moves."""
        for machine in self.machines:
            for file in list(machine.files):
                machine.release(file)
        quiet = 0
        for _ in range(40):
            moved = False
            for machine in self.machines:
                moved |= machine.step()
            quiet = 0 if moved else quiet + 1
            if quiet == 2:
                return
        raise AssertionError("endless publishing")

    def verify(self) -> None:
        """After settle: all machines have the same heads, nothing is left dirty, and every invariant holds."""
        heads = [machine.all_heads() for machine in self.machines]
        assert all(one == heads[0] for one in heads), heads
        for machine in self.machines:
            assert machine.tree_reader.seals() == []
            assert [e for e in machine.tree.overlay.all_entries() if e.dirty and not e.local_only] == []
            assert check_state(machine.tree.state) == []
            assert check(machine.db) == []

    def close(self) -> None:
        for machine in self.machines:
            machine.close()
        self.runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                self.settle()
                self.verify()
        finally:
            self.close()


class WorldMachine(Machine):
    owner_names: Names | None = None  # what ids are called here, if ownership is synced: of a mount that starts

    def __init__(self, world: World, name: str, mode: Mode) -> None:
        self.world = world
        self.fleet = Fleet(world.root)  # the user operations of treekit want one; its engine is not used
        self.name, self.mode = name, mode
        self.machine_id = f"0000000{len(world.machines) + 1}-0000-4000-8000-000000000000"
        self.signer = SigningKey(bytes([len(world.machines) + 1]) * 32)
        self.paths = Home.from_environ({"TCFS_HOME": str(world.root / name)}).new_fleet(FLEET_ID)
        self.files: list[OpenFile] = []
        self.told: list[Any] = []
        self.env = self._env = HookedEnv()
        info = MachineInfo(self.machine_id, name, self.signer.public, 1)
        body = encode_machine(world.keys, FLEET_ID, info, self._env.random_bytes(12), self.signer)
        world.do(world.store.put(machine_key(self.machine_id), body))
        self._start_engine()
        self._start_mount()

    # ---- both processes

    def _start_engine(self) -> None:
        world, env = self.world, self._env
        if not self.paths.fleet_db.exists():
            self.db = FleetDb.create(env, self.paths.fleet_db, FLEET_ID, self.machine_id, self.name, mode=self.mode)
        else:
            self.db = FleetDb.open(env, self.paths.fleet_db)
        params = ChunkParams(world.keys.chunker_seed, CHUNKING.min, CHUNKING.avg, CHUNKING.max)
        self.context = Context(
            env, world.keys, FLEET_ID, params, world.store, MemoryEvents(world.bus), self.db, self.signer
        )
        self.tree_reader = TreeReader(env, self.paths.tree_db)
        cache = ChunkCache(env, self.paths.cache_dir, 1 << 30, world.keys, frozenset)
        reader = chunk_reader(self.context)
        self.fetcher = Fetcher(self.context, cache, reader)
        journals = JournalReader(self.context)
        self.publisher = Publisher(self.context, journals, reader, self.fetcher)
        self.learner = Learner(self.context, journals, self.publisher.check)
        self.sealer = SealWorker(self.context, self.publisher, self.tree_reader, self.paths.work_dir, large=world.large)

    def _start_mount(self) -> None:
        self.tree = Tree.load(self._env, self.paths, uid=1000, gid=1000, owner_names=self.owner_names)

    def _stop_engine(self) -> None:
        self.world.do(self.fetcher.aclose())
        self.tree_reader.close()
        self.db.close()

    def close(self) -> None:
        self.tree.abandon()
        self._stop_engine()

    def crash_engine(self) -> None:
        self._stop_engine()
        self._env.hooks.clear()
        self._start_engine()

    def crash_mount(self, *, other_boot: bool = False) -> None:
        self.tree.abandon()
        self.files = []
        if other_boot:
            self._env.boot += "+"
        self._start_mount()

    def lose_fleet_db(self) -> None:
        self.tree.abandon()
        self._stop_engine()
        for path in self.paths.state_dir.glob("fleet.db*"):
            path.unlink()
        self._start_engine()
        self.learn()
        self._start_mount()

    def clone(self, name: str) -> "WorldMachine":
        """Another machine that starts with a copy of this one's state folder, machine_id and key."""
        self.tree.overlay.commit(full=True)
        twin = WorldMachine.__new__(WorldMachine)
        twin.__dict__.update(self.__dict__)
        twin.name, twin.files, twin.env = name, [], HookedEnv()
        twin._env = twin.env
        twin.paths = Home.from_environ({"TCFS_HOME": str(self.world.root / name)}).new_fleet(FLEET_ID)
        shutil.copytree(self.paths.state_dir, twin.paths.state_dir, dirs_exist_ok=True)
        twin._start_engine()
        twin._start_mount()
        self.world.machines.append(twin)
        return twin

    # ---- the steps of the processes

    def seal(self) -> bool:
        seal_round = sealing.begin(self.tree.state, None)
        if not seal_round:
            return False
        seal_round.sync()
        sealing.finish(self.tree.state, seal_round)
        return True

    def work(self) -> bool:
        """The engine publishes what is sealed, then packs one large file; an outbox left by a crash goes first."""
        self.world.do(self.publisher.drain())
        answered = self.world.do(self.sealer.run_once())
        return self.world.do(self.sealer.pack_large()) or bool(answered)

    def note(self) -> bool:
        moved = False
        while note.has_answers(self.tree.state):
            note.note(self.tree.state)
            moved = True
        return moved

    def publish(self) -> None:
        """Seal, publish and note, as happens within moments of every change."""
        self.seal()
        self.work()
        self.note()

    def learn(self) -> bool:
        return bool(self.world.do(self.learner.poll(thorough=True)))

    def feed(self) -> bool:
        moved = False
        while feed.has_more(self.tree.state):
            feed.feed(self.tree.state)
            moved = True
        return moved

    def step(self) -> bool:
        moved = self.learn()
        moved |= self.seal()
        moved |= self.work()
        moved |= self.note()
        return self.feed() or moved

    @contextlib.contextmanager
    def crash_at(self, point: str) -> Iterator[None]:
        """The engine dies when it passes `point` inside the block, and is started again behind it."""

        def die() -> None:
            raise Crash(point)

        self._env.hooks[point] = die
        died = False
        try:
            yield
        except Crash:
            died = True
        assert died, f"{point} was not passed"
        self.crash_engine()

    @contextlib.contextmanager
    def away_at(self, point: str) -> Iterator[None]:
        """The network goes when the engine passes `point`."""

        def cut() -> None:
            raise StoreAway("cut off")

        self._env.hooks[point] = cut
        try:
            with contextlib.suppress(StoreAway):
                yield
        finally:
            del self._env.hooks[point]

    # ---- what can be seen

    def bytes_of(self, file: OpenFile) -> bytes:
        parts: list[bytes] = []
        for piece in file.pieces(0, 1 << 40):
            if isinstance(piece, LocalPiece):
                with open(piece.fd, "rb", closefd=False) as source:
                    source.seek(piece.offset)
                    parts.append(source.read(piece.length))
            elif isinstance(piece, BasePiece):
                whole = self._content(piece.version)
                parts.append(whole[piece.offset : piece.offset + piece.length])
            else:
                parts.append(bytes(piece.length))
        return b"".join(parts)

    def _content(self, version: str) -> bytes:
        ids, _ = self.world.do(self.fetcher.chunk_list(version))
        found = self.world.do(self.fetcher.chunk_bytes(list(dict.fromkeys(ids))))
        return b"".join(found[chunk] for chunk in ids)

    def text(self, path: str) -> str | None:
        """The content of a file, None if it is absent."""
        return self.read(path).decode() if self.exists(path) else None

    def names(self, path: str = "") -> list[str]:
        return [name for name, _ in self.tree.read_dir(self.ino(path), "", 1000)]

    def all_heads(self) -> dict[str, frozenset[tuple[str, Any]]]:
        paths = [row[0] for row in self.db.query("SELECT DISTINCT path FROM head")]
        return {path: frozenset((v.id, v.manifest.value) for v in self.db.heads(path)) for path in paths}
