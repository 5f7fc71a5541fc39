"""Pull: what the fleet shows, into a plain folder. Bytes stream past the cache; a file appears whole or not at all."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from sync.cas.cache import ChunkCache
from sync.cas.reader import ChunkReader
from sync.core.errors import Conflict, Integrity, NotFound, TcfsError, Unsupported
from sync.core.manifest import ChunkId, Kind, Manifest, VersionId
from sync.core.paths import split_path
from sync.plain.examine import (
    Close,
    EnterDir,
    Entry,
    Examiner,
    Item,
    Refused,
    Same,
    Step,
    Write,
    local_error,
)
from sync.plain.items import items_of
from sync.plain.known import plain_of, real_place
from sync.plain.pulllinks import PullLinks
from sync.plain.report import ProgressCallback, TransferReport
from sync.plain.target import TargetDir, TargetFile, sync_tree
from sync.plain.temps import temp_name
from sync.state.books import Plain
from sync.state.rows import DIR, ShownRow
from sync.worker.chunks import reading
from sync.worker.content import FileStat
from sync.worker.context import Context
from sync.worker.fetch import Fetcher
from sync.worker.learn import Learner
from sync.worker.threads import run_to_end

EXAMINED_AT_ONCE: Final = 96  # items: each may hold an open folder
WINDOW_BYTES: Final = 16 << 20  # plain bytes in memory for one step of writing; the next one is read meanwhile
PLAIN_EVERY: Final = 2000  # files between two syncs of what was written


@dataclass(frozen=True, slots=True)
class _Piece:
    """A step, or a run of a file's chunks: `first` opens its temp file, `last` puts it in place."""

    step: Step
    chunks: tuple[ChunkId, ...] = ()
    first: bool = True
    last: bool = True
    is_link: bool = False  # a further name of a file: its content is brought only if that cannot be


@dataclass(slots=True)
class _Window:
    pieces: list[_Piece] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True, slots=True)
class _Loaded:
    chunks: dict[ChunkId, bytes]
    failed: dict[ChunkId, TcfsError]


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of one piece: a file that stands now, an error, or nothing worth telling (all None)."""

    entry: Entry | None = None
    path: Path | None = None
    stat: FileStat | None = None
    error: TcfsError | None = None
    made: EnterDir | None = None
    moved: int = 0  # bytes written
    trouble: str = ""  # which attributes could not be set
    is_same: bool = False


class Pull:
    """One pull at a time per object; the parts are shared."""

    def __init__(
        self, context: Context, learner: Learner, fetcher: Fetcher, cache: ChunkCache, reader: ChunkReader
    ) -> None:
        self._context = context
        self._learner = learner
        self._fetcher = fetcher
        self._cache = cache
        self._reader = reader

    async def run(
        self, remote: str, local: Path, *, force: bool = False, progress: ProgressCallback | None = None
    ) -> TransferReport:
        """Bring `remote` ('' = everything) to `local`: into it if it is a folder, as `cp -r` does, else as it.

        A folder that an earlier pull made of this remote is brought up to date. The report's error() is the Conflict or
        Integrity of what was left out. NotFound if nothing is shown there; StoreAway.
        """
        await self._learner.learn()
        row = self._context.db.view.resolve_path(remote)
        if row is None:
            raise NotFound(f"the fleet has no {remote!r}", path=remote, hint="`tcfs ls` lists what it has")
        parent, name = await self._destination(remote, row, local)
        try:
            root = await self._context.env.run_io(_open_target, parent, self._context.env.now())
        except OSError as error:
            raise local_error(parent, error) from error
        run = _Run(self, root, force, progress)
        try:
            await run.go(items_of(self._context, row, remote, parent, name))
        finally:
            root.close()
        for problem in self._learner.unreadable():
            run.report.failures.append(Integrity(problem.message, path=problem.subject))
        return run.report

    async def _destination(self, remote: str, row: ShownRow, local: Path) -> tuple[Path, str]:
        """(existing folder, name to make in it; '' = the folder itself)."""
        parent = await self._context.env.run_io(real_place, local)
        if not await self._context.env.run_io(parent.is_dir):
            return parent.parent, parent.name
        if row.kind == DIR and (not remote or self._context.db.plain(str(parent), remote) is not None):
            return parent, ""
        return parent, split_path(remote)[1]


class _Run:
    """One pull under way."""

    def __init__(self, pull: Pull, root: TargetDir, force: bool, progress: ProgressCallback | None) -> None:
        self._context = pull._context
        self._fetcher = pull._fetcher
        self._cache = pull._cache
        self._reader = pull._reader
        self._root = root
        context = self._context
        self._examiner = Examiner(root, context.keys, context.params, self._manifest_of, force, context.env.now())
        self._progress = progress
        self.report = TransferReport()
        self._file: TargetFile | None = None
        self._failed: Entry | None = None
        self._plain: list[_Done] = []
        self._links = PullLinks(root)

    def _manifest_of(self, identity: VersionId) -> Manifest | None:
        version = self._context.db.version(identity)
        return version.manifest if version is not None else None

    async def go(self, items: Iterator[Item]) -> None:
        waiting: tuple[_Window, asyncio.Task[_Loaded]] | None = None
        try:
            async with aclosing(self._windows(items)) as windows:
                async for window in windows:
                    load = asyncio.ensure_future(self._load(window))
                    ready, waiting = waiting, (window, load)
                    if ready is not None:
                        await self._write(ready[0], await ready[1])
                if waiting is not None:
                    ready, waiting = waiting, None
                    await self._write(ready[0], await ready[1])
            self._plain += [_Done(entry, path, found) for path, entry, found in self._links.all_names()]
            await self._remember()
        finally:
            if waiting is not None:
                waiting[1].cancel()
                await asyncio.wait({waiting[1]})
            self._abort()
            self._examiner.close()

    async def _windows(self, items: Iterator[Item]) -> AsyncGenerator[_Window, None]:
        """Steps in order, as much content in each window as may be in memory."""
        window = _Window()
        while group := list(islice(items, EXAMINED_AT_ONCE)):
            for step in await run_to_end(self._context.env, self._examiner.examine, group, io=True):
                async for piece, size in self._pieces(step):
                    window.pieces.append(piece)
                    window.size += size
                    if window.size >= WINDOW_BYTES:
                        yield window
                        window = _Window()
            if window.pieces:  # also bounds how many folders are open
                yield window
                window = _Window()

    async def _pieces(self, step: Step, *, may_link: bool = True) -> AsyncIterator[tuple[_Piece, int]]:
        if (
            may_link
            and isinstance(step, Write | Same)
            and not self._links.is_first(step.entry)
            and isinstance(step, Write)
        ):
            yield _Piece(step, is_link=True), 0
            return
        if not isinstance(step, Write) or step.entry.manifest.kind is not Kind.FILE:
            yield _Piece(step), 0
            return
        try:
            ids, sizes = await self._fetcher.chunk_list(step.entry.version)
        except (Integrity, Unsupported) as error:
            yield _Piece(Refused(_naming(error, step.entry.remote))), 0
            return
        start = 0
        while True:
            end, size = start, 0
            while end < len(ids) and size < WINDOW_BYTES:
                size += sizes[end]
                end += 1
            yield _Piece(step, tuple(ids[start:end]), first=start == 0, last=end == len(ids)), size
            if end == len(ids):
                return
            start = end

    async def _load(self, window: _Window) -> _Loaded:
        wanted = list(dict.fromkeys(chunk for piece in window.pieces for chunk in piece.chunks))
        loaded = _Loaded(await self._context.env.run_io(self._from_cache, wanted), {})
        missing = [chunk for chunk in wanted if chunk not in loaded.chunks]
        try:
            await self._read(missing, loaded)
        except Integrity:
            # One by one, to know whose they are.
            for chunk in missing:
                if chunk not in loaded.chunks:
                    try:
                        await self._read([chunk], loaded)
                    except Integrity as error:
                        loaded.failed[chunk] = error
        return loaded

    async def _read(self, ids: Sequence[ChunkId], loaded: _Loaded) -> None:
        if ids:
            async with reading(self._reader, ids) as found:
                async for chunk, data in found:
                    loaded.chunks[chunk] = data

    def _from_cache(self, ids: Sequence[ChunkId]) -> dict[ChunkId, bytes]:
        found = ((chunk, self._cache.get(chunk)) for chunk in ids)
        return {chunk: data for chunk, data in found if data is not None}

    async def _write(self, window: _Window, loaded: _Loaded) -> None:
        rest = window.pieces
        while rest:
            temps = [temp_name(self._context.env.random_bytes(8)) for _ in rest]
            results = await run_to_end(self._context.env, self._write_pieces, rest, loaded, temps, io=True)
            for done in results:
                self._count(done)
            rest = rest[len(results) :]
            if rest:  # a name that cannot be one of what stands already
                await self._write_by_itself(rest[0].step)
                rest = rest[1:]
        if len(self._plain) >= PLAIN_EVERY:
            await self._remember()
        if self._progress is not None:
            self._progress(self.report.progress())

    async def _write_by_itself(self, step: Step) -> None:
        async for piece, _ in self._pieces(step, may_link=False):
            await self._write(window := _Window([piece]), await self._load(window))

    def _write_pieces(self, pieces: Sequence[_Piece], loaded: _Loaded, temps: Sequence[str]) -> list[_Done]:
        """Stops before a further name that cannot be linked."""
        results: list[_Done] = []
        for piece, temp in zip(pieces, temps, strict=True):
            try:
                if piece.is_link and isinstance(piece.step, Write):
                    if (linked := self._link(piece.step, temp)) is None:
                        break
                    results.append(linked)
                    continue
                results.append(self._write_piece(piece, loaded, temp))
            except TcfsError as error:
                results.append(_Done(error=error))
            except OSError as error:
                folder = piece.step.folder.path if not isinstance(piece.step, Refused) else self._root.path
                results.append(_Done(error=local_error(folder, error)))
        return results

    def _link(self, step: Write, temp: str) -> _Done | None:
        if not self._links.make(step, temp):
            return None
        found = step.folder.stat(step.entry.name)
        path = step.folder.path / step.entry.name
        return _Done(step.entry, path, FileStat.of(found) if found is not None else None)

    def _write_piece(self, piece: _Piece, loaded: _Loaded, temp: str) -> _Done:
        step = piece.step
        if isinstance(step, Refused):
            return _Done(error=step.error)
        if isinstance(step, Close):
            try:
                trouble = ""
                mode = None if step.keeps_mode else step.made.mode
                if step.is_ours and step.made.version is not None:
                    trouble = step.folder.set_xattrs(step.made.xattrs, step.made.gone)
                    step.folder.set_mode(mode, step.made.mtime_ns)
                elif step.is_ours:
                    step.folder.set_mode(mode, None)
                return _Done(made=step.made, path=step.folder.path, trouble=trouble)
            finally:
                step.folder.close()
        path = step.folder.path / step.entry.name
        if isinstance(step, Same):
            now, trouble, entry = step.stat, "", step.entry
            if step.before is not None:
                given = (entry.mode, entry.mtime_ns, entry.xattrs)
                now, trouble = step.folder.set_attributes(entry.name, step.before, *given)
            self._links.stands(step)
            return _Done(entry, path, now, trouble=trouble, is_same=step.before is None)
        if step.entry.manifest.kind is Kind.SYMLINK:
            step.folder.symlink(step.entry.name, step.entry.manifest.target, step.entry.mtime_ns, temp, step.before)
            self._links.stands(step)
            found = step.folder.stat(step.entry.name)
            return _Done(step.entry, path, FileStat.of(found) if found is not None else None)
        return self._write_file(step, piece, loaded, temp, path)

    def _write_file(self, step: Write, piece: _Piece, loaded: _Loaded, temp: str, path: Path) -> _Done:
        entry = step.entry
        if piece.first:
            self._file = TargetFile(step.folder, entry.name, temp)
        if self._file is None:  # an earlier piece of it has failed
            return _Done()
        try:
            moved = 0
            for chunk in piece.chunks:
                if chunk in loaded.failed:
                    raise _naming(loaded.failed[chunk], entry.remote)
                self._file.write(loaded.chunks[chunk])
                moved += len(loaded.chunks[chunk])
            if not piece.last:
                return _Done(moved=moved)
        except BaseException:
            self._abort()
            raise
        file, self._file = self._file, None
        manifest = entry.manifest
        found, trouble = file.finish(
            size=manifest.file_size,
            file_hash=manifest.file_hash,
            mode=entry.mode,
            mtime_ns=entry.mtime_ns,
            xattrs=entry.xattrs,
            before=step.before,
        )
        self._links.stands(step)
        return _Done(entry, path, found, moved=moved, trouble=trouble)

    def _abort(self) -> None:
        if self._file is not None:
            self._file.abort()
            self._file = None

    def _count(self, done: _Done) -> None:
        self.report.moved_bytes += done.moved
        if done.trouble:
            self.report.warnings.append((str(done.path), done.trouble))
        if done.error is not None:
            self.report.failures.append(done.error)
            if isinstance(done.error, Conflict):
                self.report.conflicts.append(done.error.path)
        elif done.entry is not None:
            if done.is_same:
                self.report.unchanged += 1
            else:
                self.report.files += 1
            if done.stat is not None:
                self._plain.append(done)
        elif done.made is not None:
            self._plain.append(done)

    async def _remember(self) -> None:
        """`plain` may only speak of bytes that a power cut cannot take back: a push would trust it."""
        done, self._plain = self._plain, []
        if not done:
            return
        await run_to_end(self._context.env, sync_tree, self._root.descriptor, io=True)
        plains: list[Plain] = []
        for item in done:
            local = str(item.path)
            if item.entry is not None and item.stat is not None:
                plains.append(plain_of(local, item.entry.remote, item.entry.version, item.stat))
            elif item.made is not None and item.made.version is not None:
                plains.append(plain_of(local, item.made.remote, item.made.version, None))
        with self._context.db.transaction() as txn:
            txn.set_plain(plains)


def _open_target(path: Path, now: float) -> TargetDir:
    """The folder, without what killed pulls left in it. OSError."""
    root = TargetDir.open(path)
    try:
        root.clean(now)
    except BaseException:
        root.close()
        raise
    return root


def _naming(error: TcfsError, remote: str) -> TcfsError:
    """The same error, naming the path too."""
    return type(error)(f"{remote}: {error.message}", path=remote, hint=error.hint)
