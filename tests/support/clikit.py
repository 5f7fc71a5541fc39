"""The command line in the test's own process, as machines with a TCFS_HOME each."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli.verbs import run


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Runs verbs for one machine; `folder` is its working directory."""

    def __init__(
        self, root: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.name = name
        self.home = root / name / "home"
        self.folder = root / name / "work"
        self.folder.mkdir(parents=True)
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *args: str, stdin: str = "") -> Done:
        import io

        self._capsys.readouterr()
        with self._monkeypatch.context() as patch:
            patch.setenv("TCFS_HOME", str(self.home))
            patch.chdir(self.folder)
            patch.setattr("sys.stdin", io.StringIO(stdin))
            code = run(list(args))
        found = self._capsys.readouterr()
        return Done(code, found.out, found.err)

    def ok(self, *args: str) -> str:
        """stdout of a verb that must work."""
        done = self(*args)
        assert done.code == 0, f"tcfs {' '.join(args)}: {done}"
        return done.out

    def init(self, store: Path, first: "Shell | None" = None) -> None:
        key = ["--key-file", str(first.key_file)] if first is not None else []
        self.ok("init", "--store", str(store), "--name", self.name, *key)

    @property
    def key_file(self) -> Path:
        return next(self.home.glob("config/fleets/*/fleet.key"))

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def environ(self) -> dict[str, str]:
        """For a program of this machine that the test starts."""
        return {**os.environ, "TCFS_HOME": str(self.home)}
