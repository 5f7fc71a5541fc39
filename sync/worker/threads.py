"""Work in threads that is never left half done."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sync.env import Env

T = TypeVar("T")


async def run_to_end(env: Env, fn: Callable[..., T], *args: object, io: bool = False) -> T:
    """env.run (io: env.run_io), but who is cancelled here goes on only when the thread is done.

    So what fn uses (descriptors, iterators, locks) may be let go of behind it.
    """
    work = asyncio.ensure_future(env.run_io(fn, *args) if io else env.run(fn, *args))
    try:
        return await asyncio.shield(work)
    finally:
        await asyncio.gather(work, return_exceptions=True)
