"""Rows that are measured the same way on every side."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import PAUSE_S, first_bytes, seconds, sh, shell
from measuring import Measuring
from sides import Side, sides

SMALL_FILES, SMALL = 5_000, 4096  # of one folder, bytes
LONG_LISTING = 100_000  # entries of one folder


def small_rows(bench: Measuring) -> None:
    """One folder of small files, through system calls alone."""
    for side in sides(bench.base / "sides", peers=bench.peers):
        with side:
            _small_files(bench, side)


def _small_files(bench: Measuring, side: Side) -> None:
    def each(folder: Path, action: Callable[[str], object]) -> float:
        paths = [str(folder / f"file-{number:05d}") for number in range(SMALL_FILES)]
        return seconds(lambda: [action(path) for path in paths]) / SMALL_FILES * 1e6

    def create(path: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, content)
        os.close(fd)

    def read(path: str) -> None:
        fd = os.open(path, os.O_RDONLY)
        assert len(os.read(fd, SMALL + 1)) == SMALL
        os.close(fd)

    content = os.urandom(SMALL)
    folder = side.root / "small"
    folder.mkdir()
    bench.row("create + write 4 KiB + close", side.name, each(folder, create), "us")
    side.settle()
    time.sleep(PAUSE_S)
    for name, action in (("stat", os.stat), ("open + read 4 KiB + close", read)):
        each(folder, action)
        bench.row(f"{name}, warm", side.name, each(folder, action), "us")
    there = side.cold() / "small"
    bench.row("stat, cold", side.name, each(there, os.stat), "us")
    bench.row("open + read 4 KiB + close, cold", side.name, each(there, read), "us")


def listing_rows(bench: Measuring) -> None:
    for side in sides(bench.base / "sides", peers=bench.peers):
        if side.name == "pyfuse3":
            continue  # the example lists the folder anew for each buffer of the kernel: minutes
        with side:
            folder = side.root / "long"
            folder.mkdir()
            for number in range(LONG_LISTING):
                (folder / f"entry-{number:06d}").touch()
            side.settle()
            bench.row("readdir of 100,000, warm", side.name, seconds(lambda at=folder: len(os.listdir(at))))
            there = side.cold() / "long"
            bench.row("readdir of 100,000, cold", side.name, seconds(lambda at=there: len(os.listdir(at))))


def clone_rows(bench: Measuring) -> None:
    repo = bench.base / "repo.git"
    if not repo.exists():
        git = f"git --git-dir={repo} --work-tree={bench.tree}"
        shell(f"{git} init -q && {git} add . && {git} -c user.name=b -c user.email=b@b commit -qm b", bench.tree)
    for side in sides(bench.base / "sides", peers=bench.peers):
        with side:
            clone = f"git -c core.bare=false clone -q --no-hardlinks {repo} {side.root}/clone"
            try:
                bench.row("git clone, 10,000 files", side.name, seconds(partial(shell, clone, bench.base)))
            except subprocess.CalledProcessError as error:
                if side.name == "tcfs":
                    raise
                print(f"  no git clone on {side.name}: {error}", file=sys.stderr)  # seen with bindfs, once
                continue
            side.settle()
            status = f"git -C {side.root}/clone status --short"
            shell(status, bench.base)
            time.sleep(PAUSE_S)
            shell(status, bench.base)
            bench.row("git status in a clone, warm", side.name, seconds(partial(shell, status, bench.base)))


def peer_rows(bench: Measuring) -> None:
    """The rows of the tree and of 1 GiB for the sides that the other groups leave out."""
    for side in sides(bench.base / "sides", peers=bench.peers):
        if side.name in ("pyfuse3", "juicefs", "juicefs, S3", "weed"):
            with side:
                _peer_tree(bench, side)
                _peer_large(bench, side)


def _peer_tree(bench: Measuring, side: Side) -> None:
    bench.warm_source()
    bench.row("cp -a 10,000 files", side.name, seconds(lambda: sh("cp", "-a", bench.tree, side.root / "t")))
    bench.reading_rows(side.name, side.root / "t")
    bench.cold_rows(side.name, side.cold() / "t")
    target = side.root / "u"
    target.mkdir()
    archive = bench.archive()
    bench.row("untar 10,000 files", side.name, seconds(lambda: shell(f"tar xf {archive}", target)))


def _peer_large(bench: Measuring, side: Side) -> None:
    shell(f"cat {bench.big} > /dev/null", bench.base)
    write = f"dd if={bench.big} of={side.root}/big bs=1M conv=fsync status=none"
    took = seconds(lambda: shell(write, bench.base))
    bench.row("write 1 GiB + fsync", side.name, took)
    if side.name != "pyfuse3":
        bench.row("write 1 GiB until in the store", side.name, took)  # their fsync waits for the store
    there = side.cold() / "big"
    bench.row("first 4 KiB of a cold 1 GiB file", side.name, seconds(lambda: first_bytes(there)) * 1e3, "ms")
    side.cold()
    read = f"dd if={there} of=/dev/null bs=1M status=none"
    bench.row("read 1 GiB cold", side.name, seconds(lambda: shell(read, bench.base)))
    bench.row("read 1 GiB warm", side.name, seconds(lambda: shell(read, bench.base)))
    if side.name != "pyfuse3":  # the example does not survive O_DIRECT
        bench.row("4 KiB random reads, local", side.name, bench.random_reads(there), "IOPS")
