"""The loads of the long run: `hourloads.py LOAD MOUNT FOLDER SCRATCH SEED` uses FOLDER of the mount until stdin ends.

See hourload.py. Each load has its folder for itself, but for `Shared`.
"""

import hashlib
import mmap
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from hourload import TOOL_S, Load, ToolFailed, read_file, write_file, wrong
from hourshared import Elsewhere, Reader, Shared
from hourtools import Build, Database, Git


class Editors(Load):
    """Saves of files in all the ways of editors. Once a save was committed, the file holds it or what came later."""

    names = tuple(f"note{n}.txt" for n in range(8))

    def setup(self) -> None:
        self.promised: dict[str, bytes] = {}
        self.pending: dict[str, list[bytes]] = {}  # what may be there instead, or a part of it
        for name in self.names:
            self.promised[name] = b""
            self._save(name, "in_place")

    def step(self) -> None:
        self._save(self.random.choice(self.names), self.random.choice(["in_place", "temp", "backup", "vim", "sed"]))
        name = self.random.choice(self.names)
        if read_file(self.root / name) != self.promised[name]:
            wrong(
                f"{name} is not what was saved: {brief(read_file(self.root / name))}, not {brief(self.promised[name])}"
            )

    def _save(self, name: str, way: str) -> None:
        path = self.root / name
        new = self.text(f"{name}-{self.rounds}", self.random.choice([1, 30, 3000]))
        if way == "sed":
            new = re.sub(rb"(?m)$", b"+", self.promised[name].rstrip(b"\n")) + b"\n"
            if len(new) > 300_000:
                return
        self.pending.setdefault(name, []).append(new)
        getattr(self, f"_{way}")(path, new)
        self.commit()
        self.promised[name] = new
        del self.pending[name]

    def _in_place(self, path: Path, new: bytes) -> None:
        write_file(path, new, sync=self.random.random() < 0.5)

    def _temp(self, path: Path, new: bytes) -> None:
        temp = path.with_name(f".{path.name}.new")
        write_file(temp, new, sync=self.random.random() < 0.5)
        os.rename(temp, path)

    def _backup(self, path: Path, new: bytes) -> None:
        os.rename(path, f"{path}~")
        write_file(path, new, sync=True)

    def _vim(self, path: Path, new: bytes) -> None:
        source = self.scratch / "source"
        source.write_bytes(new)
        how = self.random.choice(["no", "yes", "auto"])
        settings = f"set backup writebackup undofile backupcopy={how} undodir=. backupdir=. directory=. backupskip="
        self.sh(f"vim -Nu NONE -i NONE -es -c '{settings}' -c '%d' -c 'r {source}' -c 'wq' {path}")

    def _sed(self, path: Path, new: bytes) -> None:
        self.sh(f"sed -i 's/$/+/' {path}")

    def recover(self) -> None:
        for name in self.names:
            have = read_file(self.root / name)
            if name not in self.pending:
                if have != self.promised[name]:
                    wrong(f"{name} has lost what was saved: {brief(have)}, not {brief(self.promised[name])}")
                continue
            old, news = self.promised[name], self.pending[name]
            if have is None:
                have = read_file(self.root / f"{name}~")
            if have != old and not any(have is not None and new.startswith(have) for new in news):
                wrong(f"{name} is torn: {brief(have)}, was {brief(old)}, would be {[brief(new) for new in news]}")
        for path in [*self.root.glob(".*.sw?"), *self.root.glob("sed*")]:
            path.unlink()
        for name in list(self.pending):
            self._save(name, "in_place")

    def final(self) -> None:
        for name in self.names:
            if read_file(self.root / name) != self.promised[name]:
                wrong(f"{name} is not what was saved: {brief(read_file(self.root / name))}")
        for path in self.root.iterdir():
            if path.name not in self.names:
                path.unlink()
        self.commit()


class Bytes(Load):
    """Random writes, truncations and mappings. Each byte is what was last promised, or what was written since."""

    size_max = 1_500_000

    def setup(self) -> None:
        self.model = {f"r{n}": bytearray() for n in range(4)}
        self.since: dict[str, list[bytes]] = {}  # every state since the last promise
        for name in self.model:
            write_file(self.root / name, b"")

    def step(self) -> None:
        name = self.random.choice(list(self.model))
        model, path = self.model[name], self.root / name
        self.since[name] = [bytes(model)]
        if self.random.random() < 0.25 and len(model) > 1:
            self._through_mapping(name)
        else:
            fd = os.open(path, os.O_RDWR)
            try:
                for _ in range(self.random.randrange(1, 10)):
                    self._change(fd, name)
            finally:
                os.close(fd)
        del self.since[name]
        if path.read_bytes() != model:
            wrong(f"{name} does not hold what was written")

    def _change(self, fd: int, name: str) -> None:
        model, pick = self.model[name], self.random.random()
        at = self.random.randrange(len(model) + 1)
        if pick < 0.15:
            size = self.random.choice([0, at, min(len(model) + 10_000, self.size_max)])
            if size < len(model):
                del model[size:]
            else:
                model.extend(bytes(size - len(model)))
            self.since[name].append(bytes(model))
            os.ftruncate(fd, size)
        elif pick < 0.3:
            want = bytes(model[at : at + 40_000])
            if os.pread(fd, 40_000, at) != want:
                wrong(f"{name}: other bytes at {at} than were written")
        elif pick < 0.4:
            os.fsync(fd)
            self.since[name] = [bytes(model)]
        else:
            data = self.random.randbytes(min(self.random.choice([1, 100, 4096, 20_000, 200_000]), self.size_max - at))
            model[at : at + len(data)] = data
            self.since[name].append(bytes(model))
            if os.pwrite(fd, data, at) != len(data):
                raise OSError(107, "the mount died between two pages of one write")

    def _through_mapping(self, name: str) -> None:
        """By another process: it is killed by SIGBUS when the mount dies."""
        model, seed = self.model[name], self.random.getrandbits(30)
        at = self.random.randrange(len(model))
        data = mapped_bytes(seed, min(50_000, len(model) - at))
        model[at : at + len(data)] = data
        self.since[name].append(bytes(model))
        command = [sys.executable, __file__, "map", str(self.root / name), str(at), str(len(data)), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_S)
        if done.returncode:
            raise ToolFailed(f"mapping {name}", done.returncode, done.stderr[-1000:])

    def recover(self) -> None:
        for name, model in self.model.items():
            have = (self.root / name).read_bytes()
            states = self.since.get(name, [bytes(model)])
            place = misfit(have, states)
            if place is not None:
                sizes = [len(state) for state in states]
                wrong(f"{name}: byte {place} of {len(have)} was never promised nor written (sizes {sizes})")
            if name in self.since:
                self.model[name] = bytearray(have)
                self._touch(name, have)
                del self.since[name]

    def _touch(self, name: str, have: bytes) -> None:
        """Who was cut off writes once more: a file that was being written goes out only when it has been closed."""
        fd = os.open(self.root / name, os.O_RDWR)
        try:
            if have:
                os.pwrite(fd, have[:1], 0)
            else:
                os.ftruncate(fd, 0)
            os.fsync(fd)
        finally:
            os.close(fd)

    def final(self) -> None:
        for name, model in self.model.items():
            if (self.root / name).read_bytes() != model:
                wrong(f"{name} does not hold what was written")


def misfit(have: bytes, states: list[bytes]) -> int | None:
    """The first byte that no state has (zeros may stand where one was shorter); len(have) for an impossible size."""
    if not min(map(len, states)) <= len(have) <= max(map(len, states)):
        return len(have)
    block = 4096
    for start in range(0, len(have), block):
        piece = have[start : start + block]
        if any(state[start : start + block] == piece for state in states):
            continue
        for n, byte in enumerate(piece, start):
            if not any((state[n] if n < len(state) else 0) == byte for state in states):
                return n
    return None


def mapped_bytes(seed: int, size: int) -> bytes:
    unit = hashlib.blake2b(str(seed).encode()).digest()
    return (unit * (size // len(unit) + 1))[:size]


def write_mapped(path: str, at: int, size: int, seed: int) -> None:
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 0) as mapped:
        mapped[at : at + size] = mapped_bytes(seed, size)
        mapped.flush()
    os.close(fd)


class Trees(Load):
    """untar, rsync, mv and rm -rf of whole trees, compared with the same on the disk."""

    pause_s = 2.0

    def setup(self) -> None:
        source = self.scratch / "source"
        for n in range(200):
            path = source / f"d{n % 17}/e{n % 3}/f{n}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.random.randbytes(self.random.choice([0, 50, 3000, 30_000])))
            path.chmod(self.random.choice([0o644, 0o600, 0o755]))
        for n in range(10):
            (source / f"d{n}" / "link").symlink_to(f"e{n % 3}")
        self.sh("tar -cf source.tar source", self.scratch)
        self.kept = self.scratch / "kept"
        shutil.copytree(source, self.kept, symlinks=True)
        self.made: list[str] = []
        self.number = 0
        self.is_copied = False

    def step(self) -> None:
        pick = self.random.random()
        if pick < 0.35:
            self._untar()
        elif pick < 0.5 and self.made:
            name = self.made.pop(0)
            self.sh(f"mv {name} {name}m")
            self.commit()
            self.made.append(f"{name}m")
            self._compare(self.kept, self.made[-1])
        elif pick < 0.65 and self.made:
            self._compare(self.kept, self.random.choice(self.made))
        else:
            self._rsync()
        while len(self.made) > 2:
            self.sh(f"rm -rf {self.made.pop(0)}")
            self.commit()

    def _untar(self) -> None:
        self.number += 1
        name = f"t{self.number}"
        self.sh(f"mkdir {name}; tar -C {name} --strip-components=1 -xf {self.scratch}/source.tar")
        self.commit()
        self.made.append(name)
        self._compare(self.kept, name)

    def _rsync(self) -> None:
        self.is_copied = False
        files = list((self.scratch / "source").glob("d*/e*/f*"))
        for path in self.random.sample(files, 10):
            path.write_bytes(self.random.randbytes(self.random.choice([0, 50, 3000, 30_000])))
        moved = self.random.choice(files)
        moved.rename(self.random.choice(files).with_name(moved.name))
        self.sh(f"rsync -a --delete --checksum {self.scratch}/source/ copy/")
        self.commit()
        self.is_copied = True
        self._compare(self.scratch / "source", "copy")

    def _compare(self, source: Path, name: str) -> None:
        self.sh(f"diff -r --no-dereference {source} {name}")

    def recover(self) -> None:
        names = set(os.listdir(self.root)) - {"copy"}
        for name in self.made:
            if name not in names:
                wrong(f"{name} has gone; there are {sorted(names)}")
            self._compare(self.kept, name)
        if self.is_copied:
            self._compare(self.scratch / "source", "copy")
        for name in sorted(names - set(self.made)):
            self.sh(f"rm -rf {name}")
        self.commit()

    def final(self) -> None:
        self.recover()
        self._rsync()


def brief(data: bytes | None) -> str:
    return "absent" if data is None else f"{len(data)} bytes {data[:30]!r}..{data[-30:]!r}"


def main(name: str, *rest: str) -> None:
    os.umask(0o022)
    if name == "map":
        path, at, size, seed = rest
        write_mapped(path, int(at), int(size), int(seed))
        return
    loads = (Editors, Bytes, Trees, Shared, Elsewhere, Reader, Build, Database, Git)
    (load,) = (load for load in loads if load.__name__.lower() == name)
    mount, folder, scratch, seed = rest
    load(Path(mount), folder, Path(scratch), int(seed)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
