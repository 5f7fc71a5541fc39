"""What people and programs see: data on stdout, progress and trouble on stderr, JSON of one shape."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from sync.core.errors import TcfsError

if TYPE_CHECKING:
    from sync.env import Env

SHOWN_MAX = 241  # characters of a path
REDRAW_S = 0.1  # between two states of the progress line
_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


class Out:
    """Prints one verb's result. With as_json stdout gets exactly one JSON object, at the end."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    @property
    def shows_progress(self) -> bool:
        return not self.as_json and sys.stderr.isatty()

    def data(self, data: Any, lines: Iterable[str] = ()) -> None:
        """The result: `data` for programs, `lines` for people."""
        if self.as_json:
            click.echo(_json({"ok": True, "data": data}))
            return
        for line in lines:
            click.echo(printable(line))

    def say(self, text: str) -> None:
        """A note on stderr: never data."""
        for line in text.splitlines():
            click.echo(printable(line), err=True)

    def failed(self, error: TcfsError, data: Any = None, lines: Iterable[str] = ()) -> int:
        """The failure of a verb, after what it could say; returns the exit code."""
        for line in () if self.as_json else lines:
            click.echo(printable(line))
        text = error.message
        if error.path and error.path not in text:
            text = f"{error.path}: {text}"
        return self.fail(error.code, text, error.hint, error.exit_code, data)

    def fail(self, code: str, message: str, hint: str = "", exit_code: int = 1, data: Any = None) -> int:
        if self.as_json:
            shape: dict[str, Any] = {"ok": False, "error": {"code": code, "message": message, "hint": hint}}
            if data is not None:
                shape["data"] = data
            click.echo(_json(shape))
        else:
            # one line, whatever a path in it holds
            self.say(printable(f"tcfs: {message}" + (f" ({hint})" if hint else "")))
        return exit_code


class ProgressLine:
    """One line on stderr that is drawn over itself; nothing where stderr is no terminal.

    Called with {'files', 'files_total', 'bytes', 'bytes_total'} (any may be missing) as the work goes on.
    """

    def __init__(self, env: "Env", out: Out, verb: str) -> None:
        self._env = env
        self._verb = verb
        self._shows = out.shows_progress
        self._began = env.monotonic()
        self._drawn = 0.0
        self._width = 0

    def __call__(self, data: dict[str, Any]) -> None:
        now = self._env.monotonic()
        if self._shows and now - self._drawn >= REDRAW_S:
            self._drawn = now
            self._draw(progress_text(self._verb, data, now - self._began))

    def close(self) -> None:
        """Wipes the line."""
        if self._width:
            self._draw("")
            click.echo("\r", nl=False, err=True)

    def _draw(self, text: str) -> None:
        click.echo("\r" + text.ljust(self._width), nl=False, err=True)
        self._width = len(text)


def progress_text(verb: str, data: dict[str, Any], elapsed_s: float) -> str:
    """`push 12/40 files, 3.1 MiB of 9.0 MiB, 1.5 MiB/s, 4 s left`: what is known of it."""
    done, total = int(data.get("bytes", 0)), int(data.get("bytes_total", 0))
    files, files_total = int(data.get("files", 0)), int(data.get("files_total", 0))
    parts = [f"{verb} {files}/{files_total} files" if files_total else f"{verb} {files} files"]
    parts.append(f"{size_text(done)} of {size_text(total)}" if total else size_text(done))
    if elapsed_s > 0 and done:
        rate = done / elapsed_s
        parts.append(f"{size_text(int(rate))}/s")
        if total > done:
            parts.append(f"{(total - done) / rate:.0f} s left")
    return ", ".join(parts)


def size_text(count: int) -> str:
    """A number of bytes for people: '17 B', '1.5 MiB'."""
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, len(_UNITS))
    return f"{count / 1024**power:.1f} {_UNITS[power - 1]}"


def time_text(seconds: int) -> str:
    """A moment, in this machine's time zone: 2025-01-31 17:05."""
    import datetime

    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shortened(text: str) -> str:
    """A path for a line among others: of a very long one the middle is left out."""
    if len(text) <= SHOWN_MAX:
        return text
    half = (SHOWN_MAX - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns two blanks apart, as wide as their widest cell; what a row ends with is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_row(row, widths) for row in rows]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Blanks at its end are those of the last cell: a name may end with some."""
    last = max((index for index, cell in enumerate(cells) if cell), default=0)
    return "  ".join([*(cell.ljust(width) for cell, width in zip(cells[:last], widths, strict=False)), cells[last]])


def printable(text: str) -> str:
    """A name as one line: control characters (a file name may hold any) and lone surrogates are shown escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)


def _json(data: Any) -> str:
    import json

    return json.dumps(data, ensure_ascii=False)
