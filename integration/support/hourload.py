"""What every load of the long run has in common: a program that uses a mount and always knows what must be there.

Machines suffer meanwhile. Whoever makes them suffer writes when it began and when it was over; a failure in between may
be, any other is `wrong`. After one, everything that had been promised must be there: the load looks, cleans up as a
person would, and goes on.
"""

import errno
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

REMOUNT_S = 90.0
TOOL_S = 400.0  # what hangs; a machine may have much else to do
GRACE_S = 5.0  # after a daemon is back: who had waited for it is told only then
FAR = (errno.ENETUNREACH, errno.ETIMEDOUT)  # what a reader may be told while there is no daemon, or no store
FAR_WORDS = (*map(os.strerror, FAR), f"exited {-signal.SIGBUS}", "disk I/O error")  # ... through a map; by SQLite


class ToolFailed(Exception):
    """A program that uses the mount has failed, with what it said."""

    def __init__(self, script: str, code: int, said: str) -> None:
        super().__init__(f"{script}\nexited {code}\n{said}")
        self.is_silent = not said.strip()  # vim -es: whatever the mount has refused, it does not say


class Load:
    """Subclasses: `step` does something and checks it, `recover` looks after a failure that may be, `final` leaves a
    state that the other machine is to show as well.
    """

    pause_s = 0.5
    is_away_excused = True  # it reads what may have to be fetched

    def __init__(self, mount: Path, folder: str, scratch: Path, seed: int) -> None:
        self.mount = mount
        self.root = mount / folder
        self.scratch = scratch / folder
        self.trouble = scratch / "trouble"
        self.seed = seed
        self.random = random.Random(seed)
        self.rounds = 0
        self.failures = 0
        self.worst_s = 0.0

    def setup(self) -> None:
        """Runs before anything suffers."""

    def step(self) -> None:
        raise NotImplementedError

    def recover(self) -> None:
        """May be called again if the machine suffers once more while it runs."""

    def final(self) -> None:
        """May be called again, after `recover`."""

    # ---- the program

    def run(self) -> None:
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.root.mkdir(exist_ok=True)
        self.setup()
        say("ready")
        while not is_told_to_stop(self.pause_s * self.random.uniform(0.3, 1.7)):
            if self._done(self.step):
                self.rounds += 1
                say("round", self.rounds)
        while not self._done(self.final):
            pass
        say("end", json.dumps({"rounds": self.rounds, "failures": self.failures, "worst_s": round(self.worst_s, 1)}))

    def _done(self, work: Any) -> bool:
        """True if it was done; False after a failure that may be, and once all promises were found kept."""
        began = time.monotonic()
        try:
            work()
        except (OSError, ToolFailed) as error:
            self._check_excused(began, error)
        else:
            self.worst_s = max(self.worst_s, time.monotonic() - began)
            return True
        self.failures += 1
        while True:
            self._await_mount()
            began = time.monotonic()
            try:
                self.recover()
            except (OSError, ToolFailed) as error:
                self._check_excused(began, error)
            else:
                return False

    def _check_excused(self, began: float, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        say("failed", self.rounds, json.dumps(text[-300:]))
        now = time.monotonic()
        is_told = (isinstance(error, OSError) and error.errno in FAR) or any(word in text for word in FAR_WORDS)
        is_far = is_told or (isinstance(error, ToolFailed) and error.is_silent)
        for kind, start, end in self._troubles():
            if start > now or end < began:
                continue
            if kind == "mount" or (is_far and self.is_away_excused):
                return
        raise error

    def _troubles(self) -> list[tuple[str, float, float]]:
        """(kind, from, until) on the clock time.monotonic(), which is that of all processes. Unended ones too."""
        found: dict[str, tuple[str, float, float]] = {}
        for line in self.trouble.read_text().splitlines() if self.trouble.exists() else []:
            word, number, kind, at = line.split()
            if word == "begin":
                found[number] = (kind, float(at), float("inf"))
            else:
                found[number] = (kind, found[number][1], float(at) + GRACE_S)
        return list(found.values())

    def _await_mount(self) -> None:
        deadline = time.monotonic() + REMOUNT_S
        while True:
            try:
                if os.path.ismount(self.mount):
                    os.listdir(self.root)  # the kernel may answer anything less by itself
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                wrong("the mount did not come back")
            time.sleep(0.05)

    # ---- what loads need

    def sh(self, script: str, cwd: Path | None = None, *, timeout: float = TOOL_S) -> str:
        """Run a bash script; its stdout. ToolFailed unless it exits 0."""
        try:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=cwd or self.root,
                env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "TERM": "xterm", **GIT},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            wrong(f"hangs for {timeout} s: {script}", *waiting_below(os.getpid()))
        if done.returncode != 0:
            raise ToolFailed(script[-300:], done.returncode, f"{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
        return done.stdout

    def commit(self) -> None:
        """What was done before is promised once this returns."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def text(self, tag: str, lines: int) -> bytes:
        return "".join(f"{tag} {n} {self.random.getrandbits(32):08x}\n" for n in range(lines)).encode()


GIT = {
    "GIT_AUTHOR_NAME": "n",
    "GIT_AUTHOR_EMAIL": "e@x",
    "GIT_COMMITTER_NAME": "n",
    "GIT_COMMITTER_EMAIL": "e@x",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def waiting_below(pid: int) -> Iterator[str]:
    """Of each thread of what this process has started, and of what has lost its parent: what it waits for."""
    listed = subprocess.run(["ps", "-eLo", "pid=,ppid=,tid=,stat=,args="], capture_output=True, text=True).stdout
    rows = [line.split(None, 4) for line in listed.splitlines()]
    below = {str(pid)}
    while more := {row[0] for row in rows if row[1] in below} - below:
        below |= more
    for number, parent, thread, state, *args in rows:
        # A shell that was killed has left its children to init.
        if (number in below and number != str(pid)) or (parent == "1" and args and args[0].startswith("git")):
            with suppress(OSError):
                calls = Path(f"/proc/{number}/task/{thread}/stack").read_text().split()
                yield f"{state} {' '.join(args)[:80]}: {' '.join(calls[1::2][:8])}"


def write_file(path: Path, data: bytes, *, sync: bool = False) -> None:
    """As a program does that looks after errors: also those of close."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for start in range(0, len(data), 1 << 16):
            piece = data[start : start + (1 << 16)]
            if os.write(fd, piece) < len(piece):
                raise OSError(errno.ENOTCONN, "the mount died between two pages of one write")
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def read_file(path: Path) -> bytes | None:
    """None if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def is_told_to_stop(seconds: float) -> bool:
    """True once stdin has ended."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def say(*words: Any) -> None:
    print(f"{time.monotonic():.3f}", *words, flush=True)


def wrong(*words: Any) -> NoReturn:
    """Something that was promised is not so."""
    say("wrong", *words)
    sys.exit(1)
