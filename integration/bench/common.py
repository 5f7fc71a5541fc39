"""What all rows use."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

GIB = 1 << 30
KEEP_BELOW = 128 << 10  # bytes: smaller files are many
PAUSE_S = 1.1  # between warm rows: bindfs lets the kernel believe names and attributes for 1 s


def sh(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    subprocess.run(
        [str(c) for c in command], check=True, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def shell(line: str, cwd: Path) -> None:
    subprocess.run(line, shell=True, check=True, cwd=cwd, stdout=subprocess.DEVNULL)


def put_away(path: Path) -> None:
    """Out of the way until the end of the run. Only what takes space goes at once: an ext4 without a journal, that has
    freed many inodes, makes new files slowly for minutes, and the next side's figures would pay for that.
    """
    if not path.exists():
        return
    for folder, _, names in os.walk(path):
        for file in (os.path.join(folder, name) for name in names):
            if os.lstat(file).st_size >= KEEP_BELOW:
                os.unlink(file)
    path.rename(tempfile.mkdtemp(prefix="left-", dir=path.parent))


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def first_bytes(path: Path) -> None:
    with path.open("rb") as file:
        assert len(os.pread(file.fileno(), 4096, GIB // 2 + 12345)) == 4096
