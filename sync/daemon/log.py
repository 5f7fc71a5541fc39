"""The log of tcfsd."""

import logging
import sys
from logging.handlers import RotatingFileHandler
from typing import Final

from sync.core.errors import TcfsError
from sync.daemon.ready import LOG_NAME, in_words
from sync.env import Env
from sync.state.home import FleetPaths
from sync.state.settings import Settings
from sync.state.trouble import explained

LOG_BYTES: Final = 5 << 20  # of one file; the one before is kept
LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_log = logging.getLogger("tcfs.daemon")


def log_to(paths: FleetPaths, settings: Settings, *, to_stderr: bool) -> None:
    """To log/tcfsd.log of the state folder, whoever started us: the mount does too, with its stderr closed.

    Nothing happens the second time.
    """
    if logging.getLogger().handlers:
        return
    to_file = RotatingFileHandler(paths.log_dir / LOG_NAME, maxBytes=LOG_BYTES, backupCount=1)
    more = [logging.StreamHandler(sys.stderr)] if to_stderr else []
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT, handlers=[to_file, *more])


def log_end(env: Env, paths: FleetPaths, settings: Settings, error: Exception, *, to_stderr: bool) -> TcfsError | None:
    """Log why tcfsd ends; as an error that a person can do something about, None for a bug."""
    log_to(paths, settings, to_stderr=to_stderr)
    known = explained(env, paths, error)
    if known is None:
        _log.error("tcfsd ends for a reason that is a bug", exc_info=error)
    else:
        _log.error("%s", in_words(known))
    return known
