"""What goes on around a program that uses the mount: its files are published and lose their local bytes, the cache is
emptied behind the engine's back, and another machine writes files of its own.
"""

import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from fleetkit import Machine

FOLDER = "elsewhere"  # where the other machine writes


class Around:
    """A thread, from `with` to its end. Whatever it finds wrong is raised there."""

    def __init__(self, here: Machine, there: Machine, seed: int, *, pause_s: float = 0.2) -> None:
        self._here, self._there = here, there
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self.rounds = 0

    def __enter__(self) -> "Around":
        (self._there.mountpoint / FOLDER).mkdir(exist_ok=True)
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
        steps: tuple[Callable[[], object], ...] = (self.dehydrate, self.evict, self.write_there, self.wait, self.push)
        try:
            while not self._stop.wait(self._pause_s):
                self._random.choice(steps)()
                self.rounds += 1
        except BaseException as error:
            self._trouble = error

    def dehydrate(self) -> None:
        """All that is published, and not being written, loses its local bytes."""
        self._here.run("dehydrate", str(self._here.mountpoint), expect=None)

    def evict(self) -> None:
        """Some files of the cache go, as they do when it is full."""
        for path in cached(self._here):
            if self._random.random() < 0.5:
                with suppress(FileNotFoundError):
                    path.unlink()

    def write_there(self) -> None:
        """Another machine changes files that nobody here looks at."""
        folder = self._there.mountpoint / FOLDER
        for _ in range(20):
            path = folder / f"f{self._random.randrange(30)}"
            if self._random.random() < 0.3:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(os.urandom(self._random.randrange(50_000)))

    def wait(self) -> None:
        """All that is closed is sealed and published."""
        self._here.run("wait", "--timeout", "5", expect=None)

    def push(self) -> None:
        """Files are sealed as they are, though programs have them open."""
        self._here.run("push", str(self._here.mountpoint), expect=None)


def cached(machine: Machine) -> list[Path]:
    """The chunks and whole files of a machine's cache."""
    return [
        path for kind in ("chunks", "whole") for path in machine.home.glob(f"cache/*/{kind}/**/*") if path.is_file()
    ]
