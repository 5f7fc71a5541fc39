"""Starting the mount process. Few imports: the daemon does it before it has read its own code."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sync.machines.fuse import is_mounted, why_no_fuse
from sync.machines.lock import is_held
from sync.state.home import FleetPaths


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
        )


def start_mount_early(paths: FleetPaths, environ: Mapping[str, str]) -> "subprocess.Popen[bytes] | None":
    """As start_mount, for a daemon that is about to begin: so both read their code at the same time.

    None where the daemon has to be there first, to see what stands at the mount point or to make fleet.db, and where
    another one is.
    """
    place = paths.load().mountpoint
    is_possible = place and not is_mounted(place) and paths.fleet_db.exists() and not why_no_fuse()
    if not is_possible or is_held(paths.engine_lock) or is_held(paths.mount_lock):
        return None
    return start_mount(paths, environ)


def errors_path(paths: FleetPaths) -> Path:
    """What the mount says before it stands; later it writes its own log."""
    return paths.log_dir / "mount.err"
