"""What every Events must do. Join with a subclass of EventsConformance that has a fixture `net`, a Net."""

import asyncio
from typing import Protocol

from sync.env import FakeEnv, settle
from sync.events.base import Events


class Net(Protocol):
    """Some way for machines to hear of each other, on the virtual clock of env."""

    env: FakeEnv

    def events(self) -> Events:
        """Of one more machine."""

    async def grow(self, events: Events, machine_id: str, last: int) -> None:
        """Put a journal head, and publish that."""


class Listener:
    """Everything a subscriber heard, in order."""

    def __init__(self, events: Events) -> None:
        self.heard: list[set[str]] = []
        self.task = asyncio.create_task(self._listen(events))

    async def _listen(self, events: Events) -> None:
        async for machine_ids in events.subscribe():
            self.heard.append(machine_ids)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


class EventsConformance:
    def test_first_item_comes_at_once_and_names_what_is_there(self, net: Net) -> None:
        async def main() -> None:
            yoga, bates = net.events(), net.events()
            early = Listener(bates)
            await net.env.advance(0)
            assert [set()] == early.heard
            await net.grow(yoga, "m1", 1)
            await net.grow(yoga, "m2", 1)
            late = Listener(bates)
            await net.env.advance(0)
            assert [{"m1", "m2"}] == late.heard
            await early.stop()
            await late.stop()

        asyncio.run(main())

    def test_growth_is_heard_within_a_fifth_of_a_second(self, net: Net) -> None:
        async def main() -> None:
            yoga, bates = net.events(), net.events()
            await net.grow(yoga, "m1", 1)
            listener = Listener(bates)
            await net.env.advance(1)
            for last in (2, 3):
                listener.heard.clear()
                await net.grow(yoga, "m1", last)
                await net.env.advance(0.2)
                assert [{"m1"}] == listener.heard
            await listener.stop()

        asyncio.run(main())

    def test_silence_when_nothing_grows(self, net: Net) -> None:
        async def main() -> None:
            yoga, bates = net.events(), net.events()
            await net.grow(yoga, "m1", 1)
            listener = Listener(bates)
            await net.env.advance(20)
            assert [{"m1"}] == listener.heard
            await listener.stop()

        asyncio.run(main())

    def test_a_slow_subscriber_gets_what_it_missed_in_one_set(self, net: Net) -> None:
        async def main() -> None:
            yoga, bates = net.events(), net.events()
            subscription = bates.subscribe()
            assert set() == await anext(subscription)
            for last in range(1, 50):
                await net.grow(yoga, "m1", last)
                await net.grow(yoga, "m2", last)
            assert {"m1", "m2"} == await net.env.drive(anext(subscription), limit=1)
            waiting = asyncio.ensure_future(anext(subscription))
            await net.env.advance(5)
            assert not waiting.done()
            waiting.cancel()
            await asyncio.wait([waiting])

        asyncio.run(main())

    def test_every_subscriber_hears(self, net: Net) -> None:
        async def main() -> None:
            yoga = net.events()
            listeners = [Listener(events) for events in (yoga, yoga, net.events(), net.events())]
            await net.env.advance(0)
            await net.grow(yoga, "m1", 1)
            await net.env.advance(0.2)
            assert [[set(), {"m1"}]] * 4 == [listener.heard for listener in listeners]
            for listener in listeners:
                await listener.stop()

        asyncio.run(main())

    def test_aclose_ends_own_subscriptions_only(self, net: Net) -> None:
        async def main() -> None:
            yoga, bates = net.events(), net.events()
            closed, other = Listener(bates), Listener(yoga)
            await net.env.advance(0)
            await bates.aclose()
            await net.env.advance(1)
            assert closed.task.done()
            assert closed.task.exception() is None
            await net.grow(yoga, "m1", 1)
            await net.env.advance(0.2)
            assert [set(), {"m1"}] == other.heard
            await other.stop()
            after = Listener(bates)
            await settle()
            assert after.task.done()
            assert [] == after.heard

        asyncio.run(main())
