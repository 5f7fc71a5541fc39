"""tcfs watch: what is learned or published here, as events, whoever wrote it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from treekit import Fleet, Machine

from sync.core.errors import NotFound
from sync.reports.watch import watch


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as made:
        yield made


@pytest.fixture
def yoga(fleet: Fleet) -> Machine:
    return fleet.machine("yoga")


@pytest.fixture
def bates(fleet: Fleet) -> Machine:
    return fleet.machine("bates")


class Watching:
    """A watch on one machine, read step by step."""

    def __init__(self, machine: Machine, *places: str, since: int | None = None) -> None:
        self._runner = asyncio.Runner()
        self._events: AsyncIterator[dict[str, Any]] = watch(machine.engine_env, machine.paths, list(places), since)

    def next(self) -> dict[str, Any]:
        async def one() -> dict[str, Any]:
            return await anext(self._events)

        return self._runner.run(one())

    def brief(self, count: int) -> list[tuple[str, str, str]]:
        events = [self.next() for _ in range(count)]
        return [(event["event"], event["path"], event["machine"]) for event in events]

    def close(self) -> None:
        self._runner.run(self._events.aclose())  # type: ignore[attr-defined]
        self._runner.close()


def learn(here: Machine, there: Machine) -> None:
    there.cycle()
    here.learn()


def test_each_change_is_an_event(yoga: Machine, bates: Machine) -> None:
    watching = Watching(yoga)
    assert watching.next() == {"event": "start", "cursor": 0}
    bates.mkdir("d")
    bates.write("d/a", b"one")
    learn(yoga, bates)
    assert sorted(watching.brief(2)) == [("create", "d", "bates"), ("create", "d/a", "bates")]
    bates.fleet.clock.elapsed += 1
    bates.write("d/a", b"two")
    learn(yoga, bates)
    event = watching.next()
    newest = yoga.db.heads("d/a")[0].manifest
    assert event == {
        "event": "modify",
        "path": "d/a",
        "kind": "file",
        "version": f"bates:{newest.seq}",
        "machine": "bates",
        "cursor": yoga.db.view.feed_last(),
    }
    bates.tree.setattr(bates.ino("d/a"), mode=0o600)
    learn(yoga, bates)
    assert watching.brief(1) == [("attributes", "d/a", "bates")]
    bates.rename("d/a", "b")
    learn(yoga, bates)
    event = watching.next()
    assert (event["event"], event["from"], event["path"]) == ("move", "d/a", "b")
    bates.unlink("b")
    learn(yoga, bates)
    event = watching.next()
    assert (event["event"], event["path"], event["machine"]) == ("delete", "b", "bates")
    assert event["version"] == f"bates:{yoga.db.heads('b')[0].manifest.seq}"
    watching.close()


def test_what_is_published_here_is_told_too(yoga: Machine) -> None:
    watching = Watching(yoga)
    watching.next()
    yoga.write("a", b"one")
    yoga.cycle()
    assert watching.brief(1) == [("create", "a", "yoga")]
    watching.close()


def test_only_below_a_place(yoga: Machine, bates: Machine) -> None:
    bates.mkdir("d")
    learn(yoga, bates)
    watching = Watching(yoga, "d")
    watching.next()
    bates.write("a", b"x")
    bates.write("d/b", b"x")
    bates.write("dd", b"x")
    learn(yoga, bates)
    assert watching.brief(1) == [("create", "d/b", "bates")]
    bates.rename("a", "d/a")
    learn(yoga, bates)
    assert watching.brief(1) == [("move", "d/a", "bates")]
    bates.rename("d/a", "a")
    learn(yoga, bates)
    assert watching.brief(1) == [("move", "a", "bates")]
    watching.close()


def test_going_on_where_one_was(yoga: Machine, bates: Machine) -> None:
    watching = Watching(yoga)
    watching.next()
    bates.write("a", b"x")
    learn(yoga, bates)
    first = watching.next()
    watching.close()
    bates.write("b", b"x")
    learn(yoga, bates)
    again = Watching(yoga, since=first["cursor"])
    assert again.next()["cursor"] == first["cursor"]
    assert again.brief(1) == [("create", "b", "bates")]
    again.close()


def test_none_is_lost_by_going_on_within_a_batch(yoga: Machine, bates: Machine) -> None:
    for name in ("a", "b", "c"):
        bates.write(name, b"x")
    learn(yoga, bates)
    watching = Watching(yoga, since=0)
    watching.next()
    first = watching.next()
    watching.close()
    again = Watching(yoga, since=first["cursor"])
    again.next()
    assert {path for _, path, _ in again.brief(3)} >= {"b", "c"}
    again.close()


def test_a_log_that_does_not_go_back_so_far(yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"x")
    learn(yoga, bates)
    bates.write("b", b"x")
    learn(yoga, bates)
    last = yoga.db.view.feed_last()
    with yoga.db.transaction() as txn:
        txn.prune_feed(last - 1)
    watching = Watching(yoga, since=0)
    assert [watching.next()["event"] for _ in range(2)] == ["start", "lost"]
    watching.close()


def test_another_fleet_db(yoga: Machine, bates: Machine) -> None:
    bates.write("a", b"x")
    learn(yoga, bates)
    watching = Watching(yoga)
    watching.next()
    yoga.lose_fleet_db()
    assert watching.next() == {"event": "reset", "cursor": 0}
    assert watching.brief(1) == [("create", "a", "bates")]
    watching.close()


def test_no_fleet_db(yoga: Machine) -> None:
    (yoga.paths.fleet_db).rename(yoga.paths.fleet_db.with_suffix(".away"))
    watching = Watching(yoga)
    with pytest.raises(NotFound):
        watching.next()
    watching.close()
