"""The outbox transaction: changes become records, heads, shown, answers, and the final bytes of segments.

Synchronous, and all of it inside one transaction of fleet.db: what is decided holds against the heads of that moment.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from sync.cas.writer import FinishedPack
from sync.core.errors import BadInput, BadPath
from sync.core.journal import NO_PREDECESSOR, JournalHead, encode_head, encode_segment, object_hash
from sync.core.manifest import (
    ChunkId,
    Clocks,
    Kind,
    Manifest,
    PackRecord,
    PathVersion,
    Record,
    Version,
    VersionId,
    encode_record,
    version_id,
)
from sync.core.paths import parse_rel_path
from sync.core.plan import State, batch_order, new_clock, state_of
from sync.state.writer import Transaction
from sync.worker.change import Answer, Batch, Change, Content, FolderMove, KeepSource, Outcome
from sync.worker.context import Context
from sync.worker.decide import Publish, Unchanged, decide, stands_beside
from sync.worker.movedir import moved_changes, show_path
from sync.worker.order import Held

SEGMENT_RECORDS: Final = 20_000
SEGMENT_BYTES: Final = 32 << 20  # of records; a sealed object holds 256 MiB at most
_BEHIND: Final = "it comes behind a change that cannot be published"
NO_CONTENT: Final = Content(0, "")  # of a folder, a symlink, a removal

_Written = dict[str, tuple[Version, tuple[VersionId, ...]]]  # path -> its new version, and the heads against it

_pages = msgspec.json.Decoder(list[tuple[str, int]])


class MissingChunks(Exception):
    """Chunks that versions would refer to lie in no pack that may be referred to. Nothing was written."""

    def __init__(self, chunks: set[ChunkId]) -> None:
        super().__init__(f"{len(chunks)} chunks")
        self.chunks = chunks


class _Refused(msgspec.Struct, frozen=True):
    change: Change
    reason: str


class Committer:
    """One outbox transaction; `finish` queues what was added. Nothing added: nothing is queued."""

    def __init__(self, context: Context, txn: Transaction, refused: Held | None = None) -> None:
        """refused: earlier changes of the mount that were refused; those that come behind them are, too."""
        self._context = context
        self._txn = txn
        self._db = context.db
        self._machine_id = context.db.machine_id
        self._machine_name = context.db.machine_name
        self._own_ids = context.db.own_ids
        self._now = int(context.env.now())
        self._first = self._next = context.db.next_seq
        self._held = Held() if refused is None else refused.copy()
        self._lines: list[bytes] = []
        self._new_chunks: set[ChunkId] = set()
        self._answers: list[tuple[bytes, str, str | None, str | None]] = []  # as of Transaction.answer_all

    def find(self, identity: str) -> Version | None:
        """A version, read through renames; None if it is not known."""
        return self._txn.versions.find(identity) or self._db.version(identity)

    # ---- records

    def add_packs(self, packs: Iterable[FinishedPack]) -> None:
        """Packs that are in the store: their records come before the versions that refer to them."""
        for pack in packs:
            record = PackRecord(seq=self._next, pack_id=pack.pack_id, size=pack.size, chunks=pack.chunks)
            self.add_record(record)
            self._txn.add_pack(self._machine_id, record)
            self._new_chunks.update(ChunkId(bytes.fromhex(chunk.id)) for chunk in pack.chunks)

    def add_record(self, record: Record) -> bytes:
        """A record with the next seq, which it must have already; its line."""
        line = encode_record(record)
        self.add_line(line)
        return line

    def add_line(self, line: bytes) -> None:
        self._lines.append(line)
        self._next += 1

    @property
    def next_seq(self) -> int:
        return self._next

    # ---- batches

    def add_batch(self, batch: Batch) -> list[Answer]:
        """One batch, answered in its order (a FolderMove: by one answer), behind all that was added before.

        MissingChunks: it cannot be published yet.
        """
        if isinstance(batch, FolderMove):
            return [self._move_folder(batch)]
        answers: list[Answer] = []
        for group in _without_repeats(batch):
            answers += self._add_group(group)
        return answers

    def _add_group(self, changes: Sequence[Change]) -> list[Answer]:
        """Changes of different paths; answers in their order."""
        self._txn.versions.load([change.path for change in changes])
        going = {change.path for change in changes if not change.is_removal}
        return self._write_group([self._unless_held(change, going) for change in changes])

    def _write_group(self, decided: Sequence[Publish | Unchanged | _Refused]) -> list[Answer]:
        publish = batch_order(
            [item for item in decided if isinstance(item, Publish)], lambda item: item.change.is_removal
        )
        self._check_chunks(publish)
        self._txn.versions.load_clocks([item.change.path for item in publish if self._has_heads(item.change.path)])
        batch = (self._next, self._next + len(publish) - 1)
        versions: _Written = {}
        for item in publish:
            versions[item.change.path] = self._write(item, batch, versions)
        return [self._answer(item, versions) for item in decided]

    def _unless_held(self, change: Change, going: Collection[str]) -> Publish | Unchanged | _Refused:
        """Refused, too, if the change comes behind one of the mount's that was refused."""
        if change.seal_id is not None and self._held.holds(change):
            decided: Publish | Unchanged | _Refused = _Refused(change, _BEHIND)
        else:
            decided = self._decide(change, going)
        if isinstance(decided, _Refused):
            self._held.add(change)
        return decided

    def _has_heads(self, path: str) -> bool:
        return bool(self._txn.versions.heads(path))

    def _decide(self, change: Change, going: Collection[str] = ()) -> Publish | Unchanged | _Refused:
        try:
            parse_rel_path(change.path)
        except BadPath as error:
            return _Refused(change, error.message)
        if isinstance(change.source, KeepSource):
            kept = self.find(change.source.version)
            if kept is None:
                return _Refused(change, f"version {change.source.version} is not known here")
            change = msgspec.structs.replace(change, source=Content.of(kept.manifest))
        if change.kind is Kind.FILE and not isinstance(change.source, Content):
            return _Refused(change, "a file without content")
        if change.kind is Kind.SYMLINK and not change.target:
            return _Refused(change, "a symlink that points nowhere")
        heads = self._txn.versions.heads(change.path)
        shown = self._shown_as_last(change) if len(heads) > 1 else None
        if not change.is_removal and not (change.owner and change.group):
            change = self._with_owner(change, shown, heads)
        return decide(change, _state(change), shown, heads, self, self._machine_id, self._own_ids, going)

    def _with_owner(self, change: Change, shown: State | None, heads: Sequence[Version]) -> Change:
        """Who says nothing of the owner, or of the group (a plain folder, a mount that does not sync them, or that was
        not told in time what they are called), leaves them as they are.

        A file of several names has one for all of them, whatever stood at each before.
        """
        if change.link_id:
            others = self._db.view.linked(change.link_id)
            return _named(change, others[0].owner, others[0].group) if others else change
        last = self.find(change.last) if change.last is not None and not change.sees_all else None
        standing = [last] if last is not None else [head for head in heads if head.is_live]
        old = shown or (standing[0].manifest if standing else None)
        if old is None or old.kind is not change.kind:
            return change
        return _named(change, old.owner, old.group)

    def _shown_as_last(self, change: Change) -> State | None:
        """What NAME shows, merged of several heads, if the change was made knowing all of them."""
        name = show_path(self._db, change.path).name
        known = {self._db.resolve(identity) for identity in change.seen}
        return state_of(name) if name is not None and known.issuperset(name.covers) else None

    def _check_chunks(self, items: Sequence[Publish]) -> None:
        wanted = {chunk for item in items for chunk in self._chunks_of(item.change)} - self._new_chunks
        if wanted and (missing := wanted - self._db.packs.referable_chunks(wanted)):
            raise MissingChunks(missing)

    def _chunks_of(self, change: Change) -> Iterable[ChunkId]:
        content = change.source
        if not isinstance(content, Content):
            return
        yield from (ChunkId(bytes.fromhex(chunk)) for chunk in [*content.chunks, *content.chunk_pages])
        pages = dict(content.pages)
        for page in content.chunk_pages:
            page_id = ChunkId(bytes.fromhex(page))
            data = pages.get(page_id) or self._page(page_id)
            # A page never fetched belongs to content that is reused as a whole: its writer has checked the chunks.
            for chunk, _ in _pages.decode(data) if data else ():
                yield ChunkId(bytes.fromhex(chunk))

    def _page(self, page: ChunkId) -> bytes | None:
        rows = self._db.query("SELECT entries FROM chunk_page WHERE page_id = ?", page)
        return rows[0][0] if rows else None

    def _write(
        self,
        item: Publish,
        batch: tuple[int, int],
        written: _Written,
    ) -> tuple[Version, tuple[VersionId, ...]]:
        """Insert the version; with it the heads it conflicts with."""
        change = item.change
        heads = self._txn.versions.heads(change.path)
        own = self._txn.versions.own_newest(change.path, self._own_ids) if heads else {}
        stamp = new_clock(self._machine_id, self._next, item.seen, own)
        content = change.source if isinstance(change.source, Content) else NO_CONTENT
        manifest = Manifest(
            version=2,
            seq=self._next,
            rel_path=change.path,
            kind=change.kind,
            vclock=Clocks(stamp.clock),
            written_by=self._machine_id,
            machine_name=self._machine_name,
            written_at=self._now,
            parents=list(stamp.parents),
            batch=batch,
            moved_from=change.moved_from,
            moved_to=_moved_to(change, written),
            file_size=content.file_size,
            content_id=content.content_id,
            file_hash=content.file_hash,
            chunks=content.chunks,
            chunk_sizes=content.chunk_sizes,
            chunk_pages=content.chunk_pages,
            mode=change.mode,
            mtime_ns=change.mtime_ns,
            target=change.target,
            xattrs=dict(change.xattrs),
            link_id=change.link_id,
            group=change.group,
            owner=change.owner,
            requires=[*content.requires, *change.requires],
        )
        for page, data in content.pages:
            self._txn.add_page(page, data)
        line = self.add_record(manifest)
        version = Version(version_id(self._machine_id, manifest.seq, line), manifest)
        self._txn.insert_version(line, version, change.place)
        return version, stands_beside(heads, version, item.seen) if heads else ()

    def _answer(
        self,
        item: Publish | Unchanged | _Refused,
        written: _Written,
    ) -> Answer:
        change = item.change
        match item:
            case Publish():
                version, beside = written[change.path]
                answer = Answer(change.path, Outcome.QUEUED, version.id, beside=beside)
            case Unchanged():
                answer = Answer(change.path, Outcome.UNCHANGED, item.version)
            case _Refused():
                answer = Answer(change.path, Outcome.REFUSED, reason=item.reason)
        if change.seal_id is not None:
            self._take(change.seal_id, answer)
        return answer

    def _take(self, seal_id: bytes, answer: Answer) -> None:
        version = answer.version if answer.outcome is Outcome.QUEUED else None
        self._answers.append((seal_id, answer.outcome.value, version, answer.reason or None))

    def _move_folder(self, move: FolderMove) -> Answer:
        """The whole of it or nothing: a thing below that cannot have its new path would be lost at the old one."""
        self._txn.derive()
        try:
            if move.is_behind or self._held.holds(move):
                raise BadInput(_BEHIND)
            decided = [self._decide(change) for change in moved_changes(self._db, move, self._txn.versions)]
            for item in decided:
                if isinstance(item, _Refused):
                    raise BadInput(f"{item.change.path}: {item.reason}")
            if move.place.node_id is not None:
                self._txn.move_dir(move.place.node_id, move.old_path, move.new_path)
            answers = self._write_group(decided)
            answer = next(item for item in answers if item.path == move.new_path)
        except BadInput as error:
            self._held.add(move)
            answer = Answer(move.new_path, Outcome.REFUSED, reason=error.message)
        self._take(move.seal_id, answer)
        return answer

    # ---- the end

    def finish(self) -> None:
        """Queue the records as segments, with their journal heads, chained to what was queued or confirmed before.

        Without records nothing is queued. With them go the answers to the seals.
        """
        self._txn.answer_all(self._answers)
        queued = self._db.outbox()
        confirmed = self._db.confirmed
        predecessor = confirmed.segment_hash if confirmed is not None else NO_PREDECESSOR
        if queued:
            predecessor = object_hash(queued[-1].segment)
        first = self._first
        context = self._context
        for lines in _split(self._lines):
            last = first + len(lines) - 1
            segment = encode_segment(
                context.keys,
                context.fleet_id,
                self._machine_id,
                lines,
                first,
                last,
                predecessor,
                context.nonce(),
                context.signer,
            )
            predecessor = object_hash(segment)
            head = JournalHead(first, last, predecessor)
            sealed = encode_head(
                context.keys, context.fleet_id, self._machine_id, head, context.nonce(), context.signer
            )
            self._txn.enqueue(first, last, segment, sealed)
            first = last + 1


def _without_repeats(changes: Sequence[Change]) -> Iterable[list[Change]]:
    """Runs in which no path comes twice: the second change of a path must find the first one's version."""
    group: list[Change] = []
    paths: set[str] = set()
    for change in changes:
        if change.path in paths:
            yield group
            group, paths = [], set()
        group.append(change)
        paths.add(change.path)
    if group:
        yield group


def _split(lines: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    start = size = 0
    for index, line in enumerate(lines):
        if index > start and (index - start >= SEGMENT_RECORDS or size + len(line) > SEGMENT_BYTES):
            yield lines[start:index]
            start, size = index, 0
        size += len(line) + 1
    if start < len(lines):
        yield lines[start:]


def _named(change: Change, owner: str, group: str) -> Change:
    """Where the change says nothing."""
    return msgspec.structs.replace(change, owner=change.owner or owner, group=change.group or group)


def _state(change: Change) -> State | None:
    if change.is_removal:
        return None
    content_id = change.source.content_id if isinstance(change.source, Content) else ""
    fields = (change.mode, dict(change.xattrs), change.mtime_ns, change.link_id, change.owner, change.group)
    return State(change.kind, content_id, change.target, *fields)


def _moved_to(change: Change, written: _Written) -> PathVersion | None:
    if not change.moved_to:
        return None
    there = written.get(change.moved_to)
    return PathVersion(change.moved_to, there[0].id if there is not None else "")
