"""Saving: what requests have changed comes to tree.db, and to the disk. Removing what tree.db needs no more."""

from collections.abc import Callable
from typing import Final

import trio

from fs.pace import Pace
from fs.tasks.running import Signal
from fs.tree import syncing
from fs.tree.overlay import remove_files
from fs.tree.state import State
from sync.state.ballast import is_full

LOG_S: Final = 0.005  # what is neither flushed nor synced may be lost by a kill for so long
COMMIT_S: Final = 0.04  # what was logged is committed to tree.db, where others read it, after so long
SYNC_S: Final = 2.5  # what is unsynced at two looks in a row comes to the disk: within 5 s of its being written
SPARES_KEPT_S: Final = 3.0  # work files made ahead, after the last one was needed
TIDY_S: Final = 0.5  # between two removals of work files: before each one the log of tree.db is brought to the disk


class Saver:
    """Nobody waits for it."""

    def __init__(self, st: State, pace: Pace, committed: Callable[[], None]) -> None:
        """committed: called after each attempt to log or commit, whether it went well or not."""
        self._st = st
        self._overlay = st.overlay
        self._pace = pace
        self._committed = committed
        self._changed = Signal()
        self._making = Signal()
        self._growing = Signal()
        self._tidying = Signal()
        self._removable: list[str | int] = []
        self.on_stream: Callable[[], None] = lambda: None  # called while a program writes a large file
        self._sync_thread = trio.CapacityLimiter(1)
        self._writeback_thread = trio.CapacityLimiter(1)

    def changed(self) -> None:
        """An operation has changed the tree."""
        self._pace.changes += 1
        self._changed.set()
        if self._overlay.wants_spares:
            self._making.set()
        if self._overlay.writeback.is_due:
            self._growing.set()

    def remove_later(self, gone: list[str | int]) -> None:
        """What is lost by a kill is removed at the next start."""
        self._removable += gone
        self._tidying.set()

    async def finish(self) -> None:
        """Nothing is mounted any more."""
        self._overlay.commit(full=True)
        removable, self._removable = self._removable, []
        await trio.to_thread.run_sync(remove_files, removable)

    # ---- the tasks

    async def commit(self) -> None:
        """Group what operations leave open, and log it a few milliseconds later; commit, in turn, what was logged."""
        monotonic, committed = self._st.env.monotonic, 0.0
        while True:
            try:
                if self._overlay.has_changes and monotonic() - committed >= COMMIT_S:
                    committed = monotonic()
                    self._overlay.commit()
                else:
                    self._overlay.log()
            finally:
                self._committed()
            if self._overlay.wal.wants_checkpoint:
                self._tidying.set()
            await self._changed.wait(COMMIT_S if self._overlay.has_logged else float("inf"))
            await trio.sleep(LOG_S)

    async def make_spares(self) -> None:
        """Work files ahead of need, while programs make many."""
        while True:
            await self._making.wait(SPARES_KEPT_S)
            if self._overlay.wants_spares:
                await trio.to_thread.run_sync(self._overlay.order_spares())
            else:
                self._overlay.drop_spares()

    async def write_back(self) -> None:
        """Large files start for the disk while programs write them."""
        while True:
            await self._growing.wait()
            self.on_stream()
            await trio.to_thread.run_sync(self._overlay.writeback.start, limiter=self._writeback_thread)

    async def tidy(self) -> None:
        """What waits for the disk and holds nothing up: removing work files, emptying the log of tree.db."""
        self._overlay.remove = self.remove_later
        while True:
            await self._tidying.wait()
            count, are_files = len(self._removable), any(isinstance(item, str) for item in self._removable)
            if are_files:
                await self._sync_commits()
            removable, self._removable = self._removable[:count], self._removable[count:]
            if removable:
                await trio.to_thread.run_sync(remove_files, removable)
            if self._overlay.wal.wants_checkpoint:
                await trio.to_thread.run_sync(self._overlay.wal.checkpoint)
            if are_files:
                await trio.sleep(TIDY_S)

    async def _sync_commits(self) -> None:
        """Before files go that the disk's tree.db may still name. A full disk must be emptied all the same."""
        try:
            await trio.to_thread.run_sync(self._overlay.wal.sync)
        except OSError as error:
            if not is_full(error):
                raise

    async def sync(self) -> None:
        """Bring to the disk what programs do not sync themselves."""
        while True:
            await trio.sleep(SYNC_S)
            sync_round = syncing.begin(self._st)
            if not sync_round:
                continue
            try:
                await trio.to_thread.run_sync(sync_round.data, limiter=self._sync_thread)
            finally:
                syncing.finish(self._st, sync_round)
            await trio.to_thread.run_sync(sync_round.rows, limiter=self._sync_thread)
