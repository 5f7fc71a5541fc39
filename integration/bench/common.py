"""What all rows use."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

GIB = 1 << 30
PAUSE_S = 1.1  # between warm rows: bindfs lets the kernel believe names and attributes for 1 s


def sh(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    subprocess.run(
        [str(c) for c in command], check=True, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def shell(line: str, cwd: Path) -> None:
    subprocess.run(line, shell=True, check=True, cwd=cwd, stdout=subprocess.DEVNULL)


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def first_bytes(path: Path) -> None:
    with path.open("rb") as file:
        assert len(os.pread(file.fileno(), 4096, GIB // 2 + 12345)) == 4096
