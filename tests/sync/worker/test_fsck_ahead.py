"""fsck fetches several objects at a time, and finds what it would find one by one, in the same order."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fsckkit import Two, damaged, paths_of

from sync.core.errors import ObjectMissing, StoreAway, TcfsError
from sync.core.journal import JournalHead
from sync.core.packfile import TRAILER_SIZE
from sync.env import STORE_THREADS
from sync.state.books import HeldBack
from sync.state.fleet import FleetDb
from sync.store.faults import Fault, FaultyStore
from sync.worker.fsck import Finding, Tally, ahead, fsck, journals, packs

STEPS = 20


@pytest.fixture(name="two", scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """With a journal of yoga, and packs, that are more than one batch."""
    two = Two(tmp_path_factory.mktemp("two"))

    async def fill() -> None:
        for number in range(STEPS):
            two.yoga.write(f"more/f{number}", f"file {number} ".encode() * 90)
            await two.yoga.push("more")
        await two.bates.learner.learn()

    two.do(fill())
    yield two
    two.close()


class CountingStore(FaultyStore):
    """How many gets are under way at once, at most; each takes a moment."""

    now = most = 0

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0)
            return await super().get(key, start, length)
        finally:
            self.now -= 1


def looked(two: Two, store: FaultyStore | None = None) -> tuple[list[Finding], Tally]:
    tally, context = Tally(), two.bates.context
    context = replace(context, store=store) if store is not None else context
    return two.do(fsck(context, paths_of(two.bates), tally=tally)), tally


@pytest.mark.parametrize("reads_all", [True, False])
def test_several_are_fetched_at_once_but_not_all(two: Two, reads_all: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "FULL_MAX", packs.FULL_MAX if reads_all else 0)
    store = CountingStore(two.bates.env, two.fleet.memory)
    found, tally = looked(two, store)
    assert found == []
    assert tally.segments > ahead.TOGETHER < tally.packs
    assert ahead.UNDER_WAY == store.most < STORE_THREADS  # a reader finds a thread


def test_packs_whose_ends_are_damaged_are_read_one_at_a_time(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """A length that is wrong makes nobody fetch a batch of whole packs."""
    monkeypatch.setattr(packs, "FULL_MAX", 0)
    monkeypatch.setattr(packs, "SLACK", 0)
    whole, sizes = dict(two.objects), []
    for key in two.keys("packs/"):
        two.objects[key] = whole[key][:-TRAILER_SIZE] + bytes([0xFF]) * TRAILER_SIZE

    class Store(CountingStore):
        async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            data = await super().get(key, start, length)
            if key.startswith("packs/") and len(data) == len(whole[key]):
                sizes.append(self.now)
            return data

    found, tally = looked(two, Store(two.bates.env, two.fleet.memory))
    two.objects.update(whole)
    monkeypatch.undo()
    looked(two)
    assert sum("its index is damaged" in each.message for each in found) == tally.packs
    assert len(sizes) == tally.packs
    assert max(sizes) == 0


@pytest.mark.parametrize("seed", range(12))
def test_it_finds_what_it_finds_one_by_one(two: Two, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a store with all kinds of damage, whatever fits together into a batch or a page."""
    rng, whole = random.Random(seed), dict(two.objects)
    monkeypatch.setattr(packs, "FULL_MAX", rng.choice([0, packs.FULL_MAX]))
    for key in rng.sample(sorted(whole), rng.randint(1, 25)):
        how = rng.choice(["flip", "cut", "gone", "gone", "tail"])
        if how == "gone":
            del two.objects[key]
        else:
            data = whole[key]
            two.objects[key] = data[:-30] + bytes(30) if how == "tail" else damaged(data, how)
    together = looked(two)
    monkeypatch.setattr(ahead, "TOGETHER", 1)
    monkeypatch.setattr(journals, "PAGE", 1)
    monkeypatch.setattr(packs, "PAGE", 1)
    assert looked(two) == together
    assert together[0]
    two.objects.clear()
    two.objects.update(whole)
    monkeypatch.undo()
    looked(two)  # fleet.db learns that nothing is lost


def test_a_store_that_goes_away_within_a_batch(two: Two) -> None:
    """What came before in the batch was looked at; nothing behind it is said to be missing."""
    store = FaultyStore(two.bates.env, two.fleet.memory)
    segments = two.keys(f"journal/{two.yoga.db.machine_id}/")
    store.faults = [Fault("get", segments[5], times=0, error=StoreAway)]
    found, tally = looked(two, store)
    assert found == []
    assert isinstance(tally.away, StoreAway)
    assert tally.segments == 5


def test_what_is_published_meanwhile_is_not_missing(two: Two) -> None:
    """A segment that was applied when the listing had passed its place, or had not come to it."""
    store, pushed = FaultyStore(two.bates.env, two.fleet.memory), []

    class Busy(FaultyStore):
        async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            if key.startswith(f"journal/{two.yoga.db.machine_id}/") and len(pushed) < 3:
                pushed.append(key)
                two.yoga.write("more/late", f"late {len(pushed)}".encode())
                await two.yoga.push("more")
                await two.bates.learner.learn()
            return await super().get(key, start, length)

    found, _ = looked(two, Busy(two.bates.env, store))
    assert len(pushed) == 3
    assert found == []


def test_what_is_released_while_a_segment_is_looked_at_is_not_missing(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal that waited for its batch becomes a version in between: it is the one or the other at any moment."""
    db, yoga, is_released = two.bates.db, two.yoga.db.machine_id, False
    ((seq,),) = db.query(
        "SELECT max(seq) FROM version AS v JOIN machine AS m ON m.num = v.machine WHERE m.machine_id = ?", yoga
    )
    query, held_back = FleetDb.query, FleetDb.held_back

    def queried(self: FleetDb, sql: str, *arguments: object) -> list[Any]:
        nonlocal is_released
        rows = query(self, sql, *arguments)
        if sql == journals._SEQS and arguments[0] == yoga and not is_released and seq in [row[0] for row in rows]:
            rows, is_released = [row for row in rows if row[0] != seq], True
        return rows

    def held(self: FleetDb, machine_id: str | None = None) -> list[HeldBack]:
        return held_back(self, machine_id) if is_released else [HeldBack(yoga, seq, seq, seq, 0.0, b"")]

    monkeypatch.setattr(FleetDb, "query", queried)
    monkeypatch.setattr(FleetDb, "held_back", held)
    found, _ = looked(two)
    assert is_released
    assert found == []


def test_what_is_confirmed_while_its_segment_is_looked_at_is_no_clone(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves the outbox and is applied in one moment: that may be any moment of the look."""
    last, is_confirmed = two.yoga.db.segments(two.yoga.db.machine_id)[-1], False
    query, segments = FleetDb.query, FleetDb.segments

    def queried(self: FleetDb, sql: str, *arguments: object) -> list[Any]:
        return [(last.first - 1,)] if sql == journals._NEWEST else query(self, sql, *arguments)

    def applied(self: FleetDb, machine_id: str, since: int = 0) -> list[JournalHead]:
        nonlocal is_confirmed
        was_confirmed, is_confirmed = is_confirmed, True
        return [each for each in segments(self, machine_id, since) if was_confirmed or each != last]

    def queued(self: FleetDb) -> list[tuple[int, int]]:
        nonlocal is_confirmed
        was_confirmed, is_confirmed = is_confirmed, True
        return [] if was_confirmed else [(last.first, last.last)]

    monkeypatch.setattr(FleetDb, "query", queried)
    monkeypatch.setattr(FleetDb, "segments", applied)
    monkeypatch.setattr(FleetDb, "queued_seqs", queued)
    found = two.fsck(two.yoga)
    assert is_confirmed
    assert found == []


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def batched(sizes: list[int]) -> list[list[int]]:
    async def main() -> list[list[int]]:
        return [batch async for batch in ahead.batches(numbers(len(sizes)), sizes.__getitem__)]

    return asyncio.run(main())


def test_a_batch_is_bounded_in_objects_and_in_bytes() -> None:
    some, large = ahead.TOGETHER, ahead.BYTES_TOGETHER
    assert batched([]) == []
    assert [len(batch) for batch in batched([1] * (2 * some + 1))] == [some, some, 1]
    assert batched([1, large, 2 * large, 1, large - 1, 1]) == [[0], [1], [2], [3, 4], [5]]


def test_outcomes_come_in_order_whoever_answers_first(tmp_path: Path) -> None:
    async def answer(number: int) -> bytes:
        for _ in range(9 - number):
            await asyncio.sleep(0)
        if number == 4:
            raise ObjectMissing("4")
        return bytes([number])

    outcomes = asyncio.run(ahead.fetch_all(partial(answer, each) for each in range(9)))
    assert [type(each) for each in outcomes] == [ObjectMissing if number == 4 else bytes for number in range(9)]
    assert [each for each in outcomes if not isinstance(each, TcfsError)] == [bytes([n]) for n in range(9) if n != 4]
