"""What the engine is told of the mount: how far it has come, what is wrong with it, what was read."""

from typing import Final

import trio

from fs.client import Client
from fs.hydrate.callers import Refusals
from fs.hydrate.reader import VersionReader
from fs.tree import note
from fs.tree.state import State
from sync.ipc import frames

USED_S: Final = 5.0  # between two reports of what was read


class Reports:
    """Each thing is said once a connection, and again when it is another."""

    def __init__(self, st: State, client: Client, reader: VersionReader, refusals: Refusals) -> None:
        self._st = st
        self._client = client
        self._cached = reader.cached
        self._refusals = refusals
        self._said_taken = (0, 0)
        self._said_trouble = ""

    def connected(self) -> None:
        """To somebody who knows nothing yet."""
        self._said_taken, self._said_trouble = (0, 0), ""
        self._refusals.tell_again()
        self.say_trouble()
        self._client.hint(frames.Sealed())

    def say_sealed(self) -> None:
        self._client.hint(frames.Sealed())
        self.say_taken()

    def say_taken(self) -> None:
        """Which answers the engine may forget."""
        now = (note.taken_upto(self._st), self._st.overlay.durable_taken_upto)
        if now == self._said_taken:
            return
        if now[0] != self._said_taken[0]:
            self._client.hint(frames.Noted(now[0]))
        if now[1] != self._said_taken[1]:
            self._client.hint(frames.Noted(now[1], durable=True))
        self._said_taken = now

    def say_trouble(self) -> None:
        """For `status`: while what is changed here cannot be committed."""
        if self._st.overlay.trouble != self._said_trouble:
            self._said_trouble = self._st.overlay.trouble
            self._client.hint(frames.MountTrouble(self._said_trouble))

    def say_refused(self) -> None:
        if self._client.is_connected:
            for refused in self._refusals.take_untold():
                self._client.hint(frames.Refused(*refused))

    async def report_used(self) -> None:
        """A task: which chunks were read, the LRU's input."""
        damaged = 0
        while True:
            await trio.sleep(USED_S)
            used = self._cached.take_used()
            if used or self._cached.damaged != damaged:
                damaged = self._cached.damaged
                self._client.hint(frames.Used([bytes(chunk) for chunk in used], damaged))
