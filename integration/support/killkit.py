"""Drills: a writer on yoga, a watcher on bates (chaos.py), deaths in between; in the end nothing is lost and nothing half."""

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
    """One writer and one watcher, until finish()."""

    def __init__(self, yoga: Machine, bates: Machine, seed: int, *, pause_ms: int = 20) -> None:
        self.yoga, self.bates, self.seed = yoga, bates, seed
        self._out = yoga.home / f"writer{seed}.out"
        self._seen = bates.home / f"watcher{seed}.out"
        self._writer = _start(self._out, "write", str(yoga.mountpoint), str(seed), str(pause_ms))
        self._watcher: subprocess.Popen[bytes] | None = None
        self.mount_died = False

    def begin(self) -> None:
        """The first changes are published: everything that dies from now on dies in the middle of others."""
        self.await_line("setup")
        self.yoga.run("wait")
        last = self.yoga.mountpoint / "run" / f"m{chaos.MOVED - 1}-0" / f"c{chaos.CHILDREN - 1}"
        poll(lambda: (self.bates.mountpoint / last.relative_to(self.yoga.mountpoint)).exists(), 20, "the first changes")
        self._watcher = _start(self._seen, "watch", str(self.bates.mountpoint))
        self.go()

    def go(self) -> None:
        assert self._writer.stdin is not None
        self._writer.stdin.write(b"\n")
        self._writer.stdin.flush()

    def await_line(self, word: str, seconds: float = 60) -> None:
        """The writer has said so, at least once."""
        poll(lambda: self.said(word) or self._writer.poll() is not None, seconds, f"the writer says {word}")
        assert self.said(word), self.story()

    def await_changes(self, more: int, seconds: float = 60) -> None:
        """That many changes later."""
        upto = len(self.said("done")) + more
        poll(lambda: len(self.said("done")) >= upto or self._writer.poll() is not None, seconds, f"{more} more changes")
        assert self._writer.poll() is None, self.story()

    def said(self, word: str) -> list[str]:
        return [line for line in self._out.read_text().splitlines() if line.startswith(word)]

    def story(self) -> str:
        lines = [line for line in self._out.read_text().splitlines() if not line.startswith("done")]
        return "\n".join(["the writer:", *lines[-60:], self.yoga.logs()])

    def kill(self, *kinds: str) -> None:
        """SIGKILL; returns when those processes are gone."""
        self.mount_died |= "mount" in kinds
        gone = [pid for kind in kinds for pid in self.yoga.pids(kind)]
        for kind in kinds:
            self.yoga.kill(kind)
        poll(lambda: not set(gone) & set(self.yoga.pids()), 10, f"{kinds} of {gone} are dead")

    def is_back(self) -> bool:
        """Both processes run, and the mount answers."""
        if not all(self.yoga.pids(kind) for kind in KINDS):
            return False
        try:
            return os.path.ismount(self.yoga.mountpoint) and bool(os.listdir(self.yoga.mountpoint))
        except OSError:
            return False

    def revive(self) -> None:
        """As somebody does who sees that nothing runs."""
        self.yoga.run("up", timeout=60)
        poll(self.is_back, 10, "all of yoga runs")

    def finish(self) -> None:
        """The writer stops; what it has left is on both machines, and bates has never seen anything else."""
        self._stop(self._writer)
        assert self._writer.returncode == 0 and self.said("end"), self.story()
        if not self.mount_died:
            assert not self.said("error"), self.story()
        self.yoga.run("wait", timeout=120)
        wanted, allowed = chaos.expected(self.seed, int(self.said("end")[0].split()[1]))
        wrong = chaos.difference(wanted, own_tree(self.yoga))
        assert not wrong, "\n".join([*wrong[:20], self.story()])
        arrives(self.bates, wanted)
        if self._watcher is not None:
            self._stop(self._watcher)
            self._check_seen(allowed)
        check_sound(self.yoga)
        check_sound(self.bates)

    def end(self) -> None:
        for process in (self._writer, self._watcher):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
            if process is not None and process.stdin is not None:
                process.stdin.close()

    def _stop(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(120)

    def _check_seen(self, allowed: dict[str, set[bytes]]) -> None:
        import json

        seen = json.loads(self._seen.read_text())
        assert seen["wrong"] == []
        assert seen["rounds"] > 0
        for name, contents in seen["contents"].items():
            known = allowed.get(name, set())
            strange = [text for hash, text in contents.items() if bytes.fromhex(hash) not in known]
            assert not strange or name.startswith("pushed"), f"{name}: was never {strange}\n{self.story()}"


@contextmanager
def drill(yoga: Machine, bates: Machine, seed: int, *, pause_ms: int = 20) -> Iterator[Drill]:
    made = Drill(yoga, bates, seed, pause_ms=pause_ms)
    try:
        yield made
    finally:
        made.end()


def own_tree(machine: Machine) -> chaos.Tree:
    """What stands in a mount, without what the CLI has pushed."""
    found = chaos.scan(str(machine.mountpoint))
    return {path: item for path, item in found.items() if path.split("/")[0] != "pushed"}


def arrives(machine: Machine, wanted: chaos.Tree, seconds: float = 30) -> None:
    """The mount shows exactly this in the end."""
    last: list[str] = []

    def look() -> bool:
        try:
            last[:] = chaos.difference(wanted, own_tree(machine))
        except OSError as error:  # moved under the eyes
            last[:] = [str(error)]
        return not last

    try:
        poll(look, seconds, "the same tree on the other machine")
    except AssertionError:
        raise AssertionError("\n".join([f"{machine.name} does not get there:", *last[:20], machine.logs()])) from None


def check_sound(machine: Machine) -> None:
    """fsck is clean, nothing is unsafe, and no process met a bug."""
    machine.fsck()
    status = machine.run("status", expect=None)
    assert "Traceback" not in machine.logs(), machine.logs()
    assert machine.data("conflicts", expect=None) in ([], {"conflicts": []}), status.stdout


def _start(out: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    with out.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), *arguments], stdin=subprocess.PIPE, stdout=file, stderr=file, cwd="/"
        )
