"""What the mount does beside answering requests: committing, sealing, following the feed, telling the kernel.

Tasks of one nursery in the thread of the request loop. Only what waits for a disk or for the kernel goes to a thread;
the tree itself is never touched from there.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from fs.errno import outcome_of
from fs.ops.volume import Volume
from fs.pace import Pace
from fs.tree.changes import Change
from fs.tree.model import Ahead, Invalidation
from fs.tree.tree import SealRound, copy_layers, remove_files
from sync.core.errors import NoSpace, TcfsError
from sync.ipc import frames
from sync.state.ballast import is_full
from sync.state.policies import PolicyFile

LOG_S = 0.005  # what is neither flushed nor synced may be lost by a kill for so long
COMMIT_S = 0.04  # what was logged is committed to tree.db, where others read it, after so long
SEAL_TICK_S = 0.02  # between two looks at what is to be sealed
SYNC_S = 2.5  # what is unsynced at two looks in a row comes to the disk: within 5 s of its being written
LOOK_S = 1.0  # lost hints are made good by then
USED_S = 5.0  # between two reports of what was read
SPARES_KEPT_S = 3.0  # work files made ahead, after the last one was needed
TIDY_S = 0.5  # between two removals of work files: before each one the log of tree.db is brought to the disk
RETRY_S = 1.0  # after a task has failed
SEAL_NOW_S = 10.0  # how long a seal on request waits for answers to earlier ones
INODES_AT_ONCE = 20_000  # looked at between two chances for requests
NOTES_AT_ONCE = 200  # answers noted between two chances for requests

log = logging.getLogger(__name__)


class Signal:
    """An event that can be set again and again; one task waits for it."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, timeout_s: float = float("inf")) -> None:
        """Until it is set, or that long; it is not set afterwards."""
        with trio.move_on_after(timeout_s):
            await self._event.wait()
        self._event = trio.Event()


class Tasks:
    """All background work of one volume."""

    def __init__(self, volume: Volume, stop: Callable[[], None], policies: PolicyFile) -> None:
        """stop: ends the mount, which is then started anew from outside."""
        self._volume = volume
        self._policies = policies
        self._tree = volume.tree
        self._client = volume.client
        self._stop = stop
        self._changed = Signal()
        self._sealing = Signal()
        self._looking = Signal()
        self._telling = Signal()
        self._tidying = Signal()
        self._making = Signal()
        self._growing = Signal()
        self._removable: list[str | int] = []
        self._noted = trio.Condition()
        self._pace = Pace(volume.env.monotonic)
        self._requests: list[frames.SealNow] = []
        self._seal_lock = trio.Lock()
        # Threads of their own: a kernel that keeps the notifier waiting keeps nothing else.
        self._disk_thread = trio.CapacityLimiter(1)
        self._kernel_thread = trio.CapacityLimiter(1)
        self._ahead_thread = trio.CapacityLimiter(1)
        self._sync_thread = trio.CapacityLimiter(1)
        self._writeback_thread = trio.CapacityLimiter(1)
        self.watched: Callable[[list[Change], Sequence[Invalidation]], None] = lambda changes, items: self._tell(items)
        self._contents: dict[int, str] = {}  # content tokens -> what the kernel has to forget of their files
        self._said_taken = (0, 0)
        self._said_trouble = ""
        self._trouble: dict[str, str] = {}  # task -> what was said last

    # ---- called in between, from the same thread

    def changed(self) -> None:
        """An operation has changed the tree."""
        self._pace.changes += 1
        self._changed.set()
        if self._tree.wants_spares:
            self._making.set()
        if self._tree.writeback.is_due:
            self._growing.set()

    def look_soon(self) -> None:
        """The feed, or the answers to seals, have moved."""
        self._looking.set()

    def seal_now(self, request: frames.SealNow) -> None:
        self._requests.append(request)
        self._pace.asked()
        self._sealing.set()

    def content_moved(self, moved: frames.ContentMoved) -> None:
        """Content has come, or was freed: st_blocks tells. Of what was freed on purpose the kernel's pages go too, so
        that it is as far away as `status` says.
        """
        values, kind = moved.values, "data" if moved.dropped else "attr"
        if moved.dropped:
            seen_local = self._tree.forget_local() | self._volume.reader.seen_local
            self._remove_later([*self._volume.reader.forget_local()])
            if not values:
                values, kind = [*seen_local], "attr"
        self._contents |= dict.fromkeys(values, kind)
        self._looking.set()

    def policy_moved(self) -> None:
        """policies.toml has changed. What it says counts from the next request on."""
        try:
            self._volume.policies = self._policies.read()
        except TcfsError as error:
            self._complain("policies", error)  # what it said before goes on to count

    def connected(self, hello: frames.Hello) -> None:
        """A new connection: whatever was said while there was none is said and read again."""
        if hello.fleet_epoch and hello.fleet_epoch != self._volume.fleet_epoch:
            log.error("fleet.db is another one than at the start: the mount starts anew")
            self._stop()
            return
        self._said_taken, self._said_trouble = (0, 0), ""
        self._volume.refusals.tell_again()
        self._say_trouble()
        self._client.hint(frames.Sealed())
        self._looking.set()

    # ---- the tasks

    async def run(self) -> None:
        async with trio.open_nursery() as self._beside, trio.open_nursery() as nursery:
            for task in (
                self._commit, self._make_spares, self._write_back, self._tidy, self._seal, self._look,
                self._tell_kernel, self._report_used, self._sync,
            ):  # fmt: skip
                nursery.start_soon(self._keep_running, task)

    async def finish(self) -> None:
        """Nothing is mounted any more: seal all that is closed, and say so."""
        try:
            async with self._seal_lock:
                await self._seal_round(self._tree.seal_begin())
            self._tree.commit(full=True)
            removable, self._removable = self._removable, []
            await trio.to_thread.run_sync(remove_files, removable)
        except Exception:
            log.exception("what was not sealed at the end is sealed at the next start")
        await self._client.drain()

    async def _keep_running(self, task: Callable[[], Awaitable[None]]) -> None:
        """A task that fails is logged and goes on: the mount outlives a full disk and a bug."""
        while True:
            try:
                await task()
            except Exception as error:
                self._complain(task.__name__.strip("_"), error)
            await trio.sleep(RETRY_S)

    def _complain(self, task: str, error: Exception) -> None:
        """Log a failure once, not at every retry."""
        text = f"{task}: {error or type(error).__name__}"
        if text != self._trouble.get(task):
            self._trouble[task] = text
            outcome = outcome_of(error)
            log.log(max(outcome.level, logging.WARNING), "%s", text, exc_info=error if outcome.traceback else None)

    async def _commit(self) -> None:
        """Group what operations leave open, and log it a few milliseconds later; commit, in turn, what was logged."""
        monotonic, committed = self._volume.env.monotonic, 0.0
        while True:
            try:
                if self._tree.has_open_group and monotonic() - committed >= COMMIT_S:
                    committed = monotonic()
                    self._tree.commit()
                else:
                    self._tree.log()
            finally:
                self._say_trouble()
            if self._tree.wants_checkpoint:
                self._tidying.set()
            self._sealing.set()
            await self._changed.wait(COMMIT_S if self._tree.has_logged else float("inf"))
            await trio.sleep(LOG_S)

    async def _tidy(self) -> None:
        """What waits for the disk and holds nothing up: removing work files, emptying the log of tree.db."""
        self._tree.set_remover(self._remove_later)
        while True:
            await self._tidying.wait()
            count, are_files = len(self._removable), any(isinstance(item, str) for item in self._removable)
            if are_files:
                await self._sync_commits()
            removable, self._removable = self._removable[:count], self._removable[count:]
            if removable:
                await trio.to_thread.run_sync(remove_files, removable)
            if self._tree.wants_checkpoint:
                await trio.to_thread.run_sync(self._tree.checkpoint)
            if are_files:
                await trio.sleep(TIDY_S)

    async def _sync_commits(self) -> None:
        """Before files go that the disk's tree.db may still name. A full disk must be emptied all the same."""
        try:
            await trio.to_thread.run_sync(self._tree.sync_commits)
        except OSError as error:
            if not is_full(error):
                raise

    async def _make_spares(self) -> None:
        """Work files ahead of need, while programs make many."""
        while True:
            await self._making.wait(SPARES_KEPT_S)
            if self._tree.wants_spares:
                await trio.to_thread.run_sync(self._tree.order_spares())
            else:
                self._tree.drop_spares()

    async def _write_back(self) -> None:
        """Large files start for the disk while programs write them."""
        while True:
            await self._growing.wait()
            await trio.to_thread.run_sync(self._tree.writeback.start, limiter=self._writeback_thread)

    def _remove_later(self, gone: list[str | int]) -> None:
        """What is lost by a kill is removed at the next start."""
        self._removable += gone
        self._tidying.set()

    async def _seal(self) -> None:
        """Sealing rounds: on request, and when the rules of time say so."""
        started = 0.0
        while True:
            while self._requests:
                try:
                    await self._seal_on_request(self._requests.pop(0))
                finally:
                    self._pace.answered()
            if self._pace.is_held(started, self._tree.pending):
                await trio.sleep(SEAL_TICK_S)
                continue
            started = self._volume.env.monotonic()
            due = self._tree.seal_due(self._volume.env.monotonic())
            for node in due.large:
                self._beside.start_soon(self._sync_ahead, self._tree.sync_ahead(node))
            if due.ready:
                if self._tree.trouble:
                    self._tree.commit()  # what cannot even be committed need not be frozen
                async with self._seal_lock:
                    await self._seal_round(self._tree.seal_begin(only_due=True))
                ended = self._volume.env.monotonic()
                await trio.sleep(SEAL_TICK_S)
                await self._give_way(partial(self._pace.must_rest, started, ended))
            elif due.next is not None:
                await self._sealing.wait(max(due.next - self._volume.env.monotonic(), 0.001))
                await trio.sleep(SEAL_TICK_S / 2)
            else:
                await self._sealing.wait()

    async def _sync(self) -> None:
        """Bring to the disk what programs do not sync themselves. Nobody waits for it."""
        while True:
            await trio.sleep(SYNC_S)
            sync_round = self._tree.sync_begin()
            if not sync_round:
                continue
            try:
                await trio.to_thread.run_sync(sync_round.data, limiter=self._sync_thread)
            finally:
                self._tree.sync_finish(sync_round)
            await trio.to_thread.run_sync(sync_round.rows, limiter=self._sync_thread)

    async def _sync_ahead(self, ahead: Ahead) -> None:
        """Bring a large file to the disk, so that no round waits for it."""
        try:
            await trio.to_thread.run_sync(ahead, limiter=self._ahead_thread)
        except OSError as error:
            self._complain("sync", error)  # the round finds it, too, and is taken back
        finally:
            self._tree.ahead_done(ahead)
            self._sealing.set()

    async def _seal_on_request(self, request: frames.SealNow) -> None:
        """Seal what was asked for; what waits for an answer to an earlier seal is tried again when that has come."""
        include_busy = request.reason == "push"
        try:
            self._tree.commit()  # whoever asks wants to know whether what was done is safe
            with trio.move_on_after(SEAL_NOW_S):
                while True:
                    async with self._seal_lock:
                        sealed = self._tree.seal_begin(request.paths, include_busy=include_busy)
                        await self._seal_round(sealed)
                    if sealed.unsaved:
                        raise TcfsError(self._tree.trouble, path=sealed.unsaved[0], hint="see 'tcfs status'")
                    if not sealed.waiting:
                        break
                    async with self._noted:
                        await self._noted.wait()
            self._client.hint(frames.SealResult(request.id, sealed.busy, sealed.interrupted, sealed.missing))
        except TcfsError as error:
            self._say_trouble()
            self._client.hint(frames.failed_of(request.id, error))
        except Exception as error:
            self._say_trouble()
            code = NoSpace.code if is_full(error) else TcfsError.code
            self._client.hint(frames.Failed(request.id, code, f"cannot seal: {error}"))
            if not isinstance(error, OSError):
                raise

    async def _seal_round(self, sealed: SealRound) -> None:
        """Sync a round that has begun, and finish it; it is taken back if the disk refuses."""
        if not sealed:
            return
        finished = False
        try:
            await trio.to_thread.run_sync(sealed.sync, limiter=self._disk_thread)
            self._tree.seal_finish(sealed)
            finished = True
        finally:
            if not finished:
                self._tree.seal_abort(sealed)
        self._client.hint(frames.Sealed())
        self._say_taken()

    async def _look(self) -> None:
        """Take note of answers, then follow the feed."""
        while True:
            looked = self._volume.env.monotonic()
            while self._tree.has_answers:
                if copies := self._tree.copies_ahead(NOTES_AT_ONCE):
                    await trio.to_thread.run_sync(copy_layers, copies)
                self._tell(self._tree.note(NOTES_AT_ONCE))
                self._say_taken()
                async with self._noted:
                    self._noted.notify_all()
                self._sealing.set()
            while self._tree.has_feed:
                items = self._tree.feed()
                changes = self._tree.take_changes()
                self._volume.recent.forget()
                self.watched(changes, items) if changes else self._tell(items)
                self._sealing.set()  # a new .tcfsignore may have kept back less
                await trio.lowlevel.checkpoint()
            await self._tell_contents()
            self.policy_moved()  # the hint may have been lost, or somebody has edited the file
            self._say_refused()
            await self._looking.wait(LOOK_S)
            await self._give_way(partial(self._pace.is_held, looked, 0))

    async def _tell_contents(self) -> None:
        """All files of the contents that have come or gone, as far as the kernel knows them."""
        contents, self._contents = self._contents, {}
        if not contents:
            return
        inodes = self._tree.inodes()
        for start in range(0, len(inodes), INODES_AT_ONCE):
            some = inodes[start : start + INODES_AT_ONCE]
            self._tell([Invalidation(0, "", ino, contents[told]) for ino, told in some if told in contents])
            await trio.lowlevel.checkpoint()

    async def _give_way(self, is_held: Callable[[], bool]) -> None:
        while True:
            if not is_held():
                return
            await trio.sleep(SEAL_TICK_S)

    async def tell_now(self, items: list[Invalidation]) -> None:
        """Returns when the kernel has been told, and of all that it was to be told before, but for what is held back
        for a request under way; not to be called by who keeps the kernel waiting.
        """
        self._volume.invalidations.add(items)
        while await self._deliver():
            pass

    def tell(self, items: Sequence[Invalidation]) -> None:
        """Have the kernel told soon."""
        self._tell(items)

    def _tell(self, items: Sequence[Invalidation]) -> None:
        self._volume.recent.forget()
        if items:
            self._volume.invalidations.add(items)
            self._telling.set()

    def _say_taken(self) -> None:
        """Tell the engine which answers it may forget."""
        now = (self._tree.taken_upto, self._tree.durable_taken_upto)
        if now == self._said_taken:
            return
        if now[0] != self._said_taken[0]:
            self._client.hint(frames.Noted(now[0]))
        if now[1] != self._said_taken[1]:
            self._client.hint(frames.Noted(now[1], durable=True))
        self._said_taken = now

    def _say_trouble(self) -> None:
        """Tell the engine, for `status`, while what is changed here cannot be committed."""
        if self._tree.trouble != self._said_trouble:
            self._said_trouble = self._tree.trouble
            self._client.hint(frames.MountTrouble(self._said_trouble))

    def _say_refused(self) -> None:
        if self._client.is_connected:
            for refused in self._volume.refusals.take_untold():
                self._client.hint(frames.Refused(*refused))

    async def _tell_kernel(self) -> None:
        """Deliver invalidations. What is held back for a request under way is tried again soon."""
        invalidations = self._volume.invalidations
        while True:
            while len(invalidations) and await self._deliver():
                pass
            await self._telling.wait(SEAL_TICK_S if len(invalidations) else LOOK_S)

    async def _deliver(self) -> bool:
        """One batch, behind those that are on their way; False if there was nothing to be told."""
        invalidations = self._volume.invalidations
        batch = invalidations.take()
        deliver = partial(invalidations.deliver, batch)
        await trio.to_thread.run_sync(deliver, abandon_on_cancel=True, limiter=self._kernel_thread)
        return bool(batch)

    async def _report_used(self) -> None:
        """Tell the engine which chunks were read: the LRU's input."""
        cached = self._volume.reader.cached
        damaged = 0
        while True:
            await trio.sleep(USED_S)
            used = cached.take_used()
            if used or cached.damaged != damaged:
                damaged = cached.damaged
                self._client.hint(frames.Used([bytes(chunk) for chunk in used], damaged))
