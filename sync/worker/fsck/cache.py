"""fsck of the cache: what is wrong here is a warning, for a reader removes it and fetches it again."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from sync.cas.cache import open_quietly
from sync.core.codec import CHUNK_RAW_MAX, chunk_id
from sync.core.manifest import ChunkId
from sync.worker.fsck.check import Check

VERIFY_MAX: Final = 2 << 30  # bytes of cache files that are read without being asked to
READ_AT_ONCE: Final = 64  # files for one hop to a thread
_DIGITS: Final = frozenset("0123456789abcdef")
_HINT: Final = "nothing is lost: the next reader removes it and fetches it again"


class Wholes:
    """The whole files of the cache: name -> size. What no live version has is left alone: an older one may."""

    def __init__(self, check: Check, folder: Path) -> None:
        self._check = check
        self._folder = folder
        self._sizes: dict[str, int] = {}
        for entry in _entries(folder):
            if _is_id(entry.name):
                check.tally.cache_files += 1
                self._sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
                if not entry.is_file(follow_symlinks=False):
                    check.findings.warning(entry.path, f"{entry.path} is no file", hint=_HINT)
                    del self._sizes[entry.name]

    def compare(self, content_id: str, ids: Sequence[ChunkId], sizes: Sequence[int], file_size: int) -> None:
        """The file of this content, if there is one: its size; with deep, and if the list is all of it, its bytes."""
        size = self._sizes.pop(content_id, None)
        if size is None:
            return
        path = self._folder / content_id
        if size != file_size:
            message = f"{path} has {size} bytes, not {file_size}"
            self._check.findings.warning(str(path), message, hint=_HINT)
        elif self._check.deep and sum(sizes) == file_size:
            self._read(path, ids, sizes)

    def _read(self, path: Path, ids: Sequence[ChunkId], sizes: Sequence[int]) -> None:
        tally = self._check.tally
        try:
            with open_quietly(path) as file:
                for expected, size in zip(ids, sizes, strict=True):
                    data = file.read(size)
                    tally.cache_bytes += len(data)
                    if chunk_id(self._check.context.keys, data) != expected:
                        self._check.findings.warning(str(path), f"{path} holds other bytes than it should", hint=_HINT)
                        return
        except FileNotFoundError:
            return  # evicted meanwhile
        except OSError as error:
            self._check.findings.warning(str(path), f"{path} cannot be read: {error.strerror}", hint=_HINT)
        tally.cache_verified += 1


async def check_cache(check: Check, root: Path) -> Wholes:
    """Every cached chunk against its name, up to VERIFY_MAX bytes unless deep; the whole files for check_contents."""
    env, files = check.context.env, _chunk_files(root / "chunks")
    while await env.run_io(_check_some, check, files):
        check.tell()
    left = check.tally.cache_files - check.tally.cache_verified
    if check.tally.cache_bytes >= VERIFY_MAX and left:
        check.tally.unverified.append(f"{left} cached chunks beyond the first {VERIFY_MAX} bytes; --deep reads them")
    return await env.run_io(Wholes, check, root / "whole")


def _check_some(check: Check, files: Iterator[Path]) -> bool:
    """The next files; False if there are none."""
    paths = list(islice(files, READ_AT_ONCE))
    for path in paths:
        check.tally.cache_files += 1
        if check.deep or check.tally.cache_bytes < VERIFY_MAX:
            _check_chunk(check, path)
    return bool(paths)


def _check_chunk(check: Check, path: Path) -> None:
    try:
        size = path.stat().st_size
        data = b""
        if 0 < size <= CHUNK_RAW_MAX:
            with open_quietly(path) as file:
                data = file.read()
    except FileNotFoundError:
        return  # evicted meanwhile
    except OSError as error:
        check.findings.warning(str(path), f"{path} cannot be read: {error.strerror}", hint=_HINT)
        return
    check.tally.cache_verified += 1
    check.tally.cache_bytes += len(data)
    if chunk_id(check.context.keys, data).hex() != path.name:
        check.findings.warning(str(path), f"{path} ({size} bytes) is not the chunk that its name says", hint=_HINT)


def _chunk_files(root: Path) -> Iterator[Path]:
    """Files with the names of chunks; others are being written, or were when their writer was killed."""
    for folder in sorted(_entries(root), key=lambda entry: entry.name):
        if folder.is_dir(follow_symlinks=False):
            for entry in _entries(Path(folder.path)):
                if _is_id(entry.name):
                    yield Path(entry.path)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_id(name: str) -> bool:
    return len(name) == 64 and _DIGITS.issuperset(name)
