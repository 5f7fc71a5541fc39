import importlib.util
import tomllib
from pathlib import Path

import pytest

from sync.ours import PACKAGES, VERSION, foreign_packages

ROOT = Path(__file__).resolve().parents[2]


def test_here_all_packages_are_ours():
    assert {} == foreign_packages()


def test_the_version_is_that_of_the_project():
    assert VERSION == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("text", [None, "", 'TCFS_PACKAGE = "0.0.1"\n', f'TCFS_PACKAGE = "{VERSION}"\n'])
def test_a_package_of_somebody_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str | None
):
    real = importlib.util.find_spec

    def find(wanted: str):
        if wanted != name:
            return real(wanted)
        if text is None:
            return None
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
        return importlib.util.spec_from_file_location(name, tmp_path / name / "__init__.py")

    monkeypatch.setattr(importlib.util, "find_spec", find)
    assert [name] == list(foreign_packages())


def test_a_package_that_was_overwritten_in_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            f'TCFS_PACKAGE = "{VERSION}"\n' if name != "fs" else "import six\n"
        )
    monkeypatch.setattr("sync.ours.__file__", str(tmp_path / "sync" / "ours.py"))
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: importlib.util.spec_from_file_location(name, tmp_path / name / "__init__.py"),
    )
    assert ["fs"] == list(foreign_packages())
