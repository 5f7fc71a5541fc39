"""What holds for the project as a whole."""

import re
import stat
import tomllib
from pathlib import Path

import pytest
from logcheck import check_logs, trouble_in

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted([*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"])


def test_no_package_below_tests_and_integration():
    """With an __init__.py there, tests/fs would hide the package fs."""
    assert [] == [*(ROOT / "tests").rglob("__init__.py"), *(ROOT / "integration").rglob("__init__.py")]


def test_wheel_holds_our_three_packages_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {"fs", "sync", "cli"} == set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash_and_executable(script: Path):
    assert script.stat().st_mode & stat.S_IXUSR
    assert script.read_text().startswith("#!/usr/bin/env bash\n")


def test_every_table_file_is_commented_and_strict():
    files = sorted((ROOT / "sync" / "state").rglob("*.sql"))
    assert files
    for file in files:
        text = file.read_text()
        assert text.startswith("--"), file
        assert len(re.findall(r"^CREATE TABLE", text, re.M)) == len(re.findall(r"^\) STRICT", text, re.M)), file


LOG = """\
2026-01-01 12:00:00 INFO tcfsd: up
2026-01-01 12:00:01 WARNING sync.store: the store is away
Traceback (most recent call last):
  File "x", line 1
RuntimeError: no
"""


def test_log_check_finds_warnings_and_tracebacks():
    assert 2 == len(trouble_in(LOG))
    assert ["Traceback (most recent call last):"] == trouble_in(LOG, ["store is away"])
    assert [] == trouble_in("12:00 INFO all warnings are gone, no error\n")


def test_log_check_walks_the_logs_below_a_folder(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "tcfsd.log").write_text("12:00 INFO fine\n")
    check_logs(tmp_path)
    (tmp_path / "a" / "mount.log").write_text(LOG)
    with pytest.raises(AssertionError, match=r"a/mount\.log: .*away"):
        check_logs(tmp_path)
