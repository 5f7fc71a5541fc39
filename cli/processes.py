"""Starting tcfsd and the mount, for up and mount; what down and unmount need of them."""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cli.app import App, call_daemon
from sync.core.errors import NoDaemon, TcfsError, TimedOut, Unsupported
from sync.state.home import FleetConfig

START_S = 30.0  # for a daemon to serve
STOP_S = 10.0  # for a daemon that was told so to end
PAUSE_S = 0.02


def ensure_daemon(app: App) -> None:
    """Returns once a tcfsd serves the fleet; TcfsError with its own words if it cannot."""
    from sync.machines.launch import hand_over, start_mount_early

    if is_daemon_running(app):
        return
    app.fleet.make_dirs()
    # Both read their code at the same time; the daemon keeps the mount, and ends it if it cannot.
    mount = start_mount_early(app.fleet, app.environ) if sys.platform == "linux" else None
    handed = None if mount is None else hand_over(mount)
    try:
        _start_daemon(app, handed)
    except BaseException:
        if mount is not None:
            mount.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                mount.wait(STOP_S)
        raise
    finally:
        if handed is not None:
            os.close(handed)


def _start_daemon(app: App, mount: int | None) -> None:
    """mount: a pidfd of a process for it to keep."""
    program = Path(sys.executable).parent / "tcfsd"
    for_mount = [] if mount is None else ["--mount", str(mount)]
    with subprocess.Popen(
        [str(program), "--background", "--fleet", app.fleet.fleet_id, *for_mount],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(app.environ),
        pass_fds=[] if mount is None else [mount],
    ) as starter:
        importlib.import_module("sync.ipc.client")  # by which we shall talk to it, read while it starts
        try:
            _, said = starter.communicate(timeout=START_S)
        except subprocess.TimeoutExpired as error:
            starter.kill()
            raise TcfsError("tcfsd does not get to serve", hint=f"see {app.fleet.log_dir / 'tcfsd.log'}") from error
    if starter.returncode != 0:
        raise _failed(said.strip().removeprefix("tcfsd: "), starter.returncode)


def remember_mount(app: App, mountpoint: str, *, no_kernel_cache: bool) -> None:
    """For a daemon that is about to start, which mounts at once; one that runs is told with its verb `mount`."""
    from sync.state.lock import is_held

    if not is_daemon_running(app) and not is_held(app.fleet.mount_lock):
        config = app.fleet.load()
        kept = config.no_kernel_cache if config.mountpoint == mountpoint else False
        app.fleet.save(msgspec.structs.replace(config, mountpoint=mountpoint, no_kernel_cache=no_kernel_cache or kept))


def is_daemon_running(app: App) -> bool:
    from sync.state.lock import is_held

    if not is_held(app.fleet.engine_lock):
        return False
    try:
        return bool(app.run(call_daemon(app.env, app.fleet, "engine", {})).get("is_daemon"))
    except NoDaemon:
        return False


def call_running(app: App, verb: str, **args: Any) -> dict[str, Any]:
    """A verb of a tcfsd that runs; NoDaemon if none does."""
    return app.run(call_daemon(app.env, app.fleet, verb, args))


def mountpoint_of(app: App, wanted: str | None, config: FleetConfig | None = None) -> str:
    """Where the fleet is to be mounted: as told, as last time, by the settings, or ~/fleet; an absolute real path.

    config: of a fleet that is about to be made; None: of the one that this machine is in. TcfsError if something is
    there that a mount would hide, or the place belongs to the store or to tcfs itself.
    """
    from sync.machines.fuse import is_mounted
    from sync.machines.mounts import InMount
    from sync.machines.places import local_place

    config = config or app.fleet.load()
    text = wanted or config.mountpoint or app.settings.mountpoint or str(app.home.default_mountpoint)
    place = local_place(config, str(Path(text).expanduser()), app.cwd)
    mountpoint = place.mountpoint if isinstance(place, InMount) and not place.rel_path else place
    if not isinstance(mountpoint, str):
        raise TcfsError(f"{text} is inside the mount")
    if not is_mounted(mountpoint):
        _check_apart(app, mountpoint, config)
        _check_free(Path(mountpoint))
    return mountpoint


def _check_apart(app: App, mountpoint: str, config: FleetConfig) -> None:
    """The store by its name only: `up` does not wait for a store whose disk hangs."""
    from sync.core.errors import BadInput
    from sync.store.open import store_folder

    home = app.home
    own = {Path(os.path.realpath(folder)) for folder in (home.config, home.state, home.cache, home.run)}
    with contextlib.suppress(BadInput):  # a store that is no folder
        own.add(store_folder(config.store_url or app.settings.store or str(home.default_store)))
    for folder in own.intersection([Path(mountpoint), *Path(mountpoint).parents]):
        raise TcfsError(
            f"{mountpoint} is inside of {folder}, which is the store or tcfs's own", hint="name another mount point"
        )


def _check_free(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        occupied = next(folder.iterdir(), None) is not None
    except OSError as error:
        raise TcfsError(f"cannot mount at {folder}: {error.strerror}") from error
    if occupied:
        raise TcfsError(f"{folder} is not empty: a mount would hide what is there", hint="name another mount point")


def end_other_version(app: App) -> None:
    """End a tcfsd that this program cannot talk to; what is dirty stays on the disk, and goes out by the next one.

    A mount starts that at once. So it is waited for: one more, started here, might come to serve only behind `down`.
    Unsupported if that one is of another version again: the mount is of another installation.
    """
    from sync.state.lock import is_held, owner

    try:
        is_daemon_running(app)
    except Unsupported:
        lock = app.fleet.engine_lock
        pid = owner(lock)
        if pid > 1 and is_held(lock):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        _await(app, lambda: not is_held(lock) or owner(lock) != pid)
        if is_held(app.fleet.mount_lock):
            _await_restart(app)


def _await_restart(app: App) -> None:
    try:
        with contextlib.suppress(TimedOut):
            _await(app, lambda: is_daemon_running(app))
    except Unsupported as error:
        hint = "the mount is of another installation of tcfs: 'tcfs down' of that one ends both"
        raise Unsupported(error.message, hint=hint) from error


def await_end(app: App) -> None:
    """Returns once no process holds the engine lock; TimedOut if one still does after 10 s."""
    from sync.state.lock import is_held

    _await(app, lambda: not is_held(app.fleet.engine_lock))


def _await(app: App, condition: Callable[[], bool]) -> None:
    until = app.env.monotonic() + STOP_S
    while not condition():
        if app.env.monotonic() >= until:
            raise TimedOut("tcfsd does not end", hint=f"see {app.fleet.log_dir / 'tcfsd.log'}")
        app.run(app.env.sleep(PAUSE_S))


def _failed(text: str, exit_code: int) -> TcfsError:
    error = TcfsError(text or "tcfsd ended at once")
    error.exit_code = exit_code
    return error
