"""flock on a file: the holder of engine.lock is the engine, of mount.lock the mount. The kernel drops it at death."""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType


class FileLock:
    """An exclusive lock, taken without waiting. Not reentrant; two objects in one process exclude each other too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def try_acquire(self) -> bool:
        """True if it is ours now. The file holds the pid of the last owner, for people."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        with contextlib.suppress(OSError):  # a full disk: the lock is the kernel's
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        return True

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.release()


def is_held(path: Path) -> bool:
    """True if some process holds the lock now."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def owner(path: Path) -> int:
    """The pid of the last owner, the first line; 0 if it is not known."""
    try:
        return int(path.read_bytes().partition(b"\n")[0])
    except (OSError, ValueError):
        return 0


def silent_engine(engine_lock: Path) -> tuple[str, str]:
    """What to say of an engine that does not answer though its lock is held, and what helps; ('', '') if none runs."""
    if not is_held(engine_lock):
        return "", ""
    pid = owner(engine_lock)
    return (
        f"runs as process {pid}, but does not answer",
        f"try again in a moment; if it stays so, 'kill -9 {pid}' and 'tcfs up' start it anew, and nothing is lost",
    )
