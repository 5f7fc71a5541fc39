"""What the system calls users and groups. It may ask a server, which may hang: so a thread asks, and nobody waits."""

import grp
import pwd
import signal
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

from fs.tree.owners import Names

K = TypeVar("K")
V = TypeVar("V")

PATIENCE_S: Final = 0.02  # files in /etc answer sooner, so that nothing is shown that will be wrong in a moment
UNSURE_S: Final = 1.0  # for how long what is shown without an answer is believed
AGAIN_S: Final = 60.0  # who was not there may be by now
KEPT: Final = 10_000  # names, and ids, of each sort


class NameService:
    """The tables of one mount. `now`: Env.monotonic. Used by one thread; the one it makes only asks."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._questions: SimpleQueue[Callable[[], Callable[[], None]]] = SimpleQueue()
        self._answers: deque[Callable[[], None]] = deque()
        self._has_answered = threading.Event()
        self._open = 0
        self._thread: threading.Thread | None = None
        self.names = Names(
            user=Table(self, lambda uid: pwd.getpwuid(uid).pw_name),
            group=Table(self, lambda gid: grp.getgrgid(gid).gr_name),
            uid=Table(self, lambda name: pwd.getpwnam(name).pw_uid),
            gid=Table(self, lambda name: grp.getgrnam(name).gr_gid),
        )

    def ask(self, question: Callable[[], Callable[[], None]]) -> None:
        """Have the thread ask; what that returns is called by `collect`. Waits for a moment if nothing else hangs.

        RuntimeError if no thread can be started.
        """
        if self._thread is None:
            self._thread = _started(self._run)
        self._has_answered.clear()
        self._open += 1
        self._questions.put(question)
        if self._open == 1 and self._has_answered.wait(PATIENCE_S):
            self.collect()

    def collect(self) -> None:
        """Take the answers that have come."""
        while self._answers:
            self._open -= 1
            self._answers.popleft()()

    def _run(self) -> None:
        while True:
            self._answers.append(self._questions.get()())
            self._has_answered.set()


def _started(run: Callable[[], None]) -> threading.Thread:
    """A thread that no signal goes to: what ends the mount is for the one that listens, which may not do so yet."""
    thread = threading.Thread(target=run, name="names", daemon=True)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return thread


class Table(Generic[K, V]):
    """A Lookup. What it says changes within `find` only: `valid_s` and `asked_s` tell of what that has just said."""

    def __init__(self, service: NameService, ask: Callable[[K], V]) -> None:
        self._service = service
        self._ask = ask
        self._found: dict[K, V] = {}
        self._absent: dict[K, float] = {}  # since when
        self._asked: dict[K, float] = {}  # since when

    def find(self, key: K) -> V | None:
        found = self._found.get(key)
        if found is None:
            self._service.collect()
            if self._must_ask(key):
                self._asked[key] = self._service.now()
                try:
                    self._service.ask(lambda: self._answer_to(key))
                except RuntimeError:  # asked with the next look
                    del self._asked[key]
            found = self._found.get(key)
        return found

    def valid_s(self, key: K) -> float | None:
        if key in self._found:
            return None
        return UNSURE_S if key in self._asked else AGAIN_S

    def asked_s(self, key: K) -> float | None:
        since = self._asked.get(key)
        return None if since is None or key in self._absent else self._service.now() - since

    def is_asking(self) -> bool:
        return bool(self._asked)

    def _must_ask(self, key: K) -> bool:
        if key in self._found or key in self._asked:
            return False
        return key not in self._absent or self._service.now() - self._absent[key] >= AGAIN_S

    def _answer_to(self, key: K) -> Callable[[], None]:
        """Asks; called in the service's thread."""
        found: V | None
        try:
            found = self._ask(key)
        except (KeyError, ValueError, OverflowError, OSError):  # there is none, none can be, or nobody knows
            found = None
        return lambda: self._take(key, found)

    def _take(self, key: K, found: V | None) -> None:
        del self._asked[key]
        self._absent.pop(key, None)
        if found is not None:
            _put(self._found, key, found)
        else:
            _put(self._absent, key, self._service.now())


def _put(table: dict[K, Any], key: K, value: Any) -> None:
    if len(table) >= KEPT:
        del table[next(iter(table))]
    table[key] = value
