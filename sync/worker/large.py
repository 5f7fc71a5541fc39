"""Large files of the mount: their bytes are packed ahead, one file at a time, while everything else goes out.

What was packed is recorded as ours along the way: whoever has to begin such a file again does not send it again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sync.core.errors import BadFormat, Integrity, NotFound, TcfsError
from sync.core.manifest import ChunkId
from sync.state.rows import FILE
from sync.state.tree.reader import Seal, TreeReader
from sync.worker.change import Content, LayerSource
from sync.worker.content import PUBLISH_MAX
from sync.worker.context import Context
from sync.worker.publish import Publication, Publisher

LARGE: Final = 64 << 20  # bytes that must be read: about a second
AROUND: Final = 2 << 20  # bytes of the base that are read around a change
RECORD: Final = 1 << 30  # bytes that are packed before their packs are recorded
AGAIN_S: Final = 30.0  # before a file that could not be read is tried again

UNPUBLISHABLE: Final = (Integrity, NotFound, BadFormat)


@dataclass(slots=True)
class _File:
    """source None: it is not large. result: its content, or why that cannot be had."""

    source: LayerSource | None
    result: Content | TcfsError | OSError | None = None
    failed_at: float = 0.0


class _Removed(Exception):
    """Nobody needs the file any more."""


class LargeFiles:
    """Seals of large files, in the order of the log. `pack_next` works beside everything else."""

    def __init__(
        self,
        context: Context,
        publisher: Publisher,
        tree: TreeReader,
        source_of: Callable[[Seal], object],
        least: int = LARGE,
    ) -> None:
        """source_of: the Source of a seal's file. least: bytes to be read that make a file large."""
        self._context = context
        self._publisher = publisher
        self._tree = tree
        self._source_of = source_of
        self._least = least
        self._files: dict[bytes, _File] = {}

    def keep(self, seals: Sequence[Seal]) -> None:
        """Forget all but these, and try again what failed a while ago."""
        now = self._context.env.monotonic()
        kept = {seal.held_by for seal in seals}
        for seal_id, file in list(self._files.items()):
            if seal_id not in kept or (isinstance(file.result, Exception) and now - file.failed_at >= AGAIN_S):
                del self._files[seal_id]

    def is_waiting(self, seal: Seal) -> bool:
        """True if the seal is that of a large file whose bytes are still to be packed."""
        if seal.op != "put" or seal.kind != FILE or seal.layer is None or not self._least < (seal.size or 0):
            return False
        file = self._files.get(seal.held_by)
        if file is None:
            file = self._files[seal.held_by] = _File(self._large_source(seal))
        return file.source is not None and file.result is None

    def content(self, seal: Seal) -> Content | None:
        """What was packed of it; None if it is not large. Raises why that could not be."""
        file = self._files.get(seal.held_by)
        if file is None or file.result is None:
            return None
        if isinstance(file.result, Exception):
            raise file.result
        return file.result

    async def pack_next(self) -> bool:
        """Pack the first that waits; False if none does. StoreAway, NoSpace and the like, as raised."""
        waiting = [seal_id for seal_id, file in self._files.items() if file.source is not None and file.result is None]
        for seal_id in waiting:
            if not self._tree.is_removed(seal_id):
                await self._pack(seal_id, self._files[seal_id])
                return True
        return False

    async def _pack(self, seal_id: bytes, file: _File) -> None:
        assert file.source is not None
        async with self._publisher.begin() as publication:
            sink = _Sink(publication, lambda: self._tree.is_removed(seal_id))
            try:
                (content,) = await self._publisher.layers.layers([file.source], sink)
            except _Removed:
                await publication.take_back()
                self._files.pop(seal_id, None)
            except (*UNPUBLISHABLE, OSError) as error:
                file.result, file.failed_at = error, self._context.env.monotonic()
            else:
                await publication.commit([])
                file.result = content

    def _large_source(self, seal: Seal) -> LayerSource | None:
        try:
            source = self._source_of(seal)
        except TcfsError:
            return None
        if not isinstance(source, LayerSource) or source.size > PUBLISH_MAX:
            return None
        around = AROUND * len(source.spans) if source.limit_below else 0
        return source if source.spans.total + around > self._least else None


class _Sink:
    """Chunks of one file. Raises _Removed once nobody needs them."""

    def __init__(self, publication: Publication, is_removed: Callable[[], bool]) -> None:
        self._publication = publication
        self._is_removed = is_removed
        self._bytes = 0

    async def add(self, chunks: Sequence[tuple[ChunkId, bytes]]) -> None:
        if self._is_removed():
            raise _Removed
        await self._publication.add(chunks)
        self._bytes += sum(len(data) for _, data in chunks)
        if self._bytes >= RECORD:
            self._bytes = 0
            await self._publication.commit([])
