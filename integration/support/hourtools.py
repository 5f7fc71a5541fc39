"""Loads of the long run that are programs of others: make and cc, git, SQLite."""

import shlex
import subprocess
import sys
from pathlib import Path

from hourload import TOOL_S, Load, ToolFailed, read_file, write_file, wrong

GIT_S = 150  # seconds
MAKEFILE = """OBJECTS = {objects}
prog: $(OBJECTS)
\tcc -o $@ $^
%.o: %.c h.h
\tcc -c $< -o $@
"""


class Build(Load):
    """A small program is changed, made and run; what is up to date is not made again."""

    pause_s = 1.5
    parts = 8

    def setup(self) -> None:
        self.numbers = [0] * self.parts
        self.factor = 1
        self.promised: dict[str, bytes] = {}
        self.pending: dict[str, bytes] = {}
        objects = " ".join(["main.o", *(f"p{n}.o" for n in range(self.parts))])
        self._write("Makefile", MAKEFILE.format(objects=objects))
        calls = " + ".join(f"p{n}()" for n in range(self.parts))
        declared = "".join(f"int p{n}(void);\n" for n in range(self.parts))
        self._write(
            "main.c", f'#include <stdio.h>\n{declared}int main(void) {{ printf("%d\\n", {calls}); return 0; }}\n'
        )
        self._write("h.h", "#define FACTOR 1\n")
        for n in range(self.parts):
            self._part(n)

    def _part(self, n: int) -> None:
        self._write(f"p{n}.c", f'#include "h.h"\nint p{n}(void) {{ return {self.numbers[n]} * FACTOR; }}\n')

    def _write(self, name: str, text: str) -> None:
        self.pending[name] = text.encode()
        write_file(self.root / name, self.pending[name])
        self.promised[name] = self.pending.pop(name)

    def step(self) -> None:
        if self.random.random() < 0.2:
            self.factor = self.random.randrange(1000)
            self._write("h.h", f"#define FACTOR {self.factor}\n")
        else:
            n = self.random.randrange(self.parts)
            self.numbers[n] = self.random.randrange(1000)
            self._part(n)
        if self.random.random() < 0.1:
            self.sh("rm -f *.o prog")
        self._make()

    def _make(self) -> None:
        printed = self.sh("make -s -j2 >&2; make -q; ./prog")
        if printed != f"{sum(self.numbers) * self.factor}\n":
            wrong(f"the program prints {printed!r}, and should {sum(self.numbers)} * {self.factor}")

    def recover(self) -> None:
        """A compiler that was cut off may have left half a file: as after any crash everything is made again."""
        for name, promised in self.promised.items():
            have = read_file(self.root / name)
            new = self.pending.get(name)
            if have != promised and (new is None or have is None or not new.startswith(have)):
                wrong(f"{name} has {have!r}, not {promised!r} (or some of {new!r})")
        self.sh("rm -f *.o prog")
        for name, data in list(self.pending.items()):
            self._write(name, data.decode())
        self._make()

    def final(self) -> None:
        self.recover()


class Git(Load):
    """Commits, merges and gc; after a kill no object is missing and no commit that was promised."""

    pause_s = 2.0

    def sh(self, script: str, cwd: Path | None = None, *, timeout: float = TOOL_S) -> str:
        """As for every load, but it ends when git (2.39) does not: on a mount that has died it asks for the next folder
        of its reflogs for ever, and warns each time that it cannot be read.
        """
        bounded = f"timeout {GIT_S} bash -euo pipefail -c {shlex.quote(script)} 2> >(tail -c 2000 >&2)"
        return super().sh(bounded, cwd, timeout=timeout)

    def setup(self) -> None:
        self.number = 0
        self.promised = 0
        for n in range(30):
            (self.root / f"s{n % 4}").mkdir(exist_ok=True)
            write_file(self.root / f"s{n % 4}/f{n}", self.text(f"f{n}", 40))
        self.sh("git init -q -b main; git config gc.auto 0; git add .; git commit -qm 0")

    def step(self) -> None:
        self.number += 1
        pick = self.random.random()
        if pick < 0.15:
            self.sh("git gc -q --prune=now; git fsck --strict --no-progress >&2")
        elif pick < 0.3:
            self._change()
            self.sh(f"git checkout -q -b side{self.number}; git commit -qam side; git checkout -q main")
            self._change()
            self.sh(
                f"git commit -qam other; git merge -q -X ours -m {self.number} side{self.number};"
                f"git branch -q -D side{self.number}"
            )
        else:
            self._change()
            self.sh(f"git add -A; git commit -qm {self.number}")
        self.commit()
        if pick >= 0.15:
            self.promised = self.number
        if self.random.random() < 0.3 and self.sh("git status --porcelain"):
            wrong(f"git status is not clean: {self.sh('git status --porcelain')}")

    def _change(self) -> None:
        for n in self.random.sample(range(30), 3):
            write_file(self.root / f"s{n % 4}/f{n}", self.text(f"f{n}", self.random.choice([10, 40, 400])))

    def recover(self) -> None:
        self.sh("find .git -name '*.lock' -delete")
        self.sh("git rev-parse -q --verify main; git fsck --strict --no-progress >&2")
        numbers = {int(word) for word in self.sh("git log --format=%s main").split() if word.isdigit()}
        if self.promised not in numbers:
            wrong(f"commit {self.promised} has gone: the newest is {max(numbers)}")
        self.sh(
            "rm -f .git/MERGE_* .git/AUTO_MERGE; git symbolic-ref HEAD refs/heads/main; git reset -q --hard;"
            "git clean -qfd; git branch --list 'side*' --format='%(refname:short)' | xargs -r git branch -q -D;"
            "git gc -q --prune=now"
        )
        self.commit()

    def final(self) -> None:
        self.recover()
        self.sh('git fsck --strict; test -z "$(git status --porcelain)"')


class Database(Load):
    """SQLite in WAL mode: what was committed is there, and the database is whole."""

    pause_s = 1.0
    count = 20

    def setup(self) -> None:
        self.file = self.root / "x.db"
        self.seen: dict[str, int] = {}  # how many rows of each name at least
        self.going: set[str] = set()

    def step(self) -> None:
        name = f"n{self.rounds}-{self.failures}"
        command = [sys.executable, str(Path(__file__).parent / "sqlite_writer.py"), str(self.file), "WAL", name]
        done = subprocess.run([*command, str(self.count)], capture_output=True, text=True, timeout=TOOL_S)
        self.seen[name] = sum(line.isdigit() for line in done.stdout.splitlines(keepends=False))
        if done.returncode:
            raise ToolFailed("sqlite_writer", done.returncode, done.stderr[-1000:])
        if len(self.seen) > 15:
            self.going = set(self.random.sample(sorted(self.seen), 8))
            names = ", ".join(f"'{name}'" for name in self.going)
            tidy = self.random.choice(["", "VACUUM;", "PRAGMA wal_checkpoint(TRUNCATE);"])
            self.sh(f'sqlite3 -bail x.db "DELETE FROM t WHERE name IN ({names}); {tidy}" >&2')
            for name in self.going:
                del self.seen[name]
            self.going = set()
        self._check()

    def _check(self) -> None:
        """Every name's rows without a gap, as many as were seen in."""
        found = self.sh(
            "test -e x.db || exit 0; sqlite3 -bail x.db 'PRAGMA busy_timeout = 20000; PRAGMA integrity_check;"
            "CREATE TABLE IF NOT EXISTS t (name TEXT, n INTEGER);"
            "SELECT name, count(*), min(n), max(n), count(DISTINCT n) FROM t GROUP BY name'"
        ).splitlines()
        if found[1:2] != ["ok"]:
            wrong(f"the database is damaged: {found[:5]}")
        rows = {line.split("|")[0]: [int(word) for word in line.split("|")[1:]] for line in found[2:]}
        for name, least in self.seen.items():
            count, first, last, distinct = rows.get(name, [0, 0, -1, 0])
            if count < least and name not in self.going:
                wrong(f"{name} has {count} rows, and {least} were committed")
            if count and (first, last, distinct) != (0, count - 1, count):
                wrong(f"{name} has {count} rows, {distinct} different, {first} to {last}")

    def recover(self) -> None:
        self._check()
        names = set(self.sh("sqlite3 x.db 'SELECT DISTINCT name FROM t'").split())
        self.seen = {name: least for name, least in self.seen.items() if name in names or name not in self.going}
        self.going = set()

    def final(self) -> None:
        self._check()
        self.sh("sqlite3 x.db 'PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE' >&2")
