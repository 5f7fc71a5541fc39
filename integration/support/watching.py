"""inotify for tests, without a tool: watches on folders and files, events as (mask's names, name)."""

import ctypes
import os
import select
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

NAMES = {
    0x2: "MODIFY",
    0x4: "ATTRIB",
    0x8: "CLOSE_WRITE",
    0x10: "CLOSE_NOWRITE",
    0x20: "OPEN",
    0x40: "MOVED_FROM",
    0x80: "MOVED_TO",
    0x100: "CREATE",
    0x200: "DELETE",
    0x400: "DELETE_SELF",
    0x800: "MOVE_SELF",
    0x2000: "UNMOUNT",
    0x4000: "Q_OVERFLOW",
    0x8000: "IGNORED",
}
BITS = {name: bit for bit, name in NAMES.items()}
CHANGES = ("MODIFY", "ATTRIB", "MOVED_FROM", "MOVED_TO", "CREATE", "DELETE", "DELETE_SELF", "MOVE_SELF")
_HEAD = struct.Struct("iIII")
_IS_DIR = 0x40000000


class Event(NamedTuple):
    what: str
    name: str
    cookie: int
    is_dir: bool
    watch: str


class Watcher:
    """One inotify descriptor."""

    def __init__(self, *paths: Path, mask: tuple[str, ...] = CHANGES) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watches: dict[int, str] = {}
        self.events: list[Event] = []
        for path in paths:
            self.add(path, mask)

    def add(self, path: Path, mask: tuple[str, ...] = CHANGES) -> None:
        number = self._libc.inotify_add_watch(self.fd, os.fsencode(path), sum(BITS[name] for name in mask))
        assert number >= 0, os.strerror(ctypes.get_errno())
        self._watches[number] = path.name

    def read(self, seconds: float = 0.0) -> list[Event]:
        """All events so far, after waiting so long for another one."""
        if select.select([self.fd], [], [], seconds)[0]:
            data = os.read(self.fd, 1 << 20)
            while data:
                number, mask, cookie, length = _HEAD.unpack_from(data)
                name = data[_HEAD.size : _HEAD.size + length].rstrip(b"\0").decode()
                data = data[_HEAD.size + length :]
                for bit, what in NAMES.items():
                    if mask & bit:
                        self.events.append(
                            Event(what, name, cookie, bool(mask & _IS_DIR), self._watches.get(number, ""))
                        )
        return self.events

    def wait(self, condition: Callable[[list[Event]], bool], seconds: float = 15.0) -> list[Event]:
        deadline = time.monotonic() + seconds
        while not condition(self.events):
            assert time.monotonic() < deadline, f"not within {seconds} s: {self.brief()}"
            self.read(0.05)
        return self.events

    def wait_for(self, what: str, name: str, seconds: float = 15.0) -> None:
        self.wait(lambda events: any((event.what, event.name) == (what, name) for event in events), seconds)

    def brief(self) -> list[tuple[str, str]]:
        self.read()
        return [(event.what, event.name) for event in self.events]

    def clear(self) -> None:
        self.read()
        self.events = []

    def close(self) -> None:
        os.close(self.fd)
