"""What fleet.db knows of packs, and of the chunks in them: where a chunk lies, which packs count, which are lost.

For reading; Books in books.py writes what is read here.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from sync.cas.index import ChunkPlace
from sync.core.manifest import ChunkId
from sync.core.packfile import pack_key
from sync.state.many import batches, marks

_PLACES = """
SELECT c.chunk_id, p.pack_id, m.machine_id, c.offset, c.length, c.raw_length, c.flags
FROM chunk AS c JOIN pack AS p ON p.num = c.pack JOIN machine AS m ON m.num = p.machine
WHERE c.chunk_id IN """
_LYING = "SELECT c.chunk_id FROM chunk AS c JOIN pack AS p ON p.num = c.pack WHERE p.condemned = 0"
_LOST = """
SELECT m.machine_id, p.pack_id, p.lost FROM pack AS p JOIN machine AS m ON m.num = p.machine
WHERE p.lost <> 0 AND p.condemned = 0 AND EXISTS (
    SELECT 1 FROM chunk AS c WHERE c.pack = p.num AND NOT EXISTS (
        SELECT 1 FROM chunk AS o JOIN pack AS q ON q.num = o.pack
        WHERE o.chunk_id = c.chunk_id AND q.lost = 0 AND q.condemned = 0))
ORDER BY p.num"""
PACKS_SPANNED: Final = 32  # that neighbours looks into: each of them is a request
# The +, and values instead of a join, keep SQLite from sorting all packs of the machine to find the next few.
_PACKS_FROM = """
WITH here(pack, offset, machine) AS MATERIALIZED (
    SELECT c.pack, c.offset, p.machine FROM chunk AS c JOIN pack AS p ON p.num = c.pack WHERE c.chunk_id = ? LIMIT 1)
SELECT p.num, CASE p.num WHEN (SELECT pack FROM here) THEN (SELECT offset FROM here) ELSE 0 END FROM pack AS p
WHERE p.num >= (SELECT pack FROM here) AND +p.machine = (SELECT machine FROM here)
    AND (p.num = (SELECT pack FROM here) OR p.condemned = 0 AND p.lost = 0)
ORDER BY p.num LIMIT ?"""
_NEIGHBOURS = """
SELECT chunk_id, offset, length, raw_length FROM chunk
WHERE pack = ? AND offset >= ? AND offset < ? ORDER BY offset LIMIT ?"""
_TOO_FAR_BEFORE = """
SELECT offset FROM chunk WHERE pack = ? AND offset >= ? AND offset < ? ORDER BY offset DESC LIMIT 1 OFFSET ?"""


class Query(Protocol):
    """The rows of a SELECT."""

    def __call__(self, sql: str, *arguments: object) -> list[Any]: ...


class Packs:
    """The tables `pack` and `chunk` of one fleet.db. A pack belongs to the machine whose journal names it."""

    def __init__(self, query: Query) -> None:
        self._query = query

    def known_chunks(self, chunks: Iterable[ChunkId]) -> set[ChunkId]:
        """Those of the chunks that nobody has to put again: they lie in a pack that is neither condemned nor lost."""
        return self._lying(chunks, "AND p.lost = 0")

    def referable_chunks(self, chunks: Iterable[ChunkId]) -> set[ChunkId]:
        """Those of the chunks that a version may name: they lie in packs that are not condemned, lost or not."""
        return self._lying(chunks, "")

    def _lying(self, chunks: Iterable[ChunkId], where: str) -> set[ChunkId]:
        sql = f"{_LYING} {where} AND c.chunk_id IN "
        return {
            ChunkId(row[0]) for batch in batches(chunks) for row in self._query(f"{sql}{marks(len(batch))}", *batch)
        }

    def locate(self, chunks: Iterable[ChunkId]) -> Mapping[ChunkId, list[ChunkPlace]]:
        """Where chunks lie, packs that are neither condemned nor lost first. Unknown chunks are left out."""
        places: dict[ChunkId, list[ChunkPlace]] = {}
        for batch in batches(dict.fromkeys(chunks)):
            rows = self._query(f"{_PLACES}{marks(len(batch))} ORDER BY p.condemned, p.lost, p.num", *batch)
            for chunk, pack, machine_id, offset, length, raw_length, flags in rows:
                place = ChunkPlace(pack.hex(), machine_id, offset, length, raw_length, flags)
                places.setdefault(ChunkId(chunk), []).append(place)
        return places

    def neighbours(self, chunks: Iterable[ChunkId], span: int, raw_max: int, count_max: int) -> list[ChunkId]:
        """Chunks of at most raw_max plain bytes that lie near one of these: in its pack from a quarter of `span` before
        it, and in the packs that its machine made next, until there are `span` encoded bytes, or `count_max` chunks.
        """
        found: dict[ChunkId, None] = {}
        asked = list(chunks)
        for chunk in asked:
            left, room = span, count_max
            for pack, place in self._query(_PACKS_FROM, chunk, PACKS_SPANNED):
                start = max(place - span // 4, 0)
                for (too_far,) in self._query(_TOO_FAR_BEFORE, pack, start, place, count_max // 4):
                    start = too_far + 1
                end = start
                for other, offset, length, raw_length in self._query(_NEIGHBOURS, pack, start, start + left, room):
                    room -= 1
                    end = offset + length
                    if raw_length <= raw_max and end <= start + left:
                        found[ChunkId(other)] = None
                left -= end - start
                if left <= 0 or room <= 0:
                    break
        return [chunk for chunk in found if chunk not in asked]

    def ids(self, machine_id: str) -> set[str]:
        """The packs (hex) that a machine's journal names."""
        sql = "SELECT p.pack_id FROM pack AS p JOIN machine AS m ON m.num = p.machine WHERE m.machine_id = ?"
        return {row[0].hex() for row in self._query(sql, machine_id)}

    def size(self, machine_id: str, pack_id: str) -> int | None:
        """Bytes of a pack (hex) as this machine's journal names it; None if it does not."""
        sql = "SELECT p.size FROM pack AS p JOIN machine AS m ON m.num = p.machine WHERE m.machine_id = ?"
        rows = self._query(f"{sql} AND p.pack_id = ?", machine_id, bytes.fromhex(pack_id))
        return int(rows[0][0]) if rows else None

    def lost_state(self, machine_id: str, pack_id: str) -> int | None:
        """What was seen of a pack (hex): 0 nothing wrong, 1 missing, 2 damaged; None if no such pack is named."""
        sql = "SELECT p.lost FROM pack AS p JOIN machine AS m ON m.num = p.machine WHERE m.machine_id = ?"
        rows = self._query(f"{sql} AND p.pack_id = ?", machine_id, bytes.fromhex(pack_id))
        return int(rows[0][0]) if rows else None

    def lost(self) -> list[tuple[str, bool]]:
        """(key of its object, whether it is missing) of each pack that was seen missing or damaged, if something lies
        in no other.
        """
        return [(pack_key(machine, pack.hex()), lost == 1) for machine, pack, lost in self._query(_LOST)]

    def has_lost(self) -> bool:
        return bool(self._query("SELECT 1 FROM pack WHERE lost <> 0 LIMIT 1"))
