"""A disk that loses what was not synced."""

import shutil
from pathlib import Path

from treekit import Machine


class Disk:
    """What the disk has of tree.db: its last sync. Work files are there as they were left."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self._machine = machine
        self._folder = folder
        self.removable: list[str | int] = []
        machine.tree.overlay.remove = self.removable.extend

    def is_synced(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        for path in self._machine.paths.state_dir.glob("tree.db*"):
            shutil.copy(path, self._folder)

    def cut_power(self) -> None:
        self._machine.tree.abandon()
        for path in self._machine.paths.state_dir.glob("tree.db*"):
            path.unlink()
        for path in self._folder.iterdir():
            if path.suffix != ".db-shm":
                shutil.copy(path, self._machine.paths.state_dir)
        self._machine.restart(boot="boot-2")
