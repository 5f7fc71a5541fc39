from pathlib import Path

import pytest
from clikit import Shell


@pytest.fixture
def yoga(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A machine that is in no fleet yet."""
    return Shell(tmp_path, "yoga", monkeypatch, capsys)


@pytest.fixture
def bates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, "bates", monkeypatch, capsys)


@pytest.fixture
def fleet(tmp_path: Path, yoga: Shell, bates: Shell) -> tuple[Shell, Shell]:
    """yoga and bates on one directory store."""
    yoga.init(tmp_path / "store")
    bates.init(tmp_path / "store", yoga)
    return yoga, bates
