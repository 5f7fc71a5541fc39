import asyncio

import pytest
from events_conformance import EventsConformance, Listener

from sync.env import FakeEnv
from sync.events.base import Events
from sync.events.memory import MemoryBus, MemoryEvents


class MemoryNet:
    def __init__(self) -> None:
        self.env = FakeEnv()
        self.bus = MemoryBus()

    def events(self) -> Events:
        return MemoryEvents(self.bus)

    async def grow(self, events: Events, machine_id: str, last: int) -> None:
        await events.publish(machine_id, last)


class TestMemory(EventsConformance):
    @pytest.fixture
    def net(self) -> MemoryNet:
        return MemoryNet()


def test_a_cut_bus_delivers_nothing():
    async def main() -> None:
        net = MemoryNet()
        events = net.events()
        listener = Listener(events)
        await net.env.advance(0)
        net.bus.is_cut = True
        await events.publish("m1", 1)
        await net.env.advance(1)
        net.bus.is_cut = False
        await events.publish("m2", 1)
        await net.env.advance(1)
        assert [set(), {"m2"}] == listener.heard
        await listener.stop()

    asyncio.run(main())


def test_a_subscriber_that_left_is_forgotten():
    async def main() -> None:
        net = MemoryNet()
        listener = Listener(net.events())
        await net.env.advance(0)
        assert 1 == len(net.bus.subscribers)
        await listener.stop()
        assert [] == net.bus.subscribers

    asyncio.run(main())
