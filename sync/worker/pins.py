"""What is pinned: known at any moment, brought here by itself, kept by the cache.

`Pins` follows the feed, so a new version of a pinned path is wanted as soon as it is shown. What it knows is in memory
only: policies.toml and `shown` say all of it.
"""

import heapq
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from sync.cas.cache import ChunkCache
from sync.core.errors import BadConfig, Integrity, NoSpace, NotFound, TcfsError, Unsupported
from sync.core.manifest import ChunkId
from sync.core.paths import is_below, join_path, split_path
from sync.core.policy import Policies
from sync.state.globs import children
from sync.state.policies import PolicyFile
from sync.state.rows import DIR, FILE, ShownRow
from sync.worker.context import Context
from sync.worker.fetch import Fetcher, Priority

BATCH_CHUNKS: Final = 1000  # of one fetch
LARGE_CHUNKS: Final = 16  # of one fetch of a large file
BATCH_BYTES: Final = 16 << 20
ITEMS_MAX: Final = 5000  # of the feed that are followed one by one; after more everything is looked at anew
LOOK_EVERY_S: Final = 2.0  # while much is brought: pins may change meanwhile
LOOK_AGAIN_S: Final = 300.0  # the cache may lose anything at any time
RETRY_S: Final = 5.0  # after a store that was away
RETRY_LATER_S: Final = 60.0  # after a cache that was full, or content that is damaged
SETTLE_S: Final = 10.0  # what was published from the mount here is in the cache by then: the mount has noted it
MORE_ROOM: Final = "raise cache_quota, or 'tcfs unpin' something"
COMES_BY_ITSELF: Final = "put that right: what is pinned comes by itself then"
NAMED_MAX: Final = 20  # paths that status names


class PinState(msgspec.Struct, frozen=True):
    """For status and doctor. bytes: of all pinned content, what is in it twice counted once. trouble: '' = none.
    hint: what helps.
    """

    paths: int
    files: int
    bytes: int
    lacking_files: int
    lacking_bytes: int
    lacking: list[str]
    trouble: str
    hint: str = ""


class PinnedFile(msgspec.Struct, frozen=True):
    """A file that a pin covers. chunks: ids in hex; None while the list of a very large file is not here."""

    version: int
    value: int
    size: int
    content_id: str
    chunks: tuple[str, ...] | None


@dataclass(slots=True)
class _Sums:
    """Made when they are asked for: at each eviction, each second. total: bytes."""

    names: frozenset[str] | None = None
    total: int | None = None


class Pins:
    """The pins of one fleet on this machine. run_once is the engine's job; protected may be asked in any thread."""

    def __init__(self, context: Context, cache: ChunkCache, fetcher: Fetcher, policies: PolicyFile, quota: int) -> None:
        """policies: for this object alone."""
        self._context = context
        self._view = context.db.view
        self._cache = cache
        self._fetcher = fetcher
        self._policies = policies
        self._quota = quota
        self._lock = threading.Lock()  # of all below; never taken by the event loop, a look may take long
        self._known: Policies | None = None  # as they were when files was made
        self._cursor = 0
        self._files: dict[str, PinnedFile] = {}
        self._folders: dict[str, int] = {}  # path -> number of its row
        self._sums = _Sums()  # over files: new ones at each change
        self._lacking: dict[str, PinnedFile] = {}
        self._unlooked: dict[str, PinnedFile] = {}
        self._young: dict[str, float] = {}  # path -> when a version of ours was seen there
        self._looked_at = 0.0
        self._not_before = 0.0
        self._trouble = self._hint = ""
        self._state = PinState(0, 0, 0, 0, 0, [], "")

    def protected(self) -> frozenset[str]:
        """Chunks and contents, in hex, that pins cover now. BadConfig while nobody knows what is pinned."""
        with self._lock:
            self._refresh()
            if self._sums.names is None:
                names: set[str] = set()
                for file in self._files.values():
                    names.add(file.content_id)
                    names.update(file.chunks or ())
                self._sums.names = frozenset(names)
            return self._sums.names

    @property
    def state(self) -> PinState:
        """As of the last look."""
        return self._state

    async def look_now(self) -> None:
        """Somebody has changed the policies: look, and do not wait with what is missing."""
        self._not_before = 0.0
        await self._context.env.run(self._look)

    async def run_once(self) -> list[int]:
        """Bring what is missing, as far as it goes; the tokens (shown.value) of what has come.

        What kept something from coming stands in `state` until it has come.
        """
        env = self._context.env
        lacking = await env.run(self._look)
        if not lacking or env.monotonic() < self._not_before:
            return []
        came: list[int] = []
        trouble, hint, pause = "", "", 0.0
        batches = deque(_batches(lacking))
        wanted, looked_at = dict(lacking), env.monotonic()
        while batches:
            if env.monotonic() - looked_at >= LOOK_EVERY_S:
                wanted, looked_at = dict(await env.run(self._look)), env.monotonic()
            batch = [(path, file) for path, file in batches.popleft() if wanted.get(path) == file]
            if not batch:
                continue
            try:
                came += await self._bring(batch)
            except Integrity as error:
                if len(batch) > 1:  # one of them is damaged, and the others are not to wait for it
                    batches.extendleft([each] for each in reversed(batch))
                else:
                    trouble, hint = f"{error.path}: {error.message}", error.hint or "'tcfs fsck' tells what helps"
                    pause = RETRY_LATER_S
            except NoSpace as error:
                trouble, hint, pause = error.message, f"{MORE_ROOM}, or free the disk", RETRY_LATER_S
                break
            except TcfsError as error:
                trouble, hint, pause = error.message, error.hint or COMES_BY_ITSELF, RETRY_S
                break
        self._trouble, self._hint, self._not_before = trouble, hint, env.monotonic() + pause
        await env.run(self._look)
        return came

    # ---- what is covered

    def _look(self) -> list[tuple[str, PinnedFile]]:
        """What of the pinned files is not here."""
        with self._lock:
            self._refresh()
            now = self._context.env.monotonic()
            if now - self._looked_at >= LOOK_AGAIN_S:
                self._looked_at = now
                self._unlooked = dict(self._files)
            unlooked, self._unlooked = self._unlooked, {}
            for path, file in unlooked.items():
                self._lacking.pop(path, None)
                if self._is_here(file):
                    self._young.pop(path, None)
                elif now - self._young.get(path, now - SETTLE_S) < SETTLE_S:
                    self._unlooked[path] = file
                else:
                    self._lacking[path] = file
                    self._not_before = 0.0
            self._state = self._described()
            return list(self._lacking.items())

    def _described(self) -> PinState:
        if self._sums.total is None:
            self._sums.total = sum({file.content_id: file.size for file in self._files.values()}.values())
        total = self._sums.total
        trouble, hint = (self._trouble, self._hint) if self._lacking else ("", "")
        if total > self._quota:
            trouble = f"pinned are {total / 2**20:.1f} MiB, but the cache may take {self._quota / 2**20:.1f} MiB"
            hint = MORE_ROOM
        return PinState(
            paths=len(self._known.pins()) if self._known is not None else 0,
            files=len(self._files),
            bytes=total,
            lacking_files=len(self._lacking),
            lacking_bytes=sum(file.size for file in self._lacking.values()),
            lacking=heapq.nsmallest(NAMED_MAX, self._lacking),
            trouble=trouble,
            hint=hint,
        )

    def _is_here(self, file: PinnedFile) -> bool:
        if not file.size or self._cache.has_whole(file.content_id):
            return True
        return file.chunks is not None and all(self._cache.has(ChunkId(bytes.fromhex(c))) for c in file.chunks)

    def _refresh(self) -> None:
        """Bring `files` up to date with policies and feed."""
        try:
            policies = self._policies.read()
        except BadConfig:
            if self._known is None:
                raise
            policies = self._known
        last = self._view.feed_last()
        if policies is not self._known:
            self._cover_all(policies, last)
        elif last != self._cursor and policies.words:
            self._follow(policies, last)

    def _cover_all(self, policies: Policies, last: int) -> None:
        before, self._files, self._folders, self._sums = self._files, {}, {}, _Sums()
        looked = {path: file for path, file in before.items() if path not in self._unlooked}
        self._known = None  # until all is covered: what fails on the way is not taken for all
        for place in policies.pins():
            row = self._view.resolve_path(place)
            if row is not None:
                self._cover(policies, place, row, is_new=False)
        self._lacking = {path: file for path, file in self._lacking.items() if self._files.get(path) == file}
        self._unlooked = {path: file for path, file in self._files.items() if looked.get(path) != file}
        self._known, self._cursor = policies, last

    def _follow(self, policies: Policies, last: int) -> None:
        items = self._view.feed_after(self._cursor, ITEMS_MAX + 1)
        if not items or len(items) > ITEMS_MAX or items[0].n != self._cursor + 1:
            self._cover_all(policies, last)
            return
        pins = policies.pins()
        for path in dict.fromkeys(join_path(split_path(item.path)[0], item.name) for item in items):
            places = [path] if policies.is_pinned(path) else []
            for place in [*places, *_below(pins, path)]:
                self._look_at(policies, place)
        self._cursor = items[-1].n

    def _look_at(self, policies: Policies, place: str) -> None:
        row = self._view.resolve_path(place)
        if row is not None and row.kind == DIR and self._folders.get(place) == row.id:
            return  # what changes in it has items of its own
        self._uncover(place)
        if row is not None:
            self._cover(policies, place, row, is_new=True)

    def _uncover(self, path: str) -> None:
        gone = [path] if path in self._files else []
        if path in self._folders:
            gone += [known for known in self._files if is_below(known, path)]
            for folder in [known for known in self._folders if known == path or is_below(known, path)]:
                del self._folders[folder]
        for known in gone:
            del self._files[known]
            for books in (self._lacking, self._unlooked, self._young):
                books.pop(known, None)
            self._sums = _Sums()

    def _cover(self, policies: Policies, path: str, row: ShownRow, *, is_new: bool) -> None:
        """This place and what is below it and has no word of its own."""
        waiting = [(path, row)]
        while waiting:
            place, row = waiting.pop()
            if row.kind == DIR:
                self._folders[place] = row.id
                for child in children(self._view, row.id):
                    below = join_path(place, child.name)
                    if below not in policies.words:
                        waiting.append((below, child))
            elif row.kind == FILE and row.version is not None:
                self._add(place, row, row.version, is_new=is_new)

    def _add(self, path: str, row: ShownRow, number: int, *, is_new: bool) -> None:
        content = self._view.content_of(number)
        if not content.is_readable:
            return
        version = self._view.identity(number)
        chunks = None if content.chunk_pages else tuple(content.chunks)
        if content.chunk_pages and not self._view.missing_pages(version):
            chunks = tuple(chunk.hex() for chunk in self._view.chunk_list(version)[0])
        file = PinnedFile(number, row.value, content.file_size, content.content_id, chunks)
        self._files[path] = self._unlooked[path] = file
        if is_new and version.startswith(f"{self._context.db.machine_id}:"):
            self._young[path] = self._context.env.monotonic()
        self._sums = _Sums()

    # ---- what is missing

    async def _bring(self, batch: Sequence[tuple[str, PinnedFile]]) -> list[int]:
        wanted: dict[ChunkId, None] = {}
        for path, file in batch:
            wanted |= dict.fromkeys(await self._chunks(path, file))
        ids = list(wanted)
        step = BATCH_CHUNKS if len(batch) > 1 else LARGE_CHUNKS
        try:
            for start in range(0, len(ids), step):
                if await self._fetcher.bring(ids[start : start + step], Priority.BACKGROUND):
                    raise NoSpace("the cache has no room for all that is pinned")
        except Integrity as error:
            raise Integrity(error.message, path=batch[0][0], hint=error.hint) from error
        await self._context.env.run(self._look_again, batch)
        return [file.value for _, file in batch]

    def _look_again(self, batch: Sequence[tuple[str, PinnedFile]]) -> None:
        with self._lock:
            self._unlooked |= {path: file for path, file in batch if self._lacking.get(path) == file}

    async def _chunks(self, path: str, file: PinnedFile) -> list[ChunkId]:
        if file.chunks is not None:
            return [ChunkId(bytes.fromhex(chunk)) for chunk in file.chunks]
        try:
            ids, _ = await self._fetcher.chunk_list(self._view.identity(file.version))
        except (NotFound, Unsupported):
            return []
        await self._context.env.run(self._listed, path, file, tuple(chunk.hex() for chunk in ids))
        return ids

    def _listed(self, path: str, file: PinnedFile, chunks: tuple[str, ...]) -> None:
        """The list of a large file has come."""
        with self._lock:
            if self._files.get(path) == file:
                self._files[path] = self._unlooked[path] = msgspec.structs.replace(file, chunks=chunks)
                self._sums = _Sums()


def _below(pins: Sequence[str], path: str) -> Iterator[str]:
    """Those of the sorted pins that are below a path; there may be very many others."""
    for place in range(bisect_left(pins, f"{path}/"), len(pins)):
        if not is_below(pins[place], path):
            break
        yield pins[place]


def _batches(files: Sequence[tuple[str, PinnedFile]]) -> Iterator[list[tuple[str, PinnedFile]]]:
    """In the order of the paths, which is about that of the packs; a large file by itself."""
    batch: list[tuple[str, PinnedFile]] = []
    chunks = size = 0
    for path, file in sorted(files, key=lambda item: item[0]):
        if file.size >= BATCH_BYTES or file.chunks is None:
            yield [(path, file)]
            continue
        batch.append((path, file))
        chunks += len(file.chunks)
        size += file.size
        if chunks >= BATCH_CHUNKS or size >= BATCH_BYTES:
            yield batch
            batch, chunks, size = [], 0, 0
    if batch:
        yield batch
