import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs.work.workfile import WorkFile
from fs.work.writeback import RUN_BYTES, Writeback

MIB = 1 << 20


class Disk:
    """Hears what is started; checks that each descriptor is one that is open."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []

    def sync_range(self, fd: int, offset: int, length: int) -> None:
        os.fstat(fd)
        self.started.append((offset, offset + length))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[WorkFile]:
    found = WorkFile(1, 2, tmp_path / "1", 0)
    yield found
    found.close()


def test_what_is_written_straight_on_is_started_in_runs(file: WorkFile) -> None:
    disk = Disk()
    writeback = Writeback(disk.sync_range)
    for start in range(0, 2 * RUN_BYTES + MIB, MIB):
        writeback.wrote(file, start, start + MIB)
        if writeback.is_due:
            writeback.start()
    assert disk.started == [(0, RUN_BYTES), (RUN_BYTES, 2 * RUN_BYTES)]
    assert not writeback.is_due


def test_scattered_writes_start_nothing(file: WorkFile) -> None:
    writeback = Writeback()
    for number in range(64):
        writeback.wrote(file, number * 2 * MIB, number * 2 * MIB + MIB)
    assert not writeback.is_due


def test_a_slow_disk_is_asked_once_for_all_that_has_come_meanwhile(file: WorkFile) -> None:
    disk = Disk()
    writeback = Writeback(disk.sync_range)
    descriptors = len(os.listdir("/proc/self/fd"))
    for start in range(0, 5 * RUN_BYTES, MIB):
        writeback.wrote(file, start, start + MIB)
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2  # the work file's own, and one to start it by
    writeback.start()
    assert disk.started == [(0, 5 * RUN_BYTES)]
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1


def test_it_outlives_the_work_file_being_closed_and_can_be_dropped(file: WorkFile) -> None:
    disk = Disk()
    writeback = Writeback(disk.sync_range)
    writeback.wrote(file, 0, RUN_BYTES)
    file.close()
    writeback.start()
    assert disk.started == [(0, RUN_BYTES)]
    writeback.wrote(file, RUN_BYTES, 2 * RUN_BYTES)
    writeback.drop()
    assert not writeback.is_due


def test_the_kernel_takes_it(file: WorkFile) -> None:
    writeback = Writeback()
    file.write(0, bytes(RUN_BYTES))
    writeback.wrote(file, 0, RUN_BYTES)
    assert writeback.is_due
    writeback.start()
    assert not writeback.is_due


def test_a_write_goes_well_where_no_descriptor_is_left(file: WorkFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    disk = Disk()
    writeback = Writeback(disk.sync_range)
    monkeypatch.setattr(os, "dup", refuse)
    writeback.wrote(file, 0, RUN_BYTES)
    assert not writeback.is_due
    monkeypatch.undo()
    writeback.wrote(file, RUN_BYTES, 2 * RUN_BYTES)
    writeback.start()
    assert disk.started == [(RUN_BYTES, 2 * RUN_BYTES)]


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6), st.booleans()), max_size=40),
)
def test_only_what_was_written_is_started(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, bool]]
) -> None:
    file = WorkFile(1, 2, tmp_path_factory.mktemp("work") / "1", 0)
    disk = Disk()
    writeback = Writeback(disk.sync_range)
    written: set[int] = set()
    position = 0
    for jump, size, is_taken in steps:
        position = position if jump > 8 else jump * 4
        writeback.wrote(file, position * MIB, (position + size) * MIB)
        written.update(range(position, position + size))
        position += size
        if is_taken:
            writeback.start()
    writeback.start()
    file.close()
    for start, end in disk.started:
        assert end - start >= RUN_BYTES
        assert set(range(start // MIB, end // MIB)) <= written
