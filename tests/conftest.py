"""What all tests have: an environment of their own, and a log that may hold no trouble unless the test says so."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from homekit import remove_socket_folders
from hypothesis import settings

from sync.state.home import Home

# Two shared cores: how long one example takes says nothing. HYPOTHESIS_PROFILE=explore looks for new failures.
settings.register_profile("default", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's tcfs is seen or touched."""
    for variable in list(os.environ):
        if variable.startswith(("TCFS_", "XDG_")):
            monkeypatch.delenv(variable)


@pytest.fixture
def tcfs_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A machine of its own, for the programs that the test starts too."""
    monkeypatch.setenv("TCFS_HOME", str(tmp_path / "home"))
    return Home.from_environ({"TCFS_HOME": str(tmp_path / "home")})


@pytest.fixture(autouse=True)
def no_socket_folders(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing stays below /tmp of the homes that a test makes, in tmp_path or in folders of it."""
    folder: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if folder is not None:
        for run in (folder, *(found.parent for pattern in ("*/run", "*/*/run") for found in folder.glob(pattern))):
            remove_socket_folders(run)


class _Trouble(logging.Handler):
    """Keeps what is an error or has a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self.found.append(record.getMessage())


@pytest.fixture(autouse=True)
def quiet_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """An error or a traceback in the log fails the test, unless it looks at the log itself (caplog) or says
    @pytest.mark.logs_trouble."""
    if request.node.get_closest_marker("logs_trouble") or "caplog" in request.fixturenames:
        yield
        return
    trouble = _Trouble()
    logging.getLogger().addHandler(trouble)
    yield
    logging.getLogger().removeHandler(trouble)
    assert not trouble.found, f"in the log (mark the test logs_trouble if it belongs there): {trouble.found}"
