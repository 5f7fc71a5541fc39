"""What is set aside when the redo log of tree.db is damaged: for a person to look at, as no program can put it right.

A folder `set-aside-<8 hex>` of the state folder holds the log as it was found, and under their numbers the work files
that no row names any more, and of the others what they hold outside of the ranges that their rows know: the content of
what was closed last, each byte at its place. Until all of it is there the folder is called `set-aside-<8 hex>.part`.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sync.core.ranges import RangeSet

PREFIX: Final = "set-aside-"
PART: Final = ".part"
_PIECE: Final = 1 << 20  # bytes
HINT: Final = "look whether anything is missing from the mount that is in there, then remove it"


def folders(state_dir: Path) -> list[Path]:
    """Those that nobody has removed yet."""
    return sorted(state_dir.glob(f"{PREFIX}*"))


def put_log(log: Path, stamp: bytes) -> Path:
    """Keep the bytes of a log whose records bear this stamp; where they are. OSError.

    To be called before tree.db gets another stamp, by which the damage could not be seen any more. Again after a kill.
    """
    folder = log.parent / f"{PREFIX}{stamp[:4].hex()}"
    if not folder.exists():
        folder = folder.with_name(folder.name + PART)
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(log, folder / log.name)
    return folder


def unfinished(state_dir: Path) -> Path | None:
    """The folder of a log that was put just now, or before a kill, which is to have files yet."""
    return next((folder for folder in reversed(folders(state_dir)) if folder.name.endswith(PART)), None)


def put_files(part: Path, files: Iterable[Path]) -> None:
    """Move work files there, but for empty ones, which go. part: what `unfinished` gave."""
    for file in files:
        if file.stat().st_size:
            file.rename(part / file.name)
        else:
            file.unlink()


def put_rest(part: Path, file: Path, known: RangeSet) -> None:
    """Copy what a work file holds outside of the ranges that its rows know to the same places of a file there.

    Zeros are left out, written or not. On the disk when it returns: some of it is to be cut off. What was put there
    before a kill stays: it may have been cut off already.
    """
    source, target = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), -1
    try:
        for place, size in _pieces(source, known):
            data = os.pread(source, size, place)
            if data.count(0) == len(data):
                continue
            if target < 0:
                target = os.open(part / file.name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.lseek(target, place, os.SEEK_SET)
            with open(target, "wb", closefd=False) as writer:
                writer.write(data)
        if target >= 0:
            os.fsync(target)
    finally:
        os.close(source)
        if target >= 0:
            os.close(target)


def _pieces(source: int, known: RangeSet) -> Iterator[tuple[int, int]]:
    """(place, size) of what a file has outside of these ranges, holes left out: it may be far larger than the disk."""
    size, at = os.fstat(source).st_size, 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole up to its end
            raise
        at = os.lseek(source, start, os.SEEK_HOLE)
        for gap_start, gap_end in known.gaps(start, at):
            for place in range(gap_start, gap_end, _PIECE):
                yield place, min(_PIECE, gap_end - place)


def finish(state_dir: Path) -> list[Path]:
    """All is there. The folders that somebody is to look into."""
    parts = [folder for folder in folders(state_dir) if folder.name.endswith(PART)]
    return [part.rename(part.with_name(part.name.removesuffix(PART))) for part in parts]
