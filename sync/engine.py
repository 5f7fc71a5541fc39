"""The engine of one fleet: the only place that knows all parts and puts them together; only the verbs stand above it.

Whoever holds engine.lock is the engine: tcfsd, or a CLI whose verb runs in its own process while no daemon does. Every
engine serves the socket while it runs. Nothing here is global: a test may run many in one process.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from sync.cas.cache import ChunkCache
from sync.cas.room import default_quota
from sync.core.errors import NotYet, TcfsError
from sync.core.keys import Keys
from sync.core.policy import Policies
from sync.core.sealed import SigningKey
from sync.env import Env
from sync.events.poll import PollEvents
from sync.ipc import frames
from sync.ipc.frames import Hello
from sync.ipc.server import Link, Progress, Server, Written
from sync.machines.identity import known_fleet
from sync.state import ballast
from sync.state.files import files_below
from sync.state.fleet import FleetDb
from sync.state.home import FleetConfig, FleetPaths
from sync.state.lock import FileLock
from sync.state.migrate import schema_version
from sync.state.policies import PolicyFile
from sync.state.rows import Taken
from sync.state.settings import Settings
from sync.state.tree.database import tree_schema
from sync.state.tree.reader import Dirty, TreeReader
from sync.state.view import FLEET_PACKAGE
from sync.store.meter import Meter
from sync.store.open import open_store, store_folder
from sync.worker.attempts import Attempts
from sync.worker.cache_keeper import CacheKeeper
from sync.worker.chunks import chunk_reader
from sync.worker.context import Context, ProblemKind
from sync.worker.fetch import Fetcher, Priority
from sync.worker.folder import FolderFetcher
from sync.worker.ignorefile import IgnoreFile
from sync.worker.journals import JournalReader
from sync.worker.learn import Learner
from sync.worker.pins import Pins
from sync.worker.prune import Pruner
from sync.worker.publish import Publisher
from sync.worker.seals import SealWorker
from sync.worker.store_loops import StoreLoops

if TYPE_CHECKING:
    from sync.machines.keeper import MountKeeper
    from sync.plain.pull import Pull
    from sync.plain.push import Push

T = TypeVar("T")
Verb = Callable[["Engine", dict[str, object], Progress], Awaitable[dict[str, object]]]
FindVerb = Callable[[str], Verb]
TICK_S: Final = 1.0  # between two looks at what is pinned, and at .tcfsignore
PACKS: Final = "packs"  # the area of the store that holds content
POLICY_S: Final = 2.0  # that the mount gets to take note of a policy
TOLD_AT_ONCE: Final = 1000  # contents of one frame to the mount
REFUSALS_MAX: Final = 200  # programs remembered that were refused content


class EngineBusy(TcfsError):
    """Another process is the engine of this fleet."""

    code = "busy"
    exit_code = 7


async def run_engine(
    env: Env, paths: FleetPaths, settings: Settings, verbs: FindVerb, work: Callable[["Engine"], Awaitable[T]]
) -> T:
    """Be the engine while work(engine) runs, and return what that returns. EngineBusy at once if another process is.

    verbs: what answers to the name of a verb, sync.verbs.find_verb; a part that stands above the engine.
    """
    paths.make_dirs()
    with FileLock(paths.engine_lock) as lock:
        if not lock.try_acquire():
            raise EngineBusy("another process is the engine of this fleet")
        async with contextlib.AsyncExitStack() as stack:
            engine = await _assemble(env, paths, settings, verbs, stack)
            await engine.server.start()
            stack.push_async_callback(engine.server.aclose)
            return await engine.run_beside(work(engine))


async def _assemble(
    env: Env, paths: FleetPaths, settings: Settings, verbs: FindVerb, stack: contextlib.AsyncExitStack
) -> "Engine":
    config = paths.load()
    ballast.keep(paths.ballast)
    meter = Meter()
    store = open_store(config.store_url, env, meter=meter)
    stack.push_async_callback(store.aclose)
    db = ballast.with_ballast(paths.ballast, lambda: _open_db(env, paths, config))
    stack.callback(db.close)
    keys = Keys.from_root(paths.read_key())
    info = await known_fleet(store, db, keys)
    events = PollEvents(env, store_folder(config.store_url))
    stack.push_async_callback(events.aclose)
    context = Context(
        env=env,
        keys=keys,
        fleet_id=config.fleet_id,
        params=info.chunk_params(keys),
        store=store,
        events=events,
        db=db,
        signer=SigningKey(paths.read_signing_key()),
    )
    engine = Engine(env, paths, config, settings, verbs, context, events, meter)
    stack.callback(engine.tree.close)
    stack.push_async_callback(engine.fetcher.aclose)
    stack.push_async_callback(engine.folders.aclose)
    return engine


def _open_db(env: Env, paths: FleetPaths, config: FleetConfig) -> FleetDb:
    """A lost fleet.db begins anew under the old machine_id: the fork rule finds the old journal and takes a new id.

    So does one that is empty: whoever made it was killed on the way.
    """
    if paths.fleet_db.exists():
        with contextlib.suppress(NotYet):
            return FleetDb.open(env, paths.fleet_db, reserve=paths.ballast)
    machine_id, name = config.machine_id, config.machine_name
    return FleetDb.create(env, paths.fleet_db, config.fleet_id, machine_id, name, reserve=paths.ballast)


class Engine:
    """One fleet on this machine; made by run_engine. The verbs in sync.verbs work on its parts."""

    def __init__(
        self,
        env: Env,
        paths: FleetPaths,
        config: FleetConfig,
        settings: Settings,
        verbs: FindVerb,
        context: Context,
        events: PollEvents,
        meter: Meter,
    ) -> None:
        self.env = env
        self.paths = paths
        self.config = config
        self.settings = settings
        self._find_verb = verbs
        self.context = context
        self.meter = meter
        self.tree = TreeReader(env, paths.tree_db)
        self.keeper: MountKeeper | None = None  # of a daemon
        self.stop = asyncio.Event()  # a daemon ends when it is set
        quota = settings.cache_quota or default_quota(paths.cache_dir)
        self.cache = ChunkCache(env, paths.cache_dir, quota, context.keys, lambda: self.cache_keeper.needed())
        self.reader = chunk_reader(context)
        self.fetcher = Fetcher(context, self.cache, self.reader)
        self.policies = PolicyFile(paths.policies_toml)
        self._policies_lock = asyncio.Lock()  # from reading them to writing them
        self.pins = Pins(context, self.cache, self.fetcher, PolicyFile(paths.policies_toml), quota)
        self.folders = FolderFetcher(context, self.cache, self.fetcher, PolicyFile(paths.policies_toml))
        journals = JournalReader(context)
        self.publisher = Publisher(context, journals, self.reader, self.fetcher)
        self.learner = Learner(context, journals, self.publisher.check)
        self.sealer = SealWorker(context, self.publisher, self.tree, paths.work_dir)
        self.pruner = Pruner(context, self.tree, paths.tree_db)
        self.log = logging.getLogger(f"tcfs.{paths.fleet_id[:8]}")
        self.ignore_file = IgnoreFile(context, self.fetcher)
        self._attempts = Attempts(env, paths, self.log, self._attempted)
        self._store_loops = StoreLoops(
            context,
            self._attempts,
            paths.ballast,
            learner=self.learner,
            publisher=self.publisher,
            sealer=self.sealer,
            pruner=self.pruner,
            restore=self._restore,
        )
        self.cache_keeper = CacheKeeper(
            context,
            paths,
            self.cache,
            self.pins,
            self.tree,
            self._attempts,
            self.fetcher.reused,
            lambda values, dropped: self.server.hint(frames.ContentMoved(values, dropped)),
        )
        self.server = Server(env, paths.socket_path, self)
        self._events = events
        self._refusals: dict[tuple[str, str], frames.Refused] = {}
        self.damaged_in_mount = 0  # cache files that the mount has found wrong
        self._told = (0, 0)
        self._hello = Hello(
            role="engine",
            fleet_schema=schema_version(FLEET_PACKAGE),
            tree_schema=tree_schema(),
            fleet_epoch=context.db.epoch,
        )

    # ---- background

    async def run_beside(self, work: Awaitable[T]) -> T:
        """The result of work; the loops of the engine run as long. An error of theirs ends both: it is a bug, or the
        Integrity of a damaged fleet.db.
        """
        main = asyncio.ensure_future(work)
        loops = [
            asyncio.ensure_future(loop())
            for loop in (
                self._store_loops.learn_loop,
                self._store_loops.publish_loop,
                self._store_loops.pack_loop,
                self._store_loops.drain_loop,
                self.cache_keeper.loop,
                self.cache_keeper.copy_loop,
                self._pin_loop,
                self._ignore_loop,
                self._attempts.end_if_damaged,
            )
        ]
        try:
            async with self._attempts.telling_damage():
                done, _ = await asyncio.wait({main, *loops}, return_when=asyncio.FIRST_COMPLETED)
                for loop in done - {main}:
                    loop.result()
                return await main
        finally:
            for task in (main, *loops):
                task.cancel()
            await asyncio.gather(main, *loops, return_exceptions=True)

    async def _restore(self) -> None:
        """The store was set back: put again what is still here of the contents that it had."""
        from sync.worker.restore import restore

        files = ((file.path, file.version) for file in files_below(self.context.db.view, ""))
        done = await restore(self.publisher, self.fetcher, files, verify=True)
        self.log.warning("the store was set back: %d files were put again, %d are lost", done.files, done.lost)

    async def _pin_loop(self) -> None:
        """What is pinned comes by itself. A short verb is over before the first look."""
        while True:
            await self.env.sleep(TICK_S)
            await self._attempts.attempt("pins", self._bring_pinned)

    async def _bring_pinned(self) -> None:
        came = await self.pins.run_once()
        for start in range(0, len(came), TOLD_AT_ONCE):
            self.server.hint(frames.ContentMoved(came[start : start + TOLD_AT_ONCE]))

    async def _ignore_loop(self) -> None:
        """What .tcfsignore says now decides about what is made from now on."""
        while True:
            await self._attempts.attempt("ignore", self.ignore_file.follow)
            await self.env.sleep(TICK_S)

    def _attempted(self) -> None:
        self._take_over_machine_id()
        self._tell_mount()

    def _take_over_machine_id(self) -> None:
        """After a fork fleet.db has a new machine_id: fleet.toml follows."""
        machine_id = self.context.db.machine_id
        if machine_id != self.config.machine_id:
            self.log.warning("this machine is %s now; it was %s", machine_id, self.config.machine_id)
            self.save_config(msgspec.structs.replace(self.config, machine_id=machine_id))

    def _tell_mount(self) -> None:
        """Hints for what was committed since the last time."""
        db = self.context.db
        now = (db.view.feed_last(), int(db.query("SELECT coalesce(max(n), 0) FROM taken")[0][0]))
        if now[0] != self._told[0]:
            self.server.hint(frames.FeedMoved(now[0]))
        if now[1] != self._told[1]:
            self.server.hint(frames.TakenMoved(now[1]))
        self._told = now

    # ---- for the verbs

    def pusher(self, passed_by: Mapping[str, str]) -> "Push":
        """passed_by: what find_own_folders found."""
        from sync.plain.push import Push  # here: a verb that pulls starts without it

        return Push(self.context, self.learner, self.publisher, self.ignore_file, passed_by)

    def puller(self) -> "Pull":
        from sync.plain.pull import Pull

        return Pull(self.context, self.learner, self.fetcher, self.cache, self.reader)

    def is_shown(self, path: str) -> bool:
        return self.context.db.view.resolve_path(path) is not None

    async def dirty(self) -> list[Dirty]:
        """Every path of the mount that is not published, as tree.db says now."""
        return await self.env.run_io(self.tree.dirty, self.context.db.view.path_of)

    async def answers(self, seal_ids: Sequence[bytes]) -> list[Taken]:
        """Those that these seals have."""
        return await self.env.run_io(self.context.db.view.answers, seal_ids)

    def unpublishable(self) -> dict[str, tuple[str, str]]:
        """path -> (why its seal could not be published when it was last tried, what to do)."""
        refused = [problem for problem in self.context.problems.current() if problem.kind is ProblemKind.REFUSED]
        return {problem.subject: (problem.message, problem.hint) for problem in refused}

    def refusals(self) -> list[frames.Refused]:
        """Programs that were refused content since the mount's start, the last one first."""
        return sorted(self._refusals.values(), key=lambda refused: (-refused.at, refused.program))

    async def change_policies(self, change: Callable[[Policies], Policies]) -> None:
        """Write what change() makes of the policies. The mount knows it when this returns, if it answers, and the pins
        are followed.
        """
        async with self._policies_lock:
            before = self.policies.read()
            policies = change(before)
            is_changed = policies.words != before.words
            if is_changed:
                await self.env.run_io(self.policies.write, policies)
        await self.pins.look_now()
        if is_changed and self.server.mount is not None:
            self.server.hint(frames.PolicyMoved())
            with contextlib.suppress(TcfsError):
                await self.server.mount.ping(POLICY_S)

    def is_mount_wanted(self) -> bool:
        return self.keeper is not None and bool(self.keeper.state().wanted)

    def store_error(self) -> TcfsError | None:
        """Why nothing comes into the store or out of it; None while all is well."""
        if self._events.away is not None:
            return self._events.away
        trouble = self._attempts.trouble
        return next((trouble[name] for name in ("publish", "pack", "drain", "learn") if name in trouble), None)

    def store_trouble(self) -> str:
        """The message of store_error, '' for none."""
        error = self.store_error()
        return error.message if error is not None else ""

    def save_config(self, config: FleetConfig) -> None:
        self.paths.save(config)
        self.config = config

    # ---- Service: what the socket's connections ask for

    def hello(self) -> Hello:
        return self._hello

    async def call(self, verb: str, args: dict[str, object], progress: Progress) -> dict[str, object]:
        ballast.make_room(self.paths.ballast)  # a verb is not tried again by itself
        async with self._attempts.telling_damage():
            try:
                return await self._find_verb(verb)(self, args, progress)
            finally:
                self._tell_mount()

    async def fetch(self, request: frames.Fetch, written: Written) -> dict[int, bytes]:
        priority = Priority.READ if request.priority == 0 else Priority.BACKGROUND
        inline = await self.fetcher.fetch(request.version, request.indexes, priority, written=written)
        return inline if priority is Priority.READ else {}  # nobody would read them

    def bytes_fetched(self) -> int:
        packs = self.meter.statistics().get(PACKS)
        return packs.bytes_read if packs is not None else 0

    def sealed(self) -> None:
        self._store_loops.tree_moved()

    def noted(self, taken_upto: int, durable: bool) -> None:
        if durable:
            self.pruner.noted(taken_upto)

    def fetch_folder(self, folder: int) -> None:
        self.folders.ask(folder)

    def used(self, message: frames.Used) -> None:
        self.cache_keeper.used(message.chunks)
        self.damaged_in_mount = message.damaged

    def refused(self, message: frames.Refused) -> None:
        if len(self._refusals) < REFUSALS_MAX or (message.program, message.reason) in self._refusals:
            self._refusals[message.program, message.reason] = message

    def mount_came(self, link: Link) -> None:
        self.log.info("mount process %d is connected, at %s", link.peer.pid, link.peer.mountpoint)
        self._told = (0, 0)
        self._refusals.clear()  # it says them again
        self._store_loops.tree_moved()
        self._tell_mount()

    def mount_went(self, link: Link) -> None:
        self.log.info("mount process %d is gone", link.peer.pid)
