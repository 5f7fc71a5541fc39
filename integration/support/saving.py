"""How editors and tools save a file, as its calls look to a file system."""

import os
import shutil
from pathlib import Path


def save_in_place(file: Path, text: str) -> None:
    """VS Code."""
    with file.open("r+") as opened:
        opened.truncate(0)
        opened.write(text)


def save_by_rename(file: Path, text: str) -> None:
    """Kate and everything that has QSaveFile."""
    temp = file.with_name(f"{file.name}.aB3xYz")
    with temp.open("x") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    shutil.copymode(file, temp)
    temp.rename(file)


def save_with_backup(file: Path, text: str) -> None:
    """emacs, and vim with backupcopy=no: the old file gets another name, and a new one takes its place."""
    backup = file.with_name(f"{file.name}~")
    file.rename(backup)
    file.write_text(text)
    shutil.copymode(backup, file)


def save_safely(file: Path, text: str) -> None:
    """The IDEs of JetBrains: the new one beside it, the old one away, the new one there, the old one gone."""
    new, old = (file.with_name(f"{file.name}___jb_{what}___") for what in ("tmp", "old"))
    new.write_text(text)
    shutil.copymode(file, new)
    file.rename(old)
    new.rename(file)
    old.unlink()


def save_with_a_lock(file: Path, text: str) -> None:
    """LibreOffice: a lock file while it is open, a temp file for saving."""
    lock = file.with_name(f".~lock.{file.name}#")
    lock.write_text("who and when")
    save_by_rename(file, text)
    lock.unlink()


def save_like_gnome(file: Path, text: str) -> None:
    """gedit: a temp file with a name that stays on this machine, renamed to one that does not."""
    temp = file.with_name(".goutputstream-QX81Y2")
    temp.write_text(text)
    shutil.copymode(file, temp)
    temp.rename(file)


SAVES = (save_in_place, save_by_rename, save_with_backup, save_safely, save_with_a_lock, save_like_gnome)
