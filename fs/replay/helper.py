"""The helper process: does through the mount what another machine has done, so that watchers here hear of it.

Started as a script, without anything but the standard library. Reads a line of JSON a request, writes one an answer:

    first line      [mount point, device as in /proc/PID/fdinfo, pid of the mount]
    []              -> {inode number: mask} of all that is watched on that device by inotify
    [id, what, folder, name, to_folder, to_name, kind, mode] -> [id, errno, 0 if it worked]

`end` takes the last look at what is left without a name; EAGAIN if the kernel does not believe that it has none.

It ends with its input. Nothing that it does can change anything: the mount knows it by its pid, and answers. So it must
never act on any other file system, nor on a mount that came after ours: a folder is held by a descriptor, its device
is compared, and after that it is made sure that our mount still lives.
"""

# ruff: noqa: PTH115, PTH123, PTH208
import contextlib
import ctypes
import errno
import json
import os
import stat
import sys
from collections.abc import Iterator

FILE, DIR = 1, 2
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
AT_SYMLINK_NOFOLLOW = 0x100


class Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Helper:
    def __init__(self, mountpoint: str, device: str, mount_pid: int) -> None:
        self._mountpoint = mountpoint
        self._device = device
        self._mount_pid = mount_pid
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._mtime_only = (Timespec * 2)(Timespec(0, UTIME_OMIT), Timespec(0, UTIME_NOW))

    def poke(self, what: str, folder: str, name: str, to_folder: str, to_name: str, kind: int, mode: int) -> int:
        """Do one thing; the errno, 0 if it worked."""
        try:
            with contextlib.ExitStack() as stack:
                place = self._open(folder, stack)
                to_place = self._open(to_folder, stack) if what == "move" else -1
                if os.getppid() != self._mount_pid:
                    return errno.ENOTCONN
                self._do(what, place, name, to_place, to_name, kind, mode)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _do(self, what: str, place: int, name: str, to_place: int, to_name: str, kind: int, mode: int) -> None:
        if what == "create":
            if kind == FILE:
                os.mknod(name, stat.S_IFREG | mode, dir_fd=place)
            elif kind == DIR:
                os.mkdir(name, mode, dir_fd=place)
            else:
                os.symlink("elsewhere", name, dir_fd=place)
        elif what == "remove":
            (os.rmdir if kind == DIR else os.unlink)(name, dir_fd=place)
        elif what == "move":
            os.rename(name, to_name, src_dir_fd=place, dst_dir_fd=to_place)
        elif what == "chmod":
            os.chmod(name, mode, dir_fd=place)
        elif what == "rewrite":
            fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
            try:
                _check(self._libc.futimens(fd, self._mtime_only))
            finally:
                os.close(fd)
        elif what == "end":
            _end(name, place)
        else:
            _check(self._libc.utimensat(place, os.fsencode(name), self._mtime_only, AT_SYMLINK_NOFOLLOW))

    def _open(self, folder: str, stack: contextlib.ExitStack) -> int:
        """A descriptor of a folder of our mount; ENOTCONN if that is not what stands there."""
        path = f"{self._mountpoint}/{folder}" if folder else self._mountpoint
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        device = os.fstat(fd).st_dev
        if f"{os.major(device) << 20 | os.minor(device):x}" != self._device:
            raise OSError(errno.ENOTCONN, "another file system")
        return fd

    def watches(self) -> dict[int, int]:
        """What the processes that we may look into watch on our device."""
        found: dict[int, int] = {}
        for line in _inotify_lines():
            fields = dict(field.partition(b":")[::2] for field in line.split()[1:])
            if fields.get(b"sdev", b"").decode() == self._device:
                ino = int(fields[b"ino"], 16)
                found[ino] = found.get(ino, 0) | int(fields[b"mask"], 16)
        return found


def _end(name: str, place: int) -> None:
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
    try:
        has_name = os.fstat(fd).st_nlink > 0
    finally:
        os.close(fd)
    with contextlib.suppress(FileNotFoundError):  # the kernel asks once more, hears that it is gone, and lets go of it
        os.stat(name, dir_fd=place, follow_symlinks=False)
    if has_name:
        raise OSError(errno.EAGAIN, "not believed")


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _inotify_lines() -> Iterator[bytes]:
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # it has ended, or belongs to somebody else
        for number in descriptors:
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{number}").endswith("inotify"):
                    with open(f"/proc/{pid}/fdinfo/{number}", "rb") as info:
                        yield from (line for line in info if line.startswith(b"inotify "))


def _lines() -> Iterator[bytes]:
    """Until the mount has gone, which may have been killed in the middle of a line."""
    for line in sys.stdin.buffer:
        if not line.endswith(b"\n"):
            return
        yield line


def main() -> None:
    os.chdir("/")
    os.umask(0)
    lines = _lines()
    first = next(lines, None)
    if first is None:
        return
    helper = Helper(*json.loads(first))
    for line in lines:
        request = json.loads(line)
        answer = [request[0], helper.poke(*request[1:])] if request else helper.watches()
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the mount has gone
        main()
