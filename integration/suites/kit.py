"""What the suites of others share: running a program, Debian's packages and sources, what came out."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
TOOK_TOO_LONG = 124  # the exit code of timeout(1)
SOURCES = "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {} main\n"


class Outcome(NamedTuple):
    """How many tests have run of each part, and which of them have failed, with the words of the program."""

    ran: dict[str, int]
    failed: dict[str, str]


Side = Callable[[Path], Outcome]  # a suite that is ready, to be run in an empty folder of either side
Suite = Callable[
    [list[str]], AbstractContextManager[Side]
]  # makes it ready; given: patterns of what is to be run of it


class Done(NamedTuple):
    """A program has ended."""

    code: int
    text: str


def run(command: Sequence[str], *, timeout: float, cwd: Path | None = None, env: dict[str, str] | None = None) -> Done:
    """Both its outputs, and its exit code; one that takes longer than `timeout` seconds is ended: TOOK_TOO_LONG."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        text, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        text, _ = process.communicate()
        return Done(TOOK_TOO_LONG, f"{text}\nnot within {timeout:.0f} s")
    return Done(process.returncode, text)


def install(*packages: str) -> None:
    subprocess.run([str(ROOT / "scripts" / "tools"), *packages], check=True)


def chosen(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Those of the names that one of the patterns matches; all of them if there is no pattern."""
    return [name for name in names if not patterns or any(fnmatch(name, pattern) for pattern in patterns)]


@contextmanager
def debian_source(package: str) -> Iterator[Path]:
    """The unpacked upstream sources of a package of this Debian, gone behind it. apt's settings stay as they are."""
    with tempfile.TemporaryDirectory(prefix="tcfs-source-") as name:
        place = Path(name)
        place.chmod(0o755)
        release = run(["sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME"], timeout=10).text.strip()
        (place / "sources").write_text(SOURCES.format(release))
        for below in ("lists/partial", "cache/archives/partial"):
            (place / below).mkdir(parents=True)
        apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={place}/sources", "-o", "Dir::Etc::sourceparts=/dev/null"]
        apt += ["-o", f"Dir::State::lists={place}/lists", "-o", f"Dir::Cache={place}/cache"]
        for step in ([*apt, "update"], [*apt, "source", "--download-only", package]):
            subprocess.run(step, cwd=place, check=True, capture_output=True)
        (archive,) = place.glob(f"{package}_*.orig.tar.*z")
        (place / "unpacked").mkdir()
        subprocess.run(["tar", "-C", str(place / "unpacked"), "-xf", str(archive)], check=True)
        (source,) = (place / "unpacked").iterdir()
        yield source
