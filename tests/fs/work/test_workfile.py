"""Work files and what they show, against plain bytes."""

import itertools
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs.work.stack import BasePiece, LocalPiece, Piece, Zeros, pieces
from fs.work.workfile import WorkFile, absorb

SHM = "/dev/shm" if Path("/dev/shm").is_dir() else None
BASE = bytes(range(65, 91))  # the content of the version 'base'


def show(found: list[Piece]) -> bytes:
    parts = []
    for piece in found:
        match piece:
            case LocalPiece(fd, offset, length):
                parts.append(os.pread(fd, length, offset))
            case Zeros(length):
                parts.append(bytes(length))
            case BasePiece(_, offset, length):
                parts.append(BASE[offset : offset + length])
        assert len(parts[-1]) == piece.length
    return b"".join(parts)


class Stack:
    """A node's bytes: at most two files over the base; rows as tree.db would hold them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = itertools.count(1)
        self.files: list[WorkFile] = []
        self.size = len(BASE)
        self.expected = bytearray(BASE)

    def top(self) -> WorkFile:
        if not self.files or self.files[0].sealed:
            number = next(self.numbers)
            self.files.insert(0, WorkFile(number, 1, self.folder / f"{number}", self.size))
            self.files[0].fd()
        return self.files[0]

    def write(self, offset: int, data: bytes) -> None:
        assert self.top().write(offset, data) == len(data)
        if data:
            self.expected[len(self.expected) :] = bytes(max(0, offset - len(self.expected)))
            self.expected[offset : offset + len(data)] = data
        self.size = len(self.expected)

    def truncate(self, size: int) -> None:
        top = self.top()
        if size < self.size:
            top.truncate(size)
        self.expected[size:] = bytes(max(0, size - len(self.expected)))
        self.size = size

    def seal(self) -> None:
        if len(self.files) == 1:
            self.files[0].fd()
            self.files[0].seal()

    def merge(self) -> None:
        if len(self.files) == 2:
            upper, lower = self.files
            upper.fd()
            lower.unseal()
            lower.stored = True
            absorb(lower, upper)
            upper.close()
            self.files = [lower]

    def check(self) -> None:
        found = pieces(tuple(self.files), "base", 0, self.size)
        assert sum(piece.length for piece in found) == self.size
        assert show(found) == bytes(self.expected)
        middle = pieces(tuple(self.files), "base", self.size // 3, self.size // 2)
        assert show(middle) == bytes(self.expected[self.size // 3 : self.size // 2])

    def close(self) -> None:
        for file in self.files:
            file.close()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 40), st.binary(max_size=10)),
        st.tuples(st.just("truncate"), st.integers(0, 40)),
        st.tuples(st.just("seal")),
        st.tuples(st.just("merge")),
    ),
    max_size=20,
)


@given(steps)
def test_layers_over_a_base_behave_like_bytes(todo: list[tuple]) -> None:  # type: ignore[type-arg]
    with tempfile.TemporaryDirectory(dir=SHM) as folder:
        stack = Stack(Path(folder))
        for name, *arguments in todo:
            getattr(stack, name)(*arguments)
            stack.check()
        stack.close()


@given(steps, st.lists(st.booleans(), min_size=20, max_size=20))
def test_rows_describe_the_file_after_every_commit(todo: list[tuple], commits: list[bool]) -> None:  # type: ignore[type-arg]
    """What is stored, written in pieces as tree.db writes it, makes the same set of bytes."""
    rows: dict[tuple[int, int], int] = {}
    with tempfile.TemporaryDirectory(dir=SHM) as folder:
        file = WorkFile(1, 1, Path(folder) / "1", 0)
        file.fd()
        for (name, *arguments), is_committed in zip(todo, commits, strict=False):
            if name in ("write", "truncate"):
                getattr(file, name)(*arguments)
            if is_committed or name == "seal":
                all_rows, new = file.rows_to_write()
                if all_rows:
                    rows.clear()
                for work, start, end in new:
                    rows[(work, start)] = max(end, rows.get((work, start), 0))
                file.rows_written(all_rows, new)
                again = WorkFile(1, 1, Path(folder) / "1", 0)
                again.restore([(start, end) for (_, start), end in rows.items()])
                assert again.spans == file.spans
        file.close()


def test_sequential_writes_need_one_row(tmp_path: Path) -> None:
    file = WorkFile(1, 1, tmp_path / "1", 0)
    for number in range(100):
        file.write(number * 10, b"0123456789")
        all_rows, rows = file.rows_to_write()
        assert (all_rows, rows) == (False, [(1, 0, number * 10 + 10)])
        file.rows_written(all_rows, rows)
    file.close()


def test_rows_are_written_anew_before_they_are_many_more_than_the_ranges(tmp_path: Path) -> None:
    file = WorkFile(1, 1, tmp_path / "1", 0)
    file.write(0, bytes(1000))
    stored = 0
    for number in range(200):
        file.write((number * 37) % 900, b"x")
        all_rows, rows = file.rows_to_write()
        stored = len(rows) if all_rows else stored + len(rows)
        file.rows_written(all_rows, rows)
        assert stored <= 70
    file.close()


def test_a_write_never_needs_the_base(tmp_path: Path) -> None:
    """One byte in a placeholder of 10 GiB."""
    huge = 10 << 30
    file = WorkFile(1, 1, tmp_path / "1", huge)
    file.write(huge // 2, b"x")
    found = pieces((file,), "base", 0, huge)
    assert [type(piece) for piece in found] == [BasePiece, LocalPiece, BasePiece]
    assert sum(piece.length for piece in found) == huge
    assert not file.is_complete(huge)
    file.close()


def test_truncate_to_nothing_and_regrow_shows_zeros_not_the_base(tmp_path: Path) -> None:
    file = WorkFile(1, 1, tmp_path / "1", 26)
    file.truncate(0)
    file.write(10, b"x")
    assert show(pieces((file,), "base", 0, 26)) == bytes(10) + b"x" + bytes(15)
    assert file.limit_below == 0
    file.close()


def test_a_full_disk_says_how_much_was_written(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    file = WorkFile(1, 1, full, 0)
    file.stored = True
    with pytest.raises(OSError, match="No space"):
        file.write(0, b"x")
    assert len(file.spans) == 0
    file.close()


def test_a_stored_file_that_is_missing_is_an_error_and_not_made_anew(tmp_path: Path) -> None:
    file = WorkFile(1, 1, tmp_path / "1", 0)
    file.restore([(0, 5)])
    with pytest.raises(FileNotFoundError):
        file.fd()
    assert not (tmp_path / "1").exists()
