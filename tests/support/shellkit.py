"""A person's commands on a machine, and what a plain file system would hold after them."""

from collections.abc import Callable, Iterator

from treekit import Machine

Files = dict[str, bytes | None]  # rel_path -> content; None: a directory


class Shell:
    """Runs commands on a machine and on `files`, which holds what they must show. `between`: after each system call."""

    def __init__(self, machine: Machine, between: Callable[[], object] = lambda: None) -> None:
        self.machine = machine
        self.files: Files = {}
        self.inodes: dict[str, int] = {}  # rel_path of a file -> a number that its names share
        self._next_inode = 1
        self.between = between

    def run(self, script: str) -> None:
        """Commands, one a line or with ';' between: mkdir, rmdir, echo TEXT FILE, ln, mv [-T], rm, rm -rf."""
        for line in script.replace(";", "\n").splitlines():
            if words := line.split():
                self._command(words)

    def _command(self, words: list[str]) -> None:
        match words:
            case ["mkdir", path]:
                self.mkdir(path)
            case ["rmdir", path]:
                self.rmdir(path)
            case ["echo", text, path]:
                self.write(path, text)
            case ["ln", old, new]:
                self.link(old, new)
            case ["rm", "-rf", path]:
                self.remove_tree(path)
            case ["rm", path]:
                self.unlink(path)
            case ["mv", "-T", old, new]:
                self.rename(old, new)
            case ["mv", *olds, new]:
                for old in self._glob(olds):
                    self.rename(old, f"{new}/{old.rpartition('/')[2]}" if self.is_dir(new) else new)
            case _:
                raise AssertionError(f"no such command: {words}")

    def _glob(self, patterns: list[str]) -> Iterator[str]:
        for pattern in patterns:
            if pattern.endswith("/*"):
                yield from sorted(f"{pattern[:-2]}/{name}" for name in self.names(pattern[:-2]))
            else:
                yield pattern

    # ---- system calls

    def mkdir(self, path: str) -> None:
        self.machine.mkdir(path)
        self.files[path] = None
        self.between()

    def rmdir(self, path: str) -> None:
        self.machine.rmdir(path)
        del self.files[path]
        self.between()

    def write(self, path: str, text: str) -> None:
        self.machine.write(path, text.encode())
        self.wrote(path, text.encode())
        self.between()

    def wrote(self, path: str, content: bytes) -> None:
        """A file was made, or written to: under all its names."""
        if path not in self.inodes:
            self.inodes[path] = self._next_inode
            self._next_inode += 1
        for name, number in self.inodes.items():
            if number == self.inodes[path]:
                self.files[name] = content

    def link(self, old: str, new: str) -> None:
        self.machine.link(old, new)
        self.files[new], self.inodes[new] = self.files[old], self.inodes[old]
        self.between()

    def unlink(self, path: str) -> None:
        self.machine.unlink(path)
        del self.files[path], self.inodes[path]
        self.between()

    def rename(self, old: str, new: str) -> None:
        """OSError, with nothing changed, where the machine refuses it."""
        self.machine.rename(old, new)
        if old in self.inodes and self.inodes[old] == self.inodes.get(new):
            return  # both are names of one file
        found = [path for path in self.inodes if path == old or path.startswith(f"{old}/")]
        numbers = {path: self.inodes.pop(path) for path in found}
        self.inodes.pop(new, None)
        self.inodes |= {new + path[len(old) :]: number for path, number in numbers.items()}
        moved = {path: self.files.pop(path) for path in list(self.files) if path == old or path.startswith(f"{old}/")}
        self.files.pop(new, None)
        self.files |= {new + path[len(old) :]: content for path, content in moved.items()}
        self.between()

    def exchange(self, one: str, other: str) -> None:
        """RENAME_EXCHANGE, of names none of which is above the other. OSError, with nothing changed, where the machine
        refuses it.
        """
        self.machine.tree.exchange(*self.machine.place(one), *self.machine.place(other))

        def new_place(path: str) -> str:
            for old, new in ((one, other), (other, one)):
                if path == old or path.startswith(f"{old}/"):
                    return new + path[len(old) :]
            return path

        self.inodes = {new_place(path): number for path, number in self.inodes.items()}
        self.files = {new_place(path): content for path, content in self.files.items()}
        self.between()

    def remove_tree(self, path: str) -> None:
        if not self.is_dir(path):
            self.unlink(path)
            return
        for name in sorted(self.names(path)):
            self.remove_tree(f"{path}/{name}")
        self.rmdir(path)

    # ---- what is there

    def linked(self) -> list[list[str]]:
        """The names of each file that has several."""
        names: dict[int, list[str]] = {}
        for path, number in sorted(self.inodes.items()):
            names.setdefault(number, []).append(path)
        return sorted(paths for paths in names.values() if len(paths) > 1)

    def names(self, folder: str) -> list[str]:
        prefix = f"{folder}/" if folder else ""
        return [p[len(prefix) :] for p in self.files if p.startswith(prefix) and "/" not in p[len(prefix) :]]

    def is_dir(self, path: str) -> bool:
        return path in self.files and self.files[path] is None
