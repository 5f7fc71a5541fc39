"""Env: everything that varies. Time, sleep, randomness, ids, threads, databases and faults come from here only."""

from sync.env.base import Env
from sync.env.fake import Crash, FakeClock, FakeEnv, settle
from sync.env.faults import fault_names
from sync.env.files import atomic_write, fsync_dir, sync_file
from sync.env.real import NICENESS, STORE_THREADS, RealEnv

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
