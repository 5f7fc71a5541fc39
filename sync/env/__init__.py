"""Env: everything that varies. Time, sleep, randomness, ids, threads, databases and faults come from here only.

A process that starts pays for what it imports. So what a mount does without is imported by the first who asks for it:
asyncio (sync.env.beside), and what only tests use (FakeEnv, fault_names).
"""

import importlib
from typing import TYPE_CHECKING, Any

from sync.env.base import Env
from sync.env.files import atomic_write, fsync_dir, sync_file
from sync.env.real import NICENESS, RealEnv

if TYPE_CHECKING:
    from sync.env.beside import STORE_THREADS
    from sync.env.fake import Crash, FakeClock, FakeEnv, settle
    from sync.env.faults import fault_names

__all__ = [
    "NICENESS",
    "STORE_THREADS",
    "Crash",
    "Env",
    "FakeClock",
    "FakeEnv",
    "RealEnv",
    "atomic_write",
    "fault_names",
    "fsync_dir",
    "settle",
    "sync_file",
]

_LATER = {
    "STORE_THREADS": "beside",
    "Crash": "fake",
    "FakeClock": "fake",
    "FakeEnv": "fake",
    "settle": "fake",
    "fault_names": "faults",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
