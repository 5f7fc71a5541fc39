import os
from pathlib import Path

import pytest

from fs.work.spares import AT_ONCE, BUSY_AFTER, Spares


def order(folder: Path, first: int = 1) -> list[tuple[int, str]]:
    return [(number, str(folder / f"{number:x}")) for number in range(first, first + AT_ONCE)]


def test_none_are_wanted_before_many_files_were_made() -> None:
    spares = Spares()
    for _ in range(BUSY_AFTER):
        assert not spares.are_wanted
        assert spares.take() is None
    assert spares.are_wanted
    spares.ordered()
    assert not spares.are_wanted


def test_spares_are_empty_files_open_for_reading_and_writing(tmp_path: Path) -> None:
    spares = Spares()
    spares.make(order(tmp_path))
    found = spares.take()
    assert found is not None
    number, path, fd = found
    assert (number, path) == (1, str(tmp_path / "1"))
    os.write(fd, b"data")
    assert os.pread(fd, 10, 0) == (tmp_path / "1").read_bytes() == b"data"
    os.close(fd)
    for item in spares.drop():
        if isinstance(item, int):
            os.close(item)


def test_what_is_not_needed_is_named_once(tmp_path: Path) -> None:
    spares = Spares()
    spares.make(order(tmp_path)[:2])
    dropped = spares.drop()
    assert [item for item in dropped if isinstance(item, str)] == [str(tmp_path / "1"), str(tmp_path / "2")]
    for item in dropped:
        if isinstance(item, int):
            os.close(item)
    assert spares.drop() == [] and len(spares) == 0 and spares.take() is None


def test_a_disk_that_refuses_ends_the_making(tmp_path: Path) -> None:
    spares = Spares()
    files = order(tmp_path)
    Path(files[2][1]).mkdir()  # no file can be made there
    spares.make(files)
    assert len(spares) == 2
    for item in spares.drop():
        if isinstance(item, int):
            os.close(item)


@pytest.mark.parametrize("count", [0, 1])
def test_enough_are_enough(tmp_path: Path, count: int) -> None:
    spares = Spares()
    spares.make(order(tmp_path)[: AT_ONCE - count])
    for _ in range(BUSY_AFTER):
        taken = spares.take()
        assert taken is not None
        os.close(taken[2])
    assert spares.are_wanted
    spares.make(order(tmp_path, 1000)[: BUSY_AFTER + count])
    assert not spares.are_wanted
    for item in spares.drop():
        if isinstance(item, int):
            os.close(item)
