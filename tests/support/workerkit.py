"""Machines for tests of the workers: real parts of sync over one store in memory, each machine in its own folder."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sync.cas.cache import ChunkCache
from sync.core.chunking import ChunkParams
from sync.core.journal import FLEET_KEY, Chunking, FleetInfo, MachineInfo, encode_fleet, encode_machine, machine_key
from sync.core.keys import Keys
from sync.core.sealed import SigningKey
from sync.core.show import Mode
from sync.env import FakeClock, FakeEnv
from sync.events.memory import MemoryBus, MemoryEvents
from sync.plain.pull import Pull
from sync.plain.push import Push
from sync.plain.report import TransferReport
from sync.state.fleet import FleetDb
from sync.state.tree.database import layer_path, open_tree
from sync.state.tree.reader import TreeReader
from sync.store.base import Store
from sync.store.memory import MemoryStore
from sync.worker.chunks import chunk_reader
from sync.worker.context import Context, ProblemKind
from sync.worker.fetch import Fetcher
from sync.worker.ignorefile import IgnoreFile
from sync.worker.journals import JournalReader
from sync.worker.learn import Learner
from sync.worker.publish import Publisher
from sync.worker.seals import SealWorker

FLEET_ID = "f1ee7000-0000-4000-8000-000000000000"
KEYS = Keys.from_root(bytes(range(32)))
SIZES = Chunking(min=1024, avg=4096, max=16384)  # small, so that small files have many chunks
T = TypeVar("T")


class Fleet:
    """A fleet whose store is in memory (`memory.objects` is for looking and damaging) unless one is given."""

    def __init__(self, root: Path, store: Store | None = None) -> None:
        self.root = root
        self.clock = FakeClock()
        self.memory = MemoryStore(FakeEnv(99, self.clock))
        self.store = store if store is not None else self.memory
        self.bus = MemoryBus()
        self.machines: list[Machine] = []
        info = FleetInfo(1, FLEET_ID, "default", SIZES, KEYS.check.hex())
        self.memory.objects[FLEET_KEY] = encode_fleet(info)
        self.params = ChunkParams(seed=KEYS.chunker_seed, min_size=SIZES.min, avg_size=SIZES.avg, max_size=SIZES.max)

    def machine(self, name: str, mode: Mode = Mode.INTERACTIVE) -> "Machine":
        number = len(self.machines) + 1
        machine_id = f"0000000{number}-0000-4000-8000-000000000000"
        machine = Machine(self, name, number)
        self.machines.append(machine)
        machine.db = FleetDb.create(machine.env, machine.folder / "fleet.db", FLEET_ID, machine_id, name, mode=mode)
        machine.assemble()
        info = MachineInfo(machine_id, name, machine.signer.public, 0)
        self.memory.objects[machine_key(machine_id)] = encode_machine(
            KEYS, FLEET_ID, info, machine.env.random_bytes(12), machine.signer
        )
        return machine

    def close(self) -> None:
        for machine in self.machines:
            machine.close()


class Machine:
    """One member; `reopen` is what a new process finds after a crash."""

    db: FleetDb

    def __init__(self, fleet: Fleet, name: str, number: int) -> None:
        self.fleet = fleet
        self.name = name
        self.number = number
        self.generation = 0
        self.folder = fleet.root / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home = self.folder / "home"  # where plain folders of this machine are
        self.home.mkdir(exist_ok=True)
        self.env = FakeEnv(number, fleet.clock)
        self.signer = SigningKey(bytes([number]) * 32)
        self.tree: TreeReader | None = None

    def assemble(self) -> None:
        self.events = MemoryEvents(self.fleet.bus)
        self.context = Context(
            env=self.env,
            keys=KEYS,
            fleet_id=FLEET_ID,
            params=self.fleet.params,
            store=self.fleet.store,
            events=self.events,
            db=self.db,
            signer=self.signer,
        )
        self.cache = ChunkCache(self.env, self.folder / "cache", 1 << 30, KEYS)
        self.reader = chunk_reader(self.context)
        self.fetcher = Fetcher(self.context, self.cache, self.reader)
        self.journals = JournalReader(self.context)
        self.publisher = Publisher(self.context, self.journals, self.reader, self.fetcher)
        self.learner = Learner(self.context, self.journals, self.publisher.check)
        if self.tree is not None:
            self.tree.close()
        self.tree = TreeReader(self.env, self.folder / "tree.db")
        self.sealer = SealWorker(self.context, self.publisher, self.tree, self.folder / "work")
        self.ignore_file = IgnoreFile(self.context, self.fetcher)
        self.pusher = Push(self.context, self.learner, self.publisher, self.ignore_file)
        self.puller = Pull(self.context, self.learner, self.fetcher, self.cache, self.reader)

    def close(self) -> None:
        if self.tree is not None:
            self.tree.close()
        self.db.close()

    def reopen(self) -> None:
        """A new process over the same files."""
        self.generation += 1
        self.db.close()
        self.env = FakeEnv(1000 * self.generation + self.number, self.fleet.clock)
        self.db = FleetDb.open(self.env, self.folder / "fleet.db")
        self.assemble()

    # ---- what people do

    def write(self, path: str, data: bytes | str) -> Path:
        """A local file of this machine, with a new mtime."""
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        return file

    async def push(self, *paths: str, to: str = "", force: bool = False) -> TransferReport:
        return await self.pusher.run([(self.home / path, Path(path).name) for path in paths], to, force=force)

    async def pull(self, remote: str, local: str, *, force: bool = False) -> TransferReport:
        return await self.puller.run(remote, self.home / local, force=force)

    # ---- what is there

    def shown(self) -> dict[str, str]:
        """Every shown path, siblings too: kind, and for files the content_id's start."""
        found: dict[str, str] = {}
        waiting = [("", 1)]
        while waiting:
            folder, row_id = waiting.pop()
            for row in self.db.view.children(row_id, limit=10_000):
                path = f"{folder}{row.name}"
                if row.kind == 2:
                    found[path] = "dir"
                    waiting.append((f"{path}/", row.id))
                elif row.version is not None:
                    manifest = self.db.view.manifest(self.db.view.identity(row.version))
                    found[path] = manifest.content_id[:8] or manifest.target
        return dict(sorted(found.items()))

    async def content(self, path: str) -> bytes:
        """The bytes that a path shows, through the fetcher."""
        row = self.db.view.resolve_path(path)
        assert row is not None and row.version is not None, path
        version = self.db.view.identity(row.version)
        ids, _ = await self.fetcher.chunk_list(version)
        found = await self.fetcher.base_bytes(version, range(len(ids)))
        return b"".join(found[index] for index in range(len(ids)))

    def problems_now(self) -> list[str]:
        return [problem.message for problem in self.context.problems.current()]

    def problems(self, kind: ProblemKind) -> list[str]:
        return [problem.message for problem in self.context.problems.current() if problem.kind is kind]


class Mount:
    """Writes tree.db by hand, as a mount would: seals, layers, and notes of the answers."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.connection: sqlite3.Connection = open_tree(machine.env, machine.folder / "tree.db")
        self._next = 1
        self._round = 0

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def round(self) -> Iterator[None]:
        """Seals of one round."""
        self._round += 1
        self.connection.execute("BEGIN")
        yield
        self.connection.execute("COMMIT")

    def layer(self, spans: list[tuple[int, bytes]]) -> int:
        """A sealed layer with data at these offsets; its work id."""
        work = self._next
        self._next += 1
        path = layer_path(self.machine.folder / "work", work)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for start, data in spans:
                file.seek(start)
                file.write(data)
        rows = [(work, start, start + len(data)) for start, data in spans if data]
        self.connection.executemany("INSERT INTO span VALUES (?, ?, ?)", rows)
        return work

    def seal(self, op: str, path: str, **columns: Any) -> bytes:
        """One seal row; lists as JSON. Answers its seal_id."""
        self._next += 1
        seal_id = self._next.to_bytes(16, "big")
        values = {"seal_id": seal_id, "round": self._round, "op": op, "path": path, **columns}
        for name in ("seen", "dir_ids", "moved_from", "xattrs"):
            if name in values and not isinstance(values[name], str):
                values[name] = json.dumps(values[name])
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        self.connection.execute(f"INSERT INTO seal ({names}) VALUES ({marks})", tuple(values.values()))
        return seal_id

    def put_file(self, path: str, data: bytes, **columns: Any) -> bytes:
        """A whole new file of mode 0644, from a layer."""
        defaults = {"kind": 1, "mode": 0o644, "size": len(data), "mtime_ns": 1, "ctime_ns": 1}
        return self.seal("put", path, layer=self.layer([(0, data)]), limit_below=0, **(defaults | columns))

    def dirty(self, name: str, seal_id: bytes | None = None) -> None:
        """A changed entry of the root, frozen by seal_id."""
        sealed_gen = None if seal_id is None else 1
        row = (name, seal_id, sealed_gen)
        self.connection.execute("INSERT INTO entry (parent, name, seal_id, sealed_gen) VALUES (1, ?, ?, ?)", row)

    def note(self) -> None:
        """Forget the seals that have an answer."""
        for taken in self.machine.db.view.taken_after(0):
            self.connection.execute("DELETE FROM seal WHERE seal_id = ?", (taken.seal_id,))


def run(awaitable: Awaitable[T], clock: FakeClock) -> T:
    """In a loop of its own, moving the clock as far as it takes."""

    async def driven() -> T:
        return await clock.drive(awaitable)

    return asyncio.run(driven())
