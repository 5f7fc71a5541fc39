"""What nobody reads any more leaves fleet.db, and nothing else does."""

from collections.abc import Iterator

import pytest
from workerkit import Fleet, Machine, Mount, run

from sync.worker import prune
from sync.worker.prune import Pruner


@pytest.fixture
def yoga(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(prune, "FEED_MIN", 5)
    monkeypatch.setattr(prune, "FEED_AT_ONCE", 20)
    machine = fleet.machine("yoga")

    async def fill() -> None:
        for number in range(30):
            machine.write(f"d/f{number}", "x")
        await machine.push("d")

    run(fill(), fleet.clock)
    yield machine


def pruner(machine: Machine) -> Pruner:
    assert machine.tree is not None
    return Pruner(machine.context, machine.tree, machine.folder / "tree.db")


def feed(machine: Machine) -> tuple[int, int]:
    """(first, last)"""
    items = machine.db.view.feed_after(0, 100_000)
    return items[0].n, items[-1].n


def test_without_a_mount_only_the_newest_item_stays(fleet: Fleet, yoga: Machine) -> None:
    work, (first, last) = pruner(yoga), feed(yoga)

    async def go() -> None:
        assert work.has_work()
        await work.run()
        assert feed(yoga) == (first + 21, last)  # a transaction is not to take long
        while work.has_work():
            await work.run()
        assert yoga.db.view.feed_last() == last
        assert last - feed(yoga)[0] < 5
        yoga.write("d/new", "y")
        await yoga.push("d")
        assert yoga.db.view.feed_last() > last

    run(go(), fleet.clock)


def test_a_mount_keeps_what_it_has_not_followed(fleet: Fleet, yoga: Machine) -> None:
    work, (first, last) = pruner(yoga), feed(yoga)
    mount = Mount(yoga)
    meta = {"fleet_epoch": yoga.db.epoch, "feed_cursor": first + 3}

    async def go() -> None:
        mount.connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
        await work.run()
        assert feed(yoga) == (first, last)  # not worth it
        mount.connection.execute("UPDATE meta SET value = ? WHERE key = 'feed_cursor'", (first + 10,))
        await work.run()
        assert feed(yoga) == (first + 11, last)
        # Under another fleet.db its numbers mean nothing: it will begin at the end of this one's feed.
        mount.connection.execute("UPDATE meta SET value = 'other' WHERE key = 'fleet_epoch'")
        await work.run()
        assert feed(yoga)[0] > first + 11

    run(go(), fleet.clock)
    mount.close()


def test_answers_go_when_the_mount_has_noted_them_for_good(fleet: Fleet, yoga: Machine) -> None:
    work = pruner(yoga)
    with yoga.db.transaction() as txn:
        for number in range(3):
            upto = txn.answer(bytes([number]), "unchanged")
    work.noted(upto - 1)
    run(work.run(), fleet.clock)
    assert [taken.n for taken in yoga.db.view.taken_after(0)] == [upto]
