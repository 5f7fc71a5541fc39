"""Waking those who watch files: changes made elsewhere are replayed through the mount by a helper process.

Who watches what is looked up when a change has come, never in between: a watch set just before a change hears of it.
What the kernel has to forget because of these changes waits until the replay is over, for at most a moment: a helper
that hangs, or dies, is given up, and the kernel is told as if nobody watched.
"""

import errno
import json
import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from fs.ops.volume import Volume
from fs.replay.plan import Poke, ends_of_watches, inside_first, left_old, made_again, pokes
from fs.replay.waiting import NOBODY, unnamed
from fs.tree.change import Change
from fs.tree.left import is_left
from fs.tree.model import Invalidation, Key
from sync.state.changes import What

HELPER: Final = Path(__file__).parent / "replay" / "helper.py"
ANSWER_S: Final = 1.0  # without a sign of life from the helper, though it had the processor when it wanted it
ANSWER_MAX_S: Final = 10.0  # without a sign of life, whyever
LOOK_S: Final = 0.1  # between two looks at one that is waited for
START_S: Final = 5.0  # the first one: Python has to start
AGAIN_S: Final = 1.0  # before another helper is started; doubled each time
AGAIN_MAX_S: Final = 64.0
SLICE: Final = 64  # changes replayed before the kernel is told of them
TRIES: Final = 3  # somebody may look a name up again and again before the helper gets to it
SCAN_SHARE: Final = 4  # looking who watches may take one part in so many of the time
SCAN_PAUSE_MAX_S: Final = 0.1
LINE_MAX: Final = 1 << 20  # bytes

log = logging.getLogger(__name__)

Left = Mapping[int, Key]  # inodes that are gone though the kernel has them, and where they were
Tell = Callable[[Sequence[Invalidation]], None]
TellNow = Callable[[list[Invalidation]], Awaitable[None]]


class Waker:
    """Belongs to the thread of the request loop; `run` is its task."""

    def __init__(self, volume: Volume, mountpoint: Path, device: str, tell: Tell, tell_now: TellNow) -> None:
        """device: of the mount, as `major:minor`. tell: queues invalidations; tell_now: returns when they are sent."""
        self._volume = volume
        self._mountpoint = mountpoint
        major, _, minor = device.partition(":")
        self._device = f"{int(major) << 20 | int(minor):x}"
        self._tell = tell
        self._tell_now = tell_now
        self._queue: deque[tuple[list[Change], Left, Sequence[Invalidation]]] = deque()
        self._queued = trio.Event()
        self._helper: _Helper | None = None
        self._was_replaced = False  # in this replay
        self._not_before = 0.0
        self._pause_s = AGAIN_S
        self._scan_at = 0.0

    def add(self, changes: list[Change], left: Left, items: Sequence[Invalidation]) -> None:
        """Have changes replayed for those who watch; the items are told afterwards. left: what may be gone."""
        self._queue.append((changes, left, items))
        self._queued.set()

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                while True:
                    await self._queued.wait()
                    self._queued = trio.Event()
                    changes: list[Change] = []
                    left: dict[int, Key] = {}
                    items: dict[Invalidation, None] = {}
                    while self._queue:
                        more, gone, others = self._queue.popleft()
                        changes += more
                        left |= gone
                        items |= dict.fromkeys(others)
                    try:
                        await self._replay(changes, left, items)
                    finally:
                        self._volume.replay.end()
                        self._tell(list(items))
        finally:
            while self._queue:
                self._tell(self._queue.popleft()[2])
            if self._helper is not None:
                self._helper.kill()

    async def _replay(self, changes: list[Change], left: Left, items: dict[Invalidation, None]) -> None:
        """Takes out of `items` what it has told."""
        if await self._living() is None:
            return
        self._was_replaced = False
        try:
            watches = await self._watches()
            if not watches:
                return
            found = inside_first([poke for change in changes for poke in self._pokes(change, watches)])
            self._release(items, _unconcerned(items, found, left))
            for start in range(0, len(found), SLICE):
                todo = found[start : start + SLICE]
                await self._poke_all(todo)
                told = [poke.change for poke in todo]
                if ends := ends_of_watches(told, watches):
                    await self._tell_now(ends)
                self._tell(left_old(told))
                if again := made_again(told, watches):
                    await self._poke_all(again)
                self._release(items, _unconcerned(items, found[start + SLICE :], left))
            await self._end_watches(left)
            self._pause_s = AGAIN_S
        except Exception as error:  # the mount goes on whatever it is
            is_bug = not isinstance(error, _Lost | trio.TooSlowError)
            text = "the process that wakes watchers of files is given up: %s"
            log.warning(text, error or type(error).__name__, exc_info=error if is_bug else None)
            self._give_up()

    def _release(self, items: dict[Invalidation, None], told: list[Invalidation]) -> None:
        for item in told:
            del items[item]
        self._tell(told)

    def _pokes(self, change: Change, watches: dict[int, int]) -> list[Poke]:
        return [] if self._is_busy(change) else [self._reachable(poke) for poke in pokes(change, watches)]

    def _reachable(self, poke: Poke) -> Poke:
        """A folder that is gone is found by its number: by its names programs may have heard that it is gone."""
        st = self._volume.tree.state
        origin = poke.change.origin
        if origin is not None and is_left(st, origin.parent):
            return poke._replace(folder=unnamed(origin.parent))
        if origin is None and is_left(st, poke.change.parent):
            return poke._replace(folder=unnamed(poke.change.parent))
        return poke

    def _is_busy(self, change: Change) -> bool:
        """A call for this change could have to wait for a request that waits for something."""
        numbers = {change.ino, change.parent, change.origin.parent if change.origin is not None else 0}
        return any(self._volume.invalidations.is_busy(number) for number in numbers)

    async def _watches(self) -> dict[int, int]:
        try:
            return await self._look_who_watches()
        except _Lost as lost:
            await self._replace(lost)
            return await self._look_who_watches()

    async def _look_who_watches(self) -> dict[int, int]:
        helper = self._working()
        now = trio.current_time()
        if now < self._scan_at:
            await trio.sleep_until(self._scan_at)
        began = trio.current_time()
        await helper.ask([])
        answer = await helper.answer(START_S if helper.is_new else ANSWER_S)
        if not isinstance(answer, dict):
            raise _Lost("it says something else")
        helper.is_new = False
        took = trio.current_time() - began
        self._scan_at = trio.current_time() + min(took * (SCAN_SHARE - 1), SCAN_PAUSE_MAX_S)
        return {int(ino): int(mask) for ino, mask in answer.items()}

    async def _poke_all(self, todo: list[Poke]) -> None:
        """Once more what somebody has come before with: what is to be made the kernel knows by then, or what is to be
        removed it knows to be gone, or it cannot have a folder at two places.
        """
        for _ in range(TRIES):
            self._volume.replay.begin(todo)
            try:
                numbers = await self._working().poke(todo)
            except _Lost as lost:
                todo = [poke for poke in todo if self._volume.replay.is_waited_for(poke)]
                await self._replace(lost)
                continue
            todo = [
                poke
                for poke, number in zip(todo, numbers, strict=True)
                if number in (_EARLY.get(poke.what), errno.ESTALE)
            ]
            if not todo:
                return
            await self._tell_now([Invalidation(*_place(poke), 0, "entry") for poke in todo])

    async def _end_watches(self, left: Left) -> None:
        """Who watches what is gone hears of that, whatever the kernel had at its names when it was told of them. Looked
        for once more: till then the kernel let programs set watches on what it had there.
        """
        st = self._volume.tree.state
        if not any(is_left(st, ino) for ino in left):
            return
        await self._tell_now([])
        watches = await self._watches()
        todo = [ino for ino in left if ino in watches and is_left(st, ino)]
        for _ in range(TRIES):
            if not todo:
                return
            self._volume.replay.begin_ends(todo)
            try:
                numbers = await self._working().end(todo)
            except _Lost as lost:
                await self._replace(lost)
                continue
            todo = [ino for ino, number in zip(todo, numbers, strict=True) if number in (errno.EAGAIN, errno.ESTALE)]

    async def _living(self) -> "_Helper | None":
        if self._helper is not None or trio.current_time() < self._not_before:
            return self._helper
        command = [sys.executable, "-I", "-S", str(HELPER)]
        try:
            process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            log.warning("no process can be started that wakes watchers of files: %s", error)
            self._wait_longer()
            return None
        self._volume.replay.pid = process.pid
        helper = self._helper = _Helper(process)
        self._nursery.start_soon(self._bury, helper)
        try:
            with trio.fail_after(ANSWER_MAX_S):
                await helper.ask([str(self._mountpoint), self._device, os.getpid()])
        except (_Lost, trio.TooSlowError):
            self._give_up()
            return None
        return helper

    def _working(self) -> "_Helper":
        if self._helper is None:
            raise _Lost("it has ended")
        return self._helper

    async def _replace(self, lost: "_Lost") -> None:
        """Somebody has ended the helper: another one goes on with its work, once. _Lost if there is none."""
        if self._was_replaced:
            raise lost
        self._was_replaced = True
        if self._helper is not None:
            self._helper.kill()
            with trio.fail_after(ANSWER_MAX_S):
                await self._helper.buried.wait()
        if await self._living() is None:
            raise lost

    def _give_up(self) -> None:
        """Its pid stays known until it is dead: whatever it may still do must not be taken for a user's wish."""
        if self._helper is not None:
            self._helper.kill()
        self._wait_longer()

    def _wait_longer(self) -> None:
        self._not_before = trio.current_time() + self._pause_s
        self._pause_s = min(2 * self._pause_s, AGAIN_MAX_S)

    async def _bury(self, helper: "_Helper") -> None:
        await helper.process.wait()
        await helper.close()
        self._helper = None
        self._volume.replay.pid = NOBODY
        helper.buried.set()


# What the helper gets if the kernel has looked a name up before it came.
_EARLY: Final = {"create": errno.EEXIST, "remove": errno.ENOENT, "move": errno.ENOENT}


def _place(poke: Poke) -> tuple[int, str]:
    change = poke.change
    if change.what is What.MOVED and change.origin is not None:
        return change.origin.key
    return change.key


def _folders_left(folder: int, left: Left) -> set[Key]:
    """Where the folder was, if it may be gone, and all that it was in and that may be gone."""
    keys: set[Key] = set()
    while (key := left.get(folder)) is not None and key not in keys:
        keys.add(key)
        folder = key[0]
    return keys


def _unconcerned(items: dict[Invalidation, None], waiting: list[Poke], left: Left) -> list[Invalidation]:
    """The items that are not about a place of these, nor about a folder that is gone and that such a place is in."""
    keys = {key for poke in waiting for key in (poke.change.key, _place(poke))}
    for folder in {folder for folder, _ in keys}:
        keys |= _folders_left(folder, left)
    inodes = {poke.change.ino for poke in waiting if poke.change.ino}
    return [item for item in items if (item.parent, item.name) not in keys and item.ino not in inodes]


class _Lost(Exception):
    """The helper has ended, or talks nonsense."""


class _Helper:
    """One helper process."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.is_new = True
        self.buried = trio.Event()  # it is dead, and its pid may be anybody's
        self._buffer = b""

    async def ask(self, request: list[Any]) -> None:
        await self._write(json.dumps(request).encode() + b"\n")

    async def poke(self, todo: list[Poke]) -> list[int]:
        """The errno of each; trio.TooSlowError as answer."""
        return await self._do(
            [
                [poke.what, poke.folder, poke.name, poke.to_folder, poke.to_name, poke.change.kind, poke.change.mode]
                for poke in todo
            ]
        )

    async def end(self, todo: list[int]) -> list[int]:
        """Look at the inodes of that many numbers for the last time; as poke."""
        return await self._do([["end", "", unnamed(ino), "", "", 0, 0] for ino in todo])

    async def _do(self, todo: list[list[Any]]) -> list[int]:
        lines = [json.dumps([n, *request]) for n, request in enumerate(todo)]
        found: list[int] = []
        await self._write(("\n".join(lines) + "\n").encode())
        while len(found) < len(todo):
            answer = await self.answer()
            if not isinstance(answer, list) or answer[:1] != [len(found)]:
                raise _Lost("it answers something else")
            found.append(int(answer[1]))
        return found

    async def answer(self, patience_s: float = ANSWER_S) -> Any:
        """The next line that the helper says; trio.TooSlowError if it hangs for so long. Where there is much else to be
        done it, or we, may not run for seconds: that is no time in which it hangs.
        """
        hangs_s, latest = 0.0, trio.current_time() + ANSWER_MAX_S
        while True:
            with trio.move_on_after(LOOK_S):
                return await self._line()
            hangs_s += 0 if self._wants_processor() else LOOK_S
            if hangs_s >= patience_s or trio.current_time() >= latest:
                raise trio.TooSlowError

    def _wants_processor(self) -> bool:
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return False  # it has ended
        return stat.rpartition(")")[2].split()[0] == "R"

    async def _line(self) -> Any:
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            try:
                data = await self.process.stdout.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise _Lost("it has ended") from error
            if not data or len(self._buffer) > LINE_MAX:
                raise _Lost("it has ended" if not data else "a line without an end")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError as error:
            raise _Lost(f"it says {line[:100]!r}") from error

    async def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        try:
            with trio.fail_after(ANSWER_MAX_S):
                await self.process.stdin.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _Lost("it has ended") from error

    def kill(self) -> None:
        self.process.kill()

    async def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                await stream.aclose()
