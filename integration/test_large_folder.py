"""A folder of 100,000 entries, read while names in it come and go. The quick run has fewer."""

import ctypes
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll

pytestmark = pytest.mark.skipif(not FUSE, reason="no FUSE")

FIRST_NAME_S = 0.5  # a listing of 100,000 takes seconds; it is built in steps, and nobody waits for all of it
NAME_AT = 19  # of d_name in struct dirent, on 64-bit Linux

_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = ctypes.c_void_p
_libc.readdir.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long
_libc.readdir.argtypes = _libc.telldir.argtypes = _libc.closedir.argtypes = [ctypes.c_void_p]
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


class Listing:
    """An open directory, with the positions that a C program gets."""

    def __init__(self, folder: Path) -> None:
        self._dir = _libc.opendir(os.fsencode(folder))
        assert self._dir, os.strerror(ctypes.get_errno())

    def close(self) -> None:
        _libc.closedir(self._dir)

    def next(self) -> str | None:
        """The next name, None at the end."""
        ctypes.set_errno(0)
        entry = _libc.readdir(self._dir)
        if not entry:
            assert ctypes.get_errno() == 0, os.strerror(ctypes.get_errno())
            return None
        return os.fsdecode(ctypes.string_at(entry + NAME_AT))

    def names(self) -> Iterator[str]:
        """What is still to come."""
        while (name := self.next()) is not None:
            yield name

    @property
    def place(self) -> int:
        return int(_libc.telldir(self._dir))

    @place.setter
    def place(self, place: int) -> None:
        _libc.seekdir(self._dir, place)


@pytest.fixture(params=[4000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Pushed by one machine, seen by another that has never looked into it; the odd numbers are left alone."""
    source = tmp_path / "large"
    source.mkdir()
    for number in range(request.param):
        (source / name_of(number)).write_bytes(b"")
    with fleet(tmp_path / "fleet", "yoga", "bates", up=False) as (yoga, bates):
        yoga.run("push", str(source), timeout=1800)
        bates.up()
        poll(lambda: learned(bates) == request.param, 1800, "all is learned")
        yield bates.mountpoint / "large"


def learned(machine: Machine) -> int:
    """Names in the folder, as fleet.db says: the kernel has heard of none."""
    listed = machine.run("ls", "large", expect=None)
    return len(listed.stdout.splitlines()) if listed.returncode == 0 else 0


def name_of(number: int) -> str:
    return f"entry{number:06}"


def test_names_that_come_and_go_beside_a_listing(folder: Path) -> None:
    """Each name that is there all the time comes once; the first one at once."""
    count = len(os.listdir(folder))
    listing = Listing(folder)
    began = time.monotonic()
    seen = Counter([listing.next() for _ in range(3)])
    took = time.monotonic() - began
    for number, name in enumerate(listing.names()):
        seen[name] += 1
        if number % 7 == 0:  # behind, at, and in front of where the listing is
            for place in (number // 2, number, min(number * 2, count - 1)):
                (folder / name_of(place - place % 2)).unlink(missing_ok=True)
            (folder / f"{name_of(number)}.new").touch()
    listing.close()
    assert all(seen[name_of(number)] == 1 for number in range(1, count, 2))
    assert max(seen.values()) == 1
    assert took < FIRST_NAME_S


def test_positions_stay_what_they_were(folder: Path) -> None:
    """telldir and seekdir, while what was listed before goes and other names come."""
    count = len(os.listdir(folder))
    listing = Listing(folder)
    places: dict[int, str | None] = {}
    for number in range(count):
        place, name = listing.place, listing.next()
        if number % (count // 20) == 1:
            places[place] = name
    for number in range(0, count, 50):
        (folder / name_of(number)).unlink()
        (folder / f"{name_of(number)}.new").touch()
    for place, name in random.Random(1).sample(sorted(places.items()), len(places)):
        if name is not None and (folder / name).exists():
            listing.place = place
            assert name == listing.next()
    middle, name = list(places.items())[len(places) // 2]
    listing.place = middle
    rest = Counter(listing.names())
    listing.close()
    expected = [name_of(number) for number in range(count) if name is not None and name_of(number) > name]
    assert max(rest.values()) == 1
    assert {each for each in expected if (folder / each).exists()} <= rest.keys()
    assert set(os.listdir(folder)) == {entry.name for entry in os.scandir(folder)}
