"""Messages out of an asyncio stream, and the exchange of Hello that both ends begin with."""

import asyncio
from collections import deque

from sync.core.errors import BadFormat, Unsupported
from sync.ipc.frames import Bye, FrameDecoder, Hello, Message

READ_SIZE = 1 << 16


class MessageReader:
    """Reads one message at a time."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._decoder = FrameDecoder()
        self._ready: deque[Message] = deque()

    async def next(self) -> Message | None:
        """The next message, None at the end of the stream; BadFormat for one that is broken or cut."""
        while not self._ready:
            data = await self._reader.read(READ_SIZE)
            if not data:
                if self._decoder.pending:
                    raise BadFormat("the connection ended within a message")
                return None
            self._ready.extend(self._decoder.feed(data))
        return self._ready.popleft()

    async def hello(self) -> Hello | None:
        """The other side's Hello, None if it closed before; BadFormat if it begins with anything else."""
        message = await self.next()
        if isinstance(message, Hello):
            return message
        if message is None or isinstance(message, Bye):  # an engine that ends takes leave of whoever has just come
            return None
        raise BadFormat(f"{type(message).__name__} before Hello")


def check_hello(ours: Hello, peer: Hello) -> None:
    """Unsupported if the two programs cannot work together. A schema of 0: that side reads no such database."""
    for name in ("protocol", "fleet_schema", "tree_schema"):
        mine, its = getattr(ours, name), getattr(peer, name)
        if mine != its and mine and its:
            raise Unsupported(
                f"the {peer.role} is of another version of tcfs: {name} {its}, this {ours.role} has {mine}",
                hint="'tcfs down', then 'tcfs up'",
            )
