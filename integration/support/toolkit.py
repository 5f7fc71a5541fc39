"""Real programs on a mount: having them, driving them through a terminal, and comparing what two machines see."""

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fleetkit import Machine, poll

INSTALL = Path(__file__).parent.parent.parent / "scripts" / "tools"


def need(*packages: str, program: str = "") -> None:
    """Have these Debian packages, or the program from elsewhere, or skip the test."""
    if program and shutil.which(program):
        return
    done = subprocess.run([str(INSTALL), *packages], capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        pytest.skip(f"*** NOT TESTED, for want of {' '.join(packages)}: {done.stderr.strip()} ***")


def sh(script: str, cwd: Path, *, timeout: float = 120, **environ: str) -> str:
    """Run a bash script that must succeed, in a bare environment; its stdout."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TERM": "xterm", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{script}\nexited {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def in_terminal(command: list[str], keys: list[tuple[str, str]], cwd: Path, timeout: float = 30) -> None:
    """Run an interactive program: when a text is seen on its screen, its keys are typed. It must end by itself."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe(command[0], command, {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TERM": "xterm"})
    deadline = time.monotonic() + timeout
    screen, left = b"", list(keys)
    try:
        while True:
            assert time.monotonic() < deadline, f"{command}: not after {screen[-2000:]!r}, waiting for {left[:1]}"
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                seen = os.read(terminal, 65536)
            except OSError:  # it has ended
                break
            if not seen:
                break
            screen += seen
            if left and left[0][0].encode() in screen:
                os.write(terminal, left.pop(0)[1].encode())
                screen = b""
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert (status, left) == (0, []), f"{command}: {screen[-2000:]!r}"


class Seen(NamedTuple):
    """What a machine shows at one path."""

    mode: int
    size: int
    mtime_ns: int
    content: bytes | str


def tree(root: Path) -> dict[str, Seen]:
    """Everything below a folder. Of folders only the mode: their times move with what is done in them."""
    found = {}
    for path in _walk(root):
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            found[path] = _seen(root / path)
    return found


def _walk(root: Path) -> Iterator[str]:
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            yield os.path.relpath(os.path.join(folder, name), root)


def _seen(path: Path) -> Seen:
    stat = path.lstat()
    if path.is_symlink():
        return Seen(stat.st_mode, stat.st_size, 0, os.readlink(path))
    if path.is_dir():
        return Seen(stat.st_mode, 0, 0, "")
    return Seen(stat.st_mode, stat.st_size, stat.st_mtime_ns, path.read_bytes())


def difference(expected: dict[str, Seen], found: dict[str, Seen]) -> list[str]:
    """The paths that are not the same, with what is shown of them."""
    lines = []
    for path in sorted({*expected, *found}):
        one, other = expected.get(path), found.get(path)
        if one != other:
            lines.append(f"{path}: {_brief(one)} / {_brief(other)}")
    return lines


def _brief(seen: Seen | None) -> str:
    return "absent" if seen is None else f"{seen.mode:o} {seen.size} {seen.mtime_ns} {seen.content[:60]!r}"


def agree(
    here: Machine, there: Machine, folder: str, *, is_local: Callable[[str], bool] = lambda path: False
) -> dict[str, Seen]:
    """Everything is in the store, both machines show the same below `folder`, and fsck finds nothing; what they show.

    is_local: which paths stay on the machine where they were made.
    """
    here.run("wait", "--timeout", "100")
    expected = {path: seen for path, seen in tree(here.mountpoint / folder).items() if not is_local(path)}
    found: list[str] = []

    def is_same() -> bool:
        found[:] = difference(expected, tree(there.mountpoint / folder))
        return not found

    try:
        poll(is_same, 30, "the same on both")
    except AssertionError:
        raise AssertionError(
            "\n".join([f"{len(found)} paths differ: {here.name} / {there.name}", *found[:20]])
        ) from None
    for machine in (here, there):
        assert machine.data("conflicts") == {"conflicts": []}
        machine.fsck()
    return expected
