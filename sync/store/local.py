"""A store that is a directory: of this machine, of a disk that comes and goes, or of a network file system.

    <root>/fleet.json       the store is there if and only if this can be read, and holds what it held at first
    <root>/<key>            one file an object
    <root>/.tmp/<random>    being written; invisible as an object. Left behind by a crash: removed after an hour

A put is durable: the bytes are synced before the name appears, the folder after it. Nothing is ever made in a root that
does not hold the fleet: an empty mount point is a store that is away, not a new store.
"""

import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from sync.core.errors import ObjectMissing, TcfsError
from sync.env import Env, sync_file
from sync.store.base import FLEET_OBJECT, Buffer, Data, ObjectInfo, check_key, check_range, parts_of
from sync.store.root import Root, open_fd

TEMP_FOLDER = ".tmp"  # no key part begins with a dot
TEMP_AGE_MAX = 3600.0  # seconds, by the store's clock
BUFFERS_MAX = 1000  # of one writev; IOV_MAX is 1024
FIRST_PAGE = 100  # names of a folder that are looked at before the first is listed: many want only that one ...
PAGE = 1000  # ... and at a time after that
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LocalStore:
    """create_root: for `init` of a new fleet only: a put of fleet.json may make the root, and needs no fleet.json."""

    def __init__(self, env: Env, root: Path, *, create_root: bool = False) -> None:
        self.is_exclusive = True
        self._env = env
        self._root = Root(root)
        self._create_root = create_root
        self._cleaned = False

    @property
    def url(self) -> str:
        return self._root.url

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        check_key(key)
        check_range(start, length)
        return await self._env.run_store(self._get, key, start, length)

    async def put(self, key: str, data: Data) -> None:
        check_key(key)
        await self._env.run_store(self._put, key, parts_of(data), False)

    async def put_if_absent(self, key: str, data: Data) -> bool:
        check_key(key)
        return await self._env.run_store(self._put, key, parts_of(data), True)

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[ObjectInfo]:
        await self.check()
        folder = prefix.rpartition("/")[0]
        if folder:
            try:
                check_key(folder)
            except TcfsError:
                return  # no key begins like that
        async for info in self._walk(folder, prefix, start_after):
            yield info

    async def delete(self, key: str) -> None:
        check_key(key)
        await self._env.run_store(self._delete, key)

    async def stat(self, key: str) -> ObjectInfo:
        check_key(key)
        return await self._env.run_store(self._stat, key)

    async def check(self) -> None:
        await self._env.run_store(self._root.check)

    async def aclose(self) -> None:
        return

    # Reading

    def _get(self, key: str, start: int, length: int | None) -> bytes:
        with self._reading(key), open_fd(self._root.path / key, os.O_RDONLY) as file:
            end = os.fstat(file).st_size
            if length is not None:
                end = min(end, start + length)
            parts = []
            while start < end:
                part = os.pread(file, end - start, start)
                if not part:
                    break
                parts.append(part)
                start += len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)

    def _stat(self, key: str) -> ObjectInfo:
        with self._reading(key):
            found = (self._root.path / key).stat()
            if not stat.S_ISREG(found.st_mode):
                raise FileNotFoundError(errno.ENOENT, "a folder")
            return ObjectInfo(key, found.st_size, found.st_mtime_ns)

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            self._root.check()
            raise ObjectMissing(f"no such object: {key}", path=key, hint=f"looked for in {self._root.path}") from error
        except OSError as error:
            self._root.check()
            raise self._root.failed(error, key, writing=False) from error

    async def _walk(self, folder: str, prefix: str, start_after: str) -> AsyncIterator[ObjectInfo]:
        """Memory: the names of this folder and of those above it, and what is known of PAGE of them."""
        names = await self._env.run_store(self._names, folder, prefix, start_after)
        start, size = 0, FIRST_PAGE
        while page := names[start : start + size]:
            start, size = start + size, PAGE
            for info in await self._env.run_store(self._infos, folder, page):
                if info.key.endswith("/"):
                    async for below in self._walk(info.key[:-1], prefix, start_after):
                        yield below
                else:
                    yield info

    def _names(self, folder: str, prefix: str, start_after: str) -> Sequence[str]:
        """Those in one folder that may matter, in the order of the keys; those of folders end with '/'."""
        found = []
        above = f"{folder}/" if folder else ""
        try:
            with os.scandir(self._root.path / folder) as entries:
                for entry in entries:
                    name = entry.name
                    as_folder = f"{above}{name}/"
                    if as_folder <= start_after and not start_after.startswith(as_folder):
                        continue  # all but the newest segments of a journal, at every look at it
                    if entry.is_dir():
                        name += "/"
                    elif not entry.is_file():
                        continue
                    if _matters(above + name, prefix, start_after):
                        found.append(name)
        except (FileNotFoundError, NotADirectoryError):
            self._root.check()  # a store that vanished while it was listed is no short list
            return []
        except OSError as error:
            self._root.check()
            raise self._root.failed(error, folder, writing=False) from error
        return sorted(found)

    def _infos(self, folder: str, names: Sequence[str]) -> Sequence[ObjectInfo]:
        """What is known of some names in one folder, without those that were deleted since; of folders only the key."""
        found = []
        above = f"{folder}/" if folder else ""
        try:
            with open_fd(self._root.path / folder, os.O_RDONLY | os.O_DIRECTORY) as opened:
                for name in names:
                    if name.endswith("/"):
                        found.append(ObjectInfo(above + name, 0, 0))
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        about = os.stat(name, dir_fd=opened)
                        found.append(ObjectInfo(above + name, about.st_size, about.st_mtime_ns))
        except (FileNotFoundError, NotADirectoryError):
            found = []
        except OSError as error:
            self._root.check()
            raise self._root.failed(error, folder, writing=False) from error
        if len(found) < len(names):
            self._root.check()  # as above
        return found

    # Writing

    def _put(self, key: str, data: Sequence[Buffer], only_if_absent: bool) -> bool:
        """The body of put and put_if_absent. False: something was there, and is durable now."""
        folder_path, _, name = key.rpartition("/")
        with self._root.open(making_fleet=self._create_root and key == FLEET_OBJECT) as root:
            try:
                with self._open_folder(root, folder_path) as folder, self._open_folder(root, TEMP_FOLDER) as temps:
                    if only_if_absent and _is_there(name, folder):
                        os.fsync(folder)  # an earlier attempt of ours may have died before doing so
                        return False
                    self._clean(temps)
                    temp = self._write_temp(root, temps, data)
                    try:
                        made = self._name(temps, temp, folder, name, only_if_absent)
                    except OSError:
                        _unlink(temp, temps)
                        raise
                    self._env.fault("store.before_dir_sync")
                    os.fsync(folder)
            except OSError as error:
                raise self._root.failed(error, key, writing=True) from error
        self._env.fault("store.after_put")
        return made

    def _write_temp(self, root: int, temps: int, data: Sequence[Buffer]) -> str:
        temp = self._env.random_bytes(12).hex()
        try:
            with open_fd(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, temps) as file:
                _share_like(root, file, 0o666)
                _write_all(file, data)
                self._env.fault("store.before_sync")
                sync_file(file)
        except OSError:
            _unlink(temp, temps)
            raise
        self._env.fault("store.before_rename")
        return temp

    def _name(self, temps: int, temp: str, folder: int, name: str, only_if_absent: bool) -> bool:
        """Give the synced file its name; False if only_if_absent and the name is taken. The temp name is gone."""
        if only_if_absent and self.is_exclusive:
            try:
                os.link(temp, name, src_dir_fd=temps, dst_dir_fd=folder)
            except FileExistsError:
                _unlink(temp, temps)
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self.is_exclusive = False  # FAT and its kin: the best they offer is to look first
            else:
                _unlink(temp, temps)
                return True
        if only_if_absent and _is_there(name, folder):
            _unlink(temp, temps)
            return False
        os.rename(temp, name, src_dir_fd=temps, dst_dir_fd=folder)
        return True

    @contextlib.contextmanager
    def _open_folder(self, root: int, path: str) -> Iterator[int]:
        """A descriptor of this folder below the root; what is missing is made, durably."""
        with contextlib.ExitStack() as opened:
            folder = root
            for part in path.split("/") if path else []:
                above = folder
                try:
                    folder = opened.enter_context(open_fd(part, os.O_RDONLY | os.O_DIRECTORY, above))
                except FileNotFoundError:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=above)
                    os.fsync(above)
                    folder = opened.enter_context(open_fd(part, os.O_RDONLY | os.O_DIRECTORY, above))
                    _share_like(root, folder, 0o7777)
            yield folder

    def _clean(self, temps: int) -> None:
        """Once: remove what crashes left behind. A writer this slow fails at its rename and tries again."""
        if self._cleaned:
            return
        self._cleaned = True
        mark = self._env.random_bytes(12).hex()
        with open_fd(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, temps) as file:
            now = os.fstat(file).st_mtime
        _unlink(mark, temps)
        with os.scandir(temps) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another machine cleans too
                    if now - entry.stat(follow_symlinks=False).st_mtime > TEMP_AGE_MAX:
                        os.unlink(entry.name, dir_fd=temps)

    def _delete(self, key: str) -> None:
        with self._root.open() as root:
            try:
                os.unlink(key, dir_fd=root)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            except OSError as error:
                raise self._root.failed(error, key, writing=True) from error
        self._env.fault("store.after_delete")


def _matters(key: str, prefix: str, start_after: str) -> bool:
    """False if neither this object, nor anything in this folder (a key that ends with '/'), is asked for."""
    if key.endswith("/"):
        is_asked = key.startswith(prefix) or prefix.startswith(key)
        is_asked = is_asked and (key > start_after or start_after.startswith(key))
    else:
        is_asked = key.startswith(prefix) and key > start_after
    if not is_asked:
        return False
    try:
        check_key(key.rstrip("/"))
    except TcfsError:
        return False  # temp files, lost+found, .DS_Store
    return True


def _share_like(root: int, made: int, mask: int) -> None:
    """Whom the store's folder lets in may use what is in it, whatever the umask here: members may be other users."""
    wanted = stat.S_IMODE(os.fstat(root).st_mode) & mask
    if stat.S_IMODE(os.fstat(made).st_mode) != wanted:
        with contextlib.suppress(PermissionError):  # a file system without modes, or another machine has just made it
            os.fchmod(made, wanted)


def _write_all(file: int, data: Sequence[Buffer]) -> None:
    for start in range(0, len(data), BUFFERS_MAX):
        parts = data[start : start + BUFFERS_MAX]
        size = sum(memoryview(part).nbytes for part in parts)
        written = os.writev(file, parts) if size else 0
        if written < size:  # seldom: a signal, or a disk that fills
            rest = memoryview(b"".join(parts))[written:]
            while rest:
                rest = rest[os.write(file, rest) :]


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _unlink(name: str, folder: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
