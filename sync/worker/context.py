"""What the workers of one fleet share, and how they report what people should know."""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum

from sync.core.chunking import ChunkParams
from sync.core.keys import Keys
from sync.core.sealed import SigningKey
from sync.env import Env
from sync.events.base import Events
from sync.state.fleet import FleetDb
from sync.store.base import Store

NONCE_SIZE = 12


class ProblemKind(StrEnum):
    HOLE = "hole"  # a segment is missing or broken
    HEAD = "head"  # a journal head is missing or broken
    MACHINE = "machine"  # a machine object is missing or broken
    ROLLBACK = "rollback"  # the store holds an older state than it did
    FORK = "fork"  # somebody wrote a journal under our machine_id; we have a new one
    CHAIN = "chain"  # a segment follows another one than is stored before it
    RECORD = "record"  # a record that is broken
    CLONE = "clone"  # two versions with equal clocks
    REFUSED = "refused"  # a change that cannot be published
    IGNORE = "ignore"  # lines of .tcfsignore that are no patterns
    PENDING = "pending"  # the store could not be written


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that status, doctor and a pull's exit code tell of. subject: the object's key or the rel_path.

    hint: what to do about it, '' where nothing is known.
    """

    kind: ProblemKind
    subject: str
    message: str
    hint: str = ""


class Problems:
    """The problems that stand now; of one kind and subject there is one."""

    def __init__(self) -> None:
        self._standing: dict[tuple[ProblemKind, str], Problem] = {}

    def report(self, kind: ProblemKind, subject: str, message: str, hint: str = "") -> bool:
        """True if it is news: only then is it worth a line in the log."""
        key, problem = (kind, subject), Problem(kind, subject, message, hint)
        is_news = self._standing.get(key) != problem
        self._standing[key] = problem
        return is_news

    def clear(self, kind: ProblemKind, subject: str) -> None:
        self._standing.pop((kind, subject), None)

    def current(self) -> tuple[Problem, ...]:
        return tuple(sorted(self._standing.values(), key=lambda problem: (problem.kind, problem.subject)))


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one fleet on this machine that every worker uses.

    journal_lock: held by whoever compares the own journal in the store with the books, or changes either.
    """

    env: Env
    keys: Keys
    fleet_id: str
    params: ChunkParams
    store: Store
    events: Events
    db: FleetDb
    signer: SigningKey
    problems: Problems = field(default_factory=Problems)
    journal_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def nonce(self) -> bytes:
        return self.env.random_bytes(NONCE_SIZE)
