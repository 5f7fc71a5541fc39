"""What every operation works on, and the two small helpers that all of them need."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from fs.client import Client
from fs.hydrate.callers import Callers, Refusals
from fs.hydrate.eager import Eager
from fs.hydrate.readahead import Readahead
from fs.hydrate.reader import VersionReader
from fs.hydrate.walk import Walks
from fs.ops.dropping import Dropping
from fs.ops.openfolder import OpenFolder
from fs.ops.recent import Recent
from fs.ops.retries import Retries
from fs.replay.waiting import Replay
from fs.tree.files import OpenFile
from fs.tree.kernel import Invalidations
from fs.tree.tree import Tree
from sync.core.paths import PART_MAX
from sync.core.policy import Policies
from sync.env import Env

DISK_THREADS = 4  # looking at cached chunks, syncing files
PAGE_THREADS = 4  # dropping pages: that waits for reads, which may wait for a thread of the others


@dataclass(slots=True)
class OpenHandle:
    """One open file: what a file handle number stands for. is_direct: see fs/ops/direct.py."""

    ino: int
    file: OpenFile
    flags: int = 0  # of open(2)
    pid: int = 0  # who opened it; 0: nobody knows
    refused: str | None = None  # why nothing is fetched for it; '': it is. None: not asked yet
    has_fetched: bool = False
    is_direct: bool = False
    readahead: Readahead = field(default_factory=Readahead)


@dataclass(slots=True)
class Volume:
    """One mounted fleet. All of it belongs to the thread of the request loop.

    fleet_epoch: of the fleet.db that is being shown. on_change: called after an operation that changed the tree.
    checking: cached chunks, by file and offset, that are being looked at. policies: as of a moment ago.
    """

    env: Env
    tree: Tree
    reader: VersionReader
    client: Client
    invalidations: Invalidations
    fleet_epoch: str
    on_change: Callable[[], None] = lambda: None
    handles: dict[int, OpenHandle] = field(default_factory=dict)
    folders: dict[int, OpenFolder] = field(default_factory=dict)
    last_handle: int = 0
    checking: dict[tuple[str, int], trio.Event] = field(default_factory=dict)
    dropping: Dropping = field(default_factory=Dropping)
    policies: Policies = field(default_factory=Policies)
    callers: Callers = field(default_factory=lambda: Callers(()))
    refusals: Refusals = field(default_factory=Refusals)
    walks: Walks = field(init=False)
    eager: Eager = field(default_factory=Eager)
    disk_threads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(DISK_THREADS))
    page_threads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(PAGE_THREADS))
    replay: Replay = field(default_factory=Replay)
    recent: Recent = field(init=False)
    retries: Retries = field(init=False)

    def __post_init__(self) -> None:
        self.recent = Recent(self.tree.state.view.data_version)
        self.retries = Retries(self.env.monotonic)
        self.walks = Walks(self.env.monotonic)

    def changed(self) -> None:
        """An operation has changed the tree."""
        self.recent.forget()
        self.on_change()

    def new_handle(self) -> int:
        """A file handle number; never used twice."""
        self.last_handle += 1
        return self.last_handle


def name_of(raw: bytes) -> str:
    """A name as the tree has it. ENAMETOOLONG above 255 bytes; UnicodeDecodeError (EILSEQ) if it is not UTF-8."""
    if len(raw) > PART_MAX:
        raise OSError(errno.ENAMETOOLONG, "a name is at most 255 bytes long")
    return raw.decode()
