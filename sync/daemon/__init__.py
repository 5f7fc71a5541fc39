"""tcfsd: the engine of one fleet as a process of its own, with the mount beside it.

Few imports here: what serves (sync.daemon.serve, with asyncio and the engine) is imported once the mount process is on
its way, so that both read their code at the same time.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from sync.core.errors import BadConfig, TcfsError
from sync.daemon.ready import Ready, await_ready, in_words
from sync.env import NICENESS, Env, RealEnv
from sync.interpreter import calm_interpreter
from sync.machines.launch import Handed, MountProcess, start_mount_early
from sync.ours import foreign_packages
from sync.state.home import FleetPaths, Home
from sync.state.settings import Settings


def main(argv: list[str] | None = None) -> None:
    """The command tcfsd; its exit code is that of the first error, as for tcfs."""
    parser = argparse.ArgumentParser(
        "tcfsd", description="The daemon of tcfs: publishes, learns, fetches, keeps the mount."
    )
    parser.add_argument("--background", action="store_true", help="detach; returns when the socket answers")
    parser.add_argument("--fleet", help="the fleet, if this machine is in several: its name or id")
    parser.add_argument("--mount", type=int, metavar="FD", help="a pidfd of the mount process that was started for it")
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
        from sync.state.trouble import expected

        known = expected(error)
        if known is None:
            raise
        print(f"tcfsd: {in_words(known)}", file=sys.stderr)
        sys.exit(known.exit_code)
    if options.background:
        _run_in_background(paths, settings, environ, options.mount)
    env = RealEnv(environ, niceness=NICENESS)
    sys.exit(run(env, paths, settings, environ, Ready(None), options.mount, to_stderr=True))


def check_packages() -> None:
    """BadConfig if another distribution has overwritten a package of ours: then nothing is what it seems."""
    if wrong := foreign_packages():
        text = "; ".join(f"the package {name} {what}" for name, what in wrong.items())
        raise BadConfig(text, hint="install tcfs in an environment of its own: scripts/setup")


def run(
    env: Env,
    paths: FleetPaths,
    settings: Settings,
    environ: Mapping[str, str],
    ready: Ready,
    handed: int | None,
    *,
    to_stderr: bool,
) -> int:
    """Start the mount that is wanted, and serve; the exit code. 0 if another tcfsd serves this fleet already.

    handed: a pidfd of a mount process that is on its way already. to_stderr: the log goes there, too.
    """
    mount: MountProcess | None = None
    try:
        mount = start_mount_early(paths, environ) if handed is None else Handed(handed)
        from sync.memory import set_up_malloc

        set_up_malloc()
        from sync.daemon.serve import serve

        serve(env, paths, settings, environ, ready, mount, to_stderr=to_stderr)
    except Exception as error:
        from sync.daemon.log import log_end

        if mount is not None:
            mount.terminate()  # nobody would look after it
        known = log_end(env, paths, settings, error, to_stderr=to_stderr)
        if known is None:
            raise
        ready.failed(known)
        return known.exit_code
    finally:
        env.close()
    return 0


# ---- the background


def _run_in_background(
    paths: FleetPaths, settings: Settings, environ: Mapping[str, str], handed: int | None
) -> None:  # fmt: skip
    """Forks twice. The starter ends with the exit code when the daemon serves; in the daemon this does not return."""
    ours, theirs = os.pipe()
    if os.fork():
        os.close(theirs)
        os._exit(await_ready(ours, paths.log_dir))
    os.close(ours)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    _replace_standard_streams(paths.log_dir / "tcfsd.err")
    code = 1
    try:
        env = RealEnv(environ, niceness=NICENESS)
        code = run(env, paths, settings, environ, Ready(theirs), handed, to_stderr=False)
    finally:
        os._exit(code)


def _replace_standard_streams(errors: Path) -> None:
    """stdin from nowhere; what libraries print goes to a file. Nothing of the starter stays open."""
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for fd, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(fd, target)
    os.close(null)
    os.close(out)
