"""Loads of the long run that two machines have to do with: files that both change, or that one reads of the other."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from hourload import Load, read_file, say, write_file, wrong


class Shared(Load):
    """Two machines add lines to the same files, each after those that it has read: no line is ever lost.

    Where both have done so at one time there are two files then, and one of them is moved aside.
    """

    pause_s = 2.0

    def setup(self) -> None:
        self.who = self.scratch.parent.name
        self.lines = 0
        self.last = ""

    def step(self) -> None:
        self.last = f"f{self.random.randrange(5)}-{self.lines // 300}"
        self._add(self.last)
        if self.who == "yoga":
            for path in list(self.root.glob("*.conflict"))[:1]:
                self._move_aside(path)

    def _add(self, name: str) -> None:
        line = f"{self.who} {self.lines}\n".encode()
        fd = os.open(self.root / name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.read(fd, 1 << 20)
            os.write(fd, line)
        finally:
            os.close(fd)
        say("line", line.decode().strip())
        self.lines += 1

    def _move_aside(self, sibling: Path) -> None:
        with suppress(FileNotFoundError):  # it was settled by what has just come
            os.rename(sibling, self.root / f"kept-{self.lines}")

    def recover(self) -> None:
        """What was being written may be there, and goes out only when it has been closed."""
        self._add(self.last)


class Elsewhere(Load):
    """Files whose first line names their content, so that whoever reads one knows whether it is whole."""

    pause_s = 2.0

    def setup(self) -> None:
        self.model: dict[str, str] = {}  # the digests of what is there
        self.number = 0
        for _ in range(15):
            self.step()

    def step(self) -> None:
        pick = self.random.random()
        self.number += 1
        if pick < 0.15 and len(self.model) > 20:
            name = self.random.choice(list(self.model))
            (self.root / name).unlink()
            del self.model[name]
            return
        if pick < 0.25 and self.model:
            old = self.random.choice(list(self.model))
            os.rename(self.root / old, self.root / f"m{self.number}")
            self.model[f"m{self.number}"] = self.model.pop(old)
            return
        name = f"f{self.random.randrange(40)}"
        size = self.random.choice([0, 100, 20_000, 100_000, 200_000, 1_500_000, 4_000_000])
        data = self.random.randbytes(size)
        self.model.pop(name, None)
        data = hashlib.sha256(data).hexdigest().encode() + b"\n" + data
        if pick < 0.5:
            write_file(self.root / f".{name}.new", data)
            os.rename(self.root / f".{name}.new", self.root / name)
        else:
            (self.root / name).unlink(missing_ok=True)
            write_file(self.root / name, data)
        self.model[name] = hashlib.sha256(data).hexdigest()

    def final(self) -> None:
        have = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.root.iterdir()}
        if have != self.model:
            wrong(f"not what was written: {sorted(set(have.items()) ^ set(self.model.items()))[:4]}")


class Reader(Load):
    """Reads what another machine writes (Elsewhere)."""

    pause_s = 0.6

    def step(self) -> None:
        names = [name for name in os.listdir(self.root) if not name.startswith(".")]
        for name in self.random.sample(names, min(len(names), 3)):
            data = read_file(self.root / name)
            if data is None:  # removed meanwhile
                continue
            first, _, rest = data.partition(b"\n")
            if hashlib.sha256(rest).hexdigest().encode() != first:
                wrong(f"{name} is torn: {len(data)} bytes that begin with {first[:70]!r}")
