"""How a process that lives long is set up, seen in one of its own."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, os, sys, threading
from sync.interpreter import ARENAS, few_arenas
if sys.argv[1] == "few":
    few_arenas()
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


def arenas(kind: str) -> tuple[int, int]:
    """(how many a process with twelve busy threads has, how many it should)"""
    done = subprocess.run([sys.executable, "-c", PROGRAM, kind], capture_output=True, text=True, check=True, timeout=60)
    found, wanted = done.stdout.split()
    return int(found), int(wanted)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has a number of arenas to be set")
def test_many_threads_share_few_arenas() -> None:
    found, wanted = arenas("few")
    assert found <= wanted < arenas("as it is")[0]
