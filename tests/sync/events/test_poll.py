import asyncio
import os
import shutil
from pathlib import Path

import pytest
from events_conformance import EventsConformance, Listener

from sync.env import FakeEnv
from sync.events.base import Events
from sync.events.poll import PollEvents
from sync.store.base import FLEET_OBJECT
from sync.store.local import LocalStore


class StoreNet:
    """Machines that share a directory store."""

    def __init__(self, root: Path) -> None:
        self.env = FakeEnv()
        self.root = root
        root.mkdir()
        (root / FLEET_OBJECT).write_bytes(b"{}")
        self.store = LocalStore(self.env, root)
        self.changes: list[bool] = []

    def events(self) -> Events:
        return PollEvents(self.env, self.root, lambda away: self.changes.append(away is not None))

    async def grow(self, events: Events, machine_id: str, last: int) -> None:
        await self.store.put(f"heads/{machine_id}", f"{last:020d}".encode())
        # a file system stamps times by its tick, which may be 4 ms: two puts of a test may fall into one
        os.utime(self.root / "heads" / machine_id, ns=(last, last))
        await events.publish(machine_id, last)


@pytest.fixture
def net(tmp_path: Path) -> StoreNet:
    return StoreNet(tmp_path / "store")


class TestPoll(EventsConformance):
    @pytest.fixture
    def net(self, tmp_path: Path) -> StoreNet:
        return StoreNet(tmp_path / "store")


def test_a_store_that_is_away_is_said_once_and_looked_for_until_it_is_back(net: StoreNet):
    async def main() -> None:
        events = net.events()
        listener = Listener(events)
        await net.grow(events, "m1", 1)
        await net.env.advance(1)
        net.root.rename(net.root.with_name("elsewhere"))
        await net.env.advance(30)
        assert [True] == net.changes
        assert "away" in str(events.away)
        assert not listener.task.done()
        listener.heard.clear()
        net.root.with_name("elsewhere").rename(net.root)
        await net.env.advance(1.1)
        assert [True, False] == net.changes
        assert events.away is None
        assert [{"m1"}] == listener.heard
        await listener.stop()

    asyncio.run(main())


def test_a_store_that_is_away_at_the_start(net: StoreNet):
    async def main() -> None:
        net.root.rename(net.root.with_name("elsewhere"))
        listener = Listener(net.events())
        await net.env.advance(5)
        assert [] == listener.heard
        net.root.with_name("elsewhere").rename(net.root)
        await net.env.advance(1)
        assert [set()] == listener.heard
        await listener.stop()

    asyncio.run(main())


def test_an_empty_mount_point_is_away(net: StoreNet):
    async def main() -> None:
        shutil.rmtree(net.root)
        net.root.mkdir()
        events = net.events()
        listener = Listener(events)
        await net.env.advance(2)
        assert [] == listener.heard
        assert events.away is not None
        await listener.stop()

    asyncio.run(main())


def test_all_are_named_again_now_and_then(net: StoreNet):
    async def main() -> None:
        events = net.events()
        await net.grow(events, "m1", 1)
        await net.grow(events, "m2", 1)
        listener = Listener(events)
        await net.env.advance(31)
        assert [{"m1", "m2"}] * 2 == listener.heard
        await listener.stop()

    asyncio.run(main())


def test_nothing_is_read_when_nothing_changed(net: StoreNet, monkeypatch: pytest.MonkeyPatch):
    async def main() -> None:
        events = net.events()
        await net.grow(events, "m1", 1)
        listener = Listener(events)
        await net.env.advance(1)
        opened = []
        real = os.open
        monkeypatch.setattr(
            os, "open", lambda path, *args, **kwargs: (opened.append(path), real(path, *args, **kwargs))[1]
        )
        monkeypatch.setattr(Path, "open", lambda path, *args: opened.append(path))
        await net.env.advance(10)
        assert [] == opened
        await listener.stop()

    asyncio.run(main())
