"""The kernel's side of a mount, as far as the engine and the CLI handle it: is FUSE there, unmount, abort."""

import contextlib
import ctypes
import errno
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from sync.core.errors import NotYet, TcfsError
from sync.machines.mounts import FSTYPE, holders, mounted

CONNECTIONS = Path("/sys/fs/fuse/connections")
MOUNTINFO = Path("/proc/self/mountinfo")
DEVICE = Path("/dev/fuse")
MNT_FORCE = 1
HOLDERS_MAX = 10  # named in a message
UNMOUNT_S = 10.0  # how long the helper may take


def why_no_fuse(device: Path = DEVICE) -> str:
    """Why nothing can be mounted here, with the remedy; '' if it can."""
    if not device.exists():
        return f"{device} is not there (load the fuse module, or give the container the device)"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} cannot be opened by this user"
    if importlib.util.find_spec("pyfuse3") is None or importlib.util.find_spec("trio") is None:
        return "the Python packages pyfuse3 and trio are not installed (scripts/setup installs them)"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "fusermount3 is not installed (package fuse3)"
    return ""


def is_mounted(mountpoint: str) -> bool:
    """True if a tcfs is mounted exactly there, alive or dead; asks the mount table only."""
    return mounted().get(mountpoint) == FSTYPE


def unmount(mountpoint: str, *, lazy: bool = False) -> None:
    """Take the mount away; fine if there is none. NotYet naming who holds it if it is busy."""
    if not is_mounted(mountpoint):
        return
    done = subprocess.run(_command(mountpoint, lazy), capture_output=True, text=True, timeout=UNMOUNT_S, check=False)
    if done.returncode == 0 or not is_mounted(mountpoint):
        return
    trouble = done.stderr.strip()
    if "busy" in trouble:
        raise _busy(mountpoint)
    raise TcfsError(f"cannot unmount {mountpoint}: {trouble}")


def _busy(mountpoint: str) -> NotYet:
    nested = [place for place in mounted() if place.startswith(f"{mountpoint}/")]
    found = holders(mountpoint)
    named = [f"another mount in it, {place}" for place in nested] + [str(holder) for holder in found]
    who = "; ".join(named[:HOLDERS_MAX]) or "a process of another user"
    if len(named) > HOLDERS_MAX:
        who += f"; and {len(named) - HOLDERS_MAX} more"
    ends = [shlex.join(["umount", *reversed(nested)])] if nested else []
    ends += ["end it there or with 'kill " + " ".join(str(holder.pid) for holder in found) + "'"] if found else []
    end = " and ".join(ends) or "ask root who it is"
    return NotYet(f"{mountpoint} is in use by {who}", hint=f"{end}, or take the mount away all the same with --force")


def _command(mountpoint: str, lazy: bool) -> list[str]:
    helper = shutil.which("fusermount3")
    if helper is not None:
        return [helper, "-u", *(["-z"] if lazy else []), "--", mountpoint]
    return ["umount", *(["-l"] if lazy else []), mountpoint]


def abort(mountpoint: str, table: Path = MOUNTINFO, connections: Path = CONNECTIONS) -> bool:
    """End a mount that does not answer: all that waits for it fails with ENOTCONN. False if it was not possible.

    A process that is stuck in the kernel survives kill -9 until this happens.
    """
    number = connection_number(mountpoint, table)
    if number is None:
        return False
    try:
        (connections / str(number) / "abort").write_text("1")
    except OSError:  # its folder is not mounted, as in many containers
        return _force_unmount(mountpoint)
    return True


def has_died(pid: int, processes: Path = Path("/proc")) -> bool:
    """True if a process was killed and is not gone: what is left of it waits in the kernel for its own answers.

    It keeps its descriptors, locks and mount until the connection is aborted.
    """
    try:
        state = (processes / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in ("Z", "X")


def _force_unmount(mountpoint: str) -> bool:
    """The kernel aborts the connection before it looks whether the mount is busy. False if that was refused.

    Busy it is, with us: the dead mount stays until another takes its place, for in between the bare folder would show,
    and take what programs write.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # O_PATH asks the mount nothing
            held.callback(os.close, os.open(mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return libc.umount2(os.fsencode(mountpoint), MNT_FORCE) == 0 or ctypes.get_errno() == errno.EBUSY


def connection_number(mountpoint: str, table: Path = MOUNTINFO) -> int | None:
    """The number of a mount's folder below /sys/fs/fuse/connections: the minor of its device."""
    found: int | None = None
    try:
        lines = os.fsdecode(table.read_bytes()).splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        fields = line.split(" ")
        if len(fields) > 5 and fields[4].replace("\\040", " ") == mountpoint and f" {FSTYPE} " in line:
            found = int(fields[2].partition(":")[2])
    return found
