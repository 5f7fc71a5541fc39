"""Events between machines in one process: each has its MemoryEvents on the common MemoryBus."""

import asyncio
from collections.abc import AsyncIterator


class MemoryBus:
    """What connects the machines of one process. is_cut: nothing is delivered while it is True."""

    def __init__(self) -> None:
        self.is_cut = False
        self.known: set[str] = set()
        self.subscribers: list[_Subscriber] = []

    def tell(self, machine_id: str) -> None:
        if not self.is_cut:
            self.known.add(machine_id)
            for subscriber in self.subscribers:
                subscriber.add(machine_id)


class _Subscriber:
    """What one subscriber has not taken yet: a set, so that a slow one costs nothing."""

    def __init__(self, first: set[str]) -> None:
        self.pending = set(first)
        self.is_closed = False
        self.changed = asyncio.Event()

    def add(self, machine_id: str) -> None:
        self.pending.add(machine_id)
        self.changed.set()

    def close(self) -> None:
        self.is_closed = True
        self.changed.set()


class MemoryEvents:
    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._own: list[_Subscriber] = []
        self._is_closed = False

    async def publish(self, machine_id: str, last: int) -> None:
        self._bus.tell(machine_id)

    async def subscribe(self) -> AsyncIterator[set[str]]:
        if self._is_closed:
            return
        subscriber = _Subscriber(self._bus.known)
        self._bus.subscribers.append(subscriber)
        self._own.append(subscriber)
        try:
            while not subscriber.is_closed:
                taken, subscriber.pending = subscriber.pending, set()
                subscriber.changed.clear()
                yield taken
                await subscriber.changed.wait()
        finally:
            self._bus.subscribers.remove(subscriber)
            self._own.remove(subscriber)

    async def aclose(self) -> None:
        self._is_closed = True
        for subscriber in self._own:
            subscriber.close()
