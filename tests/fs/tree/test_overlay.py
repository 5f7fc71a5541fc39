"""What the overlay does around its commits: numbers in blocks, its log, removed files."""

from pathlib import Path

import pytest

from fs.tree import wal
from fs.tree.model import Node
from fs.tree.overlay import NUMBERS_AT_ONCE, Overlay
from sync.env import RealEnv


def load(folder: Path) -> Overlay:
    return Overlay(RealEnv({}), folder / "tree.db", folder / "work")


def node(overlay: Overlay) -> Node:
    made = Node(overlay.new_ino(), 1, 0o644, 0, 0, 0, 1, 1, 1)
    overlay.put_node(made)
    return made


def test_no_number_is_given_twice(tmp_path: Path) -> None:
    """Neither after a kill, nor when more were given than a stored block holds."""
    given: list[int] = []
    for _ in range(3):
        overlay = load(tmp_path)
        for _ in range(NUMBERS_AT_ONCE + 10):
            given.append(node(overlay).id)
        overlay.commit()
        overlay.close()
    assert len(given) == len(set(given))
    assert all(number % 2 for number in given)


def test_the_log_begins_anew(tmp_path: Path) -> None:
    overlay = load(tmp_path)
    log = tmp_path / "tree.db-wal"

    def commits(count: int) -> None:
        for _ in range(count):
            node(overlay)
            overlay.commit()

    commits(wal.COMMITS - 1)
    assert not overlay.wal.wants_checkpoint
    commits(1)
    assert overlay.wal.wants_checkpoint
    overlay.wal.checkpoint()
    assert not overlay.wal.wants_checkpoint
    size = log.stat().st_size
    commits(wal.COMMITS // 2)
    assert log.stat().st_size == size
    overlay.close()


@pytest.mark.parametrize("is_later", [False, True])
def test_files_are_removed_after_the_commit(tmp_path: Path, is_later: bool) -> None:
    overlay = load(tmp_path)
    later: list[str] = []
    if is_later:
        overlay.remove = later.extend
    file = overlay.new_file(node(overlay), 0)
    file.fd()
    file.close()
    overlay.put_file(file)
    overlay.commit()
    overlay.drop_file(file.id, remove=True)
    assert Path(file.path).exists()
    overlay.commit()
    assert Path(file.path).exists() == is_later
    assert later == ([file.path] if is_later else [])
    overlay.close()
