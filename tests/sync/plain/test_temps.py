"""Temp files of pulls: those of killed ones go, those of others that run stay."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from workerkit import Fleet, run

from sync.plain import temps
from sync.plain.temps import AGE_MAX_S, is_temp, make_temp, remove_left, temp_name

NAME = temp_name(bytes(8))
HOLDER = """
import os, sys
from sync.plain.temps import make_temp
make_temp(os.open(sys.argv[1], os.O_RDONLY), sys.argv[2])
print("made", flush=True)
sys.stdin.read()
"""


def now_of(path: Path) -> float:
    return path.lstat().st_ctime


def test_names() -> None:
    assert is_temp(NAME)
    for name in ("a.tcfs-pull", f"x{NAME}", f"{NAME}x", f"{NAME}\n", ".0123.tcfs-pull", ""):
        assert not is_temp(name)


def test_a_running_pull_of_another_process_keeps_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path), NAME]
    folder = os.open(tmp_path, os.O_RDONLY)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "made\n"
        assert remove_left(folder, now_of(tmp_path / NAME) + 2 * AGE_MAX_S) == 0
        assert (tmp_path / NAME).exists()
        other.kill()
    assert remove_left(folder, now_of(tmp_path / NAME)) == 1
    assert list(tmp_path.iterdir()) == []
    os.close(folder)


def test_what_is_no_temp_file_stays(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "mine.tcfs-pull").write_bytes(b"x")
    (tmp_path / NAME).mkdir()
    assert remove_left(folder, now_of(tmp_path / NAME) + 2 * AGE_MAX_S) == 0
    assert len(list(tmp_path.iterdir())) == 2
    os.close(folder)


@pytest.mark.parametrize("what", ["symlink", "no locks", "locked away"])
def test_without_a_lock_the_age_decides(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    path = tmp_path / NAME
    if what == "symlink":
        path.symlink_to("/etc/passwd")
    else:
        path.write_bytes(b"x")

    def refused(*_: object) -> None:
        raise OSError(95, "not supported") if what == "no locks" else PermissionError(13, "denied")

    if what != "symlink":
        monkeypatch.setattr(fcntl, "flock", refused)
    assert remove_left(folder, now_of(path) + AGE_MAX_S - 1) == 0
    assert remove_left(folder, now_of(path) + AGE_MAX_S + 1) == 1
    assert list(tmp_path.iterdir()) == []
    os.close(folder)


def test_one_that_is_removed_before_it_is_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    lock = temps._lock
    was_removed: list[int] = []

    def raced(descriptor: int, how: int) -> bool:
        if not was_removed:
            was_removed.append(1)
            (tmp_path / NAME).unlink()
        return lock(descriptor, how)

    monkeypatch.setattr(temps, "_lock", raced)
    made = make_temp(folder, NAME)
    os.write(made, b"x")
    assert (tmp_path / NAME).read_bytes() == b"x"
    os.close(made)
    os.close(folder)


def test_a_pull_cleans_where_it_writes(fleet: Fleet) -> None:
    yoga = fleet.machine("yoga")
    yoga.write("docs/sub/f", "one")

    async def go() -> None:
        await yoga.push("docs")
        await yoga.pull("docs", "copy/")
        left = [yoga.write(f"copy{folder}/{NAME}", "half") for folder in ("", "/docs", "/docs/sub")]
        elsewhere = yoga.write(f"other/{NAME}", "half")
        kept = yoga.write("copy/docs/a.tcfs-pull", "of a person")
        await yoga.pull("docs", "copy")
        assert [path for path in left if path.exists()] == []
        assert elsewhere.exists() and kept.exists()
        assert (await yoga.push("copy")).files == 2

    (yoga.home / "copy").mkdir()
    run(go(), fleet.clock)
    assert "copy/docs/a.tcfs-pull" in yoga.shown()
