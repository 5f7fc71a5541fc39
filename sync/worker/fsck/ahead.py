"""Several objects fetched at a time, in order, and looked at together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final, TypeVar

from sync.core.errors import TcfsError
from sync.env import STORE_THREADS

T = TypeVar("T")

TOGETHER: Final = 16  # objects
UNDER_WAY: Final = STORE_THREADS - 1  # of them; one thread is left to whoever reads or publishes meanwhile
BYTES_TOGETHER: Final = 8 << 20  # of them; one that is larger is fetched alone


async def batches(items: AsyncIterator[T], size: Callable[[T], int]) -> AsyncIterator[list[T]]:
    """The items in order, up to TOGETHER of them. size: bytes that are fetched for an item."""
    batch: list[T] = []
    total = 0
    async for item in items:
        if batch and (len(batch) == TOGETHER or total + size(item) > BYTES_TOGETHER):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch


async def fetch_all(fetches: Iterable[Callable[[], Awaitable[bytes]]]) -> list[bytes | TcfsError]:
    """What each gave, or how it failed, in their order; UNDER_WAY at a time."""
    gate = asyncio.Semaphore(UNDER_WAY)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(fetch, gate)) for fetch in fetches]
    return [task.result() for task in tasks]


def bytes_of(outcome: bytes | TcfsError) -> bytes:
    """The bytes, or the failure raised where its object's turn is."""
    if isinstance(outcome, TcfsError):
        raise outcome
    return outcome


async def _outcome(fetch: Callable[[], Awaitable[bytes]], gate: asyncio.Semaphore) -> bytes | TcfsError:
    try:
        async with gate:
            return await fetch()
    except TcfsError as error:
        return error
