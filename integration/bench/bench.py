"""scripts/bench: medians and ratios of the mount and of push and pull, against others on this machine in one run.

Cold means: cache folder removed, page cache dropped, both sides mounted anew. Every row is run `--runs` times, ours and
theirs in turn, and the medians are compared, because a shared machine drifts. Nothing here is a test.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import side_rows
from common import GIB, PAUSE_S, first_bytes, put_away, seconds, sh, shell
from fleetkit import FUSE, Machine, poll
from measuring import Measuring
from sides import drop_page_cache

FILES, LARGEST = 10_000, 64 << 10
GROUPS = ["push", "tree", "untar", "git", "large", "small", "listing", "clone", "peer"]
TREE_SOURCES = ["/usr/include", "/usr/lib/python3", "/usr/lib/python3.11", "/usr/share", "/usr/lib"]


def make_tree(root: Path) -> None:
    """10,000 real small files of this machine in their folders."""
    count = 0
    for top in TREE_SOURCES:
        for folder, _, names in os.walk(top):
            for name in sorted(names):
                source = Path(folder, name)
                if source.is_symlink() or not source.is_file() or not 0 < source.stat().st_size <= LARGEST:
                    continue
                target = root / str(source).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    continue
                shutil.copy2(source, target)
                count += 1
                if count == FILES:
                    return


def make_random(path: Path, size: int) -> None:
    with path.open("wb") as out:
        for _ in range(size >> 22):
            out.write(os.urandom(4 << 20))


class Bench(Measuring):
    # ---- places

    @contextlib.contextmanager
    def bindfs(self) -> Iterator[Path]:
        source, where = self.fresh("bindsrc"), self.fresh("bindmnt")
        sh("bindfs", source, where)
        try:
            yield where
        finally:
            sh("fusermount3", "-u", where)
            put_away(source)

    @contextlib.contextmanager
    def rebind(self, source: Path) -> Iterator[Path]:
        where = self.fresh("bindmnt")
        sh("bindfs", source, where)
        try:
            yield where
        finally:
            sh("fusermount3", "-u", where)

    @contextlib.contextmanager
    def machines(self) -> Iterator[tuple[Machine, Machine]]:
        base = self.fresh("fleet")
        yoga, bates = Machine(base / "yoga", "yoga"), Machine(base / "bates", "bates")
        try:
            yoga.init(base / "store")
            bates.init(base / "store", key_from=yoga)
            yield yoga, bates
        finally:
            yoga.destroy()
            bates.destroy()
            put_away(base)

    def cold(self, machine: Machine) -> None:
        machine.run("down", expect=None)
        put_away(machine.home / "cache")
        drop_page_cache()
        machine.up()

    # ---- groups of rows

    def tree_rows(self) -> None:
        ext4 = self.fresh("ext4")
        self.warm_source()
        self.row("cp -a 10,000 files", "ext4", seconds(lambda: sh("cp", "-a", self.tree, ext4 / "t")))
        with self.bindfs() as where:
            self.warm_source()
            self.row("cp -a 10,000 files", "bindfs", seconds(lambda: sh("cp", "-a", self.tree, where / "t")))
            self.reading_rows("bindfs", where / "t")
        with self.rebind(ext4) as where:
            drop_page_cache()
            self.cold_rows("bindfs", where / "t")
        self.reading_rows("ext4", ext4 / "t")
        drop_page_cache()
        self.cold_rows("ext4", ext4 / "t")
        with self.machines() as (yoga, bates):
            yoga.up()
            self.warm_source()
            start = time.perf_counter()
            sh("cp", "-a", self.tree, yoga.mountpoint / "t")
            self.row("cp -a 10,000 files", "tcfs", time.perf_counter() - start)
            yoga.run("wait", timeout=600)
            self.row("cp -a 10,000 files until in the store", "tcfs", time.perf_counter() - start)
            self.reading_rows("tcfs", yoga.mountpoint / "t")
            bates.up()
            count = sum(1 for _ in self.tree.rglob("*"))
            poll(lambda: sum(1 for _ in (bates.mountpoint / "t").rglob("*")) == count, 60, "the tree on bates")
            self.cold(bates)
            self.cold_rows("tcfs", bates.mountpoint / "t")
        put_away(ext4)

    def untar_rows(self) -> None:
        archive = self.archive()
        ext4 = self.fresh("ext4")
        self.row("untar 10,000 files", "ext4", seconds(lambda: shell(f"tar xf {archive}", ext4)))
        with self.bindfs() as where:
            self.row("untar 10,000 files", "bindfs", seconds(lambda: shell(f"tar xf {archive}", where)))
        with self.machines() as (yoga, _):
            yoga.up()
            self.row("untar 10,000 files", "tcfs", seconds(lambda: shell(f"tar xf {archive}", yoga.mountpoint)))
        put_away(ext4)

    def git_rows(self) -> None:
        def prepare(root: Path) -> Callable[[], None]:
            work = root / "repo"
            shell(f"mkdir {work} && cd {self.tree} && find . -type f | head -5000 | tar c -T - | tar x -C {work}", root)
            git = f"git --git-dir={self.fresh('git')} --work-tree={work}"
            shell(f"{git} init -q && {git} add . && {git} -c user.name=b -c user.email=b@b commit -qm b", work)
            time.sleep(1.1)  # what is as new as the index is hashed at every status
            shell(f"{git} update-index -q --refresh && {git} status --short", work)
            return lambda: shell(f"{git} status --short", work)

        def measure(side: str, action: Callable[[], None]) -> None:
            action()
            time.sleep(PAUSE_S)
            self.row("git status warm, 5,000 files", side, seconds(action))

        ext4 = self.fresh("ext4")
        measure("ext4", prepare(ext4))
        with self.bindfs() as where:
            measure("bindfs", prepare(where))
        with self.machines() as (yoga, _):
            yoga.up()
            action = prepare(yoga.mountpoint)
            yoga.run("wait", timeout=300)
            measure("tcfs", action)
        put_away(ext4)

    def large_rows(self) -> None:
        write = "dd if={} of={} bs=1M conv=fsync status=none"
        read = "dd if={} of=/dev/null bs=1M status=none"
        ext4 = self.fresh("ext4")
        shell(f"cat {self.big} > /dev/null", self.base)
        self.row("write 1 GiB + fsync", "ext4", seconds(lambda: shell(write.format(self.big, ext4 / "big"), ext4)))
        drop_page_cache()
        self.row("read 1 GiB cold", "ext4", seconds(lambda: shell(read.format(ext4 / "big"), ext4)))
        self.row("read 1 GiB warm", "ext4", seconds(lambda: shell(read.format(ext4 / "big"), ext4)))
        self.row("4 KiB random reads, local", "ext4", self.random_reads(ext4 / "big"), "IOPS")
        with self.rebind(ext4) as where:
            drop_page_cache()
            self.row("read 1 GiB cold", "bindfs", seconds(lambda: shell(read.format(where / "big"), ext4)))
            self.row("read 1 GiB warm", "bindfs", seconds(lambda: shell(read.format(where / "big"), ext4)))
            self.row("4 KiB random reads, local", "bindfs", self.random_reads(where / "big"), "IOPS")
        if rclone := shutil.which("rclone"):
            self.rclone_rows(rclone, ext4, read)
        with self.machines() as (yoga, bates):
            yoga.up()
            shell(f"cat {self.big} > /dev/null", self.base)
            start = time.perf_counter()
            shell(write.format(self.big, yoga.mountpoint / "big"), self.base)
            self.row("write 1 GiB + fsync", "tcfs", time.perf_counter() - start)
            yoga.run("wait", timeout=300)
            self.row("write 1 GiB until in the store", "tcfs", time.perf_counter() - start)
            bates.up()
            there = bates.mountpoint / "big"
            poll(lambda: there.exists(), 30, "the file on bates")
            self.cold(bates)
            self.row("first 4 KiB of a cold 1 GiB file", "tcfs", seconds(lambda: first_bytes(there)) * 1e3, "ms")
            self.cold(bates)
            self.row("read 1 GiB cold", "tcfs", seconds(lambda: shell(read.format(there), self.base)))
            self.row("read 1 GiB warm", "tcfs", seconds(lambda: shell(read.format(there), self.base)))
            self.row("4 KiB random reads, local", "tcfs", self.random_reads(there), "IOPS")
            for row, is_cold in (("process start to first listing", False), ("… with nothing in the page cache", True)):
                bates.run("down")
                if is_cold:
                    drop_page_cache()
                self.row(row, "tcfs", seconds(lambda: (bates.up(), os.listdir(bates.mountpoint))))
        put_away(ext4)

    def rclone_rows(self, rclone: str, source: Path, read: str) -> None:
        with self.rclone(rclone, source) as where:
            self.row(
                "first 4 KiB of a cold 1 GiB file", "rclone", seconds(lambda: first_bytes(where / "big")) * 1e3, "ms"
            )
        with self.rclone(rclone, source) as where:  # anew: the first bytes have brought half the file
            self.row("read 1 GiB cold", "rclone", seconds(lambda: shell(read.format(where / "big"), self.base)))
            self.row("read 1 GiB warm", "rclone", seconds(lambda: shell(read.format(where / "big"), self.base)))
            self.row("4 KiB random reads, local", "rclone", self.random_reads(where / "big"), "IOPS")

    @contextlib.contextmanager
    def rclone(self, rclone: str, source: Path) -> Iterator[Path]:
        """A mount of the folder with an empty cache, and nothing in the page cache."""
        where, cache = self.fresh("rclone"), self.fresh("rclonecache")
        drop_page_cache()
        process = subprocess.Popen(
            [rclone, "mount", str(source), str(where), "--vfs-cache-mode", "full", "--cache-dir", str(cache)],
            stderr=subprocess.DEVNULL,
        )
        try:
            poll(lambda: os.path.ismount(where), 20, "rclone's mount")
            yield where
        finally:
            subprocess.run(["fusermount3", "-u", str(where)], stderr=subprocess.DEVNULL)
            process.wait(timeout=20)
            put_away(cache)

    def push_rows(self) -> None:
        repo, password = self.fresh("restic"), {**os.environ, "RESTIC_PASSWORD": "bench"}
        sh("restic", "init", "-r", repo / "r", env=password)
        shell("tar c . | cat", self.tree)
        self.row(
            "push 10,000 files",
            "restic",
            seconds(lambda: sh("restic", "backup", "-q", "-r", repo / "r", ".", cwd=self.tree, env=password)),
        )
        put_away(repo)
        with self.machines() as (yoga, _):
            self.row("push 10,000 files", "tcfs", seconds(lambda: yoga.run("push", str(self.tree), timeout=300)))
            store = yoga.home.parent / "store"
            count = sum(1 for p in store.rglob("*") if p.is_file())
            self.row("objects in the store after it", "tcfs", count, "")
        target = self.fresh("cp")
        shell(f"cat {self.big} > /dev/null; sync", self.base)
        self.row(
            "push 1 GiB",
            "cp+sync",
            seconds(lambda: shell(f"cp {self.big} {target}/big && sync {target}/big", self.base)),
        )
        put_away(target)
        with self.machines() as (yoga, bates):
            self.row("push 1 GiB", "tcfs", seconds(lambda: yoga.run("push", str(self.big), timeout=300)))
            target = self.fresh("cp")
            os.sync()
            self.row(
                "pull 1 GiB",
                "cp+sync",
                seconds(lambda: shell(f"cp {self.big} {target}/big && sync {target}/big", self.base)),
            )
            put_away(target)
            os.sync()
            self.row("pull 1 GiB", "tcfs", seconds(lambda: bates.run("pull", "big", "copy", timeout=300)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--only", action="append", choices=GROUPS)
    parser.add_argument("--peers", action="store_true", help="JuiceFS and SeaweedFS too: some minutes a run")
    options = parser.parse_args()
    base = options.dir / f"tcfs-bench-{os.getpid()}"
    base.mkdir()
    bench = Bench(base, options.runs, options.peers)
    groups: dict[str, Callable[[], None]] = {
        "push": bench.push_rows,
        "tree": bench.tree_rows,
        "untar": bench.untar_rows,
        "git": bench.git_rows,
        "large": bench.large_rows,
        "small": lambda: side_rows.small_rows(bench),
        "listing": lambda: side_rows.listing_rows(bench),
        "clone": lambda: side_rows.clone_rows(bench),
        "peer": lambda: side_rows.peer_rows(bench),
    }
    try:
        make_tree(bench.tree)
        make_random(bench.big, GIB)
        for run in range(options.runs):
            print(f"run {run + 1} of {options.runs}", file=sys.stderr)
            for name, group in groups.items():
                if (not options.only or name in options.only) and (FUSE or name == "push"):
                    group()
        bench.table()
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
