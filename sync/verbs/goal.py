"""What has to arrive in the store before somebody's wait is over."""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from sync.reports.status import is_among, queued_paths, refused_seals
from sync.state.books import REFUSED
from sync.state.tree.reader import Dirty, DirtyState
from sync.verbs import Progress

if TYPE_CHECKING:
    from sync.engine import Engine

TICK_S: Final = 0.02  # between two questions whether there are new answers
PAUSE_S: Final = 0.05  # between two looks; longer where a look takes long and nothing was answered
LONGEST_PAUSE_S: Final = 2.0
READING_SHARE: Final = 20  # one part in so many of the time goes into reading tree.db for what is sealed
STUCK_S: Final = 5.0  # how long a path may be reported as one that cannot be published; it is tried each second


class Goal:
    """What is dirty or queued now, among some paths, and how much of it has come into the store since.

    A path has arrived when it is clean, or when a seal that was made since, or that held its state already, is
    answered; and all have when nothing that was queued by then is left in the outbox.
    """

    def __init__(
        self,
        engine: "Engine",
        chosen: list[str],
        dirty: list[Dirty],
        refused: dict[str, str],
        sealed_as_is: bool,
        away_s: float,
        read_s: float = 0.0,
    ) -> None:
        """See of. refused: paths of which that is known already, and why. read_s: what it took to read tree.db."""
        self._engine = engine
        self._chosen = chosen
        self._waiting = {item.path: item for item in dirty}
        self._sealed_as_is = sealed_as_is
        self._unsealed = {path for path, then in self._waiting.items() if not self._held(then)}
        self._read_at, self._read_s = engine.env.monotonic(), read_s  # tree.db
        self._away_s = away_s
        self._away_since: float | None = None
        self._noticed = 0  # the number of the last answer that a look has found
        self._reasons: dict[bytes | None, str] = {}  # of seals that were refused
        self._stuck: dict[str, float] = {}  # path -> since when (monotonic) it is reported
        self.refused = refused  # path -> why it will not arrive
        self.paths = sorted({*self._waiting, *refused})
        is_queued = any(is_among(path, chosen) for path in queued_paths(engine.context.db))
        self._upto = engine.context.db.next_seq - 1 if is_queued else 0

    @classmethod
    async def of(
        cls,
        engine: "Engine",
        chosen: list[str],
        *,
        without: Collection[str] = (),
        sealed_as_is: bool = False,
        away_s: float = math.inf,
    ) -> "Goal":
        """sealed_as_is: every seal that stands holds its path's state. away_s: how long the store may fail before its
        error is raised.
        """
        answers, began = refused_seals(engine.context.db), engine.env.monotonic()
        wanted = [item for item in await engine.dirty() if is_among(item.path, chosen) and item.path not in without]
        read_s = engine.env.monotonic() - began
        refused = {item.path: answers[item.seal_id] for item in wanted if item.seal_id in answers}
        dirty = [item for item in wanted if item.path not in refused]
        return cls(engine, chosen, dirty, refused, sealed_as_is, away_s, read_s)

    async def reached(self, progress: Progress) -> None:
        """Returns when everything has arrived; never by itself while the store is away."""
        total, look_s = len(self._waiting), 0.0
        await self._take_answers()  # what tree.db says was read a moment ago
        progress({"files": total - len(self._waiting), "files_total": total})
        while self._waiting:
            await self._pause(look_s)
            began = self._engine.env.monotonic()
            await self._look()
            look_s = self._engine.env.monotonic() - began
            progress({"files": total - len(self._waiting), "files_total": total})
        while self._is_queued():
            self._check_store()
            await self._engine.env.sleep(TICK_S)

    async def left(self) -> list[str]:
        """Paths that have not arrived; those that are only queued come last."""
        queued = queued_paths(self._engine.context.db) if self._is_queued() else []
        return [*sorted(self._waiting), *(path for path in queued if is_among(path, self._chosen))]

    def _check_store(self) -> None:
        error, now = self._engine.store_error(), self._engine.env.monotonic()
        self._away_since = (self._away_since or now) if error is not None else None
        if error is not None and self._away_since is not None and now - self._away_since >= self._away_s:
            raise type(error)(error.message, hint="it stays here, and goes out when that is put right")

    async def _pause(self, look_s: float) -> None:
        self._check_store()
        until = self._engine.env.monotonic() + min(max(PAUSE_S, 5 * look_s), LONGEST_PAUSE_S)
        await self._engine.env.sleep(min(max(TICK_S, look_s), LONGEST_PAUSE_S))
        while self._engine.env.monotonic() < until and not self._is_answered_since():
            await self._engine.env.sleep(TICK_S)

    def _is_answered_since(self) -> bool:
        """True if there is an answer that came behind the last look: with it paths have arrived."""
        return self._engine.context.db.view.last_taken() > self._noticed

    async def _look(self) -> None:
        await self._take_answers()
        if self._waiting and self._is_to_be_read():
            began = self._engine.env.monotonic()
            now = {item.path: item for item in await self._engine.dirty()}
            self._read_at = self._engine.env.monotonic()
            self._read_s = self._read_at - began
            seals = {item.seal_id for path, item in now.items() if path in self._waiting}
            answers = await self._answers({*seals, *(then.seal_id for then in self._waiting.values())})
            for path, then in list(self._waiting.items()):
                if self._has_arrived(then, now.get(path), answers):
                    self._arrived(path)
        self._give_up()

    def _is_to_be_read(self) -> bool:
        """True if tree.db may tell what the answers do not. Of what is sealed they tell all, as a rule: a refusal may
        be that of a state which nobody needs any more, and an answer may have been noted and forgotten.
        """
        pause_s = min(READING_SHARE * self._read_s, LONGEST_PAUSE_S)
        is_long_ago = self._engine.env.monotonic() - self._read_at >= pause_s
        return is_long_ago or bool(self._unsealed or self._reasons)

    async def _take_answers(self) -> None:
        """What held the state of then has arrived with its answer, whatever has become of it since."""
        if not self._is_answered_since():
            return
        self._noticed = self._engine.context.db.view.last_taken()
        held = {path: then.seal_id for path, then in self._waiting.items() if path not in self._unsealed}
        answers = await self._answers(held.values())
        for path, seal_id in held.items():
            if answers.get(seal_id, REFUSED) != REFUSED:
                self._arrived(path)

    async def _answers(self, seal_ids: Iterable[bytes | None]) -> dict[bytes | None, str]:
        """seal_id -> its answer, of those that have one."""
        found = await self._engine.answers([seal_id for seal_id in seal_ids if seal_id is not None])
        self._reasons.update({taken.seal_id: taken.reason or REFUSED for taken in found if taken.answer == REFUSED})
        return {taken.seal_id: taken.answer for taken in found}

    def _arrived(self, path: str) -> None:
        del self._waiting[path]
        self._unsealed.discard(path)
        self._upto = self._engine.context.db.next_seq - 1

    def _give_up(self) -> None:
        """On paths whose bytes, or whose base, cannot be read: they have no answer, and may never get one."""
        stuck, now = self._engine.unpublishable(), self._engine.env.monotonic()
        self._stuck = {path: self._stuck.get(path, now) for path in stuck if path in self._waiting}
        for path, since in self._stuck.items():
            if now - since >= STUCK_S:
                self.refused[path] = stuck[path][0]
                del self._waiting[path]
                self._unsealed.discard(path)

    def _held(self, then: Dirty) -> bool:
        """True if its seal holds the state that it had then."""
        return then.seal_id is not None and (then.state is DirtyState.SEALED or self._sealed_as_is)

    def _has_arrived(self, then: Dirty, now: Dirty | None, answers: Mapping[bytes | None, str]) -> bool:
        if now is None:
            return True
        is_held = self._held(then)
        if now.seal_id in answers and (is_held or now.seal_id != then.seal_id):
            return self._is_answered(then.path, now.seal_id, answers)
        # A seal that held the state of then and is gone has been noted: what is dirty now came later, unless it was
        # refused. An answer that nobody can tell any more counts for nothing: the next seal has one.
        return is_held and now.seal_id != then.seal_id and self._is_answered(then.path, then.seal_id, answers)

    def _is_answered(self, path: str, seal_id: bytes | None, answers: Mapping[bytes | None, str]) -> bool:
        """Remembers the path if the answer is a refusal."""
        if answers.get(seal_id) == REFUSED:
            self.refused[path] = self._reasons[seal_id]
        return seal_id in answers

    def _is_queued(self) -> bool:
        return any(first <= self._upto for first, _ in self._engine.context.db.queued_seqs())
