"""Settings: flag > TCFS_* > config.toml > default, each with its origin. Every one is in the table SETTINGS.

What belongs to one fleet (its store, its mount point, its mode) stands in fleet.toml once the fleet is there; `store`
and `mountpoint` here are for fleets that are made from now on.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sync.core.errors import BadConfig, BadInput
from sync.state.home import Home

# Programs that look into every file by themselves: indexers, thumbnailers, updatedb.
NO_HYDRATE = (
    "tracker-miner-*", "tracker-extract*", "localsearch*", "baloo_file*", "baloorunner", "akonadi_indexing*",
    "recollindex", "zeitgeist-fts", "tumblerd", "*-thumbnailer", "*thumbnailer", "thumbnail.so", "updatedb*",
    "plocate-build", "mlocate*",
)  # fmt: skip

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_size(text: object) -> int:
    """Bytes: 1000, '10 GiB', '500M', '2.5gb'. ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?", str(text).strip().lower())
    if match is None:
        raise ValueError(f"not a size: {text!r} (write it like 500M or 10 GiB)")
    return int(float(match[1]) * _UNITS[match[2]]) if "." in match[1] else int(match[1]) * _UNITS[match[2]]


def _one_of(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not one of {', '.join(words)}")
        return str(value)

    return parse


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _switch(value: object) -> bool:
    """true or false, of TOML or as a text."""
    if not isinstance(value, bool) and value not in ("true", "false"):
        raise ValueError(f"{value!r} is neither true nor false")
    return value in (True, "true")


def _programs(value: object) -> tuple[str, ...]:
    """Names with * and ?: a list, or a text with commas between; the word `default` stands for the shipped ones."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{value!r} is not a list of names of programs")
    found: list[str] = []
    for name in (name.strip() for name in names):
        found += NO_HYDRATE if name == "default" else [name] if name else []
    return tuple(dict.fromkeys(found))


class Setting(msgspec.Struct, frozen=True):
    """One row of the table. parse raises ValueError for what it does not take."""

    name: str
    parse: Callable[[object], Any]
    default: Any
    help: str

    @property
    def variable(self) -> str:
        return f"TCFS_{self.name.upper()}"


SETTINGS = (
    Setting("fleet", _text, "", "which fleet is meant when there are several: its name or id"),
    Setting("store", _text, "", "URL of the store of a new fleet; empty = a folder among the user's data"),
    Setting("mountpoint", _text, "", "where a new fleet is mounted; empty = ~/fleet"),
    Setting(
        "cache_quota", parse_size, 0, "bytes the cache may take; 0 = 10 GiB or 10 % of the disk, whichever is less"
    ),
    Setting("sync_git", _one_of("off", "raw"), "off", "raw: .git folders are synced file by file; off: they stay here"),
    Setting(
        "sync_ownership",
        _switch,
        False,
        "true: owner and group are published, and shown, by name; false: they stay on this machine",
    ),
    Setting(
        "no_hydrate",
        _programs,
        NO_HYDRATE,
        "programs that get EAGAIN for what is not local, instead of fetching it; 'default' = the shipped list",
    ),
    Setting(
        "low_latency",
        _one_of("auto", "off"),
        "auto",
        "auto: a mount of root's keeps processors from deep sleep while a program asks quickly; off: never",
    ),
    Setting("log_level", _one_of("debug", "info", "warning", "error"), "info", "least level that is logged"),
)


class Resolved(msgspec.Struct, frozen=True):
    """The value of one setting and where it comes from: 'flag', 'TCFS_NAME', the path of config.toml, or 'default'."""

    name: str
    value: Any
    origin: str


class Settings:
    """All settings as resolved once at the start of a program."""

    def __init__(self, resolved: Mapping[str, Resolved]) -> None:
        self.resolved = resolved

    @classmethod
    def load(cls, home: Home, environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> "Settings":
        """BadConfig for an unknown key or a bad value in config.toml, BadInput for one in `environ` or `flags`.

        A flag that is None was not given. A variable that is empty counts as not set.
        """
        in_file = _read_config(home.config_file)
        given = {name: value for name, value in (flags or {}).items() if value is not None}
        for name in given:
            _setting(name)
        resolved = {}
        for setting in SETTINGS:
            if setting.name in given:
                value, origin = _parse(setting, given[setting.name], "flag"), "flag"
            elif environ.get(setting.variable):
                value, origin = _parse(setting, environ[setting.variable], setting.variable), setting.variable
            elif setting.name in in_file:
                value, origin = in_file[setting.name], str(home.config_file)
            else:
                value, origin = setting.default, "default"
            resolved[setting.name] = Resolved(setting.name, value, origin)
        return cls(resolved)

    @property
    def fleet(self) -> str | None:
        return self.resolved["fleet"].value or None

    @property
    def store(self) -> str:
        return str(self.resolved["store"].value)

    @property
    def mountpoint(self) -> str:
        return str(self.resolved["mountpoint"].value)

    @property
    def cache_quota(self) -> int:
        """Bytes; 0 = chosen by the size of the disk."""
        return int(self.resolved["cache_quota"].value)

    @property
    def sync_git(self) -> str:
        return str(self.resolved["sync_git"].value)

    @property
    def sync_ownership(self) -> bool:
        return bool(self.resolved["sync_ownership"].value)

    @property
    def no_hydrate(self) -> tuple[str, ...]:
        """Names of programs, with * and ?."""
        return tuple(self.resolved["no_hydrate"].value)

    @property
    def low_latency(self) -> bool:
        return bool(self.resolved["low_latency"].value == "auto")

    @property
    def log_level(self) -> str:
        return str(self.resolved["log_level"].value)


def _setting(name: str) -> Setting:
    for setting in SETTINGS:
        if setting.name == name:
            return setting
    raise BadInput(f"unknown setting: {name}", hint=f"there is {', '.join(setting.name for setting in SETTINGS)}")


def _parse(setting: Setting, value: object, origin: str) -> Any:
    try:
        return setting.parse(value)
    except ValueError as error:
        raise BadInput(f"{setting.name} ({origin}): {error}") from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"cannot read {path}: {error}", path=str(path)) from error
    try:
        return {name: _parse(_setting(name), value, str(path)) for name, value in raw.items()}
    except BadInput as error:
        raise BadConfig(f"{path}: {error.message}", path=str(path), hint=error.hint) from error
