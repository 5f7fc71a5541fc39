"""Files that have several names in the fleet: a pull makes them names of one file, where that stands in its target."""

import stat
from dataclasses import dataclass, field
from pathlib import Path

from sync.plain.examine import Entry, Same, Write
from sync.plain.target import TargetDir
from sync.worker.content import FileStat


@dataclass(slots=True)
class _File:
    """path: of the name that stands. names: every name that was made or found, with its entry."""

    path: Path
    stat: FileStat
    names: list[tuple[Path, Entry]] = field(default_factory=list)


class PullLinks:
    """Of one pull. All but `is_first` in the thread that writes."""

    def __init__(self, root: TargetDir) -> None:
        self._root = root
        self._seen: set[int] = set()
        self._files: dict[int, _File] = {}

    def is_first(self, entry: Entry) -> bool:
        """True for the first name of each file: its content is needed in any case."""
        if entry.link is None or entry.link not in self._seen:
            if entry.link is not None:
                self._seen.add(entry.link)
            return True
        return False

    def stands(self, step: Write | Same) -> None:
        """A name is in its place, and what further ones can be made of."""
        entry, folder = step.entry, step.folder
        if entry.link is None:
            return
        found = folder.stat(entry.name)
        if found is None:
            return
        is_right = stat.S_ISLNK(found.st_mode) or (found.st_mode & 0o7777, found.st_mtime_ns) == (
            entry.mode,
            entry.mtime_ns,
        )
        path, now = folder.path / entry.name, FileStat.of(found)
        file = self._files.get(entry.link)
        if file is not None and file.stat.ino == now.ino:
            file.stat = now
            file.names.append((path, entry))
        elif is_right:
            self._files[entry.link] = _File(path, now, [(path, entry)])

    def make(self, step: Write, temp: str) -> bool:
        """One more name; False if it must be a file by itself."""
        entry = step.entry
        file = self._files.get(entry.link) if entry.link is not None else None
        if file is None:
            return False
        try:
            source = self._root.below(file.path.parent.relative_to(self._root.path).parts)
        except OSError:
            return False  # somebody has moved it
        try:
            is_made = step.folder.link(source, file.path.name, file.stat, entry.name, temp, step.before)
        finally:
            source.close()
        if is_made:
            self.stands(step)
        return is_made

    def all_names(self) -> list[tuple[Path, Entry, FileStat]]:
        """Every name of the files that have got several, with the stat of now: linking moves the change time of all."""
        files = [file for file in self._files.values() if len(file.names) > 1]
        return [(path, entry, file.stat) for file in files for path, entry in file.names]
