"""What fleet.db remembers of plain folders: which version a local path had at its last push or pull."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sync.core.manifest import VersionId
from sync.plain.examine import Known
from sync.state.books import Plain
from sync.state.fleet import FleetDb
from sync.worker.content import FileStat

QUERY_MAX: Final = 500  # variables of one statement


def real_place(path: Path) -> Path:
    """The absolute path, symlinks of the folders above it resolved; what it names itself is not looked at."""
    absolute = path.absolute()
    if absolute.name == "..":
        return absolute.resolve()
    return absolute.parent.resolve() / absolute.name if absolute.name else absolute


def known_at(db: FleetDb, local: Path, remote: str) -> Known | None:
    """The memory of (local, remote), read through renamed versions; None if there is none."""
    found = db.plain(str(local), remote)
    return None if found is None else Known(db.resolve(found.version), *found[3:])


def known_below(db: FleetDb, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Known]:
    """known_at for many (local, remote) in few statements; those without a memory are left out."""
    wanted = set(places)
    found: dict[tuple[str, str], Known] = {}
    for start in range(0, len(places), QUERY_MAX):
        locals_ = [local for local, _ in places[start : start + QUERY_MAX]]
        marks = ", ".join("?" * len(locals_))
        for local, remote, version, *stat in db.query(f"SELECT * FROM plain WHERE local IN ({marks})", *locals_):
            if (local, remote) in wanted:
                found[local, remote] = Known(db.resolve(version), *stat)
    return found


def plain_of(local: str, remote: str, version: VersionId, stat: FileStat | None) -> Plain:
    """stat None: a folder, of which only the version counts."""
    if stat is None:
        return Plain(local, remote, version, 0, 0, 0, 0)
    return Plain(local, remote, version, stat.size, stat.mtime_ns, stat.ino, stat.ctime_ns)
