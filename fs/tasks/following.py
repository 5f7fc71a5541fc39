"""Following the engine: its answers to seals, its feed, the contents that came or went, the policies."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio

from fs.ops.volume import Volume
from fs.pace import Pace
from fs.tasks.reports import Reports
from fs.tasks.running import Complaints, Signal, give_way
from fs.tasks.saving import Saver
from fs.tasks.sealing import Sealer
from fs.tasks.telling import Teller
from fs.tree import feed, left, note
from fs.tree.change import Change
from fs.tree.model import Invalidation, Key
from fs.tree.whole import copy_layers
from sync.core.errors import TcfsError
from sync.ipc import frames
from sync.state.policies import PolicyFile

LOOK_S: Final = 1.0  # lost hints are made good by then
TICK_S: Final = 0.02  # between two looks at whether the mount is still busy
INODES_AT_ONCE: Final = 20_000  # looked at between two chances for requests
NOTES_AT_ONCE: Final = 200  # answers noted between two chances for requests

Watched = Callable[[list[Change], dict[int, Key], Sequence[Invalidation]], None]


class Follower:
    """watched: who is told of changes made elsewhere, with the inodes that are left by them, and what the kernel has to
    forget because of them; it sees to it that the kernel is told.
    """

    def __init__(
        self,
        volume: Volume,
        policies: PolicyFile,
        pace: Pace,
        *,
        saver: Saver,
        sealer: Sealer,
        teller: Teller,
        reports: Reports,
        complaints: Complaints,
    ) -> None:
        self._volume = volume
        self._st = volume.tree.state
        self._policies = policies
        self._pace = pace
        self._saver = saver
        self._sealer = sealer
        self._teller = teller
        self._reports = reports
        self._complaints = complaints
        self._looking = Signal()
        self._contents: dict[int, str] = {}  # content tokens -> what the kernel has to forget of their files
        self.watched: Watched = lambda changes, gone, items: teller.tell(items)

    def look_soon(self) -> None:
        """The feed, or the answers to seals, have moved."""
        self._looking.set()

    def content_moved(self, moved: frames.ContentMoved) -> None:
        """Content has come, or was freed: st_blocks tells. Of what was freed on purpose the kernel's pages go too, so
        that it is as far away as `status` says.
        """
        values, kind = moved.values, "data" if moved.dropped else "attr"
        if moved.dropped:
            seen_local = self._st.forget_local() | self._volume.reader.seen_local
            self._saver.remove_later([*self._volume.reader.forget_local()])
            if not values:
                values, kind = [*seen_local], "attr"
        self._contents |= dict.fromkeys(values, kind)
        self._looking.set()

    def policy_moved(self) -> None:
        """policies.toml has changed. What it says counts from the next request on."""
        try:
            self._volume.policies = self._policies.read()
        except TcfsError as error:
            self._complaints.complain("policies", error)  # what it said before goes on to count

    async def look(self) -> None:
        """A task: take note of answers, then follow the feed."""
        while True:
            looked = self._volume.env.monotonic()
            while note.has_answers(self._st):
                if copies := note.copies_ahead(self._st, NOTES_AT_ONCE):
                    await trio.to_thread.run_sync(copy_layers, copies)
                self._teller.tell(note.note(self._st, NOTES_AT_ONCE))
                self._reports.say_taken()
                await self._sealer.answers_noted()
            while feed.has_more(self._st):
                items = feed.feed(self._st)
                changes, gone = feed.take_changes(self._st), left.take(self._st)
                self._volume.recent.forget()
                self.watched(changes, gone, items) if changes or gone else self._teller.tell(items)
                self._sealer.look()  # a new .tcfsignore may have kept back less
                await trio.lowlevel.checkpoint()
            await self._tell_contents()
            self.policy_moved()  # the hint may have been lost, or somebody has edited the file
            self._reports.say_refused()
            await self._looking.wait(LOOK_S)
            await give_way(partial(self._pace.is_held, looked, 0), TICK_S)

    async def _tell_contents(self) -> None:
        """All files of the contents that have come or gone, as far as the kernel knows them."""
        contents, self._contents = self._contents, {}
        if not contents:
            return
        inodes = self._st.inodes.told()
        for start in range(0, len(inodes), INODES_AT_ONCE):
            some = inodes[start : start + INODES_AT_ONCE]
            self._teller.tell([Invalidation(0, "", ino, contents[told]) for ino, told in some if told in contents])
            await trio.lowlevel.checkpoint()
