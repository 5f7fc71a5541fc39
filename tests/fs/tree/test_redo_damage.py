"""A redo log that cannot be read: the mount starts without losing anything, or says what keeps it and what helps."""

import os
import struct
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from treekit import Machine

from fs.tree.tree import Tree
from sync.core.errors import BadConfig, TcfsError, Unsupported
from sync.core.ranges import RangeSet
from sync.env import Crash, FakeEnv
from sync.state.tree import aside
from sync.state.tree.reader import TreeReader
from sync.state.tree.redo import SIZE, log_path

HEADER = struct.Struct(">II16s")


def _log(yoga: Machine) -> Path:
    return log_path(yoga.paths.tree_db)


def _places(log: Path) -> list[int]:
    """Where the records begin, and where the last one ends."""
    data = log.read_bytes()
    stamp, found = HEADER.unpack_from(data)[2], [0]
    while HEADER.unpack_from(data, found[-1])[2] == stamp:
        found.append(found[-1] + HEADER.size + HEADER.unpack_from(data, found[-1])[0])
    return found


def _trouble(yoga: Machine) -> str:
    with closing(TreeReader(yoga.engine_env, yoga.paths.tree_db)) as reader:
        return reader.pass_over_log()


def _write(log: Path, place: int, data: bytes) -> None:
    with log.open("r+b") as file:
        file.seek(place)
        file.write(data)


def _payload(log: Path, places: list[int]) -> None:
    _write(log, places[1] + HEADER.size + 3, b"\xff\xff")


def _header(log: Path, places: list[int]) -> None:
    _write(log, places[1], bytes(HEADER.size))


def _cut(log: Path, places: list[int]) -> None:
    os.truncate(log, places[2] - 5)


@pytest.mark.logs_trouble
@pytest.mark.parametrize("damage", [_payload, _header, _cut])
def test_what_can_be_read_counts_and_the_rest_is_kept(
    yoga: Machine, damage: Callable[[Path, list[int]], None], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("first", "second", "third"):
        yoga.write(name, name.encode())
    yoga.tree.abandon()
    log = _log(yoga)
    damage(log, _places(log))
    found = log.read_bytes()
    assert str(log) in _trouble(yoga)
    yoga.restart()
    assert yoga.walk() == {"first": b"first"}
    (folder,) = aside.folders(yoga.paths.state_dir)
    assert (folder / log.name).read_bytes() == found
    assert {path.read_bytes() for path in folder.iterdir() if path.name != log.name} == {b"second", b"third"}
    assert str(folder) in caplog.text
    assert _trouble(yoga) == ""
    yoga.write("later", b"1")
    yoga.restart()
    yoga.cycle()
    assert yoga.walk() == {"first": b"first", "later": b"1"}
    assert aside.folders(yoga.paths.state_dir) == [folder]


@pytest.mark.logs_trouble
@pytest.mark.parametrize("record", [0, 1])
def test_killed_while_it_is_set_aside(yoga: Machine, record: int) -> None:
    for name in ("first", "second", "third"):
        yoga.write(name, name.encode())
    yoga.tree.abandon()
    log = _log(yoga)
    _write(log, _places(log)[record] + HEADER.size + 3, b"\xff\xff")
    for point in ("tree.before_commit", "tree.after_commit"):
        env = FakeEnv(7, yoga.fleet.clock)
        env.arm(point)
        with pytest.raises(Crash):
            Tree.load(env, yoga.paths, uid=1000, gid=1000)
    yoga.restart()
    assert list(yoga.walk()) == ["first", "second", "third"][:record]
    (folder,) = aside.folders(yoga.paths.state_dir)
    assert {path.read_bytes() for path in folder.iterdir() if path.name != log.name} == {
        name.encode() for name in ("first", "second", "third")[record:]
    }


@pytest.mark.logs_trouble
@pytest.mark.parametrize("point", ["", "tree.before_commit"])
def test_what_rows_that_are_older_do_not_know_of_a_file_is_kept(yoga: Machine, point: str) -> None:
    """What was appended would be cut off, what was written in between is hidden by the version below."""
    far = 5 << 40  # most of the file is a hole
    yoga.write("longer", b"first ")
    yoga.write("published", b"p" * 100)
    yoga.cycle()
    yoga.patch("longer", 0, b"F")
    yoga.patch("published", 90, b"known")
    yoga.tree.overlay.commit()
    yoga.write("other", b"1")
    yoga.patch("longer", far, b"and more")
    yoga.patch("published", 10, b"unknown")
    yoga.tree.abandon()
    _payload(_log(yoga), _places(_log(yoga)))
    if point:
        env = FakeEnv(7, yoga.fleet.clock)
        env.arm(point)
        with pytest.raises(Crash):
            Tree.load(env, yoga.paths, uid=1000, gid=1000)
    yoga.restart()
    assert yoga.walk() == {"longer": b"First ", "published": b"p" * 90 + b"known" + b"p" * 5, "other": b"1"}
    (folder,) = aside.folders(yoga.paths.state_dir)
    files = (path for path in folder.iterdir() if path.name != _log(yoga).name)
    kept = sorted(files, key=lambda path: path.stat().st_size)
    assert kept[0].read_bytes().strip(b"\0") == b"unknown"
    assert kept[0].read_bytes().index(b"unknown") == 10
    assert kept[1].stat().st_size == far + 8
    assert kept[1].stat().st_blocks * 512 < 1 << 20
    with kept[1].open("rb") as file:
        file.seek(far)
        assert file.read() == b"and more"


def test_what_was_kept_before_a_kill_stays(tmp_path: Path) -> None:
    """It may have been cut off from the file since."""
    part, file = tmp_path / "part", tmp_path / "0001"
    part.mkdir()
    file.write_bytes(b"unknown, known, tail")
    for _ in range(2):
        aside.put_rest(part, file, RangeSet([(9, 14)]))
        assert (part / "0001").read_bytes() == b"unknown, " + bytes(5) + b", tail"
        os.truncate(file, 14)


def test_a_record_that_a_kill_has_cut_off_is_no_damage(yoga: Machine) -> None:
    """Nobody was told that it is there."""
    for name in ("first", "second"):
        yoga.write(name, name.encode())
    yoga.tree.abandon()
    places = _places(_log(yoga))
    _write(_log(yoga), places[1] + HEADER.size + 3, bytes(SIZE - places[1] - HEADER.size - 3))
    assert _trouble(yoga) == ""
    yoga.restart()
    assert yoga.walk() == {"first": b"first"}
    assert aside.folders(yoga.paths.state_dir) == []


def test_what_a_power_cut_took_is_no_damage(yoga: Machine) -> None:
    for name in ("first", "second", "third"):
        yoga.write(name, name.encode())
    yoga.tree.abandon()
    _payload(_log(yoga), _places(_log(yoga)))
    yoga.restart(boot="another")
    assert "first" in yoga.walk()
    assert aside.folders(yoga.paths.state_dir) == []


def test_one_that_may_not_be_read_keeps_the_mount_from_starting_and_loses_nothing(yoga: Machine) -> None:
    yoga.write("f", b"closed")
    yoga.tree.abandon()
    log = _log(yoga)
    away = log.rename(log.with_name("away"))
    log.mkdir()
    for _ in range(2):
        with pytest.raises(BadConfig, match="cannot be read") as caught:
            yoga.restart()
        assert caught.value.path == str(log)
        assert "move it away" in caught.value.hint
    assert "cannot be read" in _trouble(yoga)
    with closing(TreeReader(yoga.engine_env, yoga.paths.tree_db)) as reader, pytest.raises(TcfsError):
        reader.is_sealed_or_dirty()  # nobody may say that all is safe
    log.rmdir()
    away.rename(log)
    yoga.restart()
    assert yoga.walk() == {"f": b"closed"}


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        msgspec.msgpack.encode({"no": "batches"}),
        msgspec.msgpack.encode([("shelf+", [(1, 2)])]),
        msgspec.msgpack.encode([("meta+", [("key", 1, "and more")])]),
        msgspec.msgpack.encode([("node+", [(3, "no number")])]),
    ],
)
def test_one_of_another_program_keeps_the_mount_from_starting_and_loses_nothing(yoga: Machine, payload: bytes) -> None:
    yoga.write("f", b"closed")
    yoga.tree.abandon()
    log = _log(yoga)
    place, before = _places(log)[-1], log.read_bytes()
    stamp = HEADER.unpack_from(before)[2]
    _write(log, place, HEADER.pack(len(payload), zlib.crc32(payload, zlib.crc32(stamp)), stamp) + payload)
    for _ in range(2):
        with pytest.raises(Unsupported, match="another version of tcfs") as caught:
            yoga.restart()
        assert "tcfs that wrote it" in caught.value.hint
    log.write_bytes(before)
    yoga.restart()
    assert yoga.walk() == {"f": b"closed"}
