"""The long run: loads on two machines of one fleet, of which one suffers, and what must be true at the end.

See hourload.py and hourloads.py for the loads, which are programs.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType

import hourloads
from around import cached
from far_store import FarStore
from fleetkit import Machine, poll
from killkit import KINDS, kill, revive, runs

PROGRAM = Path(hourloads.__file__)
QUOTA = 24 << 20
SILENCE_S = 600.0  # of a load: longer than anything a load does once
BACK_S = 240.0
LEFT_PACK = "is named by no journal: left by a publishing that was stopped"
OFFLINE = 2  # exit code
AGAIN = 5
STORED_S = 600.0  # what was done in a hurry, on a machine with other things to do, is in the store

LOADS_HERE = (
    ("editors", "notes"), ("bytes", "bytes"), ("trees", "trees"), ("build", "build"), ("git", "repo"),
    ("database", "db"), ("shared", "both"), ("reader", "elsewhere"),
)  # fmt: skip
LOADS_THERE = (("elsewhere", "elsewhere"), ("shared", "both"), ("editors", "theirs"), ("bytes", "theirbytes"))
FOLDERS = ("notes", "bytes", "trees", "build", "repo", "db", "elsewhere", "theirs", "theirbytes")


def prepare(machine: Machine, store: Path, key_from: Machine | None = None) -> None:
    """Started, with a cache that is always full."""
    machine.init(store, key_from)
    (machine.home / "config" / "config.toml").write_text(f'cache_quota = "{QUOTA}"\nsync_git = "raw"\n')
    machine.up()


class Running:
    """One load, as a program."""

    def __init__(self, machine: Machine, name: str, folder: str, seed: int) -> None:
        self.title = f"{name} on {machine.name}"
        self.scratch = machine.home.parent / "scratch" / machine.name
        self.scratch.mkdir(parents=True, exist_ok=True)
        self._out = self.scratch / f"{folder}.out"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), name, machine.mountpoint, folder, self.scratch, str(seed)],
                stdin=subprocess.PIPE, stdout=out, stderr=out, cwd="/",
            )  # fmt: skip

    def said(self, word: str) -> list[str]:
        """What its lines that begin with this word say, without the word."""
        lines = (line.split(" ", 2) for line in self._out.read_text(errors="replace").splitlines())
        return [" ".join(line[2:]) for line in lines if line[1:2] == [word]]

    def check(self) -> None:
        """It lives, and does something."""
        assert self.process.poll() is None, self.story()
        silent_s = time.time() - self._out.stat().st_mtime
        assert silent_s < SILENCE_S, f"{self.title} hangs for {silent_s:.0f} s\n{self.stack()}\n{self.story()}"

    def stack(self) -> str:
        with suppress(OSError):
            return Path(f"/proc/{self.process.pid}/wchan").read_text()
        return ""

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def ended(self) -> None:
        self.process.wait(SILENCE_S)
        assert self.process.returncode == 0 and self.said("end"), self.story()

    def story(self) -> str:
        lines = [line for line in self._out.read_text(errors="replace").splitlines() if " round " not in line]
        return "\n".join([f"--- {self.title}", *lines[-25:]])


class Trouble:
    """Makes `machine` suffer, and writes down from when until when, for the loads on it."""

    def __init__(self, machine: Machine, store: FarStore, seed: int) -> None:
        self.machine = machine
        self._store = store
        self._random = random.Random(seed)
        self._file = machine.home.parent / "scratch" / machine.name / "trouble"
        self._number = 0
        self.count: dict[str, int] = {}
        self.back_s: list[float] = []

    @contextmanager
    def _told(self, kind: str, name: str) -> Iterator[None]:
        """kind: `mount` if programs may see errors, `away` if only who waits for content may."""
        self._number += 1
        self.count[name] = self.count.get(name, 0) + 1
        self._tell("begin", kind)
        began = time.monotonic()
        yield
        self._tell("end", kind)
        self.back_s.append(time.monotonic() - began)

    def _tell(self, word: str, kind: str) -> None:
        with self._file.open("a") as file:
            file.write(f"{word} {self._number} {kind} {time.monotonic()}\n")

    def kill(self) -> None:
        """One process, or both."""
        kinds = self._random.choice([("mount",), ("tcfsd",), ("mount",), ("tcfsd",), KINDS])
        with self._told("mount" if "mount" in kinds else "away", "+".join(kinds)):
            kill(self.machine, *kinds)
            if kinds == KINDS:
                revive(self.machine)
            poll(lambda: runs(self.machine) and self._is_served(), BACK_S, f"{kinds} back again")

    def _is_served(self) -> bool:
        """By tcfsd, or by a verb that has become the engine meanwhile, for which it waits."""
        engine = self.machine.data("status", expect=None)["engine"] or {}
        return bool(engine.get("mount", {}).get("is_connected"))

    def suspend(self, seconds: float) -> None:
        """Nothing of it runs."""
        with self._told("away", "suspended"):
            self.machine.kill(sig=signal.SIGSTOP)
            time.sleep(seconds)
            self.machine.kill(sig=signal.SIGCONT)

    def hang_store(self, seconds: float) -> None:
        with self._told("away", "store hangs"):
            self._store.stop()
            time.sleep(seconds)
            self._store.go_on()


class Housekeeping:
    """A thread, from `with` to its end: a person who frees, pins and looks at what is local."""

    def __init__(self, machine: Machine, seed: int, pause_s: float) -> None:
        self._machine = machine
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._trouble: BaseException | None = None
        self.rounds = 0

    def __enter__(self) -> "Housekeeping":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._trouble is not None and error is None:
            raise self._trouble

    def _run(self) -> None:
        root = self._machine.mountpoint
        steps: tuple[Callable[[], object], ...] = (
            lambda: self._cli("dehydrate", str(root)),
            lambda: self._cli("dehydrate", str(root / "trees")),
            lambda: self._cli("pin", str(root / "notes")),
            lambda: self._cli("unpin", str(root / "notes")),
            lambda: self._cli("pin", f"{root}/elsewhere/f1*"),
            lambda: self._cli("unpin", f"{root}/elsewhere/f1*"),
            lambda: self._cli("hydrate", str(root / "repo")),
            lambda: self._cli("push", str(root / "bytes")),
            lambda: self._cli("status", "-s"),
            lambda: self._cli("cache"),
            self._evict,
        )
        try:
            while not self._stop.wait(self._pause_s):
                self._random.choice(steps)()
                self.rounds += 1
        except BaseException as error:
            self._trouble = error

    def _cli(self, *words: str) -> None:
        """Whatever it answers while processes die: it ends, and by no bug."""
        done = self._machine.run(*words, expect=None, timeout=400)
        assert "Traceback" not in done.stderr, f"{words}: {done.stderr}"

    def _evict(self) -> None:
        """Any file of the cache may go at any time."""
        for path in cached(self._machine):
            if self._random.random() < 0.3:
                path.unlink(missing_ok=True)


class Figure:
    """One process at one moment. memory: its own, in bytes; rss: with the pages of databases that it maps.

    files: descriptors of cached chunks and work files, which come and go with what programs do; fds: all others.
    """

    __slots__ = ("age_s", "at_s", "fds", "files", "kind", "memory", "name", "pid", "rss")

    def __init__(self, machine: Machine, kind: str, pid: int, at_s: float) -> None:
        """OSError if it has gone."""
        proc = Path(f"/proc/{pid}")
        started = int((proc / "stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        self.name, self.kind, self.pid, self.at_s = machine.name, kind, pid, at_s
        self.age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - started
        self.fds, self.files = descriptors(machine, pid)
        said = (proc / "status").read_text()
        self.rss, self.memory = (int(said.split(f"{name}:")[1].split()[0]) << 10 for name in ("VmRSS", "RssAnon"))


def descriptors(machine: Machine, pid: int) -> tuple[int, int]:
    """(fds, files), as Figure has them. OSError if the process has gone."""
    fds = files = 0
    for entry in os.scandir(f"/proc/{pid}/fd"):
        target = ""
        with suppress(FileNotFoundError):  # closed since
            target = os.readlink(entry.path)
        parts = target.removeprefix(f"{machine.home}/").split("/")  # area, fleet, kind, ...
        is_content = (parts[0], *parts[2:3]) in (("cache", "chunks"), ("cache", "whole"), ("state", "work"))
        files += is_content
        fds += not is_content
    return fds, files


class Figures:
    """What the processes hold, and what lies on the disk, again and again."""

    def __init__(self, machines: list[Machine]) -> None:
        self._machines = machines
        self._began = time.monotonic()
        self.taken: list[Figure] = []
        self.chunks_max = 0  # bytes that chunks have taken in a cache

    def take(self) -> None:
        at_s = time.monotonic() - self._began
        for machine in self._machines:
            for kind in KINDS:
                for pid in machine.pids(kind):
                    with suppress(OSError):
                        self.taken.append(Figure(machine, kind, pid, at_s))
            self.chunks_max = max(self.chunks_max, _size_of(machine.home.glob("cache/*/chunks/*/*")))

    def table(self) -> str:
        """A line a minute and process."""
        lines = ["   at_s machine process   age_s  fds files   memory  rss_mib"]
        last: dict[tuple[str, str], float] = {}
        for one in self.taken:
            if one.at_s - last.get((one.name, one.kind), -100.0) >= 60:
                last[one.name, one.kind] = one.at_s
                size = f"{one.memory / 2**20:8.1f} {one.rss / 2**20:8.1f}"
                lines.append(
                    f"{one.at_s:7.0f} {one.name:7} {one.kind:7} {one.age_s:7.0f} {one.fds:4} {one.files:5} {size}"
                )
        return "\n".join(lines)

    def held(self, machine: Machine, kind: str, from_s: float, until_s: float, age_min_s: float) -> tuple[int, int]:
        """(fds, bytes of memory): medians over a time of the run, of processes that are that old; zeros without any."""
        some = [
            one
            for one in self.taken
            if (one.name, one.kind) == (machine.name, kind) and from_s <= one.at_s <= until_s and one.age_s >= age_min_s
        ]
        if not some:
            return 0, 0
        return sorted(one.fds for one in some)[len(some) // 2], sorted(one.memory for one in some)[len(some) // 2]


def _size_of(paths: Iterator[Path]) -> int:
    size = 0
    for path in paths:
        with suppress(OSError):
            size += path.stat().st_size
    return size


@contextmanager
def loads(machine: Machine, which: tuple[tuple[str, str], ...], seed: int) -> Iterator[list[Running]]:
    running: list[Running] = []
    try:
        for number, (name, folder) in enumerate(which):
            running.append(Running(machine, name, folder, seed + number))
        for load in running:
            poll(lambda load=load: load.said("ready") or load.process.poll() is not None, 120, f"{load.title} is ready")
            load.check()
        yield running
    finally:
        for load in running:
            load.process.kill()
            load.process.wait()
            if load.process.stdin is not None:
                load.process.stdin.close()


def lines_of(folder: Path) -> set[str]:
    """Every line of every file, each of which must be whole."""
    found: set[str] = set()
    for path in folder.iterdir():
        text = path.read_text()
        assert not text or text.endswith("\n"), f"{path.name} ends in {text[-40:]!r}"
        for line in text.splitlines():
            who, _, number = line.partition(" ")
            assert who in ("yoga", "bates") and number.isdigit(), f"{path.name} has the line {line!r}"
            found.add(line)
    return found


def settle_siblings(here: Machine, there: Machine, folder: str) -> None:
    """All that stands beside a name gets one of its own; both machines show the same then."""
    number = 0

    def is_settled() -> bool:
        nonlocal number
        siblings = list((here.mountpoint / folder).glob("*.conflict"))
        for path in siblings:
            number += 1
            with suppress(FileNotFoundError):
                path.rename(path.with_name(f"end-{number}"))
        if not siblings:
            for machine in (here, there):
                machine.run("wait", "--timeout", "60")
        return not siblings and not list((there.mountpoint / folder).glob("*.conflict"))

    poll(is_settled, 120, "no conflicts", pause=1.0)


def on_alarm(number: int, frame: FrameType | None) -> None:
    raise AssertionError("a look at a mount hangs")


@contextmanager
def within(seconds: int, what: str) -> Iterator[None]:
    """AssertionError if the body, in the main thread, waits longer."""
    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(seconds)
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def sent(machine: Machine) -> None:
    """What is dirty now is in the store, however much it is."""
    machine.run("wait", "--timeout", str(STORED_S), expect=None, timeout=STORED_S + 60)


def stored(machine: Machine) -> None:
    """All of it is in the store, and nothing is left to be done."""

    def unsafe() -> list[object]:
        return list(machine.data("status", expect=None)["unsafe"])

    sent(machine)
    try:
        poll(lambda: not unsafe(), 60, "safe", pause=1.0)
    except AssertionError:
        raise AssertionError(f"{machine.name} is not safe: {unsafe()[:10]}\n{machine.logs()}") from None


def sound(machine: Machine, *words: str) -> None:
    """fsck, with these words, finds nothing but packs whose writer was killed; and no process has met a bug."""
    for _ in range(AGAIN):
        done = machine.run("fsck", "--json", *words, expect=None, timeout=900)
        if done.returncode != OFFLINE:  # the far store takes part in whatever else goes on
            break
    findings = json.loads(done.stdout)["data"]["findings"]
    assert [found for found in findings if LEFT_PACK not in found["message"]] == [], done.stdout[:5000]
    assert done.returncode == 0, done.stderr
    assert machine.data("conflicts", expect=None)["conflicts"] == []
    assert "Traceback" not in machine.whole_logs(), machine.logs()
