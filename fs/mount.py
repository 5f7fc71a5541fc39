"""The mount process: `python -P -m fs.mount`, with cwd / and no argument.

    TCFS_HOME, XDG_*     where the fleet's files are
    TCFS_FLEET           which fleet, if there are several: name or id
    TCFS_MOUNTPOINT      where, instead of what fleet.toml says
    TCFS_START_DAEMON    0: do not start a dead tcfsd
    TCFS_NO_KERNEL_CACHE 1: the kernel keeps nothing, as if fleet.toml said so

It ends, with everything closed sealed and the mount gone, on SIGTERM, SIGINT, SIGHUP and when somebody unmounts it.
Exit codes are those of the CLI. Errors go to log/mount.log of the state folder, and to stderr until the mount stands.

What serves requests, with trio and pyfuse3, is imported when it is clear that there will be a mount: see fs.serve.
"""

import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from fs import mountpoint
from fs.options import Options
from sync.core.errors import TcfsError
from sync.env import RealEnv
from sync.interpreter import calm_interpreter

LOG_BYTES = 5 * 1024 * 1024

log = logging.getLogger("fs.mount")  # __name__ is __main__


def main() -> int:
    """Mount and serve until it ends; the exit code."""
    calm_interpreter()
    try:
        options = Options.from_environ(os.environ)
        options.paths.make_dirs()
        _log_to(options.log_file, options.log_level)
        with mountpoint.only_mount(options.paths.mount_lock, options.mountpoint):
            mountpoint.prepare(options.mountpoint)
            from fs.serve import serve

            serve(RealEnv(), options)
    except TcfsError as error:
        log.error("%s", error)
        print(f"tcfs mount: {error}{f' ({error.hint})' if error.hint else ''}", file=sys.stderr)
        return error.exit_code
    return 0


def _log_to(path: Path, level: str) -> None:
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("pyfuse3").setLevel(max(logging.INFO, logging.getLogger().level))


if __name__ == "__main__":
    sys.exit(main())
