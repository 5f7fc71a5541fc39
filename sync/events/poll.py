"""Events by looking: the folder heads/ of a directory store, ten times a second.

A journal head is replaced by rename, so that a new one has another inode or other times. Nothing is read: a look costs
one scandir and one stat a machine. Now and then all machines are named again, in case two changes looked the same.
"""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from sync.core.errors import StoreAway
from sync.env import Env
from sync.store.base import FLEET_OBJECT

INTERVAL = 0.1  # seconds
AWAY_INTERVAL = 1.0
LOOK_MAX = 10.0  # seconds for one look: a disk may hang
ALL_AGAIN = 30.0

Head = tuple[int, int, int, int]  # inode, size, mtime_ns, ctime_ns


class PollEvents:
    """`away` is the failure of the last look, None while the store is there; on_away is called when that changes."""

    def __init__(self, env: Env, root: Path, on_away: Callable[[StoreAway | None], None] | None = None) -> None:
        self.away: StoreAway | None = None
        self._env = env
        self._root = root
        self._on_away = on_away
        self._is_closed = False

    async def publish(self, machine_id: str, last: int) -> None:
        """Nothing: the others see the journal head itself."""

    async def subscribe(self) -> AsyncIterator[set[str]]:
        """As Events.subscribe. A store that is away is looked for each second; when it is back, all are named."""
        known: dict[str, Head] = {}
        named_all_at: float | None = None
        while not self._is_closed:
            try:
                async with self._env.timeout(LOOK_MAX):
                    found = await self._env.run_store(self._look)
            except (StoreAway, TimeoutError) as error:
                self._note(error if isinstance(error, StoreAway) else self._hangs())
                named_all_at = None
                await self._env.sleep(AWAY_INTERVAL)
                continue
            self._note(None)
            now = self._env.monotonic()
            if named_all_at is None or now - named_all_at >= ALL_AGAIN:
                grown, named_all_at = set(found), now
                yield grown
            elif grown := {machine_id for machine_id, head in found.items() if known.get(machine_id) != head}:
                yield grown
            known = found
            if not self._is_closed:
                await self._env.sleep(INTERVAL)

    async def aclose(self) -> None:
        self._is_closed = True

    def _look(self) -> dict[str, Head]:
        """machine_id -> what tells its journal head from an older one; StoreAway."""
        heads: dict[str, Head] = {}
        try:
            with os.scandir(self._root / "heads") as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    try:
                        about = entry.stat()
                    except FileNotFoundError:
                        continue  # replaced or removed since: the next look tells
                    heads[entry.name] = (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        except FileNotFoundError:
            self._check_root()
            return {}
        except OSError as error:
            raise self._not_there(error) from error
        return heads

    def _check_root(self) -> None:
        try:
            (self._root / FLEET_OBJECT).open("rb").close()
        except OSError as error:
            raise self._not_there(error) from error

    def _not_there(self, error: OSError) -> StoreAway:
        return StoreAway(f"the store {self._root} is away: {error.strerror}", path=self._root.as_uri())

    def _hangs(self) -> StoreAway:
        return StoreAway(f"the store {self._root} did not answer within {LOOK_MAX:.0f} s", path=self._root.as_uri())

    def _note(self, away: StoreAway | None) -> None:
        was, self.away = self.away, away
        if self._on_away is not None and (was is None) != (away is None):
            self._on_away(away)
