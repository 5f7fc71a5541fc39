"""What malloc does in a process that lives long, seen in one of its own."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, os, sys, threading
from sync.memory import ARENAS, set_up_malloc
if sys.argv[1] == "few":
    set_up_malloc()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(12)
def allocate():
    for _ in range(200):
        assert libc.malloc(ctypes.c_size_t(5000))
    barrier.wait()
threads = [threading.Thread(target=allocate) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
read, write = os.pipe()
libc.fdopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fdopen(write, b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
found = b""
while more := os.read(read, 1 << 16):
    found += more
print(found.count(b"<heap nr="), ARENAS)
"""


def printed(program: str, *arguments: str) -> list[int]:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [int(number) for number in done.stdout.split()]


def arenas(kind: str) -> tuple[int, int]:
    """(how many a process with twelve busy threads has, how many it should)"""
    found, wanted = printed(PROGRAM, kind)
    return found, wanted


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has what is set here")


@needs_glibc
def test_many_threads_share_few_arenas() -> None:
    found, wanted = arenas("few")
    assert found <= wanted < arenas("as it is")[0]


AT_REST = """
import asyncio
from sync.env import FakeEnv
from sync.memory import GIVE_BACK_S, keep_small, resident, set_up_malloc
set_up_malloc()
def at_rest():
    async def rest():
        env = FakeEnv()
        task = asyncio.ensure_future(keep_small(env))
        await env.advance(2 * GIVE_BACK_S)
        task.cancel()
    asyncio.run(rest())
    return resident()
"""

FETCHES = f"""{AT_REST}
import resource
def fetch():
    return [b"x" * (4 << 20) for _ in range(4)]
fetch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    fetch()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
after_work = resident()
print(faults, after_work, at_rest())
"""


@needs_glibc
def test_memory_for_chunks_is_used_again_and_given_back_at_rest() -> None:
    faults, after_work, at_rest = printed(FETCHES)
    assert faults < 10_000  # of 4 KiB each: 82,000 where all of it comes anew
    assert at_rest < after_work - (12 << 20)


IN_THREADS = f"""{AT_REST}
import threading
both = threading.Barrier(2)
def check():
    found = [b"x" * (200 << 10) for _ in range(200)]
    both.wait()
threads = [threading.Thread(target=check) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
busy = resident()
print(busy, at_rest())
"""


@needs_glibc
def test_what_threads_have_used_is_given_back() -> None:
    busy, at_rest = printed(IN_THREADS)
    assert at_rest < busy - (70 << 20)  # of 80


BUSY = """
import asyncio
from sync.env import FakeEnv
from sync.memory import GIVE_BACK_S, LOOKS_MAX, keep_small, resident, set_up_malloc
set_up_malloc()
async def work():
    env = FakeEnv()
    task = asyncio.ensure_future(keep_small(env))
    chunks, rows = [], []
    for _ in range(100):
        chunks.append(b"x" * (1 << 20))
        rows.append(b"y" * 5000)
    await env.advance(2 * GIVE_BACK_S)
    busy = resident()
    chunks.clear()
    for _ in range(LOOKS_MAX + 1):
        await env.advance(GIVE_BACK_S)
    print(busy, resident())
    task.cancel()
asyncio.run(work())
"""


@needs_glibc
def test_what_was_in_use_when_memory_was_given_back_is_given_back_later() -> None:
    busy, at_rest = printed(BUSY)
    assert at_rest < busy - (80 << 20)
