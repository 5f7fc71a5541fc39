"""fsck of the store: every object that is missing, cut or altered is named, and with it the files that need it."""

from pathlib import Path

import pytest
from fsckkit import Two, damaged, made, paths_of
from workerkit import FLEET_ID, KEYS, Fleet

from sync.core.errors import Integrity, StoreAway
from sync.core.journal import NO_PREDECESSOR, JournalHead, encode_head, encode_segment, head_key, segment_key
from sync.core.manifest import ChunkId, RemarkRecord, encode_record
from sync.worker import content as content_module
from sync.worker.fsck import Finding, Severity, Tally, failure, fsck
from sync.worker.fsck import packs as packs_module

two = pytest.fixture(made, name="two")
TREE = {"docs/f0", "docs/f1", "docs/f2", "docs/f3", "large", "reply"}


def errors(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity is Severity.ERROR]


def paths(findings: list[Finding], key: str) -> set[str]:
    return {finding.path for finding in findings if finding.object == key and finding.path}


@pytest.mark.parametrize("deep", [False, True])
def test_a_clean_fleet_has_no_findings(two: Two, deep: bool) -> None:
    for machine in (two.yoga, two.bates):
        tally = Tally()
        assert two.fsck(machine, deep=deep, tally=tally) == []
        assert tally.objects == len(two.objects)
        assert tally.packs == tally.packs_read == 3
        assert tally.contents == len(TREE)
        assert (tally.chunks > 0) is deep
        assert tally.unverified == []
        assert failure([], tally) is None


def test_a_fleet_that_has_published_nothing_is_clean(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    empty = Two.__new__(Two)
    empty.fleet, empty.bates = fleet, fleet.machine("bates")
    assert empty.fsck() == []
    fleet.close()


@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
@pytest.mark.parametrize("area", ["fleet.json", "machines/", "heads/", "journal/", "packs/"])
def test_every_damaged_object_is_named(two: Two, area: str, how: str) -> None:
    for key in two.keys(area):
        whole = two.objects[key]
        if how == "gone":
            del two.objects[key]
        else:
            two.objects[key] = damaged(whole, how)
        for machine in (two.yoga, two.bates):
            tally = Tally()
            found = errors(two.fsck(machine, tally=tally))
            assert key in {finding.object for finding in found}, (key, found)
            assert isinstance(failure(found, tally), Integrity)
        two.objects[key] = whole
    assert two.fsck() == []


def test_the_files_that_need_a_missing_pack_are_listed(two: Two) -> None:
    for key in two.keys("packs/"):
        del two.objects[key]
    found = two.fsck()
    assert {path for key in {f.object for f in found} for path in paths(found, key)} == TREE
    keys = {f.object for f in found}
    assert len(keys) == 3
    assert all(f.message for f in found)


def test_damage_of_one_chunk_names_only_its_files(two: Two) -> None:
    ((pack_id, offset, length),) = two.bates.db.query(
        "SELECT p.pack_id, c.offset, c.length FROM chunk AS c JOIN pack AS p ON p.num = c.pack WHERE c.chunk_id = ?",
        bytes.fromhex(two.bates.db.heads("docs/f2")[0].manifest.chunks[0]),
    )
    key = next(key for key in two.keys("packs/") if key.endswith(pack_id.hex()))
    raw = bytearray(two.objects[key])
    raw[offset + length // 2] ^= 1
    two.objects[key] = bytes(raw)
    found = two.fsck()
    assert paths(found, key) == {"docs/f2"}
    assert {finding.object for finding in found} == {key}


def test_damage_that_no_file_needs_names_no_file(two: Two) -> None:
    key = two.keys("packs/")[0]
    two.objects[key] = two.objects[key][:-1] + b"x"
    found = two.fsck()
    assert [(finding.object, finding.path) for finding in found] == [(key, "")]


def test_a_chunk_with_another_whole_place_is_no_loss(two: Two) -> None:
    """A pack of bates holds it again, written before it knew of the first: that one is missing, and no path with it."""
    before, db = two.keys("packs/"), two.bates.db
    db.packs.known_chunks = lambda chunks: set()  # type: ignore[method-assign]
    two.bates.write("docs/f1", bytes([1]) * 700 + b"end")
    two.do(two.bates.push("docs/f1", to="copy"))
    assert len(two.keys("packs/")) == len(before) + 1
    two.do(two.yoga.learner.learn())
    first = two.yoga.db.heads("docs/f1")[0].manifest.chunks[0]
    chunk = ChunkId(bytes.fromhex(first))
    places = two.yoga.db.packs.locate([chunk])[chunk]
    assert len(places) == 2
    del two.objects[places[0].key]
    found = two.fsck(two.yoga)
    assert "docs/f1" not in paths(found, places[0].key)
    assert "docs/f0" in paths(found, places[0].key)


@pytest.mark.parametrize("how", ["flip", "cut", "tail"])
def test_without_reading_all_only_sizes_and_indexes_are_looked_at(
    two: Two, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs_module, "FULL_MAX", 0)
    tally = Tally()
    assert two.fsck(tally=tally) == []
    assert tally.packs_read == 0
    assert ["the bytes of 3 packs" in text for text in tally.unverified] == [True]
    key = two.keys("packs/")[0]
    whole = two.objects[key]
    two.objects[key] = whole[:-40] + bytes(40) if how == "tail" else damaged(whole, how)
    found = two.fsck()
    if how == "flip":  # in the chunks, or in the index that takes up half of so small a pack
        found = two.fsck(deep=True)
    assert key in {finding.object for finding in errors(found)}


def test_of_a_pack_only_its_index_is_read(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it begins is known from the journal; where it is not, a guess does as well."""
    two.yoga.write("random", two.yoga.env.random_bytes(60_000))
    two.do(two.yoga.push("random"))
    two.do(two.bates.learner.learn())
    monkeypatch.setattr(packs_module, "FULL_MAX", 0)
    tally = Tally()
    assert two.fsck(tally=tally) == []
    assert sum(len(two.objects[key]) for key in two.keys("packs/")) > 60_000
    assert tally.pack_bytes < 15_000
    unknown = packs_module._Pack(1, b"", 200_000, 0, 0, 0)
    assert 200_000 - packs_module.TAIL == unknown.tail_start()


def test_an_own_pack_that_no_journal_names_is_a_warning_for_its_owner_only(two: Two) -> None:
    key = f"packs/{two.bates.db.machine_id}/ab/{'ab' * 32}"
    two.objects[key] = b"left over"
    (finding,) = two.fsck(two.bates)
    assert (finding.severity, finding.object) == (Severity.WARNING, key)
    assert failure([finding], Tally()) is None
    assert two.fsck(two.yoga) == []


def test_a_long_list_of_chunks_is_followed_page_by_page(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_module, "CHUNKS_INLINE_MAX", 3)
    two.yoga.write("paged", bytes(range(251)) * 400)
    two.do(two.yoga.push("paged"))
    two.do(two.bates.learner.learn())
    manifest = two.bates.db.heads("paged")[0].manifest
    assert len(manifest.chunk_pages) > 1
    assert two.fsck(deep=True) == []
    page = ChunkId(bytes.fromhex(manifest.chunk_pages[0]))
    ((place,),) = two.bates.db.packs.locate([page]).values()
    raw = bytearray(two.objects[place.key])
    raw[place.offset + 20] ^= 1
    two.objects[place.key] = bytes(raw)
    assert paths(two.fsck(), place.key) == {"paged"}


def test_a_missing_segment_in_the_middle_and_at_the_end(two: Two) -> None:
    segments = two.keys(f"journal/{two.yoga.db.machine_id}/")
    assert len(segments) == 2
    for key, path in zip(segments, ("docs", "large"), strict=True):
        whole = two.objects.pop(key)
        found = two.fsck()
        assert key in {finding.object for finding in found}
        assert paths(found, key) == {path}
        two.objects[key] = whole


def test_a_segment_another_one_was_put_for_is_named(two: Two) -> None:
    """Each opens and is signed by yoga; but the chain, the head and fleet.db know another one."""
    yoga = two.yoga
    first = yoga.db.segments(yoga.db.machine_id)[0]
    lines = [encode_record(RemarkRecord(seq=seq, text="x")) for seq in range(first.first, first.last + 1)]
    key = segment_key(yoga.db.machine_id, first.first)
    two.objects[key] = encode_segment(
        KEYS, FLEET_ID, yoga.db.machine_id, lines, first.first, first.last, NO_PREDECESSOR, bytes(12), yoga.signer
    )
    messages = [f"{f.object}: {f.message}" for f in errors(two.fsck())]
    assert any("is not the segment that was applied here" in text for text in messages)
    assert any("follows another segment" in text for text in messages)


def test_an_older_head_of_ours_is_a_rollback(two: Two) -> None:
    yoga = two.yoga
    old = yoga.db.segments(yoga.db.machine_id)[0]
    key = head_key(yoga.db.machine_id)
    two.objects[key] = encode_head(KEYS, FLEET_ID, yoga.db.machine_id, old, bytes(12), yoga.signer)
    found = errors(two.fsck(yoga))
    assert [finding.object for finding in found] == [key]
    assert "older state" in found[0].message


def test_a_head_of_a_clone_is_told(two: Two) -> None:
    yoga = two.yoga
    key = head_key(yoga.db.machine_id)
    head = JournalHead(90, 99, bytes(32))
    two.objects[key] = encode_head(KEYS, FLEET_ID, yoga.db.machine_id, head, bytes(12), yoga.signer)
    found = errors(two.fsck(yoga))
    assert {finding.object for finding in found} == {key, segment_key(yoga.db.machine_id, 90)}


def test_a_store_that_is_away_is_no_finding_but_the_reason(two: Two) -> None:
    two.fleet.memory.is_away = True
    tally = Tally()
    assert two.fsck(tally=tally) == []
    assert isinstance(tally.away, StoreAway)
    assert failure([], tally) is tally.away
    assert tally.contents == len(TREE)
    two.fleet.memory.is_away = False


def test_a_hole_that_was_filled_is_a_warning_until_it_is_read(two: Two) -> None:
    with two.bates.db.transaction() as txn:
        txn.set_hole(two.yoga.db.machine_id, 1, "was missing")
    (finding,) = two.fsck()
    assert (finding.severity, finding.object) == (Severity.WARNING, segment_key(two.yoga.db.machine_id, 1))


def test_progress_is_told_now_and_then(two: Two) -> None:
    told: list[dict[str, object]] = []
    env = two.bates.env

    def tell(data: dict[str, object]) -> None:
        told.append(data)
        env.clock.elapsed += 0.15

    two.do(fsck(two.bates.context, paths_of(two.bates), progress=tell))
    assert len(told) == 1
    two.do(fsck(two.bates.context, paths_of(two.bates), deep=True, progress=lambda data: (tell(data), tell(data))[0]))
    files = [data["files"] for data in told]
    assert files[-1] > len(two.objects)  # type: ignore[operator]


def test_it_only_reads(two: Two) -> None:
    before = dict(two.objects)
    dump = [two.bates.db.query(f"SELECT * FROM {name}") for name in ("meta", "head", "shown", "pack", "hole")]
    two.fsck(deep=True)
    assert two.objects == before
    assert dump == [two.bates.db.query(f"SELECT * FROM {name}") for name in ("meta", "head", "shown", "pack", "hole")]
