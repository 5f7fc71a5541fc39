"""When processors are asked to sleep lightly, and when no more."""

import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from fs.latency import AWAKE_US, EVERY, LIGHTLY_US, QUICK_S, REST_S, LightSleep, bearable_us
from fs.loop import Lowlevel
from sync.env import FakeEnv


class Mount:
    """A request loop with a LightSleep, and a descriptor on which there is always another request."""

    def __init__(self, device: Path) -> None:
        self.loop = Lowlevel(FakeEnv())
        self.sleep = LightSleep(self.loop, trio.current_time, 7, device)
        self._requests, self._more = os.pipe()
        os.write(self._more, b"x")

    async def serve(self, count: int = 2 * EVERY) -> None:
        for _ in range(count):
            await self.loop.wait_readable(self._requests)

    def close(self) -> None:
        os.close(self._requests)
        os.close(self._more)


def run(device: Path, test: Callable[[Mount], Awaitable[None]]) -> Mount:
    async def main() -> Mount:
        mount = Mount(device)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mount.sleep.run)
                await test(mount)
                nursery.cancel_scope.cancel()
        finally:
            mount.close()
        return mount

    return trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "latency"
    path.touch()
    return path


def test_quick_requests_are_enough_and_calm_withdraws_it(device: Path) -> None:
    async def test(mount: Mount) -> None:
        await mount.serve(EVERY // 2)
        assert not mount.sleep.is_held
        await mount.serve()
        assert mount.sleep.is_held
        assert device.read_bytes() == struct.pack("i", 7)
        await trio.sleep(2.1 * REST_S)
        assert not mount.sleep.is_held
        await mount.serve()
        assert mount.sleep.is_held

    assert not run(device, test).sleep.is_held, "the mount has ended"


def test_who_goes_on_asking_keeps_it(device: Path) -> None:
    async def test(mount: Mount) -> None:
        for _ in range(20):
            await mount.serve()
            await trio.sleep(REST_S / 2)
            assert mount.sleep.is_held

    run(device, test)


def test_slow_programs_are_not_worth_it(device: Path) -> None:
    async def test(mount: Mount) -> None:
        for _ in range(10):
            await trio.sleep(1.1 * EVERY * QUICK_S)
            await mount.serve(EVERY)
            assert not mount.sleep.is_held

    run(device, test)


def test_a_large_file_that_is_written_straight_on_is_worth_it(device: Path) -> None:
    async def test(mount: Mount) -> None:
        for _ in range(10):
            mount.sleep.streams()
            assert mount.sleep.is_held
            await trio.sleep(REST_S / 2)
        await trio.sleep(2.1 * REST_S)
        assert not mount.sleep.is_held

    run(device, test)


def test_nobody_may_ask(tmp_path: Path) -> None:
    async def test(mount: Mount) -> None:
        await mount.serve()
        mount.sleep.streams()
        assert not mount.sleep.is_held

    run(tmp_path / "absent", test)


def test_the_device_refuses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It could be opened when the mount began."""
    device = tmp_path / "latency"
    device.touch()

    async def test(mount: Mount) -> None:
        device.unlink()
        await mount.serve()
        assert not mount.sleep.is_held
        device.symlink_to("/dev/full")
        await mount.serve()
        assert not mount.sleep.is_held

    with caplog.at_level("DEBUG"):
        run(device, test)
    assert "No space left" in caplog.text


@pytest.mark.parametrize(
    ("name", "microseconds"),
    [("haltpoll", AWAKE_US), ("intel_idle", LIGHTLY_US), ("acpi_idle", LIGHTLY_US), ("none", None)],
)
def test_what_this_machine_is_asked_for(tmp_path: Path, name: str, microseconds: int | None) -> None:
    driver = tmp_path / "current_driver"
    assert bearable_us(driver) is None
    driver.write_text(f"{name}\n")
    assert bearable_us(driver) == microseconds
