"""What the starter of a daemon in the background hears of it."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

from sync.core.errors import TcfsError

LOG_NAME: Final = "tcfsd.log"

_READY: Final = b"ready\n"


class Ready:
    """Tells the starter, through a pipe, that the daemon serves, or why it does not."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def done(self) -> None:
        self._tell(_READY)

    def failed(self, error: TcfsError) -> None:
        self._tell(f"{error.exit_code} {error.message}\n{error.hint}".encode())

    def _tell(self, text: bytes) -> None:
        if self._fd is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._fd, text)
            os.close(self._fd)
            self._fd = None


def await_ready(fd: int, log_dir: Path) -> int:
    """The exit code of the starter, once the daemon serves or has said why it does not; that goes to stderr."""
    with os.fdopen(fd, "rb") as pipe:
        text = pipe.read()
    if text.startswith(_READY):
        return 0
    failure, _, hint = text.decode(errors="replace").partition("\n")
    code, _, message = failure.partition(" ")
    print(f"tcfsd: {message or 'ended at once'} ({hint or f'see {log_dir / LOG_NAME}'})", file=sys.stderr)
    sys.stderr.flush()
    return int(code) if code.isdigit() else 1


def in_words(error: TcfsError) -> str:
    return error.message + (f" ({error.hint})" if error.hint else "")
