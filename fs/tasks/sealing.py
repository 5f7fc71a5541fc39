"""Sealing, by the rules of time and on request: the rounds of fs/tree/sealing.py one after the other."""

from functools import partial
from typing import Final

import trio

from fs.client import Client
from fs.pace import Pace
from fs.tasks.reports import Reports
from fs.tasks.running import Complaints, Signal, give_way
from fs.tree import sealing
from fs.tree.model import Ahead
from fs.tree.sealing import SealRound
from fs.tree.state import State
from sync.core.errors import NoSpace, TcfsError
from sync.ipc import frames
from sync.state.ballast import is_full

TICK_S: Final = 0.02  # between two looks at what is to be sealed
SEAL_NOW_S: Final = 10.0  # how long a seal on request waits for answers to earlier ones


class Sealer:
    """Threads of its own: one for the rounds, one for the large files that no round waits for."""

    def __init__(self, st: State, client: Client, pace: Pace, reports: Reports, complaints: Complaints) -> None:
        self._st = st
        self._client = client
        self._pace = pace
        self._reports = reports
        self._complaints = complaints
        self._due = Signal()
        self._ahead: list[Ahead] = []
        self._large = Signal()
        self._requests: list[frames.SealNow] = []
        self._one_round = trio.Lock()
        self._answered = trio.Condition()
        self._round_thread = trio.CapacityLimiter(1)
        self._ahead_thread = trio.CapacityLimiter(1)

    def look(self) -> None:
        """Something may be due now."""
        self._due.set()

    async def answers_noted(self) -> None:
        """What waited for them may be sealed."""
        async with self._answered:
            self._answered.notify_all()
        self._due.set()

    def seal_now(self, request: frames.SealNow) -> None:
        self._requests.append(request)
        self._pace.asked()
        self._due.set()

    async def finish(self) -> None:
        """Nothing is mounted any more: seal all that is closed."""
        async with self._one_round:
            await self._seal_round(sealing.begin(self._st))

    # ---- the tasks

    async def seal(self) -> None:
        """Sealing rounds: on request, and when the rules of time say so."""
        monotonic, started = self._st.env.monotonic, 0.0
        while True:
            while self._requests:
                try:
                    await self._seal_on_request(self._requests.pop(0))
                finally:
                    self._pace.answered()
            if self._pace.is_held(started, len(self._st.pending)):
                await trio.sleep(TICK_S)
                continue
            started = monotonic()
            due = sealing.seal_due(self._st, monotonic())
            for node in due.large:
                self._ahead.append(sealing.sync_ahead(node))
                self._large.set()
            if due.ready:
                if self._st.overlay.trouble:
                    self._st.overlay.commit()  # what cannot even be committed need not be frozen
                async with self._one_round:
                    await self._seal_round(sealing.begin(self._st, only_due=True))
                ended = monotonic()
                await trio.sleep(TICK_S)
                await give_way(partial(self._pace.must_rest, started, ended), TICK_S)
            elif due.next is not None:
                await self._due.wait(max(due.next - monotonic(), 0.001))
                await trio.sleep(TICK_S / 2)
            else:
                await self._due.wait()

    async def sync_large(self) -> None:
        """Bring large files to the disk, so that no round waits for them."""
        while True:
            while self._ahead:
                await self._sync_ahead(self._ahead.pop(0))
            await self._large.wait()

    async def _sync_ahead(self, ahead: Ahead) -> None:
        try:
            await trio.to_thread.run_sync(ahead, limiter=self._ahead_thread)
        except OSError as error:
            # Sealed all the same: what is still in memory is safest in the store.
            self._complaints.complain("sync", error)
        finally:
            sealing.ahead_done(ahead)
            self._due.set()

    async def _seal_on_request(self, request: frames.SealNow) -> None:
        """Seal what was asked for; what waits for an answer to an earlier seal is tried again when that has come."""
        include_busy = request.reason == "push"
        try:
            self._st.overlay.commit()  # whoever asks wants to know whether what was done is safe
            with trio.move_on_after(SEAL_NOW_S):
                while True:
                    async with self._one_round:
                        sealed = sealing.begin(self._st, request.paths, include_busy=include_busy)
                        await self._seal_round(sealed)
                    if sealed.unsaved:
                        trouble = self._st.overlay.trouble
                        raise TcfsError(trouble, path=sealed.unsaved[0], hint="see 'tcfs status'")
                    if not sealed.waiting:
                        break
                    # Answers may have come while the round was synced, and a name service tells nobody of its own.
                    with trio.move_on_after(sealing.ASK_AGAIN):
                        async with self._answered:
                            await self._answered.wait()
            self._client.hint(frames.SealResult(request.id, sealed.busy, sealed.interrupted, sealed.missing))
        except TcfsError as error:
            self._reports.say_trouble()
            self._client.hint(frames.failed_of(request.id, error))
        except Exception as error:
            self._reports.say_trouble()
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
            await trio.to_thread.run_sync(sealed.sync, limiter=self._round_thread)
            sealing.finish(self._st, sealed)
            finished = True
        finally:
            if not finished:
                sealing.abort(self._st, sealed)
        self._reports.say_sealed()
