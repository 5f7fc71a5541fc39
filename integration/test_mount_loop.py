"""The request loop under real requests: the seam in pyfuse3 is reached, and one slow request stops nobody."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
HAMMER = "import os, sys\nwhile True:\n    os.stat(sys.argv[1])"

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    place = tmp_path / "m"
    place.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(REPO / "integration/support/tiny_mount.py"), str(place)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )
    try:
        deadline = time.monotonic() + 10
        while not os.path.ismount(place):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        yield place, process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=10)
        if os.path.ismount(place):
            subprocess.run(["umount", "-l", str(place)], check=True)


def finish(process: "subprocess.Popen[str]") -> str:
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=10)[0]


def test_the_seam_is_reached_and_few_requests_park(mount: tuple[Path, "subprocess.Popen[str]"]) -> None:
    place, process = mount
    fd = os.open(place / "f", os.O_RDONLY)
    for _ in range(3000):
        os.fstat(fd)
        os.pread(fd, 4096, 0)
    os.close(fd)
    words = finish(process).split()
    assert words[1] == "True"
    parked, at_once = int(words[3]), int(words[6])
    assert at_once > 4 * parked
    assert not os.path.ismount(place)


def test_a_waiting_request_stops_nobody(mount: tuple[Path, "subprocess.Popen[str]"]) -> None:
    place, _ = mount
    fd = os.open(place / "f", os.O_RDONLY)
    slow = threading.Thread(target=os.stat, args=(place / "slow",))
    slow.start()
    answered = 0
    while slow.is_alive():
        os.fstat(fd)
        answered += 1
    os.close(fd)
    assert answered > 500


def test_clients_killed_in_the_middle_stall_nothing(mount: tuple[Path, "subprocess.Popen[str]"]) -> None:
    place, process = mount

    def hammer() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-S", "-c", HAMMER, str(place / "f")])

    clients = [hammer() for _ in range(3)]
    try:
        for turn in range(15):
            time.sleep(0.05)
            clients[turn % 3].kill()
            clients[turn % 3].wait()
            clients[turn % 3] = hammer()
    finally:
        for client in clients:
            client.kill()
            client.wait()
    start = time.monotonic()
    os.stat(place / "f")
    assert time.monotonic() - start < 1
    assert process.poll() is None
    assert "reached True" in finish(process)


def test_the_mount_point_is_freed_when_the_process_is_killed(mount: tuple[Path, "subprocess.Popen[str]"]) -> None:
    place, process = mount
    process.kill()
    deadline = time.monotonic() + 5
    while os.path.ismount(place) or not os.access(place, os.X_OK):
        assert time.monotonic() < deadline
        time.sleep(0.02)
