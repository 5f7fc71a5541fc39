"""policies.toml, beside fleet.toml: which path has which policy on this machine.

A file of its own, not a table of fleet.db: it says what the person wants, and outlives a fleet.db that is lost. Written
by the engine only; the mount and the verbs that need no engine read it.

    [policies]
    "docs" = "always"
    "docs/videos" = "on-read"
    "" = "never"                  # the root: everything else
"""

from pathlib import Path
from typing import NamedTuple

import msgspec
import tomli_w

from sync.core.errors import BadConfig, BadPath
from sync.core.paths import parse_rel_path
from sync.core.policy import Policies, Policy
from sync.env import atomic_write


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    policies: dict[str, Policy] = {}


class _Stamp(NamedTuple):
    """What the file was when it was read: any change of it makes another one."""

    inode: int
    size: int
    mtime_ns: int


class PolicyFile:
    """Asked as often as one likes: it is parsed again when it has changed. One thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: _Stamp | None = None
        self._policies = Policies()

    def read(self) -> Policies:
        """As the file says now, none if it is not there; the very same object while it has not changed.

        BadConfig if it cannot be read: whoever can should go on with what he had.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            if self._stamp is not None:
                self._stamp, self._policies = None, Policies()
            return self._policies
        except OSError as error:
            raise BadConfig(f"cannot read {self.path}: {error.strerror}", path=str(self.path)) from error
        stamp = _Stamp(found.st_ino, found.st_size, found.st_mtime_ns)
        if stamp != self._stamp:
            self._policies = _parse(self.path)
            self._stamp = stamp
        return self._policies

    def write(self, policies: Policies) -> None:
        """Durable when it returns."""
        data = {"policies": {path: word.value for path, word in sorted(policies.words.items())}}
        atomic_write(self.path, tomli_w.dumps(data).encode(), 0o600)


def _parse(path: Path) -> Policies:
    try:
        file = msgspec.toml.decode(path.read_bytes(), type=_File)
        return Policies({parse_rel_path(place) if place else "": word for place, word in file.policies.items()})
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}", path=str(path)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: {error}", path=str(path), hint=_HINT) from error
    except BadPath as error:
        raise BadConfig(f"{path}: {error.message}", path=str(path), hint=_HINT) from error


_HINT = "put it right, or remove it: then nothing is pinned"
