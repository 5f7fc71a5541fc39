"""Reading all of fleet.db in moments: one read transaction after the other, none for long: its log grows meanwhile."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sync.env import Env
from sync.state.fleet import FleetDb

MOMENT_S: Final = 0.05  # after which a moment is over
CHANGES_MAX: Final = 10_000  # paths told of at once

Changes = frozenset[str] | None  # paths; None: anything may have changed
NOTHING: Final[frozenset[str]] = frozenset()


class Moments:
    """As long as nothing else is made of it, one moment that lasts: that of the caller's transaction."""

    def pass_on(self) -> Changes:
        """The next moment begins, if this one has lasted long enough. What has changed from it to the next one."""
        return NOTHING


class ShortMoments(Moments):
    """On a connection that nobody else uses."""

    def __init__(self, env: Env, connection: sqlite3.Connection, db: FleetDb) -> None:
        """db: over that connection."""
        self._env = env
        self._connection = connection
        self._db = db
        self._began = 0.0
        self._upto = 0  # of the feed
        self._who = db.own_ids, db.mode  # what shown depends on beside the heads

    @contextmanager
    def follow(self) -> Iterator["ShortMoments"]:
        """The first moment begins; the last one ends."""
        self._begin()
        try:
            yield self
        finally:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")

    def pass_on(self) -> Changes:
        if self._env.monotonic() - self._began < MOMENT_S:
            return NOTHING
        before, who = self._upto, self._who
        self._connection.execute("COMMIT")
        self._begin()
        if self._who != who:
            return None
        if self._upto == before:
            return NOTHING
        items = self._db.view.feed_after(before, CHANGES_MAX)
        if len(items) == CHANGES_MAX or items[0].n != before + 1:  # too many, or the first of them are forgotten
            return None
        return frozenset(item.path for item in items)

    def _begin(self) -> None:
        self._connection.execute("BEGIN")
        self._upto = self._db.view.feed_last()
        self._who = self._db.own_ids, self._db.mode
        self._began = self._env.monotonic()
