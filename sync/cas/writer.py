"""Chunks into packs: many to a pack, encoded in threads, uploaded while the next ones are made."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, Self, TypeVar

import msgspec

from sync.core.codec import NONCE_SIZE, Buffer, ChunkCodec
from sync.core.errors import TcfsError
from sync.core.keys import Keys
from sync.core.manifest import ChunkId, PackedChunk
from sync.core.packfile import PACK_TARGET, Pack, PackBuilder, pack_key
from sync.core.sealed import SigningKey
from sync.env import Env
from sync.store.base import Store

PACKS_IN_MEMORY: Final = 4  # one being filled, the others on their way
GROUP_BYTES: Final = 2 << 20  # plain bytes for one hop to a thread ...
GROUP_CHUNKS: Final = 256  # ... or so many chunks
GROUPS_AT_ONCE: Final = 3

_T = TypeVar("_T")
_Encoded = tuple[ChunkId, bytes, int, int]  # chunk, encoded, flags, raw length


class FinishedPack(msgspec.Struct, frozen=True):
    """A pack that is in the store, durably; what its pack record says. pack_id in hex, size in bytes."""

    pack_id: str
    size: int
    chunks: list[PackedChunk]


class PackWriter:
    """One run of writing chunks: add them, finish once. An async context manager, which stops what is under way.

    Chunks lie in packs in the order they were added. Neither chunks for which `known` is true nor those already added
    are written again. Memory is bounded: add waits while PACKS_IN_MEMORY packs are under way.
    """

    def __init__(
        self,
        env: Env,
        keys: Keys,
        store: Store,
        fleet_id: str,
        machine_id: str,
        signer: SigningKey,
        known: Callable[[ChunkId], bool],
        target: int = PACK_TARGET,
    ) -> None:
        self._env = env
        self._store = store
        self._machine_id = machine_id
        self._known = known
        self._codec = ChunkCodec(keys)
        self._new_builder = partial(PackBuilder, keys, fleet_id, machine_id, signer, target)
        self._builder = self._new_builder()
        self._added: set[ChunkId] = set()
        self._group: list[tuple[ChunkId, bytes]] = []
        self._group_bytes = 0
        self._groups: asyncio.Queue[asyncio.Task[list[_Encoded]] | None] = asyncio.Queue(GROUPS_AT_ONCE)
        self._upload_slots = asyncio.Semaphore(PACKS_IN_MEMORY - 1)
        self._finished: list[FinishedPack] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._uploads: list[asyncio.Task[None]] = []
        self._packing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop. Packs not yet put are dropped; nobody knows of those already put, and they do no harm."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def take_back(self) -> None:
        """Stop, and delete what was put: a store that is full would else fill with packs that no journal names.

        Only before anything refers to them. What cannot be deleted stays, and does no harm.
        """
        await asyncio.gather(*self._uploads, return_exceptions=True)  # a put that is under way cannot be called back
        await self.aclose()
        for pack in self._finished:
            with contextlib.suppress(TcfsError):
                await self._store.delete(pack_key(self._machine_id, pack.pack_id))

    async def add(self, chunk: ChunkId, data: Buffer) -> None:
        """Have this chunk in a pack, unless it is known or was added before. data is copied unless it is bytes.

        Raises what an earlier chunk's encoding or upload ran into: StoreAway, NoSpace, ReadOnly, NotAuthorised.
        """
        if chunk in self._added or self._known(chunk):
            return
        self._added.add(chunk)
        self._group.append((chunk, bytes(data)))
        self._group_bytes += len(data)
        if self._group_bytes >= GROUP_BYTES or len(self._group) >= GROUP_CHUNKS:
            await self._send_group()

    async def finish(self) -> list[FinishedPack]:
        """Every pack of this run, each of them in the store now; errors as of add. Nothing may be added afterwards."""
        if self._group:
            await self._send_group()
        if self._packing is None:
            return []
        await self._hand_over(None)
        await self._packing
        for upload in self._uploads:
            await upload
        return self._finished

    async def _send_group(self) -> None:
        group, self._group, self._group_bytes = self._group, [], 0
        if self._packing is None:
            self._packing = self._spawn(self._pack_groups())
        nonces = self._env.random_bytes(NONCE_SIZE * len(group))
        await self._hand_over(self._spawn(self._env.run(self._encode, group, nonces)))

    async def _hand_over(self, group: "asyncio.Task[list[_Encoded]] | None") -> None:
        """Queue a group for packing; raises if packing has failed, instead of waiting for it for ever."""
        assert self._packing is not None
        queueing = self._spawn(self._groups.put(group))
        await asyncio.wait({queueing, self._packing}, return_when=asyncio.FIRST_COMPLETED)
        if not queueing.done():
            queueing.cancel()
        if self._packing.done():
            await self._packing

    def _encode(self, group: Sequence[tuple[ChunkId, bytes]], nonces: bytes) -> list[_Encoded]:
        encoded = self._codec.encode_many(group, nonces)
        return [(chunk, body, flags, len(data)) for (chunk, data), (body, flags) in zip(group, encoded, strict=True)]

    async def _pack_groups(self) -> None:
        while (group := await self._groups.get()) is not None:
            for pack in await self._env.run(self._fill, await group):
                await self._start_upload(pack)
        if not self._builder.is_empty:
            await self._start_upload(await self._env.run(self._finish_builder))

    def _fill(self, group: list[_Encoded]) -> list[Pack]:
        full: list[Pack] = []
        for chunk, encoded, flags, raw_length in group:
            self._builder.add(chunk, encoded, flags, raw_length)
            if self._builder.is_full:
                full.append(self._finish_builder())
        return full

    def _finish_builder(self) -> Pack:
        builder, self._builder = self._builder, self._new_builder()
        return builder.finish(self._env.random_bytes(NONCE_SIZE))

    async def _start_upload(self, pack: Pack) -> None:
        await self._upload_slots.acquire()
        for upload in [upload for upload in self._uploads if upload.done()]:
            self._uploads.remove(upload)
            await upload  # raises its error, before more is encoded for nothing
        self._finished.append(FinishedPack(pack.pack_id.hex(), pack.size, pack.chunks))
        self._uploads.append(self._spawn(self._upload(pack)))

    async def _upload(self, pack: Pack) -> None:
        try:
            self._env.fault("pack.before_put")
            await self._store.put(pack_key(self._machine_id, pack.pack_id.hex()), pack.parts)
            self._env.fault("pack.after_put")
        finally:
            self._upload_slots.release()

    def _spawn(self, work: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: the first error is raised by add or finish, later ones say nothing new
