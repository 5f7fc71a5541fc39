"""Starting the mount process. Few imports: `up` does it before there is a daemon, a daemon before it reads its code."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from sync.machines.fuse import is_mounted, why_no_fuse
from sync.state.home import FleetPaths
from sync.state.lock import is_held

UNKNOWN: Final = 255  # an exit code; none of a mount process


class MountProcess(Protocol):
    """What who keeps a mount process does with it; a Popen can."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """None while it runs, then its exit code; UNKNOWN if that cannot be known."""

    def terminate(self) -> None: ...


class Handed:
    """A mount process that somebody else has started, by a pidfd of it. Linux only."""

    def __init__(self, fd: int) -> None:
        """Takes the descriptor over."""
        os.set_inheritable(fd, False)
        self._fd = fd
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        self.pid = next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))  # -1: it has ended

    def poll(self) -> int | None:
        """None while it runs, then UNKNOWN: only its parent can know."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return UNKNOWN if poll.poll(0) else None

    def terminate(self) -> None:
        if sys.platform == "linux" and self.poll() is None:
            signal.pidfd_send_signal(self._fd, signal.SIGTERM)


def hand_over(mount: "subprocess.Popen[bytes]") -> int | None:
    """A pidfd for a daemon that is about to start, to be closed by the caller.

    None where there is no such thing: then the process is ended, for the daemon could not tell it from another one.
    """
    if sys.platform == "linux":
        try:
            return os.pidfd_open(mount.pid)
        except OSError:  # a kernel that has none, or does not let us
            mount.kill()
            mount.wait()
    return None


def start_mount(paths: FleetPaths, environ: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """A mount process of this fleet, in a session of its own. It reads by itself where to mount."""
    with errors_path(paths).open("wb") as stderr:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "fs.mount"],
            cwd="/",
            env={**environ, "TCFS_FLEET": paths.fleet_id},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            umask=0o077,  # its log names paths
        )


def start_mount_early(paths: FleetPaths, environ: Mapping[str, str]) -> "subprocess.Popen[bytes] | None":
    """As start_mount, for a daemon that is about to begin: so both read their code at the same time.

    By `up`, which hands it over, where there are pidfds; else by the daemon. None where the daemon has to be there
    first, to see what stands at the mount point or to make fleet.db, and where another one is.
    """
    place = paths.load().mountpoint
    is_possible = place and not is_mounted(place) and paths.fleet_db.exists() and not why_no_fuse()
    if not is_possible or is_held(paths.engine_lock) or is_held(paths.mount_lock):
        return None
    return start_mount(paths, environ)


def errors_path(paths: FleetPaths) -> Path:
    """What the mount says before it stands; later it writes its own log."""
    return paths.log_dir / "mount.err"
