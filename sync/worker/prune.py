"""Takes out of fleet.db what nobody reads any more: answers that were noted, and the feed that was followed."""

import contextlib
import os
from pathlib import Path
from typing import Final

from sync.env import sync_file
from sync.state.tree.reader import TreeReader
from sync.worker.context import Context

FEED_MIN: Final = 10_000  # items that are worth a look at tree.db and a sync of its log
FEED_AT_ONCE: Final = 50_000  # items of one transaction


class Pruner:
    """The mount is the only one who follows the feed, and notes answers."""

    def __init__(self, context: Context, tree: TreeReader, tree_db: Path) -> None:
        self._db = context.db
        self._env = context.env
        self._tree = tree
        self._log = Path(f"{tree_db}-wal")
        self._durable_upto = 0

    def noted(self, taken_upto: int) -> None:
        """The mount has noted all answers up to this one, and a FULL commit of tree.db has carried that."""
        self._durable_upto = max(self._durable_upto, taken_upto)

    def has_work(self) -> bool:
        return bool(self._durable_upto) or self._feed_length() >= FEED_MIN

    async def run(self) -> None:
        upto, self._durable_upto = self._durable_upto, 0
        if upto:
            with self._db.transaction() as txn:
                txn.prune_taken(upto)
        if self._feed_length() >= FEED_MIN:
            await self._env.run_io(self._prune_feed)

    def _feed_length(self) -> int:
        return int(self._db.query("SELECT coalesce(max(n) - min(n), 0) FROM feed")[0][0])

    def _prune_feed(self) -> None:
        first, last = self._db.query("SELECT min(n), max(n) FROM feed")[0]
        passed = min(self._passed(last), first + FEED_AT_ONCE)
        if passed - first < FEED_MIN:
            return
        # What is gone must not be asked for again after a power cut. Every commit that this has read is in the log, or
        # was synced before it was taken out of it.
        with contextlib.suppress(FileNotFoundError):
            log = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
            try:
                sync_file(log)
            finally:
                os.close(log)
        with self._db.transaction() as txn:
            txn.prune_feed(passed)

    def _passed(self, last: int) -> int:
        """How far the mount is. One that was never there, or knows another fleet.db, begins at the end."""
        if self._tree.fleet_epoch() != self._db.epoch:
            return last
        return self._tree.feed_cursor()
