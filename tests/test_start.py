"""What our processes import: each module costs every start. In processes of their own, as this one has imported all."""

import subprocess
import sys

import pytest

SERVES = {"trio", "pyfuse3", "fs.serve", "fs.ops", "fs.tree"}
WAITS = {"asyncio", "concurrent.futures"}
CODES = {"cryptography", "zstandard", "mnemonic", "sync.core.codec", "sync.core.sealed"}
TESTS = {"sync.env.fake", "sync.env.faults"}


@pytest.mark.parametrize(
    ("imported", "unwanted"),
    [
        pytest.param("sync.state.settings", WAITS | CODES | TESTS, id="where things are"),
        pytest.param("sync.machines.launch", WAITS | CODES | TESTS, id="starting the mount"),
        pytest.param("fs.mount", SERVES | WAITS | CODES | TESTS, id="a mount that is not sure yet"),
        pytest.param("fs.serve", WAITS | CODES | TESTS, id="a mount that serves"),
        pytest.param("sync.daemon", WAITS | CODES | TESTS | {"sync.engine", "logging"}, id="tcfsd before the mount"),
        pytest.param("sync.daemon.serve", TESTS, id="tcfsd"),
        pytest.param("cli.main, cli.up, cli.processes", WAITS | CODES | TESTS, id="up before tcfsd"),
    ],
)
def test_what_is_not_needed_is_not_imported(imported: str, unwanted: set[str]) -> None:
    pytest.importorskip("pyfuse3") if imported == "fs.serve" else None
    script = f"import sys, {imported}; print(*sys.modules)"
    found = subprocess.check_output([sys.executable, "-P", "-c", script], text=True, cwd="/").split()
    assert sorted(unwanted & set(found)) == []
