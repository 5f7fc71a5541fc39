"""Publishes what the mount has sealed: replays tree.db's log of seals, round by round; no running mount is needed.

A round goes out as a whole, in one transaction and, as a rule, one segment: a path that is used again is never absent
in between, and a folder that moves is never in two halves. Rounds that had to wait (the store is far, or was away) go
out together: what it costs to reach the store is paid once, and whoever works all the time does not get ahead of it.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from sync.core.codec import content_id
from sync.core.errors import BadFormat, BadInput, NoSpace, NotFound, TcfsError, TooLarge
from sync.core.manifest import Kind, VersionId
from sync.core.ranges import RangeSet
from sync.state.rows import DIR, FILE, SYMLINK, NodePlace
from sync.state.tree.database import layer_name
from sync.state.tree.reader import Seal, TreeReader
from sync.worker.change import (
    Answer,
    Batch,
    Change,
    Content,
    FolderMove,
    KeepSource,
    LayerSource,
    Outcome,
    Source,
)
from sync.worker.content import check_size
from sync.worker.context import Context, ProblemKind
from sync.worker.large import LARGE, UNPUBLISHABLE, LargeFiles
from sync.worker.order import Held, in_order
from sync.worker.publish import Publication, Publisher

ANSWERS_MAX: Final = 1_000_000  # the engine prunes what the mount has noted
TOGETHER_MAX: Final = 2_000  # seals, of rounds that go out together
TOGETHER_BYTES: Final = 64 << 20  # of their files

_UNPUBLISHABLE: Final = (*UNPUBLISHABLE, TooLarge)
_HINT_PATH: Final = "rename it or remove it"
_HINT_CONTENT: Final = "bring that back, and it goes out by itself; or write the file anew, or remove it"
_KINDS: Final = {FILE: Kind.FILE, DIR: Kind.DIR, SYMLINK: Kind.SYMLINK}


class _Round(NamedTuple):
    """The seals of one round. packing: those of `waiting` that are large, and not packed yet (seal_ids). behind: what
    was refused, and holds up what comes later.
    """

    waiting: list[Seal]
    packing: set[bytes]
    behind: list[Seal]


class SealWorker:
    """Turns seals into versions and answers them. `run_once` may be called at any time, by hint or by poll."""

    def __init__(
        self, context: Context, publisher: Publisher, tree: TreeReader, work_dir: Path, *, large: int = LARGE
    ) -> None:
        """large: bytes to be read that make a file large."""
        self._context = context
        self._tree = tree
        self._work_dir = str(work_dir)
        self._publisher = publisher
        self._reported: set[str] = set()  # paths of changes that cannot be published
        self._lock = asyncio.Lock()
        self._packing = asyncio.Lock()
        self._large = LargeFiles(context, publisher, tree, self._source, large)

    async def run_once(self) -> int:
        """Publish every seal that has no answer; how many were answered. StoreAway, NoSpace and the like, as raised.

        Large files, and what must not go before them, wait until `pack_large` has packed their bytes.

        A seal that cannot be published now (its base is damaged, its layer is gone) stays, and is reported; once
        something newer than what it froze waits behind it, it is answered as refused, so that that can go out.
        """
        async with self._lock:
            # Answers before rows: a row whose answer the mount has noted in between is gone then, not published again.
            answers = self._answers()
            seals = self._tree.seals()
            self._large.keep([seal for seal in seals if seal.seal_id not in answers])
            answered, held, refused = 0, Held(), Held()
            for rounds in _together(self._round(of_round, answers) for of_round in _rounds(seals)):
                for seal in rounds[0].behind:
                    refused.add(seal)
                answered += await self._publish_rounds(rounds, held, refused)
            if self._reported:
                await self._context.env.run_io(self._clear_settled)
            return answered

    async def pack_large(self) -> bool:
        """Pack the bytes of one large file, beside run_once, which publishes it then; False if none waits. As raised:
        StoreAway, NoSpace and the like.
        """
        async with self._packing:
            return await self._large.pack_next()

    def _round(self, seals: Sequence[Seal], answers: Mapping[bytes, str]) -> "_Round":
        waiting = [seal for seal in seals if seal.seal_id not in answers]
        refused = [seal for seal in seals if answers.get(seal.seal_id) == Outcome.REFUSED.value]
        return _Round(
            waiting,
            {seal.seal_id for seal in waiting if self._is_packing(seal)},
            [seal for seal in refused if not self._is_given_up(seal)],
        )

    def _is_packing(self, seal: Seal) -> bool:
        """True of a large file that is not packed yet. One that was removed meanwhile needs no packing."""
        return self._large.is_waiting(seal) and not self._tree.is_removed(seal.held_by)

    def _is_given_up(self, seal: Seal) -> bool:
        """True if what is put was removed since. Whatever became of it, nothing has to wait for it."""
        return seal.op == "put" and self._tree.is_removed(seal.held_by)

    def has_work(self) -> bool:
        """True if a seal waits for its answer, or if something was reported that may have been settled."""
        return bool(self._reported) or self._tree.has_seals_beside(self._answers())

    def _answers(self) -> dict[bytes, str]:
        return {taken.seal_id: taken.answer for taken in self._context.db.view.taken_after(0, ANSWERS_MAX)}

    async def _publish_rounds(self, rounds: Sequence["_Round"], held: Held, refused: Held) -> int:
        """Rounds that wait for one another go out together; one by one if something in them cannot be published."""
        if len(rounds) > 1:
            now_held = held.copy()
            ready = [in_order(one.waiting, one.packing, now_held) for one in rounds]
            count = await self._publish_together([seals for seals in ready if seals], refused)
            if count is not None:
                held.take(now_held)
                return count
        count = 0
        for one in rounds:
            if seals := in_order(one.waiting, one.packing, held):
                count += await self._publish(seals, held, refused)
        return count

    async def _publish_together(self, rounds: Sequence[Sequence[Seal]], refused: Held) -> int | None:
        """The number of answers; None, and nothing is queued, if one cannot be published, or all is too much for the
        store: some of it may not be.
        """
        if not rounds:
            return 0
        async with self._publisher.begin() as publication:
            behind = _behind(rounds, refused)
            steps = [step for seals in rounds for step in _steps(seals)]
            try:
                batches = [await publication.ingest_layers(self._batch(step, behind)) for step in steps]
                return await self._commit(publication, batches, refused)
            except (*_UNPUBLISHABLE, NoSpace, OSError):
                await publication.take_back()
                return None

    async def _publish(self, seals: Sequence[Seal], held: Held, refused: Held) -> int:
        """One round, or what can go out of it: the number of answers.

        held: what has to wait, without an answer. refused: what was refused; those behind it are as well. Both grow.
        """
        count = 0
        async with self._publisher.begin() as publication:
            try:
                behind = _behind([seals], refused)
                batches = [await publication.ingest_layers(self._batch(step, behind)) for step in _steps(seals)]
            except (*_UNPUBLISHABLE, OSError):
                batches, count = await self._one_by_one(seals, publication, held, refused)
            if not batches:
                return count
            return count + await self._commit(publication, batches, refused)

    async def _commit(self, publication: Publication, batches: Sequence[Batch], refused: Held) -> int:
        published = await publication.commit(batches, refused=refused)
        count = 0
        for batch, answers in zip(batches, published.answers, strict=True):
            self._tell(answers)
            changes: Sequence[Change | FolderMove] = [batch] if isinstance(batch, FolderMove) else batch
            for change, answer in zip(changes, answers, strict=True):
                if answer.outcome is Outcome.REFUSED:
                    refused.add(change)
            count += len(answers)
        return count

    def _batch(self, step: Sequence[Seal], behind: Collection[bytes]) -> Batch:
        if step[0].op == "movedir":
            return _folder_move(step[0], behind)
        spans = self._tree.spans_of([seal.layer for seal in step if seal.layer is not None])
        return [self._change(seal, spans) for seal in step]

    def _tell(self, answers: Sequence[Answer]) -> None:
        """What could not be published, and what can be again."""
        for answer in answers:
            if answer.outcome is Outcome.REFUSED:
                self._report(answer.path, answer.reason, _HINT_PATH)
            else:
                self._clear(answer.path)

    async def _one_by_one(
        self, seals: Sequence[Seal], publication: Publication, held: Held, refused: Held
    ) -> tuple[list[Batch], int]:
        """(the batches of those that can be published, how many others were answered). The rest is reported.

        What was moved to a place that cannot be published stays where it was: nobody is to lose sight of it.
        """
        changes, failed = await self._try_each(seals, publication)
        known = [seal for seal in seals if seal.op == "movedir" or seal.seal_id in changes or seal.seal_id in failed]
        settled: set[bytes] = set()
        for seal in known:
            error = failed.get(seal.seal_id)
            if error is None:
                continue
            if seal.seal_id not in settled:
                settled.update(self._settle(seal, seals, error))
            is_settled = seal.seal_id in settled
            if not is_settled or isinstance(error, TooLarge):
                self._report(seal.path, error.message, error.hint or _HINT_CONTENT)
            elif self._is_given_up(seal):
                del failed[seal.seal_id]
        known = [
            seal
            for seal in known
            if seal.op == "movedir" or seal.seal_id in failed or seal.seal_id in changes.keys() - settled
        ]
        free = in_order(known, set(failed), held)
        for seal in known:
            if seal.seal_id not in failed and seal not in free:
                self._report(seal.path, "it waits for what cannot be published", _HINT_CONTENT)
        behind = _behind([free], refused)
        return [
            _folder_move(step[0], behind) if step[0].op == "movedir" else [changes[seal.seal_id] for seal in step]
            for step in _steps(free)
        ], len(settled)

    async def _try_each(
        self, seals: Sequence[Seal], publication: Publication
    ) -> tuple[dict[bytes, Change], dict[bytes, TcfsError]]:
        """(changes with their contents, what fails), by seal_id. Neither: the mount has noted the seal meanwhile."""
        changes: dict[bytes, Change] = {}
        failed: dict[bytes, TcfsError] = {}
        for seal in seals:
            if seal.op == "movedir":
                continue
            try:
                (changes[seal.seal_id],) = _changes(await publication.ingest_layers([self._change(seal)]))
            except FileNotFoundError:
                if self._is_layer_lost(seal):
                    reason = f"the local bytes of {seal.path} are gone: {self._layer(seal)}"
                    failed[seal.seal_id] = NotFound(reason)
            except OSError as broken:
                reason = f"the local bytes of {seal.path} cannot be read: {self._layer(seal)}: {broken.strerror}"
                failed[seal.seal_id] = TcfsError(reason)
            except _UNPUBLISHABLE as broken:
                failed[seal.seal_id] = broken
        return changes, failed

    def _settle(self, seal: Seal, seals: Sequence[Seal], error: TcfsError) -> set[bytes]:
        """Nobody needs the state that this seal froze any more, and what came after it cannot be sealed before its
        answer, or it will never do: answered, with those of all names of the file. Which were; none: it stays.
        """
        names = [other for other in seals if other.held_by == seal.held_by]
        is_hopeless = isinstance(error, TooLarge) or self._large.is_waiting(seal)
        if not (is_hopeless or any(self._tree.is_overtaken(name.seal_id) for name in names)):
            return set()
        with self._context.db.transaction() as txn:
            for name in names:
                txn.answer(name.seal_id, Outcome.REFUSED.value, reason=error.message)
        for name in names:
            self._clear(name.path)
        return {name.seal_id for name in names}

    def _change(self, seal: Seal, spans: Mapping[int, RangeSet] | None = None) -> Change:
        """spans: those of all layers in question; None: they are read."""
        seen = frozenset(seal.seen)
        last = VersionId(seal.last) if seal.last is not None else None
        if seal.op == "remove":
            return Change(
                seal.path,
                Kind.TOMBSTONE,
                seen=seen,
                last=last,
                resolved=seal.resolved,
                moved_to=seal.moved_to or "",
                seal_id=seal.seal_id,
                place=NodePlace(None),  # the mount has moved its folder's times
            )
        kind = _KINDS.get(seal.kind or 0)
        if self._large.is_waiting(seal):
            raise NotFound(f"{seal.path} was removed before it was published")
        if seal.op != "put" or kind is None:
            raise BadFormat(f"a seal of {seal.path} that is none: {seal.op}, kind {seal.kind}", path=seal.path)
        return Change(
            seal.path,
            kind,
            source=self._large.content(seal) or self._source(seal, spans) if kind is Kind.FILE else None,
            mode=seal.mode or 0,
            mtime_ns=seal.mtime_ns or 0,
            xattrs=seal.xattrs,
            target=seal.target or "",
            seen=seen,
            last=last,
            resolved=seal.resolved,
            moved_from=seal.moved_from,
            seal_id=seal.seal_id,
            place=_place(seal),
            link_id=seal.link_id,
            owner=seal.owner,
            group=seal.owner_group,
        )

    def _source(self, seal: Seal, known: Mapping[int, RangeSet] | None = None) -> Source | Content:
        size = seal.size or 0
        check_size(seal.path, size)
        base = VersionId(seal.base) if seal.base is not None else None
        if seal.layer is not None:
            spans = self._tree.spans(seal.layer) if known is None else known[seal.layer]
            spans.truncate(size)
            limit = min(seal.limit_below or 0, size) if base is not None else 0
            return LayerSource(base, self._layer(seal), spans, limit, size)
        if base is not None:
            limit = size if seal.limit_below is None else min(seal.limit_below, size)
            kept = self._context.db.view.manifest(base).file_size
            if kept == size == limit:
                return KeepSource(base)
            return LayerSource(base, None, RangeSet(), limit, size)
        if size == 0:
            return Content(0, content_id(self._context.keys, [], []))
        return LayerSource(None, None, RangeSet(), 0, size)

    def _layer(self, seal: Seal) -> str:
        return f"{self._work_dir}/{layer_name(seal.layer or 0)}"

    def _is_layer_lost(self, seal: Seal) -> bool:
        """The mount renames a layer once it has noted the answer; without one the bytes are lost, and that is told."""
        return self._context.db.view.answer(seal.seal_id) is None and seal in self._tree.seals()

    def _report(self, path: str, message: str, hint: str) -> None:
        self._reported.add(path)
        self._context.problems.report(ProblemKind.REFUSED, path, message, hint)

    def _clear(self, path: str) -> None:
        self._reported.discard(path)
        self._context.problems.clear(ProblemKind.REFUSED, path)

    def _clear_settled(self) -> None:
        """What was reported and is not changed here any more: published since, renamed, removed, given up."""
        dirty = {item.path for item in self._tree.dirty(self._context.db.view.path_of)}
        for path in self._reported - dirty - {seal.path for seal in self._tree.seals(self._answers())}:
            self._clear(path)


def _rounds(seals: Sequence[Seal]) -> Iterator[list[Seal]]:
    for _, of_round in groupby(seals, key=lambda seal: seal.round):
        yield list(of_round)


def _together(rounds: Iterable[_Round]) -> Iterator[list[_Round]]:
    """Runs of rounds that are not too much for one transaction. What was refused counts for the first of a run."""
    run: list[_Round] = []
    count = size = 0
    for one in rounds:
        more, more_size = len(one.waiting), sum(seal.size or 0 for seal in one.waiting)
        if run and (one.behind or count + more > TOGETHER_MAX or size + more_size > TOGETHER_BYTES):
            yield run
            run, count, size = [], 0, 0
        if one.waiting or one.behind:
            run.append(one)
            count, size = count + more, size + more_size
    if run:
        yield run


def _steps(seals: Sequence[Seal]) -> Iterator[list[Seal]]:
    """Runs that are one batch each: what a folder's rename moves must be shown before it."""
    run: list[Seal] = []
    for seal in seals:
        if seal.op == "movedir":
            if run:
                yield run
                run = []
            yield [seal]
        else:
            run.append(seal)
    if run:
        yield run


def _changes(batch: Batch) -> Sequence[Change]:
    if isinstance(batch, FolderMove):
        raise BadInput("a folder's rename has no layers")
    return batch


def _behind(rounds: Sequence[Sequence[Seal]], refused: Held) -> set[bytes]:
    """Those of the seals that come behind what was refused, or that stand before one which does."""
    if not refused:
        return set()
    refused = refused.copy()
    return {seal.seal_id for seals in rounds for seal in seals} - {
        seal.seal_id for seals in rounds for seal in in_order(seals, set(), refused)
    }


def _folder_move(seal: Seal, behind: Collection[bytes]) -> FolderMove:
    if seal.from_path is None:
        raise BadFormat(f"the rename of folder {seal.path} does not say from where", path=seal.path)
    return FolderMove(
        old_path=seal.from_path,
        new_path=seal.path,
        mode=seal.mode if seal.mode is not None else 0o755,
        mtime_ns=seal.mtime_ns or 0,
        xattrs=seal.xattrs,
        place=_place(seal),
        seal_id=seal.seal_id,
        seen=frozenset(seal.seen),
        owner=seal.owner,
        group=seal.owner_group,
        is_behind=seal.seal_id in behind,
    )


def _place(seal: Seal) -> NodePlace:
    return NodePlace(seal.node, seal.dir_ids, seal.ctime_ns or 0, seal.uid, seal.gid)
