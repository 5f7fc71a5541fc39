"""Publishes changes in the order that loses nothing: packs, own head, outbox, segment, journal head, confirmed.

What the outbox holds is promised: it goes out with the same bytes however often this process dies. Everything before
the outbox transaction leaves no trace but packs that no journal names.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec

from sync.cas.index import ChunkPlace
from sync.cas.reader import ChunkReader
from sync.cas.writer import FinishedPack, PackWriter
from sync.core.errors import Fork, Integrity, NoSpace, NotAuthorised, ObjectMissing, ReadOnly, StoreAway, TcfsError
from sync.core.manifest import ChunkId
from sync.state.writer import Transaction
from sync.worker.change import Answer, Batch, LayerSource
from sync.worker.chunks import reading
from sync.worker.commit import Committer, MissingChunks
from sync.worker.content import BaseReader, FileIngest
from sync.worker.context import Context, ProblemKind
from sync.worker.fork import repack, take_new_identity
from sync.worker.journals import JournalReader
from sync.worker.layers import LayerIngest
from sync.worker.lost import note_damaged
from sync.worker.order import Held
from sync.worker.ownjournal import OwnJournal
from sync.worker.threads import run_to_end

Note = Callable[[Transaction, Sequence[Sequence[Answer]]], None]


@dataclass(frozen=True, slots=True)
class Published:
    """What became of each batch. pending: why the store does not hold all of it yet; it is queued and will go out."""

    answers: list[list[Answer]]
    pending: TcfsError | None


class Publisher:
    """The only writer of our journal. Publications may be under way side by side; they commit one by one."""

    def __init__(self, context: Context, journals: JournalReader, chunks: ChunkReader, base: BaseReader) -> None:
        self.context = context
        self.chunks = chunks
        self.files = FileIngest(context.env, context.keys, context.params)
        self.layers = LayerIngest(context.env, context.keys, context.params, base)
        self._journals = journals
        self._own = OwnJournal(context)

    def begin(self, *, verify: bool = False) -> "Publication":
        """`async with publisher.begin() as publication:`. verify: a pack counts once the store was seen to hold it."""
        return Publication(self, verify)

    async def publish(self, batches: Sequence[Batch]) -> Published:
        """Read and pack the layers of these changes, then commit them. Errors as of Publication."""
        async with self.begin() as publication:
            ready = [await publication.ingest_layers(batch) for batch in batches]
            return await publication.commit(ready)

    async def drain(self) -> None:
        """Send what the outbox holds, as after a crash. StoreAway."""
        async with self.context.journal_lock:
            await self._check_locked()
            await self._drain_locked()

    @property
    def was_refilled(self) -> bool:
        """True if the store had lost some of what was published: contents too, perhaps."""
        return self._own.was_refilled

    def survey_again(self) -> None:
        """At the next check look whether the store holds all of our journal."""
        self._own.survey_again()

    async def check(self) -> None:
        """Look for a fork of our journal, and deal with it. StoreAway. A publication under way looks itself.

        A store that can only be read keeps nobody from reading: what cannot be put again stays to be put.
        """
        if self.context.journal_lock.locked():
            return
        async with self.context.journal_lock:
            try:
                await self._check_locked()
            except (NoSpace, ReadOnly, NotAuthorised) as error:
                self.context.problems.report(ProblemKind.PENDING, self.context.store.url, error.message)

    async def commit(
        self,
        packed_as: str,
        packs: list[FinishedPack],
        batches: Sequence[Batch],
        note: Note | None,
        refused: Held | None,
    ) -> Published:
        """The part behind the packs. packed_as: the machine_id whose packs they are. See Publication.commit."""
        async with self.context.journal_lock:
            await self._check_locked()
            answers = await self._queue(packed_as, packs, batches, note, refused)
            try:
                await self._drain_locked()
            except (StoreAway, NoSpace, ReadOnly, NotAuthorised) as error:
                self.context.problems.report(ProblemKind.PENDING, self.context.store.url, error.message)
                return Published(answers, error)
            return Published(answers, None)

    async def _queue(
        self,
        packed_as: str,
        packs: list[FinishedPack],
        batches: Sequence[Batch],
        note: Note | None,
        refused: Held | None,
    ) -> list[list[Answer]]:
        context = self.context
        while True:
            machine_id = context.db.machine_id
            if packed_as != machine_id:
                packs, packed_as = await self._pack_again(machine_id, packs, packed_as), machine_id
            context.env.fault("publish.before_outbox")
            try:
                answers = await run_to_end(context.env, self._commit, packs, batches, note, refused)
            except MissingChunks as missing:
                packs = [*packs, *await self._bring(machine_id, missing.chunks)]
                continue
            context.env.fault("publish.after_outbox")
            return answers

    def _commit(
        self, packs: Sequence[FinishedPack], batches: Sequence[Batch], note: Note | None, refused: Held | None
    ) -> list[list[Answer]]:
        with self.context.db.transaction(full=True) as txn:
            committer = Committer(self.context, txn, refused)
            committer.add_packs(packs)
            answers = [committer.add_batch(batch) for batch in batches]
            if note is not None:
                note(txn, answers)
            committer.finish()
            return answers

    async def _bring(self, machine_id: str, chunks: set[ChunkId]) -> list[FinishedPack]:
        """Chunks of packs that may not be referred to any more, in new ones; Integrity if they cannot be read."""
        async with (
            self._packs(machine_id) as writer,
            reading(self.chunks, sorted(chunks)) as found,
        ):
            async for chunk, data in found:
                await writer.add(chunk, data)
            return await writer.finish()

    async def _pack_again(self, machine_id: str, packs: list[FinishedPack], packed_as: str) -> list[FinishedPack]:
        """A fork was found after packing: the packs lie under an id that is not ours any more."""
        return await repack(self.context, packs_reader(self.context, packs, packed_as), machine_id, packs)

    def _packs(self, machine_id: str) -> PackWriter:
        context = self.context
        return PackWriter(
            context.env,
            context.keys,
            context.store,
            context.fleet_id,
            machine_id,
            context.signer,
            lambda chunk: False,
        )

    def new_packs(self) -> tuple[str, PackWriter]:
        """A writer for packs of ours that takes whatever it gets, and the machine_id they belong to."""
        machine_id = self.context.db.machine_id
        return machine_id, self._packs(machine_id)

    async def _check_locked(self) -> None:
        try:
            await self._own.check()
        except Fork as fork:
            await take_new_identity(self.context, self._journals, self.chunks, fork.message)

    async def _drain_locked(self) -> None:
        while True:
            try:
                await self._own.drain()
            except Fork as fork:
                await take_new_identity(self.context, self._journals, self.chunks, fork.message)
                continue
            self.context.problems.clear(ProblemKind.PENDING, self.context.store.url)
            return


class Publication:
    """One run of packing contents and committing what they belong to.

    All of it raises StoreAway, NoSpace, ReadOnly, NotAuthorised; Integrity where a base is needed and damaged.
    """

    def __init__(self, publisher: Publisher, verify: bool) -> None:
        self._publisher = publisher
        self._packed_as, self._packs = publisher.new_packs()
        self._verify = verify
        self._verified: set[str] = set()  # keys of packs

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        await (self._packs.take_back() if isinstance(error, NoSpace) else self._packs.aclose())

    async def add(self, chunks: Sequence[tuple[ChunkId, bytes]]) -> None:
        """Have these chunks in packs; those that are already are left out."""
        known = await self._known([chunk for chunk, _ in chunks])
        for chunk, data in chunks:
            if chunk not in known:
                await self._packs.add(chunk, data)

    async def missing(self, chunks: Sequence[ChunkId]) -> set[ChunkId]:
        """Those of these chunks that lie in no pack, or only in packs that are lost: they have to be added."""
        return set(chunks) - await self._known(chunks)

    async def _known(self, chunks: Sequence[ChunkId]) -> set[ChunkId]:
        context = self._publisher.context
        known = context.db.packs.known_chunks(chunks)
        if not self._verify:
            return known
        places = {place.key: place for found in context.db.packs.locate(known).values() for place in found}
        for key in places.keys() - self._verified:
            self._verified.add(key)
            await self._look_for(places[key])
        return context.db.packs.known_chunks(known)

    async def _look_for(self, place: ChunkPlace) -> None:
        """A pack that the store lacks, or has not in full, is lost from now on."""
        context = self._publisher.context
        try:
            found = await context.store.stat(place.key)
        except ObjectMissing as error:
            note_damaged(context.db, place.key, error)
            return
        size = context.db.packs.size(place.machine_id, place.pack_id)
        if found.size != size:
            note_damaged(context.db, place.key, Integrity(f"{place.key} has {found.size} bytes, not {size}"))

    async def ingest_layers(self, batch: Batch) -> Batch:
        """The batch with the content of each layer in its place.

        The chunks go into the packs folder by folder, in the order of the names, whatever the order of the changes:
        a program that goes through a tree reading then finds what it wants next in the range that was fetched last.
        """
        if not isinstance(batch, Sequence):
            return batch
        layers: dict[object, LayerSource] = {}  # each once, however many names the file has
        for change in sorted(batch, key=lambda change: change.path.replace("/", "\0")):
            if isinstance(change.source, LayerSource):
                layers.setdefault(_name_of(change.source), change.source)
        contents = dict(zip(layers, await self._publisher.layers.layers(list(layers.values()), self), strict=True))
        return [
            msgspec.structs.replace(change, source=contents[_name_of(change.source)])
            if isinstance(change.source, LayerSource)
            else change
            for change in batch
        ]

    async def take_back(self) -> None:
        """Nothing of what was packed since the last commit is wanted any more."""
        await self._packs.take_back()

    async def commit(
        self, batches: Sequence[Batch], note: Note | None = None, *, refused: Held | None = None
    ) -> Published:
        """Publish these batches with what was packed; afterwards a new run of packing begins.

        Every change is answered, in order. note: writes more in the very transaction of the outbox. refused: see
        Committer. What is raised was before the outbox, and nothing is queued; a store that fails behind it is told by
        `pending`.
        """
        packs = await self._packs.finish()
        packed_as, writer = self._packed_as, self._packs
        self._packed_as, self._packs = self._publisher.new_packs()
        try:
            return await self._publisher.commit(packed_as, packs, batches, note, refused)
        except NoSpace:
            await writer.take_back()
            raise


def _name_of(source: LayerSource) -> object:
    return source.layer, source.base, source.limit_below, source.size


def packs_reader(context: Context, packs: Sequence[FinishedPack], machine_id: str) -> ChunkReader:
    """Reads chunks of packs that fleet.db does not know yet."""
    places: dict[ChunkId, list[ChunkPlace]] = {}
    for pack in packs:
        for chunk in pack.chunks:
            place = ChunkPlace(pack.pack_id, machine_id, chunk.offset, chunk.length, chunk.raw_length, chunk.flags)
            places.setdefault(ChunkId(bytes.fromhex(chunk.id)), []).append(place)
    return ChunkReader(context.env, context.keys, context.store, lambda ids: places)
