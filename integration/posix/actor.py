"""One user who does single operations in a folder: `python actor.py UID GID GROUP...`, requests and answers by pickle.

A request is a list of steps, each (operation, arguments); the answer has one outcome a step. Users are effective ids
in a process of its own. Runs alone: it imports nothing of ours.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import pickle
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = -100, 0x100, 0x400, 0x1000
FS_IOC_GETFLAGS, FICLONE = 0x80086601, 0x40049409

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = [("s", ctypes.c_long), ("ns", ctypes.c_long)]


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Actor:
    """The state of one user: open files by name."""

    def __init__(self, uid: int, gid: int, groups: list[int]) -> None:
        self.ids = uid, gid, groups
        self.files: dict[str, int] = {}
        self.sockets: list[socket.socket] = []
        self.programs: list[subprocess.Popen[bytes]] = []

    # ---- who and where

    def enter(self, folder: str, probe: str) -> None:
        """Start anew in a folder that exists; probe: a file of the same file system to read its clock by."""
        os.seteuid(0)
        os.setegid(0)
        for fd in self.files.values():
            os.close(fd)
        for each in self.sockets:
            each.close()
        self.stop()
        self.files, self.sockets = {}, []
        os.umask(0)
        os.chdir(folder)
        self.probe = probe
        uid, gid, groups = self.ids
        os.setgroups(groups)
        os.setegid(gid)
        os.seteuid(uid)

    def stop(self) -> None:
        """End the programs that were started."""
        for program in self.programs:
            program.kill()
            program.wait()
        self.programs = []

    def step(self, name: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
        """("ok", value) or ("error", name of the errno)."""
        try:
            return "ok", getattr(self, f"do_{name}")(*arguments)
        except OSError as error:
            return "error", errno.errorcode.get(error.errno or 0, str(error.errno))
        except (KeyError, ValueError) as error:  # a file that could not be opened; what mmap(2) has no errno for
            return "error", str(error)

    # ---- the clock and the tree

    def snapshot(self) -> dict[bytes, tuple[Any, ...]]:
        """Every path below the folder, and what lstat shows of it. Moves the atime of folders, on either side."""
        found: dict[bytes, tuple[Any, ...]] = {}
        waiting = [b"."]
        while waiting:
            path = waiting.pop()
            found[path] = self._look(path)
            if stat.S_ISDIR(found[path][0]):
                waiting += [os.path.join(path, name) for name in os.listdir(path)]
        return found

    def _look(self, path: bytes) -> tuple[Any, ...]:
        st = os.lstat(path)
        is_device = stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode)
        size = 0 if stat.S_ISDIR(st.st_mode) else st.st_size
        times = (st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns)
        return (st.st_mode, st.st_nlink, st.st_uid, st.st_gid, size, st.st_rdev if is_device else 0, st.st_ino, times)

    def tick(self, after_ns: int) -> int:
        """Wait until this file system stamps changes with a later time than that."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            os.utime(self.probe)
            now_ns = os.stat(self.probe).st_mtime_ns
            if now_ns > after_ns:
                return now_ns
        raise AssertionError("the clock of the file system stands still")

    def contents(self) -> dict[bytes, bytes]:
        """What regular files hold, small ones only, and where symlinks lead."""
        found: dict[bytes, bytes] = {}
        for path, (mode, _, _, _, size, *_) in self.snapshot().items():
            if stat.S_ISREG(mode) and size < 1 << 20:
                fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
                try:
                    found[path] = os.read(fd, 1 << 20)
                finally:
                    os.close(fd)
            elif stat.S_ISLNK(mode):
                found[path] = os.readlink(path)
        return found

    # ---- operations

    def do_mkdir(self, path: bytes, mode: int = 0o755) -> None:
        os.mkdir(path, mode)

    def do_rmdir(self, path: bytes) -> None:
        os.rmdir(path)

    def do_mknod(self, path: bytes, mode: int, major: int = 0, minor: int = 0) -> None:
        os.mknod(path, mode, os.makedev(major, minor))

    def do_mkfifo(self, path: bytes, mode: int = 0o644) -> None:
        os.mkfifo(path, mode)

    def do_bind(self, path: bytes) -> None:
        made = socket.socket(socket.AF_UNIX)
        self.sockets.append(made)
        made.bind(path)

    def do_symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, path)

    def do_link(self, path: bytes, new: bytes, flags: int = 0) -> None:
        _check(_libc.linkat(AT_FDCWD, path, AT_FDCWD, new, flags))

    def do_link_fd(self, slot: str, new: bytes) -> None:
        """As open(2) shows it for O_TMPFILE."""
        name = f"/proc/self/fd/{self.files[slot]}".encode()
        _check(_libc.linkat(AT_FDCWD, name, AT_FDCWD, new, AT_SYMLINK_FOLLOW))

    def do_unlink(self, path: bytes) -> None:
        os.unlink(path)

    def do_rename(self, path: bytes, new: bytes) -> None:
        os.rename(path, new)

    def do_renameat2(self, path: bytes, new: bytes, flags: int) -> None:
        _check(_libc.renameat2(AT_FDCWD, path, AT_FDCWD, new, flags))

    def do_chmod(self, path: bytes, mode: int) -> None:
        os.chmod(path, mode)

    def do_fchmod(self, slot: str, mode: int) -> None:
        os.fchmod(self.files[slot], mode)

    def do_chown(self, path: bytes, uid: int, gid: int) -> None:
        os.chown(path, uid, gid)

    def do_lchown(self, path: bytes, uid: int, gid: int) -> None:
        os.lchown(path, uid, gid)

    def do_fchown(self, slot: str, uid: int, gid: int) -> None:
        os.fchown(self.files[slot], uid, gid)

    def do_truncate(self, path: bytes, size: int) -> None:
        os.truncate(path, size)

    def do_ftruncate(self, slot: str, size: int) -> None:
        os.ftruncate(self.files[slot], size)

    def do_utimens(self, path: bytes, atime: tuple[int, int], mtime: tuple[int, int], follow: bool = True) -> None:
        times = (_Timespec * 2)(_Timespec(*atime), _Timespec(*mtime))
        _check(_libc.utimensat(AT_FDCWD, path, times, 0 if follow else AT_SYMLINK_NOFOLLOW))

    def do_utimes_now(self, path: bytes) -> None:
        os.utime(path)

    def do_open(self, slot: str, path: bytes, flags: int, mode: int = 0o644) -> None:
        self.files[slot] = os.open(path, flags, mode)

    def do_close(self, slot: str) -> None:
        os.close(self.files.pop(slot))

    def do_read(self, slot: str, size: int) -> bytes:
        return os.read(self.files[slot], size)

    def do_write(self, slot: str, data: bytes) -> int:
        return os.write(self.files[slot], data)

    def do_pwrite(self, slot: str, data: bytes, offset: int) -> int:
        return os.pwrite(self.files[slot], data, offset)

    def do_direct_write(self, slot: str, size: int, offset: int) -> int:
        """Aligned, as O_DIRECT wants it."""
        with mmap.mmap(-1, size) as block:
            block.write(b"d" * size)
            return os.pwritev(self.files[slot], [block], offset)

    def do_direct_read(self, slot: str, size: int, offset: int) -> bytes:
        with mmap.mmap(-1, size) as block:
            done = os.preadv(self.files[slot], [block], offset)
            return block[:done]

    def do_map(self, slot: str, data: bytes, shared: bool, writable: bool = True) -> bytes:
        """Map the start of the file, write there if it is writable, and say what it shows."""
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        with mmap.mmap(self.files[slot], len(data), mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE, access) as seen:
            if writable:
                seen[:] = data
                if shared:
                    seen.flush()
            return seen[:]

    def do_lseek(self, slot: str, offset: int, whence: int) -> int:
        return os.lseek(self.files[slot], offset, whence)

    def do_fsync(self, slot: str) -> None:
        os.fsync(self.files[slot])

    def do_syncfs(self, slot: str) -> None:
        _check(_libc.syncfs(self.files[slot]))

    def do_posix_fallocate(self, slot: str, offset: int, size: int) -> None:
        os.posix_fallocate(self.files[slot], offset, size)

    def do_fallocate(self, slot: str, mode: int, offset: int, size: int) -> None:
        _check(_libc.fallocate(self.files[slot], mode, ctypes.c_long(offset), ctypes.c_long(size)))

    def do_getflags(self, slot: str) -> None:
        fcntl.ioctl(self.files[slot], FS_IOC_GETFLAGS, bytes(8))

    def do_clone(self, slot: str, source: str) -> None:
        fcntl.ioctl(self.files[slot], FICLONE, self.files[source])

    def do_fstat(self, slot: str) -> tuple[int, ...]:
        st = os.fstat(self.files[slot])
        return (st.st_mode, st.st_nlink, st.st_uid, st.st_gid, 0 if stat.S_ISDIR(st.st_mode) else st.st_size)

    def do_stat(self, path: bytes) -> tuple[int, ...]:
        st = os.stat(path)
        return (st.st_mode, st.st_nlink, st.st_uid, st.st_gid, 0 if stat.S_ISDIR(st.st_mode) else st.st_size)

    def do_has_birth_time(self, path: bytes) -> bool:
        """As statx(2) shows it; Python cannot ask."""
        shown = subprocess.run(["stat", "-c", "%W", path], stdout=subprocess.PIPE, check=True).stdout
        return int(shown) > 0

    def do_readlink(self, path: bytes) -> bytes:
        return os.readlink(path)

    def do_listdir(self, path: bytes) -> list[bytes]:
        return sorted(os.listdir(path))

    def do_listdir_fd(self, slot: str) -> list[str]:
        return sorted(os.listdir(self.files[slot]))

    def do_access(self, path: bytes, mode: int) -> bool:
        return os.access(path, mode, effective_ids=True)

    def do_umask(self, mask: int) -> int:
        return os.umask(mask)

    def do_chdir(self, path: bytes) -> None:
        os.chdir(path)

    def do_getxattr(self, path: bytes, name: str, size: int | None = None, follow: bool = True) -> bytes:
        if size is None:
            return os.getxattr(path, name, follow_symlinks=follow)
        buffer = ctypes.create_string_buffer(size)
        done = _check(_libc.getxattr(path, name.encode(), buffer, size))
        return buffer.raw[:done]

    def do_setxattr(self, path: bytes, name: str, value: bytes, flags: int = 0, follow: bool = True) -> None:
        os.setxattr(path, name, value, flags, follow_symlinks=follow)

    def do_removexattr(self, path: bytes, name: str, follow: bool = True) -> None:
        os.removexattr(path, name, follow_symlinks=follow)

    def do_listxattr(self, path: bytes, follow: bool = True) -> list[str]:
        return sorted(os.listxattr(path, follow_symlinks=follow))

    def do_listxattr_size(self, path: bytes, size: int) -> int:
        buffer = ctypes.create_string_buffer(size)
        return _check(_libc.listxattr(path, buffer, size))

    def do_program(self, path: bytes) -> None:
        """A program that runs until it is ended."""
        shutil.copyfile("/bin/sleep", path)
        os.chmod(path, 0o755)

    def do_start(self, path: bytes) -> None:
        self.programs.append(subprocess.Popen([os.path.abspath(path), b"1000"]))

    def do_flock(self, slot: str, how: int) -> None:
        fcntl.flock(self.files[slot], how)

    def do_lockf(self, slot: str, how: int, size: int, start: int) -> None:
        fcntl.lockf(self.files[slot], how, size, start)


def main() -> None:
    actor = Actor(int(sys.argv[1]), int(sys.argv[2]), [int(group) for group in sys.argv[3:]])
    methods: dict[str, Callable[..., Any]] = {
        "enter": actor.enter,
        "step": actor.step,
        "snapshot": actor.snapshot,
        "tick": actor.tick,
        "contents": actor.contents,
    }
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            actor.stop()
            return
        pickle.dump(methods[name](*arguments), sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
