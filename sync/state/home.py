"""Where everything of one user on this machine lies: folders, keys, fleet.toml, machine.toml.

    with TCFS_HOME      without                                    what
    config/             $XDG_CONFIG_HOME/tcfs, ~/.config/tcfs      config.toml, machine.toml, fleets/<fleet_id>/
    state/              $XDG_STATE_HOME/tcfs, ~/.local/state/tcfs  <8 hex>/: fleet.db, tree.db, work/, locks, ballast
    cache/              $XDG_CACHE_HOME/tcfs, ~/.cache/tcfs        <8 hex>/: chunks/, whole/; may be deleted any time
    run/                run/ below the state folder                <8 hex>/: the socket
    store/ and fleet/   $XDG_DATA_HOME/tcfs/store and ~/fleet      the defaults of `tcfs up`

<8 hex> are the first of the fleet_id. XDG_RUNTIME_DIR is not used: it vanishes at logout and is missing under cron and
sudo, and a daemon must be found from there too. Every folder made here has mode 0700, every file in one 0600.
"""

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import tomli_w

from sync.core.errors import AlreadyExists, BadConfig, BadInput, NotFound
from sync.env import atomic_write

SOCKET_PATH_MAX = 100  # bytes; sockaddr_un has room for 108 on Linux and 104 on macOS
KEY_SIZE = 32
_NO_PLACE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP})
_PLACE_HINT = "TCFS_HOME, or the XDG folders, say where it is to be"

Config = TypeVar("Config", bound=msgspec.Struct)


class MachineConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """machine.toml: what this machine is called in fleets it makes or joins from now on."""

    name: str


class FleetConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """fleet.toml: this machine's membership of one fleet."""

    fleet_id: str
    name: str
    store_url: str
    machine_id: str
    machine_name: str
    mountpoint: str = ""  # absolute; '' = none chosen yet
    uid: int | None = None  # owner of what has none here; None = who mounts
    gid: int | None = None
    no_kernel_cache: bool = False  # of the mount: the kernel keeps neither names nor attributes nor pages
    mode: str = "interactive"  # or 'defer', 'auto': how concurrent versions show here


class Home:
    """The folders of one user. Nothing is created before it is needed."""

    def __init__(
        self, *, root: Path | None, config: Path, state: Path, cache: Path, data: Path, user_home: Path
    ) -> None:
        self.root = root
        self.config = config
        self.state = state
        self.cache = cache
        self.data = data
        self.run = root / "run" if root is not None else state / "run"
        self.default_store = root / "store" if root is not None else data / "store"
        self.default_mountpoint = root / "fleet" if root is not None else user_home / "fleet"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Home":
        """TCFS_HOME moves everything; else the XDG folders. BadConfig if the one or HOME is no absolute path."""
        chosen = environ.get("TCFS_HOME", "")
        user_home = Path(environ.get("HOME") or "~").expanduser()
        if chosen:
            root = Path(chosen)
            if not root.is_absolute():
                raise BadConfig(f"TCFS_HOME is not an absolute path: {chosen}", hint="start it with /")
            return cls(
                root=root,
                config=root / "config",
                state=root / "state",
                cache=root / "cache",
                data=root / "data",
                user_home=user_home,
            )
        if not user_home.is_absolute():
            raise BadConfig(f"HOME is not an absolute path: {user_home}", hint="set HOME or TCFS_HOME")

        def xdg(variable: str, default: str) -> Path:
            folder = Path(environ.get(variable, ""))  # the XDG standard: what is not absolute is ignored
            return (folder if folder.is_absolute() else user_home / default) / "tcfs"

        return cls(
            root=None,
            config=xdg("XDG_CONFIG_HOME", ".config"),
            state=xdg("XDG_STATE_HOME", ".local/state"),
            cache=xdg("XDG_CACHE_HOME", ".cache"),
            data=xdg("XDG_DATA_HOME", ".local/share"),
            user_home=user_home,
        )

    @property
    def config_file(self) -> Path:
        return self.config / "config.toml"

    def machine(self) -> MachineConfig | None:
        """machine.toml, or None if this machine was never named; BadConfig if it cannot be read."""
        path = self.config / "machine.toml"
        return _read_toml(path, MachineConfig) if path.exists() else None

    def save_machine(self, machine: MachineConfig) -> None:
        make_private_dir(self.config)
        _write_toml(self.config / "machine.toml", machine)

    def fleets(self) -> list["FleetPaths"]:
        """The fleets this machine is a member of, by fleet_id."""
        folder = self.config / "fleets"
        if not folder.exists():
            return []
        return [FleetPaths(self, entry.name) for entry in sorted(folder.iterdir()) if (entry / "fleet.toml").exists()]

    def fleet(self, name_or_id: str | None = None) -> "FleetPaths":
        """The fleet of that name, id or beginning of an id. None: the only one, else the one called 'default'.

        NotFound if there is none, BadInput if the answer is not one fleet.
        """
        fleets = self.fleets()
        if not fleets:
            raise NotFound("this machine is in no fleet", hint="run `tcfs up` or `tcfs init`")
        if name_or_id is None and len(fleets) == 1:
            return fleets[0]
        wanted = name_or_id or "default"
        found = [fleet for fleet in fleets if fleet.load().name == wanted or fleet.fleet_id == wanted]
        if not found and len(wanted) >= 4:
            found = [fleet for fleet in fleets if fleet.fleet_id.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"{fleet.load().name} ({fleet.fleet_id[:8]})" for fleet in fleets)
        if found:
            raise BadInput(f"several fleets are meant by {wanted!r}: {known}", hint="name one by its id")
        if name_or_id is None:
            raise BadInput(f"this machine is in several fleets: {known}", hint="say which with --fleet")
        raise NotFound(f"no fleet {wanted!r} here; there is {known}")

    def new_fleet(self, fleet_id: str) -> "FleetPaths":
        """Make the folders of a fleet that is joined; its fleet.toml is still to be saved.

        AlreadyExists if this machine is a member, or if another fleet's id begins with the same 8 digits.
        """
        if len(fleet_id) < 8 or "/" in fleet_id or fleet_id.startswith("."):
            raise BadInput(f"not a fleet_id: {fleet_id!r}")
        for other in self.fleets():
            if other.fleet_id[:8] == fleet_id[:8]:
                raise AlreadyExists(f"this machine is in fleet {other.fleet_id}", path=str(other.config_dir))
        paths = FleetPaths(self, fleet_id)
        paths.make_dirs()
        return paths


class FleetPaths:
    """Every file and folder of one fleet on this machine."""

    def __init__(self, home: Home, fleet_id: str) -> None:
        short = fleet_id[:8]
        self.home = home
        self.fleet_id = fleet_id
        self.config_dir = home.config / "fleets" / fleet_id
        self.fleet_toml = self.config_dir / "fleet.toml"
        self.policies_toml = self.config_dir / "policies.toml"
        self.key_file = self.config_dir / "fleet.key"
        self.signing_key_file = self.config_dir / "machine.key"
        self.state_dir = home.state / short
        self.fleet_db = self.state_dir / "fleet.db"
        self.tree_db = self.state_dir / "tree.db"
        self.work_dir = self.state_dir / "work"
        self.engine_lock = self.state_dir / "engine.lock"
        self.mount_lock = self.state_dir / "mount.lock"
        self.ballast = self.state_dir / "ballast"
        self.log_dir = self.state_dir / "log"
        self.cache_dir = home.cache / short
        self.run_dir = home.run / short

    @property
    def socket_path(self) -> Path:
        """Where the engine listens. At most 100 bytes: where run/ lies deeper, the file run/<8 hex>/sock names a short
        private folder below /tmp, made here if there is none that is ours alone.
        """
        path = self.run_dir / "socket"
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
            return path
        pointer = self.run_dir / "sock"
        return (_read_pointer(pointer) or _point_to_new_folder(pointer)) / "socket"

    def make_dirs(self) -> None:
        """Make what is missing; each folder of the fleet has mode 0700 then, also one that had another."""
        for folder in (self.config_dir, self.state_dir, self.work_dir, self.log_dir, self.cache_dir, self.run_dir):
            make_private_dir(folder)
            if folder.stat().st_mode & 0o077:
                with contextlib.suppress(PermissionError):  # a file system without modes
                    folder.chmod(0o700)

    def load(self) -> FleetConfig:
        """fleet.toml; NotFound if there is none, BadConfig if it cannot be read or belongs to another fleet."""
        config = _read_toml(self.fleet_toml, FleetConfig)
        if config.fleet_id != self.fleet_id:
            raise BadConfig(f"{self.fleet_toml} is of fleet {config.fleet_id}", path=str(self.fleet_toml))
        return config

    def save(self, config: FleetConfig) -> None:
        """Durable when it returns. Write the keys first: a fleet with a fleet.toml is one that works."""
        make_private_dir(self.config_dir)
        _write_toml(self.fleet_toml, config)

    def read_key(self) -> bytes:
        """The 32-byte root of fleet.key; NotFound, or BadConfig if it is not 64 hex digits."""
        return read_key_file(self.key_file)

    def write_key(self, root: bytes) -> None:
        self._write_key_file(self.key_file, root)

    def read_signing_key(self) -> bytes:
        """The 32-byte Ed25519 seed of this machine in this fleet; NotFound or BadConfig as read_key."""
        return read_key_file(self.signing_key_file)

    def write_signing_key(self, seed: bytes) -> None:
        self._write_key_file(self.signing_key_file, seed)

    def _write_key_file(self, path: Path, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            raise BadInput(f"a key is {KEY_SIZE} bytes long, not {len(key)}")
        make_private_dir(self.config_dir)
        atomic_write(path, key.hex().encode() + b"\n", 0o600)


def read_key_file(path: Path) -> bytes:
    """32 bytes from a file of 64 hex digits and a line feed; NotFound, or BadConfig for anything else."""
    text = _read(path).strip()
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE or len(text) != 2 * KEY_SIZE:
        raise BadConfig(f"{path} does not hold a key of 64 hex digits", path=str(path))
    return key


def make_private_dir(path: Path) -> None:
    """Make this folder and those above it that are missing, with mode 0700. One that is there keeps its mode.

    BadConfig where there can be none: below a file, or in a file system that makes none.
    """
    try:
        _make_private_dir(path)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        reason = f"{error.filename}: {error.strerror}"  # of those above it the one that cannot be made
        raise BadConfig(f"cannot make {path}: {reason}", path=str(path), hint=_PLACE_HINT) from error


def _make_private_dir(path: Path) -> None:
    if not path.is_dir():
        _make_private_dir(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"no such file: {path}", path=str(path)) from None
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}", path=str(path)) from error


def _read_toml(path: Path, shape: type[Config]) -> Config:
    try:
        return msgspec.toml.decode(_read(path), type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: {error}", path=str(path)) from error


def _write_toml(path: Path, config: msgspec.Struct) -> None:
    fields = {key: value for key, value in msgspec.to_builtins(config).items() if value is not None}
    atomic_write(path, tomli_w.dumps(fields).encode(), 0o600)


def _read_pointer(pointer: Path) -> Path | None:
    """The folder that `pointer` names, if it is a folder of ours that nobody else can enter."""
    try:
        folder = Path(pointer.read_text().strip())
        found = folder.lstat()
    except FileNotFoundError:
        return None
    is_private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700 and found.st_uid == os.geteuid()
    return folder if is_private and folder.is_absolute() else None


def _point_to_new_folder(pointer: Path) -> Path:
    make_private_dir(pointer.parent)
    lock = os.open(pointer.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a daemon that starts and the verb that waits for it must get the same folder
        folder = _read_pointer(pointer)
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix=f"tcfs-{os.geteuid()}-", dir="/tmp"))
            atomic_write(pointer, f"{folder}\n".encode())
        return folder
    finally:
        os.close(lock)
