"""Whole machines for the integration tests: one TCFS_HOME each, the real CLI, real daemons, real mounts.

Processes are found by the TCFS_HOME in their environment, so nothing is ever ended that a test did not start.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from homekit import remove_socket_folders

BIN = Path(sys.executable).parent
FUSE = os.access("/dev/fuse", os.R_OK | os.W_OK) and shutil.which("fusermount3") is not None


def poll(
    condition: Callable[[], Any], seconds: float = 10.0, what: str = "condition", *, pause: float | None = None
) -> Any:
    """The first true value of condition(), looked at every `pause` s (None: more and more rarely); AssertionError after
    `seconds`.
    """
    deadline = time.monotonic() + seconds
    wait = 0.005 if pause is None else pause
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(wait)
        if pause is None:
            wait = min(wait * 1.5, 0.1)


def stays(condition: Callable[[], Any], seconds: float, what: str = "condition") -> None:
    """For so long condition() is true whenever it is looked at; AssertionError at once if not."""
    deadline = time.monotonic() + seconds
    while True:
        assert condition(), f"no longer: {what}"
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(0.1, left))


class Machine:
    """One simulated machine: everything it has lies below `home`."""

    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        self.name = name
        self.mountpoint = home / "fleet"
        home.mkdir(parents=True, exist_ok=True)
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("TCFS_", "XDG_"))},
            "TCFS_HOME": str(home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }

    # ---- the CLI
    def run(
        self, *args: str, expect: int | None = 0, timeout: float = 120, **kwargs: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run tcfs; the exit code must be `expect` (None: any)."""
        environ = {**self.environ, **kwargs.pop("environ", {})}
        result = subprocess.run(
            [str(BIN / "tcfs"), *args],
            env=environ,
            text=True,
            capture_output=True,
            timeout=timeout,
            cwd=kwargs.pop("cwd", self.home),
            **kwargs,
        )
        if expect is not None and result.returncode != expect:
            raise AssertionError(
                f"{self.name}: tcfs {' '.join(args)} exited {result.returncode}, expected {expect}\n"
                f"stdout: {result.stdout[-3000:]}\nstderr: {result.stderr[-3000:]}\n{self.logs()}"
            )
        return result

    def data(self, *args: str, expect: int | None = 0, timeout: float = 120) -> Any:
        """The `data` of a verb run with --json."""
        result = self.run(*args, "--json", expect=expect, timeout=timeout)
        return json.loads(result.stdout).get("data")

    def init(self, store: Path | str, key_from: "Machine | None" = None) -> None:
        args = ["init", "--store", str(store), "--name", self.name]
        if key_from is not None:
            args += ["--key-file", str(key_from.key_file())]
        self.run(*args)

    def key_file(self) -> Path:
        return next((self.home / "config" / "fleets").glob("*/fleet.key"))

    def up(self, **kwargs: Any) -> None:
        self.run("up", **kwargs)
        assert os.path.ismount(self.mountpoint), f"{self.mountpoint} is not mounted"

    def fsck(self, timeout: float = 300) -> None:
        self.run("fsck", timeout=timeout)

    # ---- processes
    def pids(self, kind: str | None = None) -> list[int]:
        """Processes of this machine: kind 'tcfsd', 'mount', or any."""
        needle = f"TCFS_HOME={self.home}".encode()
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if needle not in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    continue
                command = Path(f"/proc/{entry}/cmdline").read_bytes()
                if Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    continue
                which = "tcfsd" if b"tcfsd" in command else "mount" if b"fs.mount" in command else "other"
                if kind in (None, which):
                    found.append(int(entry))
        return found

    def kill(self, kind: str | None = None, sig: int = signal.SIGKILL) -> None:
        for pid in self.pids(kind):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)

    def memory_peak(self, kind: str) -> int:
        """The largest VmHWM of these processes, in bytes."""
        peaks = [0]
        for pid in self.pids(kind):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        peaks.append(int(line.split()[1]) * 1024)
        return max(peaks)

    def whole_logs(self) -> str:
        """All that any process of this machine has logged."""
        return "\n".join(log.read_text(errors="replace") for log in sorted(self.home.glob("state/*/log/*")))

    def logs(self) -> str:
        """The ends of the logs, for messages."""
        texts = []
        for log in sorted(self.home.glob("state/*/log/*")):
            texts.append(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
        return "\n".join(texts)

    def destroy(self) -> None:
        """End what runs, until nobody starts anything any more, and unmount what is mounted. Never fails."""

        def is_empty() -> bool:
            self.kill()
            return not self.pids()

        with contextlib.suppress(AssertionError):
            poll(is_empty, 5, "processes gone")
        for line in Path("/proc/self/mounts").read_text().splitlines():
            where = line.split()[1].replace("\\040", " ")
            if where == str(self.mountpoint):  # -f: who waits for a dead mount is let go
                subprocess.run(["umount", "-f", where], capture_output=True)
            if where == str(self.mountpoint) or where.startswith(f"{self.home}/"):
                subprocess.run(["umount", "-l", where], capture_output=True)
        remove_socket_folders(self.home)


@contextlib.contextmanager
def fleet(base: Path, *names: str, store: Path | None = None, up: bool = True) -> Iterator[list[Machine]]:
    """Machines of one fleet on a directory store; the first creates it, the others join with its key file."""
    store = store or base / "store"
    machines = [Machine(base / name, name) for name in names]
    try:
        for machine in machines:
            machine.init(store, key_from=machines[0] if machine is not machines[0] else None)
        if up:
            for machine in machines:
                machine.up()
        yield machines
    finally:
        for machine in machines:
            machine.destroy()
