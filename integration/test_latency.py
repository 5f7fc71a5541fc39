"""A real mount asks for processors that sleep lightly, while a program asks it quickly, and no longer."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from fleetkit import FUSE, Machine, fleet, poll

from fs.latency import DEVICE, bearable_us

pytestmark = [
    pytest.mark.skipif(not FUSE, reason="/dev/fuse cannot be opened"),
    pytest.mark.skipif(not os.access(DEVICE, os.W_OK), reason=f"{DEVICE} may not be written to"),
    pytest.mark.skipif(bearable_us() is None, reason="this kernel has no driver that puts processors to sleep"),
]


def asks_for_light_sleep(machine: Machine) -> bool:
    (mount,) = machine.pids("mount")
    folder = f"/proc/{mount}/fd"
    for descriptor in os.listdir(folder):
        with suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(f"{folder}/{descriptor}") == str(DEVICE):
                return True
    return False


def ask_quickly(machine: Machine) -> bool:
    """As a copy does; whether the mount has noticed."""
    for _ in range(2000):
        os.listdir(machine.mountpoint)
    return asks_for_light_sleep(machine)


def test_processors_sleep_lightly_while_a_program_asks_quickly(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga") as (yoga,):
        assert not asks_for_light_sleep(yoga)
        poll(lambda: ask_quickly(yoga), 30, "a request for light sleep")
        poll(lambda: not asks_for_light_sleep(yoga), 10, "its end")


def test_no_processor_is_kept_awake_if_config_says_so(tmp_path: Path) -> None:
    with fleet(tmp_path, "yoga", up=False) as (yoga,):
        yoga.run("up", environ={"TCFS_LOW_LATENCY": "off"})
        assert not ask_quickly(yoga)
