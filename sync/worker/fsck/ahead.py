"""Several objects fetched at a time, in order: a far store costs one round trip for AT_ONCE of them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

from sync.core.errors import TcfsError

T = TypeVar("T")

AT_ONCE: Final = 16  # objects
BYTES_AT_ONCE: Final = 8 << 20  # of them together; one that is larger is fetched alone


async def batches(items: AsyncIterator[T], size: Callable[[T], int]) -> AsyncIterator[list[T]]:
    """The items in order, up to AT_ONCE together. size: bytes that are fetched for an item."""
    batch: list[T] = []
    total = 0
    async for item in items:
        if batch and (len(batch) == AT_ONCE or total + size(item) > BYTES_AT_ONCE):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch


async def fetch_all(fetches: Iterable[Coroutine[Any, Any, bytes]]) -> list[bytes | TcfsError]:
    """What each gave, or how it failed, in their order. All are under way at once: hand over a batch."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(fetch)) for fetch in fetches]
    return [task.result() for task in tasks]


def bytes_of(outcome: bytes | TcfsError) -> bytes:
    """The bytes, or the failure raised where its object's turn is."""
    if isinstance(outcome, TcfsError):
        raise outcome
    return outcome


async def _outcome(fetch: Coroutine[Any, Any, bytes]) -> bytes | TcfsError:
    try:
        return await fetch
    except TcfsError as error:
        return error
