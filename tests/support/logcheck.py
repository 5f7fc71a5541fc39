"""Look through the logs of real processes: a warning, an error or a traceback that nobody expected fails the test."""

import re
from collections.abc import Iterable
from pathlib import Path

_TROUBLE = re.compile(
    r"\b(WARNING|ERROR|CRITICAL)\b|^Traceback \(most recent call last\)|Exception ignored in|never awaited"
)


def trouble_in(text: str, allowed: Iterable[str] = ()) -> list[str]:
    """The lines that tell of trouble, but for those in which one of the patterns `allowed` is found."""
    expected = [re.compile(pattern) for pattern in allowed]
    return [
        line
        for line in text.splitlines()
        if _TROUBLE.search(line) and not any(pattern.search(line) for pattern in expected)
    ]


def check_logs(folder: Path, allowed: Iterable[str] = ()) -> None:
    """AssertionError that names each line of trouble in the *.log files below `folder`."""
    found = [
        f"{log.relative_to(folder)}: {line}"
        for log in sorted(folder.rglob("*.log"))
        for line in trouble_in(log.read_text(errors="replace"), allowed)
    ]
    assert not found, "unexpected in the logs:\n" + "\n".join(found)
