"""Content that the store has lost and this machine still has, in its cache or its mount: into the store again."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from sync.core.errors import Integrity, TcfsError
from sync.core.manifest import ChunkId
from sync.state.fleet import FleetDb
from sync.worker.fetch import Fetcher
from sync.worker.publish import Publication, Publisher

BYTES_AT_ONCE: Final = 8 << 20  # plain bytes in memory
FILES_AT_ONCE: Final = 1000  # put again before their packs are published
FAILURES_MAX: Final = 1000  # that are named


@dataclass(slots=True)
class Restored:
    """files: how many were put again. lost: how many have bytes that are not here either; failures: some of these."""

    files: int = 0
    lost: int = 0
    failures: list[TcfsError] = field(default_factory=list)


async def restore(
    publisher: Publisher, fetcher: Fetcher, files: Iterable[tuple[str, str]], *, verify: bool
) -> Restored:
    """Put again what is lost of these (path, version); nothing is published anew, and readers elsewhere find it.

    verify: look whether the store holds what it is not known to have lost. StoreAway and the like, as of Publication.
    """
    done = Restored()
    async with publisher.begin(verify=verify) as publication:
        for path, version in files:
            try:
                if await _restore_one(publisher.context.db, publication, fetcher, version):
                    done.files += 1
                    if done.files % FILES_AT_ONCE == 0:
                        await publication.commit([])
            except Integrity as error:
                done.lost += 1
                message = f"the store has lost its content, and it is not here either: {error.message}"
                failure = Integrity(message, path=path, hint="'tcfs push --force' it where it is")
                done.failures += [failure] if done.lost <= FAILURES_MAX else []
        await publication.commit([])
    return done


async def _restore_one(db: FleetDb, publication: Publication, fetcher: Fetcher, version: str) -> bool:
    """True if anything was lost of it. Integrity: and it cannot be had."""
    ids, sizes = await fetcher.chunk_list(version)
    pages = [ChunkId(bytes.fromhex(page)) for page in db.view.content(version).chunk_pages]
    lost = await publication.missing([*pages, *ids])
    for page in pages:
        if page in lost:
            await publication.add([(page, db.query("SELECT entries FROM chunk_page WHERE page_id = ?", page)[0][0])])
    for indexes in _groups([index for index, chunk in enumerate(ids) if chunk in lost], sizes):
        found = await fetcher.base_bytes(version, indexes)
        await publication.add([(ids[index], found[index]) for index in indexes])
    return bool(lost)


def _groups(indexes: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    group: list[int] = []
    taken = 0
    for index in indexes:
        group.append(index)
        taken += sizes[index]
        if taken >= BYTES_AT_ONCE:
            yield group
            group, taken = [], 0
    if group:
        yield group
