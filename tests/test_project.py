"""What holds for the project as a whole."""

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
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


def test_setup_compiles_our_code_when_it_has_changed(tmp_path: Path):
    """Where Python may not write what it compiles, each start of tcfs would compile all of it: 0.1 s a process."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup", tmp_path / "scripts")
    (tmp_path / "pyproject.toml").write_text("")
    sources = [tmp_path / name / "__init__.py" for name in ("sync", "fs", "cli")]
    for source in sources:
        source.parent.mkdir()
        source.write_text("")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "tcfs").write_text("#!/bin/sh\n")
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    state = subprocess.check_output(
        f"{{ {programs}/python -V; cat pyproject.toml; pwd; }} | cksum", shell=True, cwd=tmp_path
    )
    (programs.parent / ".tcfs-setup").write_bytes(b"fuse,dev\n" + state)

    def compiled_at() -> list[float]:
        environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run([tmp_path / "scripts" / "setup"], env=environ, check=True)
        return [Path(importlib.util.cache_from_source(str(source))).stat().st_mtime_ns for source in sources]

    first = compiled_at()
    assert first == compiled_at()
    later = (programs.parent / ".tcfs-compiled").stat().st_mtime_ns + 1_000_000_000
    os.utime(sources[1], ns=(later, later))
    second = compiled_at()
    assert [False, True, False] == [new != old for new, old in zip(second, first, strict=True)]


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
