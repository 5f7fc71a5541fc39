"""Where the bytes of a node come from: the work file over the sealed layer over the base version."""

from typing import NamedTuple

from fs.work.workfile import WorkFile


class LocalPiece(NamedTuple):
    """`length` bytes at `offset` of an open file. The descriptor is good until the caller's next await."""

    fd: int
    offset: int
    length: int


class Zeros(NamedTuple):
    length: int


class BasePiece(NamedTuple):
    """`length` bytes at `offset` of the content of a version."""

    version: str
    offset: int
    length: int


Piece = LocalPiece | Zeros | BasePiece


def pieces(files: tuple[WorkFile, ...], base: str | None, start: int, end: int) -> list[Piece]:
    """Cover [start, end), in order, without gaps. `files` newest first; the caller cuts `end` at the node's size."""
    found: list[Piece] = []
    _show(files, base, start, end, found)
    return found


def _show(files: tuple[WorkFile, ...], base: str | None, start: int, end: int, found: list[Piece]) -> None:
    if start >= end:
        return
    if not files:
        found.append(Zeros(end - start) if base is None else BasePiece(base, start, end - start))
        return
    top = files[0]
    position = start
    for span_start, span_end in top.spans.intersect(start, end):
        _show_below(files, base, position, span_start, found)
        found.append(LocalPiece(top.fd(), span_start, span_end - span_start))
        position = span_end
    _show_below(files, base, position, end, found)


def _show_below(files: tuple[WorkFile, ...], base: str | None, start: int, end: int, found: list[Piece]) -> None:
    limit = min(end, files[0].limit_below)
    _show(files[1:], base, start, limit, found)
    start = max(start, limit)
    if start < end:
        found.append(Zeros(end - start))
