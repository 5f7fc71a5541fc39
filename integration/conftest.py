"""The tests with real processes: whole machines (support/fleetkit.py), each with a TCFS_HOME of its own."""

import os

import pytest
from fleetkit import FUSE


def pytest_report_header() -> str:
    return "FUSE: yes" if FUSE else "FUSE: NO. Every test that mounts is skipped."


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's tcfs is seen or touched."""
    for variable in list(os.environ):
        if variable.startswith(("TCFS_", "XDG_")):
            monkeypatch.delenv(variable)
