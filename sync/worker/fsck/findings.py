"""What fsck found and how far it looked."""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

from sync.core.errors import Integrity, StoreAway, TcfsError
from sync.state.damage import rebuild_hint

PATHS_MAX: Final = 10_000  # findings that name a path, per object; the rest are counted
HINT_COPY: Final = "bring it back from a copy of the store"
HINT_PUSH: Final = (
    "'tcfs push --force' the file from a machine that has it, or bring the pack back from a copy of the store"
)
HINT_REBUILD: Final = rebuild_hint()


class Severity(StrEnum):
    ERROR = "error"  # something is lost, wrong or will not be read by somebody
    WARNING = "warning"  # it heals by itself, or only takes room


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. object: a store key, a file of this machine, or a rel_path; path: the affected one."""

    severity: Severity
    object: str
    message: str
    hint: str = ""
    path: str = ""


@dataclass(slots=True)
class Tally:
    """How much was looked at, and what was not. Sizes in bytes.

    packs: all that should be there; packs_read: those whose every byte was compared with their name. chunks: decoded
    (deep). contents: live files whose chunks were looked for. unverified: what was left out, for people. away: the
    store could not be reached, so that nothing of it was looked at.
    """

    objects: int = 0
    segments: int = 0
    packs: int = 0
    packs_read: int = 0
    pack_bytes: int = 0
    chunks: int = 0
    contents: int = 0
    cache_files: int = 0
    cache_verified: int = 0
    cache_bytes: int = 0
    unverified: list[str] = field(default_factory=list)
    away: StoreAway | None = None

    def as_data(self) -> dict[str, object]:
        """The counts, for JSON."""
        counts = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: count for name, count in counts.items() if isinstance(count, int)}


class Findings:
    """Collects findings, each object and path once; of the paths of one object at most PATHS_MAX."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], Finding] = {}
        self._paths: dict[str, int] = {}
        self._objects: set[str] = set()

    def error(self, object: str, message: str, *, hint: str = "", path: str = "") -> None:
        self.take(Finding(Severity.ERROR, object, message, hint, path))

    def warning(self, object: str, message: str, *, hint: str = "", path: str = "") -> None:
        self.take(Finding(Severity.WARNING, object, message, hint, path))

    def names(self, object: str) -> bool:
        """True if there is a finding about this object."""
        return object in self._objects

    def all(self) -> list[Finding]:
        """Errors first, otherwise as they were found."""
        found = [*self._found.values(), *self._left_out()]
        return sorted(found, key=lambda finding: finding.severity is not Severity.ERROR)

    def take(self, finding: Finding) -> None:
        key = (finding.object, finding.path, finding.message)
        if key in self._found:
            return
        self._objects.add(finding.object)
        if finding.path:
            self._paths[finding.object] = self._paths.get(finding.object, 0) + 1
            if self._paths[finding.object] > PATHS_MAX:
                return
        self._found[key] = finding

    def _left_out(self) -> list[Finding]:
        return [
            Finding(Severity.ERROR, object, f"{count - PATHS_MAX} more paths are affected")
            for object, count in self._paths.items()
            if count > PATHS_MAX
        ]


def failure(findings: list[Finding], tally: Tally) -> TcfsError | None:
    """What the verb ends with: Integrity if anything is an error, else StoreAway if the store was not looked at."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        text = "one thing is" if len(errors) == 1 else f"{len(errors)} things are"
        return Integrity(f"{text} wrong; the first: {errors[0].message}", path=errors[0].path, hint=errors[0].hint)
    return tally.away


def text_of(key: str, error: TcfsError) -> str:
    """The error's message, beginning with the key if it does not name it."""
    return error.message if key in error.message else f"{key}: {error.message}"
