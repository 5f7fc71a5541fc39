"""What is set aside when the redo log of tree.db is damaged: for a person to look at, as no program can put it right.

A folder `set-aside-<8 hex>` of the state folder holds the log as it was found, and under their numbers the work files
that no row names any more, and of those that one names what is longer than it says: the content of what was closed
last, each byte at its place. Until the mount has put it all there it is called `set-aside-<8 hex>.part`.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PREFIX: Final = "set-aside-"
PART: Final = ".part"
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


def put_tail(part: Path, file: Path, start: int) -> None:
    """Copy bytes from `start` on, to the same place of a file there. On the disk when it returns: they will go."""
    with file.open("rb") as source, (part / file.name).open("wb") as target:
        source.seek(start)
        target.seek(start)
        shutil.copyfileobj(source, target)
        target.flush()
        os.fsync(target.fileno())


def finish(state_dir: Path) -> list[Path]:
    """All is there. The folders that somebody is to look into."""
    parts = [folder for folder in folders(state_dir) if folder.name.endswith(PART)]
    return [part.rename(part.with_name(part.name.removesuffix(PART))) for part in parts]
