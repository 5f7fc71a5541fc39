"""What push and pull tell, on the way and at the end."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sync.core.errors import Conflict, Integrity, TcfsError
from sync.core.manifest import VersionId

VERSIONS_MAX: Final = 10_000  # named by a report: it goes through the socket in one message
IGNORED_MAX: Final = 1_000  # named by a report, for the same reason


@dataclass(frozen=True, slots=True)
class Progress:
    """So far: files that are done or needed nothing, bytes read or written."""

    files: int
    moved_bytes: int


ProgressCallback = Callable[[Progress], None]


@dataclass(slots=True)
class TransferReport:
    """One push or pull. conflicts: local or rel paths where another version stands. skipped: (path, reason).

    warnings: (local path, what is not as it should be with a file that was moved nevertheless).
    """

    files: int = 0  # published or written
    unchanged: int = 0
    restored: int = 0  # of a push: files whose content the store had lost, and has again
    moved_bytes: int = 0
    conflicts: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    failures: list[TcfsError] = field(default_factory=list)
    # Of a push: rel_path as named -> version, of the first VERSIONS_MAX; and of how many it is left out.
    versions: dict[str, VersionId] = field(default_factory=dict)
    versions_left_out: int = 0

    # Of a push: what stays on this machine by its name, below the folders that were named; and how many more there are.
    ignored: list[str] = field(default_factory=list)
    ignored_left_out: int = 0

    def name_ignored(self, path: str) -> None:
        """What a push has passed by, as its name says."""
        if len(self.ignored) < IGNORED_MAX:
            self.ignored.append(path)
        else:
            self.ignored_left_out += 1

    def name_version(self, path: str, version: VersionId) -> None:
        """What a pushed path is now."""
        if len(self.versions) < VERSIONS_MAX:
            self.versions[path] = version
        else:
            self.versions_left_out += 1

    def progress(self) -> Progress:
        return Progress(self.files + self.unchanged, self.moved_bytes)

    def error(self) -> TcfsError | None:
        """What the exit code has to say: damage before conflicts before everything else; None if all went well."""
        for kind in (Integrity, Conflict, TcfsError):
            found = [failure for failure in self.failures if isinstance(failure, kind)]
            if found:
                return _summary(found)
        return None


def _summary(found: list[TcfsError]) -> TcfsError:
    first = found[0]
    if len(found) == 1:
        return first
    return type(first)(f"{first.message} (and {len(found) - 1} more)", path=first.path, hint=first.hint)
