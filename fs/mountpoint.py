"""The place where a mount stands: free it from a dead one, tune the kernel's side of a new one. No FUSE in here.

Nothing here asks the file system that is mounted: before its request loop runs it could not answer.
"""

import contextlib
import errno
import fcntl
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fs import takeover
from sync.core.errors import AlreadyExists, BadInput

FSTYPE = "fuse.tcfs"
READ_AHEAD_KB = 1024  # reads of 1 MiB instead of 128 KiB, nearly twice as fast when cold
MAX_BACKGROUND = 64  # reads ahead that the kernel has under way
UNMOUNT_S = 10

MOUNTINFO = Path("/proc/self/mountinfo")

log = logging.getLogger(__name__)


@contextmanager
def only_mount(lock_file: Path, mountpoint: Path) -> Iterator[None]:
    """Hold mount.lock. AlreadyExists if another mount of this fleet runs, and who it is: the file holds our pid, and
    where we are mounted.
    """
    fd = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _runs_already(os.read(fd, 8192).decode(errors="replace"), lock_file) from None
        with suppress(OSError):  # a full disk: the lock is the kernel's
            os.ftruncate(fd, 0)
            os.write(fd, b"%d\n%s\n" % (os.getpid(), os.fsencode(mountpoint)))
        yield
    finally:
        os.close(fd)


def _runs_already(held: str, lock_file: Path) -> AlreadyExists:
    pid, _, place = held.strip().partition("\n")
    which = f", process {pid}" if pid else ""
    at = f" at {place}" if place else ""
    text = f"a mount of this fleet is running already{at}{which}: one state folder serves one mount"
    return AlreadyExists(text, path=str(lock_file), hint="'tcfs unmount' ends it")


def prepare(mountpoint: Path) -> None:
    """Make sure that one can mount there; a missing folder is made. A dead mount stays until the new one comes: as long
    as it stands, nobody can write into the folder below it.

    BadInput if the place is not a folder, is not empty, or holds another file system.
    """
    if not is_dead(mountpoint):
        _check_free(mountpoint)


@contextmanager
def hides_nothing(mountpoint: Path) -> Iterator[None]:
    """Mount in the body. A dead mount is taken away just before; what programs have written into the folder between the
    two mounts is not hidden: BadInput, as from `prepare`, and the caller takes the new mount away.
    """
    if is_dead(mountpoint):
        log.warning("%s holds a mount whose process has died: unmounting it", mountpoint)
        _detach(mountpoint)
    _check_free(mountpoint)
    folder = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield
        with os.scandir(folder) as hidden:
            if any(hidden):
                raise _not_empty(mountpoint)
    finally:
        os.close(folder)


def is_dead(mountpoint: Path) -> bool:
    """True if the process of the mount that stands there has died. A missing folder is made."""
    try:
        # Opened, not only looked at: what a dead mount is may still be in the kernel's cache.
        os.close(os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except NotADirectoryError as error:
        raise BadInput(f"{mountpoint} is not a folder", path=str(mountpoint)) from error
    except FileNotFoundError:
        mountpoint.mkdir(mode=0o755, parents=True)
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
            raise BadInput(f"{mountpoint}: {error.strerror}", path=str(mountpoint)) from error
        return True
    return False


def _check_free(mountpoint: Path) -> None:
    if device_of(mountpoint) is not None:
        raise BadInput(f"something is mounted at {mountpoint} already", path=str(mountpoint))
    if any(mountpoint.iterdir()):
        raise _not_empty(mountpoint)


def _not_empty(mountpoint: Path) -> BadInput:
    hint = "move what is in it away, or mount elsewhere"
    return BadInput(f"{mountpoint} is not empty", path=str(mountpoint), hint=hint)


def tune(mountpoint: Path) -> None:
    """Raise the kernel's limits for this mount; only root may, and nothing is wrong if it does not work."""
    device = device_of(mountpoint)
    if device is None or os.geteuid() != 0:
        return
    connection = Path("/sys/fs/fuse/connections") / device.partition(":")[2]
    for path, value in (
        (Path("/sys/class/bdi") / device / "read_ahead_kb", READ_AHEAD_KB),
        (connection / "max_background", MAX_BACKGROUND),
        (connection / "congestion_threshold", MAX_BACKGROUND * 3 // 4),
    ):
        try:
            path.write_text(str(value))
        except OSError as error:
            log.debug("%s stays as it is: %s", path, error.strerror)


def device_of(mountpoint: Path, table: Path = MOUNTINFO) -> str | None:
    """'major:minor' of the topmost mount that stands exactly there, None if there is none."""
    found = None
    for line in os.fsdecode(table.read_bytes()).splitlines():
        fields = line.split(" ")
        if len(fields) > 4 and _unescape(fields[4]) == str(mountpoint):
            found = fields[2]
    return found


def _detach(mountpoint: Path) -> None:
    """Unmount lazily. By root at once, without a process: nobody is to find the bare folder for long."""
    if os.geteuid() == 0 and sys.platform == "linux":
        with contextlib.suppress(OSError):
            takeover.detach(mountpoint)
            return
    helper = ["umount", "-l", "--"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z", "--"]
    done = subprocess.run([*helper, str(mountpoint)], capture_output=True, text=True, timeout=UNMOUNT_S, check=False)
    if done.returncode != 0:
        raise BadInput(f"cannot take the dead mount at {mountpoint} away: {done.stderr.strip()}", path=str(mountpoint))


def _unescape(field: str) -> str:
    """A path as /proc writes it: blank, tab, newline and backslash in octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
