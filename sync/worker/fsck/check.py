"""What all parts of fsck share."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from sync.core.errors import BadFormat, Integrity, NotAuthorised
from sync.core.manifest import ChunkId
from sync.worker.context import Context
from sync.worker.fsck.findings import Findings, Tally

Progress = Callable[[dict[str, object]], None]

PROGRESS_S: Final = 0.2  # between two calls of a progress callback
UNREADABLE: Final = (Integrity, BadFormat, NotAuthorised)  # of an object: everything but a store that is away


@dataclass(slots=True)
class Damage:
    """Which chunks cannot be read: those of whole packs (numbers of fleet.db), and single ones.

    missing: those of the packs that are not there at all. whole: packs of which every byte was right. said: what is to
    be said of packs, (key, message) by number; needed: those of them that a live file needs.
    """

    packs: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)
    chunks: set[tuple[int, ChunkId]] = field(default_factory=set)
    whole: set[int] = field(default_factory=set)
    said: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    needed: set[int] = field(default_factory=set)
    is_judged: bool = False  # every live file was looked at

    def say(self, pack: int, key: str, message: str) -> None:
        self.said.setdefault(pack, []).append((key, message))

    def hits(self, pack: int, chunk: ChunkId) -> bool:
        return pack in self.packs or (pack, chunk) in self.chunks


@dataclass(slots=True)
class Check:
    """One run of fsck. Nothing here writes; fleet.db is read through the engine's connection, a little at a time."""

    context: Context
    deep: bool
    progress: Progress
    findings: Findings = field(default_factory=Findings)
    tally: Tally = field(default_factory=Tally)
    damage: Damage = field(default_factory=Damage)
    verify_keys: dict[str, bytes] = field(default_factory=dict)  # machine_id -> 32 bytes
    told_at: float = float("-inf")  # monotonic s
    is_over: bool = False  # nobody waits for it any more: a thread of it ends soon

    def looked_at_object(self) -> None:
        self.tally.objects += 1
        self.tell()

    def tell(self) -> None:
        """How far this run is, every PROGRESS_S at most."""
        now = self.context.env.monotonic()
        if now - self.told_at >= PROGRESS_S:
            self.told_at = now
            tally = self.tally
            files = tally.objects + tally.contents + tally.cache_files
            self.progress({"files": files, "bytes": tally.pack_bytes + tally.cache_bytes})

    async def machines_below(self, prefix: str) -> AsyncIterator[str]:
        """The folders right below a prefix that ends in '/', by one short listing each."""
        after = ""
        while True:
            async with aclosing(self.context.store.list(prefix, after)) as listing:  # type: ignore[type-var]
                info = await anext(listing, None)
            if info is None:
                return
            name = info.key[len(prefix) :].split("/")[0]
            yield name
            after = f"{prefix}{name}0"  # '0' follows '/': behind everything in that folder
