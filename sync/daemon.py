"""tcfsd: the engine of one fleet as a process of its own, with the mount beside it.

The engine is imported once the mount process is on its way, so that both read their code at the same time.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sync.core.errors import BadConfig, TcfsError
from sync.env import NICENESS, Env, RealEnv
from sync.interpreter import calm_interpreter
from sync.machines.launch import start_mount_early
from sync.machines.trouble import expected, explained
from sync.ours import foreign_packages
from sync.state.home import FleetPaths, Home
from sync.state.settings import Settings

if TYPE_CHECKING:
    import subprocess

    from sync.engine import Engine

LOCK_PAUSE_S: Final = 0.1
READY: Final = b"ready\n"
LOG_NAME: Final = "tcfsd.log"
LOG_BYTES: Final = 5 << 20  # of one file; the one before is kept
LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_log = logging.getLogger("tcfs.daemon")


def main(argv: list[str] | None = None) -> None:
    """The command tcfsd; its exit code is that of the first error, as for tcfs."""
    parser = argparse.ArgumentParser(
        "tcfsd", description="The daemon of tcfs: publishes, learns, fetches, keeps the mount."
    )
    parser.add_argument("--background", action="store_true", help="detach; returns when the socket answers")
    parser.add_argument("--fleet", help="the fleet, if this machine is in several: its name or id")
    options = parser.parse_args(argv)
    calm_interpreter()
    environ = os.environ
    os.umask(0o077)  # logs name paths; the mount inherits it
    try:
        check_packages()
        home = Home.from_environ(environ)
        settings = Settings.load(home, environ, {"fleet": options.fleet})
        paths = home.fleet(settings.fleet)
        paths.make_dirs()
        paths.read_key()
    except (TcfsError, OSError) as error:
        known = expected(error)
        if known is None:
            raise
        sys.exit(_told(known))
    if options.background:
        _start_in_background(paths, settings, environ)
    _log_to(paths, settings, [logging.StreamHandler(sys.stderr)])
    sys.exit(run(RealEnv(environ, niceness=NICENESS), paths, settings, environ, _Ready(None)))


def check_packages() -> None:
    """BadConfig if another distribution has overwritten a package of ours: then nothing is what it seems."""
    if wrong := foreign_packages():
        text = "; ".join(f"the package {name} {what}" for name, what in wrong.items())
        raise BadConfig(text, hint="install tcfs in an environment of its own: scripts/setup")


def run(env: Env, paths: FleetPaths, settings: Settings, environ: Mapping[str, str], ready: "_Ready") -> int:
    """Serve until SIGTERM, SIGINT or `tcfs down`; the exit code. 0 if another tcfsd serves this fleet already."""
    try:
        asyncio.run(_serve(env, paths, settings, environ, ready, start_mount_early(paths, environ)))
    except Exception as error:
        known = explained(env, paths, error)
        if known is None:
            raise
        _log.error("%s", _in_words(known))
        ready.failed(known)
        return known.exit_code
    finally:
        env.close()
    return 0


async def _serve(
    env: Env,
    paths: FleetPaths,
    settings: Settings,
    environ: Mapping[str, str],
    ready: "_Ready",
    mount: "subprocess.Popen[bytes] | None",
) -> None:
    from sync.engine import EngineBusy, run_engine

    async def work(engine: "Engine") -> None:
        await _work(engine, environ, ready, mount)

    try:
        while True:
            try:
                await run_engine(env, paths, settings, work)
            except EngineBusy:
                if await _is_daemon(env, paths):
                    _log.info("a tcfsd runs already")
                    ready.done()
                    return
                await env.sleep(LOCK_PAUSE_S)  # a verb of the CLI: it ends
            else:
                return
    except Exception:
        if mount is not None:
            mount.terminate()  # nobody would look after it
        raise


async def _work(
    engine: "Engine", environ: Mapping[str, str], ready: "_Ready", mount: "subprocess.Popen[bytes] | None"
) -> None:
    from sync.machines.keeper import MountKeeper

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, engine.stop.set)
    server = engine.server
    keeper = engine.keeper = MountKeeper(
        engine.env, engine.paths, environ, lambda: server.mount, lambda: server.mount_refused_at, mount
    )
    keeper.want(engine.config.mountpoint)
    keeping = asyncio.ensure_future(keeper.run())
    stopping = asyncio.ensure_future(engine.stop.wait())
    _log.info("tcfsd %d serves fleet %s", os.getpid(), engine.config.name)
    ready.done()
    try:
        await asyncio.wait({keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            keeping.result()
        await engine.server.answered_all()
    finally:
        for task in (keeping, stopping):
            task.cancel()
        await asyncio.gather(keeping, stopping, return_exceptions=True)
    _log.info("tcfsd %d stops", os.getpid())


async def _is_daemon(env: Env, paths: FleetPaths) -> bool:
    """True if the engine that runs is a tcfsd; False also if it does not answer."""
    from sync.ipc.client import connected
    from sync.ipc.frames import Hello

    try:
        async with connected(env, paths.socket_path, Hello(role="cli")) as client:
            return bool((await client.call("engine", {})).get("is_daemon"))
    except TcfsError:
        return False


# ---- the background


class _Ready:
    """Tells the starter, through a pipe, that the daemon serves, or why it does not."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def done(self) -> None:
        self._tell(READY)

    def failed(self, error: TcfsError) -> None:
        self._tell(f"{error.exit_code} {error.message}\n{error.hint}".encode())

    def _tell(self, text: bytes) -> None:
        if self._fd is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._fd, text)
            os.close(self._fd)
            self._fd = None


def _start_in_background(paths: FleetPaths, settings: Settings, environ: Mapping[str, str]) -> None:
    """Forks twice. The starter ends with the exit code when the daemon serves; in the daemon this does not return."""
    ours, theirs = os.pipe()
    if os.fork():
        os.close(theirs)
        os._exit(_await_ready(ours, paths.log_dir))
    os.close(ours)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    _replace_standard_streams(paths.log_dir / "tcfsd.err")
    _log_to(paths, settings, [])
    code = 1
    try:
        code = run(RealEnv(environ, niceness=NICENESS), paths, settings, environ, _Ready(theirs))
    except BaseException:
        _log.exception("tcfsd ends for a reason that is a bug")
    finally:
        logging.shutdown()
        os._exit(code)


def _await_ready(fd: int, log_dir: Path) -> int:
    with os.fdopen(fd, "rb") as pipe:
        text = pipe.read()
    if text.startswith(READY):
        return 0
    failure, _, hint = text.decode(errors="replace").partition("\n")
    code, _, message = failure.partition(" ")
    print(f"tcfsd: {message or 'ended at once'} ({hint or f'see {log_dir / LOG_NAME}'})", file=sys.stderr)
    sys.stderr.flush()
    return int(code) if code.isdigit() else 1


def _log_to(paths: FleetPaths, settings: Settings, more: list[logging.Handler]) -> None:
    """To log/tcfsd.log of the state folder, whoever started us: the mount does too, with its stderr closed."""
    to_file = RotatingFileHandler(paths.log_dir / LOG_NAME, maxBytes=LOG_BYTES, backupCount=1)
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT, handlers=[to_file, *more])


def _replace_standard_streams(errors: Path) -> None:
    """stdin from nowhere; what libraries print goes to a file. Nothing of the starter stays open."""
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for fd, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(fd, target)
    os.close(null)
    os.close(out)


def _told(error: TcfsError) -> int:
    print(f"tcfsd: {_in_words(error)}", file=sys.stderr)
    return error.exit_code


def _in_words(error: TcfsError) -> str:
    return error.message + (f" ({error.hint})" if error.hint else "")


if __name__ == "__main__":
    main()
