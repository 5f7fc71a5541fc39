"""The same steps on a plain folder and on a mount: results, errnos, what stat shows, and in the end the whole tree.

A difference is a failure. What random steps have found stands below as lists of steps with names.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import differ
import pytest
from around import Around
from differ import Pair, Step
from differ_steps import Steps
from fleetkit import Machine, poll
from fleetkit import fleet as machines
from mountkit import HAS_FUSE, Fleet, fleet

pytestmark = pytest.mark.skipif(not HAS_FUSE, reason="/dev/fuse cannot be opened here")

LONG_SEEDS = 100
LONG_STEPS = 2000  # of each
ARRIVES_S = 60.0
SHOWN = 30  # steps of a failure that depends on time

FOUND: dict[str, list[Step]] = {
    "emptied_by_who_only_reads_after_a_listing": [
        ("open", 0, "f", os.O_RDWR | os.O_CREAT, 0o600),
        ("pwrite", 0, 0, 28, 4097),
        ("listdir", ""),
        ("lstat", "f"),
        ("open", 1, "f", os.O_RDONLY | os.O_TRUNC),
        ("stat", "f"),
    ],
    "truncating_to_the_size_it_has_moves_the_times": [
        ("open", 0, "f", os.O_WRONLY | os.O_CREAT),
        ("truncate", "f", 65536),
        ("watch", "f", ("truncate", "f", 65536)),
        ("watch", "f", ("ftruncate", 0, 65536)),
    ],
    "a_removed_folder_that_is_open_can_be_changed": [
        ("mkdir", "d"),
        ("setxattr", "d", "user.a", 1, 10, 0),
        ("open", 0, "d", os.O_RDONLY),
        ("rmdir", "d"),
        ("futimens", 0, 10**18),
        ("fchmod", 0, 0o700),
        ("fsetxattr", 0, "user.b", 2, 20),
        ("flistxattr", 0),
        ("fstat", 0),
    ],
    "emptying_what_is_empty_and_new_moves_the_times": [
        ("open", 0, "f", os.O_RDWR | os.O_CREAT),
        ("watch", "f", ("open", 1, "f", os.O_RDWR | os.O_TRUNC)),
    ],
}


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as made:
        yield made


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found(yoga: Fleet, tmp_path: Path, name: str) -> None:
    root = yoga.mount()
    for compare_each in (False, True):
        differ.replay(tmp_path / "plain", root / "mounted", FOUND[name], compare_each=compare_each)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_steps(yoga: Fleet, tmp_path: Path, seed: int) -> None:
    plain, root = tmp_path / "plain", yoga.mount()
    plain.mkdir()
    differ.check_seed(plain, root, seed, 1500, links=True, nodes=True)
    assert "Traceback" not in yoga.log()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_200_000_random_steps(yoga: Fleet, tmp_path: Path) -> None:
    plain, root = tmp_path / "plain", yoga.mount()
    plain.mkdir()
    for seed in range(1000, 1000 + LONG_SEEDS):
        differ.check_seed(plain, root, seed, LONG_STEPS, links=True, nodes=True)
    assert "Traceback" not in yoga.log()


def test_random_steps_while_everything_goes_on(tmp_path: Path) -> None:
    """Files are published and dehydrated, the cache loses what it has, another machine writes; in the end it sees the
    same.
    """
    with machines(tmp_path, "yoga", "bates") as (yoga, bates):
        among_others(yoga, bates, tmp_path, 1, 3000)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_random_steps_while_everything_goes_on(tmp_path: Path) -> None:
    with machines(tmp_path, "yoga", "bates") as (yoga, bates):
        for seed in range(2000, 2000 + LONG_SEEDS // 4):
            among_others(yoga, bates, tmp_path, seed, LONG_STEPS)


def among_others(yoga: Machine, bates: Machine, base: Path, seed: int, count: int) -> None:
    """Random steps on one machine, all that can go on around them, and a look from the other machine."""
    name = f"seed{seed}"
    pair = Pair.below(base / name, yoga.mountpoint / name)
    try:
        with Around(yoga, bates, seed) as around:
            differ.run(pair, Steps(seed, links=True, nodes=True), count)
        assert around.rounds
        tree = pair.compare()
    except differ.Differs as found:
        (base / f"{name}.steps").write_text(differ.story(found.steps, ""))  # they depend on time: nothing is cut off
        raise AssertionError(f"seed {seed}: {differ.story(found.steps[-SHOWN:], str(found))}") from None
    finally:
        pair.close()
    yoga.run("wait", timeout=120)
    arrived = Arrived(bates.mountpoint / name / differ.INNER, folder_links=pair.folder_links)
    try:
        poll(lambda: arrived.is_as(tree), ARRIVES_S, "the same on the other machine", pause=0.5)
    except AssertionError as late:
        raise AssertionError(f"seed {seed}: {late}\n" + "\n".join(arrived.missing[:SHOWN])) from None
    for machine in (yoga, bates):
        machine.fsck()
        assert "Traceback" not in machine.whole_logs(), machine.logs()


class Arrived:
    """What the other machine shows of a tree."""

    def __init__(self, root: Path, *, folder_links: bool) -> None:
        self._side = differ.Side(str(root), helper=False, folder_links=folder_links)
        self.missing: list[str] = []

    def is_as(self, tree: dict[str, Any]) -> bool:
        try:
            found = _as_elsewhere(self._side.tree())
        except FileNotFoundError:
            return False
        wanted = _as_elsewhere(tree)
        paths = sorted(found.keys() | wanted.keys())
        self.missing = [
            f"{p!r}: {found.get(p)!r}, not {wanted.get(p)!r}" for p in paths if found.get(p) != wanted.get(p)
        ]
        return not self.missing


def _as_elsewhere(tree: dict[str, Any]) -> dict[str, Any]:
    """A tree without what stays on the machine that made it: fifos and sockets, and the times that folders have by
    their entries.
    """
    return {
        path: ((mode, links, size, "" if mode.startswith("d") else mtime), more, xattrs)
        for path, ((mode, links, size, _, _, mtime), more, xattrs) in tree.items()
        if mode[0] not in "ps"
    }
