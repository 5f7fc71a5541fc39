import os
from pathlib import Path

import pytest

from fs.hydrate import callers
from fs.hydrate.callers import Callers, Refusals, matching
from sync.state.settings import NO_HYDRATE


@pytest.mark.parametrize(
    "comm, exe, name",
    [
        ("tumblerd", "tumblerd", "tumblerd"),
        ("updatedb.plocat", "updatedb.plocate", "updatedb.plocate"),
        ("updatedb.plocat", "", "updatedb.plocat"),
        ("tracker-miner-f", "", "tracker-miner-f"),
        ("pool-1", "tracker-extract-3", "tracker-extract-3"),
        ("baloo_file_extr", "baloo_file_extractor", "baloo_file_extractor"),
        ("gnome-thumbnail", "python3.11", "gnome-thumbnail"),
        ("localsearch-3", "localsearch-3", "localsearch-3"),
        ("bash", "bash", None),
        ("vim", "vim.basic", None),
        ("cp", "cp", None),
        ("tar", "tar", None),
        ("tracker", "tracker", None),
    ],
)
def test_the_shipped_list(comm: str, exe: str, name: str | None) -> None:
    shipped = (*NO_HYDRATE, "gnome-thumbnailer-of-something")
    assert matching(shipped, comm, exe) == name


def process(proc: Path, pid: int, comm: str, exe: str, tgid: int | None = None) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "comm").write_text(f"{comm}\n")
    (folder / "status").write_text(f"Name:\t{comm}\nTgid:\t{tgid or pid}\nPid:\t{pid}\n")
    (folder / "exe").symlink_to(exe)


def test_a_thread_counts_as_its_process(tmp_path: Path) -> None:
    process(tmp_path, 10, "tumblerd", "/usr/lib/tumblerd")
    process(tmp_path, 11, "pool", "/usr/lib/tumblerd", tgid=10)
    process(tmp_path, 20, "cat", "/usr/bin/cat")
    found = Callers(["tumbler*"], tmp_path)
    assert [found.refused(pid) for pid in (10, 11, 20, 99, 0)] == ["tumblerd", "tumblerd", None, None, None]
    assert [found.name(pid) for pid in (11, 20, 99, 0)] == ["tumblerd", "cat", "?", "?"]


def test_real_processes() -> None:
    comm = Path("/proc/self/comm").read_text().strip()
    assert Callers([comm]).refused(os.getpid())
    assert Callers(["no-such-program"]).refused(os.getpid()) is None
    assert Callers([]).refused(os.getpid()) is None


def test_refusals_are_counted_and_told_once() -> None:
    refusals = Refusals()
    assert refusals.note("a", "never", "x", 1.0)
    assert not refusals.note("a", "never", "y", 2.9)
    assert refusals.note("b", "never", "z", 3.0)
    assert [(one.program, one.times, one.path, one.at) for one in refusals.take_untold()] == [
        ("a", 2, "y", 2),
        ("b", 1, "z", 3),
    ]
    assert refusals.take_untold() == []
    refusals.tell_again()
    assert len(refusals.take_untold()) == 2


def test_only_the_last_programs_are_kept() -> None:
    refusals = Refusals()
    for number in range(callers.PROGRAMS_MAX + 5):
        refusals.note(str(number), "never", "", 0)
    assert [one.program for one in refusals.take_untold()] == [str(n) for n in range(5, callers.PROGRAMS_MAX + 5)]
