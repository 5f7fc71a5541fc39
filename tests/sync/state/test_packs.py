"""Packs: where chunks lie, and what lies near them."""

from made_versions import Journal

from sync.cas.index import ChunkPlace
from sync.core.manifest import ChunkId, PackedChunk, PackRecord
from sync.state.fleet import FleetDb
from sync.state.packs import _PACKS_FROM


def chunk(number: int) -> ChunkId:
    return ChunkId(number.to_bytes(32, "big"))


def pack(seq: int, name: str, *chunks: tuple[int, int, int]) -> PackRecord:
    """chunks: (number, offset, raw length); each is 10 bytes long when encoded."""
    entries = [PackedChunk(chunk(number).hex(), offset, 10, raw, 0) for number, offset, raw in chunks]
    return PackRecord(seq=seq, pack_id=name * 32, size=100, chunks=entries)


def test_chunks_are_found_in_every_pack_good_ones_first(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    with db.transaction() as txn:
        txn.add_pack(yoga.machine_id, pack(1, "aa", *((number, 10 * number, 20) for number in range(1500))))
        txn.add_pack(bates.machine_id, pack(1, "bb", (7, 0, 20)))
        txn.condemn(yoga.machine_id, "aa" * 32)
    assert db.packs.known_chunks([chunk(7), chunk(8), chunk(9999)]) == {chunk(7)}
    places = db.packs.locate([chunk(number) for number in range(2000)])
    assert len(places) == 1500
    assert places[chunk(7)] == [
        ChunkPlace("bb" * 32, bates.machine_id, 0, 10, 20, 0),
        ChunkPlace("aa" * 32, yoga.machine_id, 70, 10, 20, 0),
    ]
    assert db.packs.ids(bates.machine_id) == {"bb" * 32}


def test_a_pack_belongs_to_the_machine_whose_journal_names_it(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    """Whatever another one says of a pack of that name: it moves no chunk, and condemns none."""
    with db.transaction() as txn:
        txn.add_pack(yoga.machine_id, pack(1, "aa", (7, 0, 20)))
        txn.add_pack(bates.machine_id, pack(1, "aa", (7, 50, 30), (8, 0, 20)))
        txn.condemn(bates.machine_id, "aa" * 32)
    assert db.packs.locate([chunk(7)])[chunk(7)] == [
        ChunkPlace("aa" * 32, yoga.machine_id, 0, 10, 20, 0),
        ChunkPlace("aa" * 32, bates.machine_id, 50, 10, 30, 0),
    ]
    assert db.packs.known_chunks([chunk(7), chunk(8)]) == {chunk(7)}
    assert db.packs.ids(yoga.machine_id) == db.packs.ids(bates.machine_id) == {"aa" * 32}
    assert (db.packs.size(yoga.machine_id, "aa" * 32), db.packs.size(yoga.machine_id, "bb" * 32)) == (100, None)


def test_neighbours_do_not_go_through_all_packs_of_a_machine(db: FleetDb) -> None:
    plan = [row[3] for row in db.query(f"EXPLAIN QUERY PLAN {_PACKS_FROM}", b"", 1)]
    assert "SEARCH p USING INTEGER PRIMARY KEY (rowid>?)" in plan
    assert not [step for step in plan if "ORDER BY" in step]


def test_neighbours_lie_around_and_in_the_packs_made_next(db: FleetDb, yoga: Journal, bates: Journal) -> None:
    with db.transaction() as txn:
        txn.add_pack(yoga.machine_id, pack(1, "aa", *((number, 10 * number, 5) for number in range(10))))
        txn.add_pack(yoga.machine_id, pack(2, "bb", (20, 0, 5), (21, 10, 500), (22, 20, 5)))
        txn.add_pack(bates.machine_id, pack(1, "cc", (30, 0, 5)))
        txn.add_pack(yoga.machine_id, pack(3, "dd", (40, 0, 5)))
        txn.add_pack(yoga.machine_id, pack(4, "ee", (50, 0, 5), (51, 10, 5)))
        txn.condemn(yoga.machine_id, "dd" * 32)
    assert db.packs.neighbours([chunk(5)], span=40, raw_max=100, count_max=99) == [chunk(4), chunk(6), chunk(7)]
    assert db.packs.neighbours([chunk(8)], span=80, raw_max=100, count_max=99) == [
        *(chunk(number) for number in (6, 7, 9, 20, 22, 50)),
    ]
    assert db.packs.neighbours([chunk(22), chunk(99)], span=1000, raw_max=600, count_max=99) == [
        *(chunk(number) for number in (20, 21, 50, 51)),
    ]


def test_neighbours_are_not_too_many(db: FleetDb, yoga: Journal) -> None:
    """A span of tiny files would be tens of thousands, each a file of the cache: those nearest are taken."""
    with db.transaction() as txn:
        txn.add_pack(yoga.machine_id, pack(1, "aa", *((number, 10 * number, 5) for number in range(100))))
        txn.add_pack(yoga.machine_id, pack(2, "bb", (200, 0, 5)))
    assert db.packs.neighbours([chunk(50)], span=10_000, raw_max=100, count_max=8) == [
        *(chunk(number) for number in (48, 49, 51, 52, 53, 54, 55)),
    ]
    assert db.packs.neighbours([chunk(99)], span=10_000, raw_max=100, count_max=8) == [chunk(97), chunk(98), chunk(200)]
