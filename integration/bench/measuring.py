"""The table, and what every side is measured with."""

import os
import random
import statistics
import sys
import time
from functools import partial
from pathlib import Path

from common import PAUSE_S, seconds, shell
from sides import drop_page_cache

# No package of s3ql is to be had where this was written: its figures over those of bindfs, both of another machine
# and a tree of the same shape. In the table they are this run's bindfs times that.
S3QL_TO_BINDFS = {
    "cp -a 10,000 files": 12 / 6.1,
    "untar 10,000 files": 27 / 7.5,
    "find -printf %s cold": 0.61,
    "find -printf %s warm": 0.50 / 0.39,
    "ls -lR cold": 1.3 / 2.2,
    "ls -lR warm": 1.2 / 2.0,
    "tar | cat cold": 23 / 3.2,
    "tar | cat warm": 1.8 / 2.3,
    "git status warm, 5,000 files": 0.41 / 0.32,
    "4 KiB random reads, local": 13 / 21,
}


class Row:
    """One line of the table: figures of each side, in the order they were taken."""

    def __init__(self, name: str, unit: str = "s") -> None:
        self.name, self.unit = name, unit
        self.figures: dict[str, list[float]] = {}

    def add(self, side: str, figure: float) -> None:
        self.figures.setdefault(side, []).append(figure)


class Measuring:
    def __init__(self, base: Path, runs: int, peers: bool) -> None:
        self.base, self.runs, self.peers = base, runs, peers
        self.rows: dict[str, Row] = {}
        self.tree, self.big = base / "tree", base / "big"
        self.serial = 0

    def row(self, name: str, side: str, figure: float, unit: str = "s") -> None:
        self.rows.setdefault(name, Row(name, unit)).add(side, figure)
        print(f"  {name:44s} {side:8s} {figure:10.3f} {unit}", file=sys.stderr, flush=True)

    def fresh(self, name: str) -> Path:
        self.serial += 1
        path = self.base / f"{name}{self.serial}"
        path.mkdir()
        return path

    def warm_source(self) -> None:
        """What is copied is in memory, on every side: the rows compare the writing."""
        shell("tar c . | cat", self.tree)

    def reading_rows(self, side: str, root: Path) -> None:
        shell("find . -printf '%s\\n'; ls -lR >/dev/null; tar c . | cat", root)
        lines = {"find -printf %s": "find . -printf '%s\\n'", "ls -lR": "ls -lR", "tar | cat": "tar c . | cat"}
        for name, line in lines.items():
            time.sleep(PAUSE_S)
            self.row(f"{name} warm", side, seconds(partial(shell, line, root)))

    def cold_rows(self, side: str, root: Path) -> None:
        self.row("find -printf %s cold", side, seconds(lambda: shell("find . -printf '%s\\n'", root)))
        drop_page_cache()
        self.row("ls -lR cold", side, seconds(lambda: shell("ls -lR", root)))
        self.row("tar | cat cold", side, seconds(lambda: shell("tar c . | cat", root)))

    def archive(self) -> Path:
        """The tree as one file."""
        archive = self.base / "tree.tar"
        if not archive.exists():
            shell(f"tar cf {archive} .", self.tree)
        return archive

    def random_reads(self, path: Path, count: int = 4000) -> float:
        """Reads of 4 KiB at random places past the kernel's cache (O_DIRECT), a second."""
        pages = path.stat().st_size // 4096
        places = random.Random(1)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        buffer = memoryview(__import__("mmap").mmap(-1, 4096))
        try:
            start = time.perf_counter()
            for _ in range(count):
                os.preadv(fd, [buffer], places.randrange(pages) * 4096)
            return count / (time.perf_counter() - start)
        finally:
            os.close(fd)

    def table(self) -> None:
        for row in self.rows.values():
            if row.name in S3QL_TO_BINDFS and (bindfs := row.figures.get("bindfs")):
                row.add("s3ql, by ratio", statistics.median(bindfs) * S3QL_TO_BINDFS[row.name])
        sides = list(dict.fromkeys(side for row in self.rows.values() for side in row.figures if side != "tcfs"))
        print(f"\n| row | {' | '.join(sides)} | tcfs | min-max | ratio to others |")
        print("|" + "---|" * (len(sides) + 4))
        for row in self.rows.values():
            medians = {side: statistics.median(f) for side, f in row.figures.items()}
            ours = row.figures.get("tcfs", [])
            cells = [f"{medians[s]:.3g}" if s in medians else "" for s in sides]
            ratio = ", ".join(f"{medians['tcfs'] / medians[s]:.2f} x {s}" for s in sides if s in medians and ours)
            spread = f"{min(ours):.3g}-{max(ours):.3g}" if ours else ""
            mine = f"{medians['tcfs']:.3g} {row.unit}" if ours else ""
            print(f"| {row.name} | {' | '.join(cells)} | {mine} | {spread} | {ratio} |")
