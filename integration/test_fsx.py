"""Random operations on one file, checked byte for byte: alone, and while it is published, evicted and fetched again."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from around import Around, cached
from fleetkit import Machine, poll
from fleetkit import fleet as machines
from fsx import Exerciser
from mountkit import HAS_FUSE, Fleet, fleet

pytestmark = pytest.mark.skipif(not HAS_FUSE, reason="/dev/fuse cannot be opened here")

LONG = 1_000_000  # operations
LONG_SIZES = (1 << 18, 1 << 16, 3 << 20)  # the largest that the file gets: one chunk, a small one, several


@pytest.fixture
def yoga(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as made:
        yield made


def test_the_exerciser_finds_a_wrong_byte(tmp_path: Path) -> None:
    path = tmp_path / "f"

    def spoil() -> None:
        with path.open("r+b") as file:
            file.seek(os.stat(path).st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))

    with pytest.raises(AssertionError, match="wrong"):
        Exerciser(path, 1, settle=spoil, settle_every=500).run(3000)
    Exerciser(path, 2).run(500)


def test_one_file(yoga: Fleet) -> None:
    Exerciser(yoga.mount() / "f", 1).run(3000)
    assert "Traceback" not in yoga.log()


def test_one_file_whose_mount_is_killed(yoga: Fleet) -> None:
    """What was closed is there, whatever had been sealed by then."""
    root = yoga.mount()

    def kill() -> None:
        yoga.kill()
        yoga.mount()

    Exerciser(root / "f", 3, settle=kill, settle_every=400).run(2000)


class Settling:
    """What happens to the file while nobody has it open: nothing; or it is published and loses its bytes; or a process
    dies.
    """

    def __init__(self, here: Machine, seed: int) -> None:
        self._here = here
        self._random = random.Random(seed)
        self.published = 0

    def __call__(self) -> None:
        pick = self._random.random()
        if pick < 0.3:
            return
        if pick < 0.4:
            self._kill()
            return
        self._here.run("wait", timeout=120)
        self.published += 1
        if pick < 0.7:
            for path in cached(self._here):
                path.unlink(missing_ok=True)
        else:
            self._here.run("dehydrate", str(self._here.mountpoint), expect=None)

    def _kill(self) -> None:
        kind = self._random.choice(("mount", "tcfsd"))
        before = self._here.pids(kind)
        self._here.kill(kind)
        poll(lambda: set(self._here.pids(kind)) - set(before), 30, f"{kind} started again")
        poll(self._answers, 30, "the mount answers")

    def _answers(self) -> bool:
        try:
            os.listdir(self._here.mountpoint)
        except OSError:
            return False
        return os.path.ismount(self._here.mountpoint)


def among_others(base: Path, seed: int, operations: int, settle_every: int, size_max: int) -> None:
    with machines(base, "yoga", "bates") as (yoga, bates):
        settling = Settling(yoga, seed)
        exerciser = Exerciser(
            yoga.mountpoint / "f", seed, size_max=size_max, settle=settling, settle_every=settle_every
        )
        with Around(yoga, bates, seed):
            exerciser.run(operations)
        yoga.run("wait", timeout=120)
        poll(lambda: _has(bates.mountpoint / "f", exerciser.model), 60, "the same on the other machine", pause=0.5)
        assert settling.published or operations < 10 * settle_every
        for machine in (yoga, bates):
            machine.fsck()
            assert "Traceback" not in machine.whole_logs(), machine.logs()


def _has(path: Path, content: bytearray) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def test_one_file_while_everything_goes_on(tmp_path: Path) -> None:
    among_others(tmp_path, 1, 2500, 250, 1 << 18)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("number", range(len(LONG_SIZES)))
def test_a_million_operations_while_everything_goes_on(tmp_path: Path, number: int) -> None:
    among_others(tmp_path, 10 + number, LONG // len(LONG_SIZES), 2000, LONG_SIZES[number])
