"""fsck over the machines of workerkit: a small fleet that has published, and what is said of it."""

from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import TypeVar

from workerkit import FLEET_ID, Fleet, Machine, run

from sync.state.home import FleetPaths, Home
from sync.worker.fsck import Finding, Tally, fsck

T = TypeVar("T")


def paths_of(machine: Machine) -> FleetPaths:
    """Where workerkit keeps the files of a machine."""
    folder = machine.folder
    paths = Home.from_environ({"TCFS_HOME": str(folder / "tcfs")}).new_fleet(FLEET_ID)
    paths.fleet_db, paths.tree_db = folder / "fleet.db", folder / "tree.db"
    paths.work_dir, paths.cache_dir = folder / "work", folder / "cache"
    paths.mount_lock = folder / "mount.lock"
    return paths


class Two:
    """yoga has pushed a tree in two steps, bates has learned it, pulled it and answered with one file."""

    def __init__(self, root: Path) -> None:
        self.fleet = Fleet(root)
        self.yoga, self.bates = self.fleet.machine("yoga"), self.fleet.machine("bates")
        self.objects = self.fleet.memory.objects
        self.do(self._fill())

    async def _fill(self) -> None:
        for number in range(4):
            self.yoga.write(f"docs/f{number}", bytes([number]) * 700 + b"end")
        self.yoga.write("large", bytes(range(256)) * 200)
        await self.yoga.push("docs")
        await self.yoga.push("large")
        await self.bates.learner.learn()
        await self.bates.content("docs/f1")
        self.bates.write("reply", "from bates, with a few words")
        await self.bates.push("reply")
        await self.yoga.learner.learn()

    def do(self, work: Awaitable[T]) -> T:
        return run(work, self.fleet.clock)

    def fsck(self, machine: Machine | None = None, *, deep: bool = False, tally: Tally | None = None) -> list[Finding]:
        machine = machine or self.bates
        return self.do(fsck(machine.context, paths_of(machine), deep=deep, tally=tally))

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))

    def close(self) -> None:
        self.fleet.close()


def damaged(data: bytes, how: str) -> bytes:
    """how: 'flip' the middle, 'cut' in half."""
    middle = len(data) // 2
    return data[:middle] if how == "cut" else data[:middle] + bytes([data[middle] ^ 0x40]) + data[middle + 1 :]


def made(tmp_path: Path) -> Iterator[Two]:
    """The body of a fixture."""
    two = Two(tmp_path)
    yield two
    two.close()
