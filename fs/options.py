"""What a mount process is told from outside: by its environment, and by the files of its fleet."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sync.core.errors import BadConfig
from sync.state.home import FleetConfig, FleetPaths, Home
from sync.state.settings import Settings


class Options(NamedTuple):
    """All that a mount process is told from outside."""

    paths: FleetPaths
    config: FleetConfig
    mountpoint: Path
    log_level: str
    sync_git: bool
    no_hydrate: tuple[str, ...]
    daemon: tuple[str, ...] | None
    kernel_caches: bool = True
    low_latency: bool = False
    sync_ownership: bool = False

    @property
    def log_file(self) -> Path:
        return self.paths.log_dir / "mount.log"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Options":
        """BadConfig if there is no absolute mount point; NotFound and BadInput as Home.fleet."""
        home = Home.from_environ(environ)
        settings = Settings.load(home, environ)
        paths = home.fleet(settings.fleet)
        config = paths.load()
        place = environ.get("TCFS_MOUNTPOINT") or config.mountpoint
        if not place or not Path(place).is_absolute():
            raise BadConfig(f"fleet {config.name} has no absolute mount point", hint="run `tcfs up MOUNTPOINT`")
        tcfsd = str(Path(sys.executable).parent / "tcfsd")
        daemon = None if environ.get("TCFS_START_DAEMON") == "0" else (tcfsd,)
        git = settings.sync_git == "raw"
        caches = not (config.no_kernel_cache or environ.get("TCFS_NO_KERNEL_CACHE") == "1")
        return cls(
            paths,
            config,
            Path(place),
            settings.log_level,
            git,
            settings.no_hydrate,
            daemon,
            kernel_caches=caches,
            low_latency=settings.low_latency,
            sync_ownership=settings.sync_ownership,
        )
