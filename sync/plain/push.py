"""Push: plain files and folders into the fleet. Nothing is removed there, and nobody else's change is replaced."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from sync.core.errors import BadInput, Conflict, NotFound, StoreAway, TcfsError
from sync.core.ignore import Ignore
from sync.core.manifest import ChunkId, Kind, Manifest, VersionId
from sync.core.paths import join_path, parents_of, parse_rel_path
from sync.plain.examine import Known, local_error
from sync.plain.known import known_below, plain_of, real_place
from sync.plain.pushlinks import PushLinks
from sync.plain.report import ProgressCallback, TransferReport
from sync.plain.walk import Ignored, Left, LocalEntry, walk
from sync.state.rows import DIR
from sync.state.writer import Transaction
from sync.worker.change import Answer, Change, Content, KeepSource, Outcome
from sync.worker.content import FileStat, Ingested
from sync.worker.context import Context
from sync.worker.ignorefile import IgnoreFile
from sync.worker.learn import Learner
from sync.worker.publish import Publication, Publisher
from sync.worker.threads import run_to_end

SLICE_RECORDS: Final = 20_000  # changes of one batch: a larger push goes out in several
SLICE_BYTES: Final = 4 << 30  # bytes read for one batch

_Group = list[LocalEntry | Left]


class _Item(msgspec.Struct, frozen=True):
    """An entry with its change: the stat is that of the moment its bytes were read."""

    entry: LocalEntry
    stat: FileStat
    change: Change


class Push:
    """One push at a time per object; the parts are shared."""

    def __init__(
        self,
        context: Context,
        learner: Learner,
        publisher: Publisher,
        ignore_file: IgnoreFile,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        """left_out: as of walk."""
        self._ignore_file = ignore_file
        self._left_out = left_out or {}
        self._context = context
        self._learner = learner
        self._publisher = publisher

    async def run(
        self,
        sources: Sequence[tuple[Path, str]],
        to: str = "",
        *,
        force: bool = False,
        progress: ProgressCallback | None = None,
    ) -> TransferReport:
        """Publish absolute local paths below the rel_path `to`, each under its name; '' = what is in that folder.

        The report's error() is the Conflict of what stands beside another version now, or of what could not be read.
        StoreAway: nothing was queued, unless it says so. NotFound for a local path that is not there, Conflict if `to`
        is, or lies below, what is no folder in the fleet.
        """
        await self._learner.learn()
        if to:
            self._check_folder(parse_rel_path(to))
        with contextlib.suppress(TcfsError):  # the text of before counts: a push may be what mends it
            await self._ignore_file.follow()
        ignore = Ignore(self._context.db.view.tcfsignore())
        run = _Run(self._context, self._publisher, force, progress)
        async with self._publisher.begin(verify=force) as publication:
            for local, name in sources:
                place = await self._context.env.run_io(_place, local, name)
                remote = parse_rel_path(join_path(to, name)) if name else to
                await run.push(publication, walk(place, remote, self._left_out, ignore), place)
            await run.commit(publication)
        if run.pending is not None:
            raise StoreAway(
                f"queued here, but the store does not hold it yet: {run.pending.message}",
                hint="it goes out as soon as the store is back",
            ) from run.pending
        return run.report

    def _check_folder(self, to: str) -> None:
        for folder in (*parents_of(to), to):
            row = self._context.db.view.resolve_path(folder) if folder else None
            if row is not None and row.kind != DIR:
                raise Conflict(f"{folder} is no folder in the fleet", path=folder, hint="choose another --to")


class _Run:
    """One push under way."""

    def __init__(self, context: Context, publisher: Publisher, force: bool, progress: ProgressCallback | None) -> None:
        self._context = context
        self._publisher = publisher
        self._force = force
        self._progress = progress
        self._items: list[_Item] = []
        self._slice_bytes = 0
        self._links = PushLinks(lambda: context.env.random_bytes(16).hex(), self._shown)
        self.report = TransferReport()
        self.pending: TcfsError | None = None

    async def push(self, publication: Publication, groups: Iterator[_Group], place: Path) -> None:
        coming = self._walk_on(groups)
        try:
            while (group := await coming) is not None:
                coming = self._walk_on(groups)  # beside reading the files of this one
                await self._add_group(publication, group)
                if len(self._items) >= SLICE_RECORDS or self._slice_bytes >= SLICE_BYTES:
                    await self.commit(publication)
        except FileNotFoundError as error:
            raise NotFound(f"{place}: no such file or folder", path=str(place)) from error
        except OSError as error:
            raise local_error(place, error) from error
        finally:
            await asyncio.gather(coming, return_exceptions=True)

    def _walk_on(self, groups: Iterator[_Group]) -> "asyncio.Future[_Group | None]":
        return asyncio.ensure_future(run_to_end(self._context.env, next, groups, None, io=True))

    async def _add_group(self, publication: Publication, group: Sequence[LocalEntry | Left]) -> None:
        wanted: list[tuple[LocalEntry, Known | None]] = []
        entries = [entry for entry in group if isinstance(entry, LocalEntry)]
        memory = known_below(self._context.db, [(entry.path, entry.remote) for entry in entries])
        may_be_lost = self._force or self._context.db.packs.has_lost()
        lost: set[str] = set()
        for entry in group:
            if not isinstance(entry, LocalEntry):
                self._skip(entry)
                continue
            known = memory.get((entry.path, entry.remote))
            if entry.xattrs.trouble:
                self.report.warnings.append((entry.path, entry.xattrs.trouble))
            if entry.kind is not Kind.FILE:
                self._add(entry, entry.stat, None, known)
            elif known is not None and known.is_unmodified(entry.stat):
                if may_be_lost and await self._is_lost(publication, known.version):
                    lost.add(entry.path)
                    wanted.append((entry, known))
                else:
                    self._add_unread(entry, known)
            else:
                wanted.append((entry, known))
        paths = [entry.path for entry, _ in wanted]
        results = await self._publisher.files.files(paths, publication, self._read)
        for (entry, known), result in zip(wanted, results, strict=True):
            if isinstance(result, Ingested):
                self._add(entry, result.stat, result.content, known)
                self.report.restored += entry.path in lost
            elif isinstance(result, TcfsError):
                self.report.failures.append(result)
            else:
                self.report.failures.append(local_error(Path(entry.path), result))

    def _add(self, entry: LocalEntry, stat: FileStat, content: Content | None, known: Known | None) -> None:
        change = Change(
            entry.remote,
            entry.kind,
            source=content,
            mode=stat.mode if entry.kind is not Kind.SYMLINK else 0o777,
            mtime_ns=stat.mtime_ns,
            xattrs=self._xattrs(entry, known),
            link_id=self._links.id_of(entry, known, self._last(known)),
            target=entry.target,
            seen=frozenset() if known is None else frozenset({known.version}),
            last=None if known is None else known.version,
            folder_rules=True,
            sees_all=self._force,
        )
        self._items.append(_Item(entry, stat, change))

    async def _is_lost(self, publication: Publication, version: VersionId) -> bool:
        """True if the store lacks content of this version that is here."""
        found = self._context.db.version(version)
        if found is None:
            return False
        manifest = found.manifest
        if self._context.db.view.missing_pages(version):
            return True  # what else it needs nobody here knows
        ids, _ = self._context.db.view.chunk_list(version)
        pages = [ChunkId(bytes.fromhex(page)) for page in manifest.chunk_pages]
        return bool(await publication.missing([*pages, *ids]))

    def _add_unread(self, entry: LocalEntry, known: Known) -> None:
        """Not written to since the last push or pull: only its mode and xattrs may be new, or what stands there."""
        version = self._context.db.version(known.version)
        manifest = version.manifest if version is not None else None
        xattrs = self._xattrs(entry, known)
        link_id = self._links.id_of(entry, known, manifest)
        fields = (entry.stat.mode, xattrs, link_id)
        is_same = manifest is not None and (manifest.mode, manifest.xattrs, manifest.link_id) == fields
        if manifest is None or (is_same and not (self._force and self._is_superseded(entry.remote, manifest))):
            self.report.unchanged += 1
            return
        change = Change(
            entry.remote,
            entry.kind,
            source=KeepSource(known.version),
            mode=entry.stat.mode,
            mtime_ns=entry.stat.mtime_ns,
            xattrs=xattrs,
            link_id=link_id,
            seen=frozenset({known.version}),
            last=known.version,
            folder_rules=True,
            sees_all=self._force,
        )
        self._items.append(_Item(entry, entry.stat, change))

    def _last(self, known: Known | None) -> Manifest | None:
        version = self._context.db.version(known.version) if known is not None else None
        return version.manifest if version is not None else None

    def _shown(self, remote: str) -> Manifest | None:
        row = self._context.db.view.resolve_path(remote)
        is_file = row is not None and row.kind != DIR and not row.sibling
        return self._context.db.view.manifest(self._context.db.view.seen_of(row)[0]) if row and is_file else None

    def _xattrs(self, entry: LocalEntry, known: Known | None) -> Mapping[str, str]:
        """Where they cannot be read they are what they were: nobody has taken them away."""
        if entry.xattrs.xattrs is not None:
            return entry.xattrs.xattrs
        version = self._context.db.version(known.version) if known is not None else None
        return version.manifest.xattrs if version is not None else {}

    def _is_superseded(self, path: str, manifest: Manifest) -> bool:
        """True if another content stands there by now, alone or beside this one."""
        return any(head.manifest.value != manifest.value for head in self._context.db.heads(path))

    def _read(self, size: int) -> None:
        self._slice_bytes += size
        self.report.moved_bytes += size
        self._tell()

    def _skip(self, skipped: Left) -> None:
        if isinstance(skipped, Ignored):
            self.report.name_ignored(skipped.path)
        elif skipped.is_error:
            self.report.failures.append(TcfsError(f"{skipped.path}: {skipped.reason}", path=skipped.path))
        else:
            self.report.skipped.append((skipped.path, skipped.reason))

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self.report.progress())

    async def commit(self, publication: Publication) -> None:
        """Publish what was gathered, as one batch, and remember in the same transaction what each path is now."""
        items, self._items, self._slice_bytes = self._items, [], 0
        if not items:
            return

        def note(txn: Transaction, answers: Sequence[Sequence[Answer]]) -> None:
            txn.set_plain(
                [
                    plain_of(
                        item.entry.path,
                        item.entry.remote,
                        answer.version,
                        item.stat if item.entry.kind is not Kind.DIR else None,
                    )
                    for item, answer in zip(items, answers[0], strict=True)
                    if answer.version is not None
                ]
            )

        published = await publication.commit([[item.change for item in items]], note)
        self.pending = published.pending or self.pending
        any_sibling = self._any_sibling()
        for item, answer in zip(items, published.answers[0], strict=True):
            self._count(item, answer, any_sibling)
        self._tell()

    def _is_displaced(self, item: _Item) -> bool:
        """True if a folder without a record has the name: what was pushed stands beside it."""
        if item.entry.kind is Kind.DIR:
            return False
        row = self._context.db.view.resolve_path(item.entry.remote)
        return row is not None and row.kind == DIR

    def _any_sibling(self) -> bool:
        return bool(self._context.db.query("SELECT 1 FROM shown WHERE sibling = 1 LIMIT 1"))

    def _count(self, item: _Item, answer: Answer, any_sibling: bool) -> None:
        path = item.entry.remote
        if answer.outcome is Outcome.REFUSED:
            self.report.failures.append(BadInput(f"{path}: {answer.reason}", path=path))
            return
        if item.entry.kind is not Kind.DIR:  # folders come along
            if answer.outcome is Outcome.UNCHANGED:
                self.report.unchanged += 1
            else:
                self.report.files += 1
        if answer.version is not None:
            self.report.name_version(path, VersionId(answer.version))
        if answer.outcome is not Outcome.QUEUED or self._force:
            return
        if answer.beside or (any_sibling and self._is_displaced(item)):
            self.report.conflicts.append(path)
            self.report.failures.append(
                Conflict(
                    f"{path} has another version, which this folder has not seen; both are kept",
                    path=path,
                    hint="pull it and merge, or push with --force to replace it",
                )
            )


def _place(local: Path, name: str) -> Path:
    """The local path, symlinks above it resolved; NotFound if what is in it is wanted, and it is no folder."""
    place = real_place(local)
    if not name and not place.is_dir():
        raise NotFound(f"{place}: no such folder", path=str(place))
    return place
