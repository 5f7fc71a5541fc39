"""Keeps the mount process running as long as a mount point is wanted, and frees one that is stuck.

The mount is known by its connection and its lock, not as a child: it outlives the daemon, and the next daemon finds it
again.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sync.core.errors import NoDaemon
from sync.env import Env
from sync.ipc.server import Link
from sync.machines import fuse
from sync.machines.launch import UNKNOWN, MountProcess, errors_path, start_mount
from sync.machines.processor import ThreadTimes, thread_times, without_processor
from sync.state.home import FleetPaths
from sync.state.lock import is_held, owner

TICK_S = 0.1
PING_EVERY_S = 2.0
PING_S = 10.0  # a mount that has not answered for so long is stuck
FIRST_PAUSE_S = 0.5  # before it is started again; doubled at each failure
LONGEST_PAUSE_S = 30.0
SERVED_S = 1.0  # connected for so long, and it is started again at once
SLICE_S = 1.0  # of waiting for an answer: what takes several times as long has been no waiting, see _answers

_log = logging.getLogger("tcfs.keeper")


@dataclass(frozen=True, slots=True)
class MountState:
    """wanted: the mount point, '' for none. trouble: why it does not run, '' while all is well or just starting."""

    wanted: str
    is_connected: bool
    trouble: str


class MountKeeper:
    """`link` gives the mount's connection, or None; `last_refused` when one was last sent away for its protocol."""

    def __init__(
        self,
        env: Env,
        paths: FleetPaths,
        environ: Mapping[str, str],
        link: Callable[[], Link | None],
        last_refused: Callable[[], float] = lambda: float("-inf"),
        child: MountProcess | None = None,
    ) -> None:
        """child: a mount process that was started a moment ago (start_mount_early), by this daemon or by `up`."""
        self._env = env
        self._paths = paths
        self._environ = environ
        self._link = link
        self._wanted = ""
        self._child = child
        self._next_start = 0.0
        self._pause = FIRST_PAUSE_S
        self._trouble = ""
        self._has_served = False  # the child: it was connected once
        self._has_lasted = False  # and for longer than a moment
        self._refused_at = last_refused
        self._alone_since: float | None = None  # a mount stands, and does not connect
        self._alone_times: dict[str, ThreadTimes] = {}
        self._looked_at = 0.0
        self._stood_before: int | None = None  # what a mount that died had left there when the child was started

    def want(self, mountpoint: str) -> None:
        """From now on keep a mount there; '' for none. A mount that runs elsewhere is not ended here."""
        self._wanted = mountpoint
        self._next_start = 0.0
        self._pause = FIRST_PAUSE_S
        self._trouble = ""

    def state(self) -> MountState:
        return MountState(self._wanted, self._link() is not None, self._trouble)

    async def run(self) -> None:
        """For ever."""
        while True:
            link = self._link()
            if link is not None:
                self._alone_since = None
                await self._watch(link)
            elif self._wanted:
                await self._look_after()
            await self._env.sleep(TICK_S)

    async def _watch(self, link: Link) -> None:
        """Ask the mount for a sign of life until its connection ends."""
        since = ping_at = self._env.monotonic()
        self._trouble = ""
        self._has_served = True
        while self._link() is link:
            now = self._env.monotonic()
            if fuse.has_died(link.peer.pid):
                await self._free(link, "was killed while the kernel waited for it")
                return
            if now >= ping_at:
                ping_at = now + PING_EVERY_S
                try:
                    if not await self._answers(link):
                        await self._free(link, f"did not answer for {PING_S:g} s")
                        self._trouble = f"it did not answer for {PING_S:g} s and was started again"
                        return
                except NoDaemon:
                    return
            if now - since >= SERVED_S:
                self._has_lasted = True
                self._pause = FIRST_PAUSE_S
            await self._env.sleep(TICK_S)

    async def _answers(self, link: Link) -> bool:
        """False if the mount has not answered for 10 s, in all of which this process ran, and the mount had a processor
        or did not want one.

        After a suspension of the machine, or of us, time has passed in which the mount may not have run either: then it
        gets its 10 s from there.
        """
        pid = link.peer.pid
        times = thread_times(pid)
        asked = asyncio.ensure_future(link.ping(None))
        waited = 0.0
        try:
            while waited < PING_S:
                before = self._env.monotonic()
                try:
                    async with self._env.timeout(SLICE_S):
                        await asyncio.shield(asked)
                    return True
                except TimeoutError:
                    took = self._env.monotonic() - before
                    times_before, times = times, thread_times(pid)
                    idle = without_processor(times_before, times, took)
                    waited = 0.0 if took > 3 * SLICE_S else waited + took - idle
                    if self._link() is not link:
                        raise NoDaemon("the mount went away") from None
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        return False

    async def _free(self, link: Link, why: str) -> None:
        await self._abort(link.peer.mountpoint, why)
        _kill(link.peer.pid)
        link.close()

    async def _abort(self, mountpoint: str, why: str) -> None:
        _log.error("the mount at %s %s: its connection is aborted", mountpoint, why)
        if not await self._env.run_io(fuse.abort, mountpoint):
            _log.error("the connection of %s could not be aborted", mountpoint)

    async def _look_after(self) -> None:
        """Start the mount unless one runs (and is about to connect) or the last attempt was just now."""
        if self._child is not None:
            code = self._child.poll()
            if code is None:
                if fuse.connection_number(self._wanted) != self._stood_before:  # else it has not mounted yet
                    await self._look_at_the_lonely(self._child.pid)
                return
            self._child = None
            if code and not self._is_another_here():
                how = "" if code == UNKNOWN else f" with code {code}"
                self._ended(self._last_words() or f"it ended{how}, see {self._paths.log_dir}")
        if self._env.monotonic() < self._next_start:
            return
        if not is_held(self._paths.mount_lock):
            self._start()
        elif fuse.has_died(owner(self._paths.mount_lock)):  # killed beside the daemon before this one
            await self._abort(self._wanted, "was killed while the kernel waited for it")
            self._slow_down()
        else:
            await self._look_at_the_lonely(owner(self._paths.mount_lock))

    def _is_another_here(self) -> bool:
        """Another process is the mount at this very place: two `up` at once have started one each."""
        lock = self._paths.mount_lock
        return is_held(lock) and lock.read_bytes().splitlines()[1:] == [os.fsencode(self._wanted)]

    async def _look_at_the_lonely(self, pid: int) -> None:
        """A mount stands and does not come to us: one that is stuck since before this daemon, or got stuck on its way
        to us, is freed, too.
        """
        now = self._env.monotonic()
        is_heard = now - self._refused_at() < PING_S  # it lives, but it is of another version of tcfs
        if is_heard or not fuse.is_mounted(self._wanted):  # on its way in or out
            self._alone_since = None
        elif self._alone_since is None or self._env.monotonic() - self._looked_at > 3 * SLICE_S:
            self._alone_since, self._alone_times = now, thread_times(pid)
        else:
            before, self._alone_times = self._alone_times, thread_times(pid)
            self._alone_since += without_processor(before, self._alone_times, now - self._looked_at)
            if now - self._alone_since >= PING_S:
                self._alone_since = None
                await self._abort(self._wanted, f"did not connect for {PING_S:g} s")
                _kill(pid)
                self._slow_down()
        self._looked_at = now

    def _start(self) -> None:
        self._next_start = self._env.monotonic() + self._pause
        reason = fuse.why_no_fuse()
        if reason:
            self._failed(reason)
            return
        self._has_served = self._has_lasted = False
        self._alone_since = None
        self._stood_before = fuse.connection_number(self._wanted)
        self._child = start_mount(self._paths, self._environ)
        _log.info("mount process %d started for %s", self._child.pid, self._wanted)

    def _ended(self, why: str) -> None:
        """One that has served is started again, and only if it then does not come up is that trouble."""
        if self._has_served:
            _log.error("the mount at %s is started again: %s", self._wanted, why)
            if self._has_lasted:
                self._next_start = self._env.monotonic()
            else:
                self._slow_down()
        else:
            self._failed(why)

    def _failed(self, trouble: str) -> None:
        if trouble != self._trouble:
            _log.error("the mount at %s does not run: %s", self._wanted, trouble)
        self._trouble = trouble
        self._slow_down()

    def _slow_down(self) -> None:
        self._next_start = self._env.monotonic() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE_S)

    def _last_words(self) -> str:
        """The last line that the mount wrote to stderr."""
        lines = errors_path(self._paths).read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("tcfs mount: ") if lines else ""


def _kill(pid: int) -> None:
    if pid <= 1:
        return
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        _log.info("the mount process %d has ended", pid)
