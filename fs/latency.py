"""Latency: while a program asks quickly, idle processors sleep lightly.

A program sleeps until its request is answered, and on an otherwise quiet machine the processor it leaves sleeps as
well. To wake that processor takes longer than most answers do: in a virtual machine it is the host that has to be
called, and a laptop needs as long from a deep sleep. Linux takes requests for less (PM QoS: a program that keeps
/dev/cpu_dma_latency open says how many µs it can bear), from root only; such a request ends with its descriptor, so a
killed mount leaves none behind. It costs power. So it is made only while requests come one right after the other, as
in a copy of many files, or a large file is written straight on, and withdrawn as soon as they become few.
"""

import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path

import trio

from fs.loop import Lowlevel

EVERY = 256  # requests between two looks
QUICK_S = 100e-6  # a request, on average: editors and builds stay far above
REST_S = 0.1  # with fewer than EVERY requests in it, and the copy is over

DEVICE = Path("/dev/cpu_dma_latency")
DRIVER = Path("/sys/devices/system/cpu/cpuidle/current_driver")
LIGHTLY_US = 2  # the first real sleep of all drivers for hardware takes 1 or 2 µs to wake from, the next one ten
AWAKE_US = 0  # to a guest its halt seems to take 1 µs, whatever the host makes of it

log = logging.getLogger(__name__)


def bearable_us(driver: Path = DRIVER) -> int | None:
    """What to ask for on this machine; None where nobody would listen."""
    try:
        name = driver.read_text().strip()
    except OSError:
        return None
    return {"none": None, "haltpoll": AWAKE_US}.get(name, LIGHTLY_US)


class LightSleep:
    """Belongs to the thread of the request loop; `run` is its task."""

    def __init__(
        self, loop: Lowlevel, monotonic: Callable[[], float], microseconds: int, device: Path = DEVICE
    ) -> None:
        """Does nothing where the device may not be written to."""
        self._loop = loop
        self._monotonic = monotonic
        self._request = struct.pack("i", microseconds)
        self._device = device
        self._fd = -1
        self._held = trio.Event()
        self._since = monotonic()
        self._is_streaming = False
        self._may_ask = os.access(device, os.W_OK)
        if self._may_ask:
            loop.call_every(EVERY, self._look)

    @property
    def is_held(self) -> bool:
        return self._fd >= 0

    async def run(self) -> None:
        """Withdraw the request when the program asks no more."""
        try:
            while True:
                await self._held.wait()
                served = self._loop.served_at_once
                await trio.sleep(REST_S)
                if self._loop.served_at_once - served < EVERY and not self._is_streaming:
                    self._release()
                self._is_streaming = False
        finally:
            self._release()

    def streams(self) -> None:
        """Some more MiB were written straight on: large requests, of which few are as urgent as many small ones."""
        self._is_streaming = True
        if self._may_ask and not self.is_held:
            self._hold()

    def _look(self) -> None:
        now = self._monotonic()
        is_quick = now - self._since < EVERY * QUICK_S
        self._since = now
        if is_quick and not self.is_held:
            self._hold()

    def _hold(self) -> None:
        try:
            fd = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            log.debug("processors sleep as they like: %s", error)
            return
        try:
            os.write(fd, self._request)
        except OSError as error:
            os.close(fd)
            log.debug("processors sleep as they like: %s", error)
            return
        self._fd = fd
        self._held.set()

    def _release(self) -> None:
        if self.is_held:
            os.close(self._fd)
            self._fd = -1
            self._held = trio.Event()
