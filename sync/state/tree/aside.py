"""What is set aside when the redo log of tree.db is damaged: for a person to look at, as no program can put it right.

A folder `set-aside-<8 hex>` of the state folder holds the log as it was found, and the work files that no row names any
more: the content of what was closed last. Until the mount has put them there it is called `set-aside-<8 hex>.part`.
"""

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


def put_files(state_dir: Path, files: Iterable[Path]) -> Path | None:
    """Move work files to where a log was put just now, but for empty ones, which go. None if there is no such log."""
    parts = [folder for folder in folders(state_dir) if folder.name.endswith(PART)]
    if not parts:
        return None
    part = parts[-1]
    for file in files:
        if file.stat().st_size:
            file.rename(part / file.name)
        else:
            file.unlink()
    for each in parts:
        each.rename(each.with_name(each.name.removesuffix(PART)))
    return part.with_name(part.name.removesuffix(PART))
