"""fsck of what is shown: can every live file be read, chunk by chunk, from packs that were found whole?"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import msgspec

from sync.cas.reader import ChunkReader
from sync.core.codec import ContentHasher
from sync.core.errors import BadFormat, Integrity
from sync.core.manifest import ChunkId, Kind, Manifest, decode_record
from sync.core.packfile import pack_key
from sync.state.many import batches, marks
from sync.worker.fsck.cache import Wholes
from sync.worker.fsck.check import Check
from sync.worker.fsck.findings import HINT_COPY, HINT_PUSH

HEADS_AT_ONCE: Final = 100
CHUNKS_AT_ONCE: Final = 2000

_HEADS = """
SELECT h.path, h.version, v.record FROM head AS h JOIN version AS v ON v.num = h.version
WHERE h.dead = 0 AND (h.path, h.version) > (?, ?) ORDER BY h.path, h.version LIMIT ?"""
_PLACES = """
SELECT c.chunk_id, c.pack, c.raw_length, p.pack_id, m.machine_id
FROM chunk AS c JOIN pack AS p ON p.num = c.pack JOIN machine AS m ON m.num = p.machine WHERE c.chunk_id IN """
_HINT_UNKNOWN: Final = "its journal has a hole, or its machine has lost a record of a pack"

_page = msgspec.json.Decoder(list[tuple[str, int]])


class _Part(NamedTuple):
    """Some chunks of one live version of a path. sizes: plain bytes; None for the pages of a list of chunks."""

    path: str
    ids: Sequence[ChunkId]
    sizes: Sequence[int] | None


class _Place(NamedTuple):
    pack: int
    raw_length: int
    key: str


async def check_contents(check: Check, wholes: Wholes) -> None:
    """Every live head. Needs check.damage; wholes: the whole files of the cache, compared on the way."""
    await _ContentCheck(check, wholes).run()


class _ContentCheck:
    def __init__(self, check: Check, wholes: Wholes) -> None:
        self._check = check
        self._context = check.context
        self._db = check.context.db
        self._findings = check.findings
        self._wholes = wholes
        self._reader = ChunkReader(check.context.env, check.context.keys, check.context.store, self._db.packs.locate)

    async def run(self) -> None:
        parts: list[_Part] = []
        count = 0
        async for part in self._parts():
            parts.append(part)
            count += len(part.ids)
            if count >= CHUNKS_AT_ONCE:
                await self._context.env.run(self._locate, parts)
                parts, count = [], 0
        await self._context.env.run(self._locate, parts)
        self._check.damage.is_judged = True

    # ---- what should be readable

    async def _parts(self) -> AsyncIterator[_Part]:
        for path, record in self._heads():
            try:
                manifest = decode_record(record)
            except BadFormat as error:
                self._findings.error("fleet.db", f"a version of {path} is broken: {error.message}", path=path)
                continue
            if not isinstance(manifest, Manifest) or manifest.kind is not Kind.FILE or manifest.unknown_requirements:
                continue
            self._check.tally.contents += 1
            self._check.tell()
            hasher, total = ContentHasher(self._context.keys), 0
            async for part in self._of_manifest(path, manifest):
                if part.sizes is not None:
                    for chunk, size in zip(part.ids, part.sizes, strict=True):
                        hasher.add(chunk, size)
                    total += sum(part.sizes)
                    self._wholes.compare(manifest.content_id, part.ids, part.sizes, manifest.file_size)
                yield part
            if total == manifest.file_size and manifest.chunks + manifest.chunk_pages:
                self._check_content_id(path, manifest, hasher)

    def _heads(self) -> Iterator[tuple[str, bytes]]:
        after: tuple[Any, ...] = ("", 0)
        while rows := self._db.query(_HEADS, *after, HEADS_AT_ONCE):
            for path, _, record in rows:
                yield path, record
            after = rows[-1][:2]

    async def _of_manifest(self, path: str, manifest: Manifest) -> AsyncIterator[_Part]:
        if not manifest.chunk_pages:
            yield _Part(path, _raw(manifest.chunks), manifest.chunk_sizes)
            return
        pages = _raw(manifest.chunk_pages)
        yield _Part(path, pages, None)
        total = 0
        for page in pages:
            try:
                entries = _page.decode(await self._page(page))
            except (Integrity, BadFormat, msgspec.DecodeError) as error:
                message = f"{path} cannot be read: page {page.hex()} of its list of chunks: {error}"
                self._findings.error(getattr(error, "path", "") or page.hex(), message, path=path, hint=HINT_COPY)
                return
            total += sum(size for _, size in entries)
            yield _Part(path, _raw([chunk for chunk, _ in entries]), [size for _, size in entries])
        if total != manifest.file_size:
            message = f"{path}: its list of chunks has {total} bytes, not {manifest.file_size}"
            self._findings.error(path, message, path=path)

    async def _page(self, page: ChunkId) -> bytes:
        rows = self._db.query("SELECT entries FROM chunk_page WHERE page_id = ?", page)
        if rows:
            return bytes(rows[0][0])
        async with aclosing(self._reader.read([page])) as found:  # type: ignore[type-var]
            async for _, data in found:
                return data
        raise Integrity("cannot be read")

    def _check_content_id(self, path: str, manifest: Manifest, hasher: ContentHasher) -> None:
        if hasher.content_id() != manifest.content_id:
            message = f"{path}: its chunks do not make up the content that its version names"
            self._findings.error(path, message, path=path, hint="write the file anew")

    # ---- where it is

    def _locate(self, parts: Sequence[_Part]) -> None:
        places = self._places({chunk for part in parts for chunk in part.ids})
        for part in parts:
            is_readable = True
            for index, chunk in enumerate(part.ids):
                size, found = part.sizes[index] if part.sizes is not None else None, places.get(chunk, [])
                self._need(chunk, found)
                is_readable = is_readable and self._judge(part.path, chunk, size, found)

    def _need(self, chunk: ChunkId, places: Sequence[_Place]) -> None:
        """What is wrong with a pack matters if a chunk lies nowhere else, or is as bad there."""
        damage = self._check.damage
        packs = {place.pack for place in places if not damage.hits(place.pack, chunk)} or {p.pack for p in places}
        if packs <= damage.said.keys():
            damage.needed |= packs

    def _places(self, chunks: set[ChunkId]) -> dict[ChunkId, list[_Place]]:
        found: dict[ChunkId, list[_Place]] = {}
        for batch in batches(chunks):
            for chunk, pack, raw_length, pack_id, machine_id in self._db.query(_PLACES + marks(len(batch)), *batch):
                place = _Place(pack, raw_length, pack_key(machine_id, pack_id.hex()))
                found.setdefault(ChunkId(chunk), []).append(place)
        return found

    def _judge(self, path: str, chunk: ChunkId, size: int | None, places: Sequence[_Place]) -> bool:
        """False if this chunk makes the path unreadable; one finding a path and object is enough."""
        if not places:
            message = f"{path} cannot be read: chunk {chunk.hex()} is in no pack that a journal names"
            self._findings.error(path, message, path=path, hint=_HINT_UNKNOWN)
            return False
        good = [place for place in places if not self._check.damage.hits(place.pack, chunk)]
        if not good:
            key = places[0].key
            self._findings.error(key, f"{path} cannot be read whole: it needs {key}", path=path, hint=HINT_PUSH)
            return False
        if size is not None and all(place.raw_length != size for place in good):
            key = good[0].key
            message = f"{path} cannot be read: chunk {chunk.hex()} has {good[0].raw_length} bytes in {key}, not {size}"
            self._findings.error(key, message, path=path)
            return False
        return True


def _raw(ids: Sequence[str]) -> list[ChunkId]:
    return [ChunkId(bytes.fromhex(each)) for each in ids]
