"""Drills: a writer on one machine, a watcher on another (chaos.py), deaths in between; nothing is lost or half."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import chaos
from fleetkit import Machine, poll

PROGRAM = Path(chaos.__file__)
KINDS = ("tcfsd", "mount")


class Drill:
    """A writer on `here`, from begin() to finish(), and a watcher on `there`, in a folder named by the seed."""

    def __init__(self, here: Machine, there: Machine, seed: int, *, pause_ms: int = 20) -> None:
        self.here, self.there, self.seed = here, there, seed
        self.folder = f"drill{seed}"
        self.may_fail = False  # the writer's mount dies
        self.may_not_read = False  # the watcher's machine suffers
        self._out = here.home / f"writer{seed}.out"
        self._seen = there.home / f"watcher{seed}.out"
        self._writer = _start(self._out, "write", str(here.mountpoint), self.folder, str(seed), str(pause_ms))
        self._watcher: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """The first changes are published: what dies from now on dies in the middle of others."""
        self.await_setup()
        self.here.run("wait")
        run = self.there.mountpoint / self.folder / "run"
        last = [run / f"m{m}-0/c{chaos.CHILDREN - 1}" for m in range(chaos.MOVED)]  # they come in any order
        poll(lambda: all(map(_is_there, last)), 30, "the first changes")
        self.watch()
        self.go()

    def await_setup(self) -> None:
        poll(lambda: self.said("setup") or self._writer.poll() is not None, 60, "the setup")
        assert self.said("setup"), self.story()

    def watch(self) -> None:
        self._watcher = _start(self._seen, "watch", str(self.there.mountpoint), self.folder)

    def go(self) -> None:
        """Let the writer go on behind its setup."""
        assert self._writer.stdin is not None
        self._writer.stdin.write(b"\n")
        self._writer.stdin.flush()

    def await_changes(self, more: int, seconds: float = 60) -> None:
        """That many changes later."""
        upto = len(self.said("done")) + more
        poll(lambda: len(self.said("done")) >= upto or self._writer.poll() is not None, seconds, f"{more} more changes")
        assert self._writer.poll() is None, self.story()

    def said(self, word: str) -> list[str]:
        """The writer's lines that begin with this word."""
        return [line for line in self._out.read_text().splitlines() if line.startswith(word)]

    def story(self) -> str:
        lines = [line for line in self._out.read_text().splitlines() if not line.startswith("done")]
        return "\n".join(["the writer:", *lines[-60:], self.here.logs()])

    def finish(self) -> None:
        """The writer stops; what it has left is on both machines, and the other one has never shown anything else."""
        _stop(self._writer)
        assert self._writer.returncode == 0 and self.said("end"), self.story()
        if not self.may_fail:
            assert not self.said("error"), self.story()
        self.here.run("wait", timeout=120)
        wanted, allowed = chaos.expected(self.seed, int(self.said("end")[0].split()[1]))
        wrong = chaos.difference(wanted, chaos.scan(f"{self.here.mountpoint}/{self.folder}"))
        assert not wrong, "\n".join([*wrong[:20], self.story()])
        self._arrives(wanted)
        if self._watcher is not None:
            _stop(self._watcher)
            self._check_seen(allowed)

    def end(self) -> None:
        for process in (self._writer, self._watcher):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()

    def _arrives(self, wanted: chaos.Tree, seconds: float = 30) -> None:
        """The other machine shows exactly this in the end."""
        last: list[str] = []

        def look() -> bool:
            try:
                last[:] = chaos.difference(wanted, chaos.scan(f"{self.there.mountpoint}/{self.folder}"))
            except OSError as error:  # moved under the eyes
                last[:] = [str(error)]
            return not last

        try:
            poll(look, seconds)
        except AssertionError:
            what = f"{self.there.name} does not show what {self.here.name} has"
            raise AssertionError("\n".join([what, *last[:20], self.story(), self.there.logs()])) from None

    def _check_seen(self, allowed: dict[str, set[bytes]]) -> None:
        seen = json.loads(self._seen.read_text())
        assert seen["wrong"] == [], seen["wrong"]
        assert seen["rounds"] > 0
        assert seen["errors"] == [] or self.may_not_read, "\n".join([*seen["errors"], self.there.logs()])
        for name, contents in seen["contents"].items():
            strange = [text for hash, text in contents.items() if bytes.fromhex(hash) not in allowed.get(name, set())]
            assert not strange, f"{name} was never {strange}\n{self.story()}"


@contextmanager
def drill(here: Machine, there: Machine, seed: int, *, pause_ms: int = 20) -> Iterator[Drill]:
    made = Drill(here, there, seed, pause_ms=pause_ms)
    try:
        yield made
    finally:
        made.end()


def kill(machine: Machine, *kinds: str) -> None:
    """SIGKILL; returns when those processes are gone."""
    gone = [pid for kind in kinds for pid in machine.pids(kind)]
    for kind in kinds:
        machine.kill(kind)
    poll(lambda: not set(gone) & set(machine.pids()), 10, f"{kinds} of {gone} are dead")


def runs(machine: Machine) -> bool:
    """Both processes are there, and the mount answers."""
    if not all(machine.pids(kind) for kind in KINDS):
        return False
    try:
        return os.path.ismount(machine.mountpoint) and os.listdir(machine.mountpoint) is not None
    except OSError:
        return False


def revive(machine: Machine) -> None:
    """As somebody does who sees that nothing runs."""
    machine.run("up", timeout=60)
    poll(lambda: runs(machine), 10, f"all of {machine.name} runs")


def check_sound(*machines: Machine) -> None:
    """fsck is clean, nothing is unsafe or in conflict, and no process has met a bug."""
    for machine in machines:
        machine.fsck()
        status = machine.data("status", expect=None)
        assert status["unsafe"] == [], status
        assert machine.data("conflicts", expect=None)["conflicts"] == [], machine.logs()
        assert "Traceback" not in machine.whole_logs(), machine.logs()


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _start(out: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    with out.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments], stdin=subprocess.PIPE, stdout=file, stderr=file, cwd="/"
        )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(120)
