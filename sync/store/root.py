"""The folder of a store that is a directory: is it there, is it still the fleet's, and what do its errors mean.

It is there if and only if fleet.json can be read in it, and holds what it held at first: an empty mount point is a
store that is away, and nothing is ever made there.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from sync.core.errors import Integrity, NoSpace, NotAuthorised, ReadOnly, RequestFailed, StoreAway, TcfsError
from sync.env import fsync_dir
from sync.store.base import FLEET_OBJECT

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM}
_AGAIN = {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.ENOENT, errno.EINTR}


class Root:
    """For any thread; each call may block on the disk or the network behind it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fleet: bytes | None = None  # what fleet.json held when first read

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def check(self) -> None:
        """StoreAway, or NotAuthorised, unless it is there and holds the fleet."""
        with self.open():
            pass

    @contextlib.contextmanager
    def open(self, *, making_fleet: bool = False) -> Iterator[int]:
        """A descriptor of the root that has just been seen to hold the fleet; raises as check does.

        making_fleet: the fleet is about to be put there, so it need not be, and the folder is made.
        """
        if making_fleet and not self.path.is_dir():
            self._make()
        try:
            root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise self._not_there(error) from error
        try:
            if not making_fleet:
                self._check_fleet(root)
            yield root
        finally:
            os.close(root)

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            fsync_dir(self.path.parent)
        except OSError as error:
            raise self.failed(error, FLEET_OBJECT, writing=True) from error

    def _check_fleet(self, root: int) -> None:
        try:
            with open_fd(FLEET_OBJECT, os.O_RDONLY, root) as file:
                found = os.read(file, 1 << 20)
        except OSError as error:
            raise self._not_there(error) from error
        if self._fleet is None:
            self._fleet = found
        elif found != self._fleet:
            raise StoreAway(
                f"{self.path / FLEET_OBJECT} is not what it was: damaged, or another fleet's store",
                path=self.url,
                hint="bring the right store back to this place",
            )

    def _not_there(self, error: OSError) -> TcfsError:
        if error.errno in _REFUSED:
            return NotAuthorised(f"may not read the store {self.path}: {error.strerror}", path=self.url)
        return StoreAway(
            f"the store {self.path} is away: {FLEET_OBJECT} cannot be read: {error.strerror}",
            path=self.url,
            hint="is its disk mounted, its network up?",
        )

    def failed(self, error: OSError, key: str, *, writing: bool) -> TcfsError:
        """What an error of the file system means, once the root was seen to be there."""
        doing = f"{'writing' if writing else 'reading'} {key}: {error.strerror}"
        if error.errno in _FULL:
            return NoSpace(f"the store {self.path} is full: {doing}", path=key, hint="make room there")
        if error.errno == errno.EROFS or (writing and error.errno in _REFUSED):
            return ReadOnly(f"the store {self.path} refuses writes: {doing}", path=key)
        if error.errno in _REFUSED:
            return NotAuthorised(f"the store {self.path} refuses us: {doing}", path=key)
        if error.errno == errno.EIO and not writing:
            return Integrity(f"the store {self.path} cannot be read: {doing}", path=key)
        if error.errno in _AGAIN:
            return RequestFailed(f"the store {self.path}: {doing}", path=key)
        return StoreAway(f"the store {self.path}: {doing}", path=key)


@contextlib.contextmanager
def open_fd(path: str | Path, flags: int, folder: int | None = None) -> Iterator[int]:
    """A descriptor of a file or folder, below another one's if `folder` is given. OSError."""
    file = os.open(path, flags, 0o666, dir_fd=folder)
    try:
        yield file
    finally:
        os.close(file)
