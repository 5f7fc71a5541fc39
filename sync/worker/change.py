"""What is to be published, and what became of it: the values that seals, pushes and the publisher exchange."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from sync.core.manifest import ChunkId, Kind, Manifest, PathVersion, VersionId
from sync.core.ranges import RangeSet
from sync.state.rows import NodePlace


class Content(msgspec.Struct, frozen=True):
    """What a manifest says of a file's bytes; either chunks or chunk_pages. All hashes in hex, sizes in bytes."""

    file_size: int
    content_id: str
    file_hash: str = ""  # empty: the writer did not see all bytes
    chunks: list[str] = []
    chunk_sizes: list[int] = []
    chunk_pages: list[str] = []
    pages: list[tuple[ChunkId, bytes]] = []  # the bytes of chunk_pages where they were made here
    requires: list[str] = []  # what a program must know to read it

    @staticmethod
    def of(manifest: Manifest) -> "Content":
        return Content(
            file_size=manifest.file_size,
            content_id=manifest.content_id,
            file_hash=manifest.file_hash,
            chunks=manifest.chunks,
            chunk_sizes=manifest.chunk_sizes,
            chunk_pages=manifest.chunk_pages,
            requires=manifest.requires,
        )


class FileSource(msgspec.Struct, frozen=True):
    """All bytes of a file on this machine, read while it may still be written by others."""

    path: Path


class LayerSource(msgspec.Struct, frozen=True):
    """A sealed layer over a base: `spans` of the layer file, then the base's bytes below limit_below, then zeros.

    layer: the path of its file; None: nothing but the size has changed, there are no spans.
    """

    base: VersionId | None
    layer: str | None
    spans: RangeSet
    limit_below: int  # bytes of the base that still show
    size: int  # bytes of the whole


class KeepSource(msgspec.Struct, frozen=True):
    """The content of a known version, unchanged: no byte is read."""

    version: VersionId


Source = FileSource | LayerSource | KeepSource


class Change(msgspec.Struct, frozen=True):
    """One state of one path that shall become a version. kind TOMBSTONE removes it, and has no state.

    seen: identities the writer had before them; those of other paths count by the moved_from rule only. last: what the
    entry was before (None: absent). moved_to: the rel_path a removed thing went to. seal_id: answered in fleet.db.
    """

    path: str
    kind: Kind
    source: Source | Content | None = None
    mode: int = 0
    mtime_ns: int = 0
    xattrs: Mapping[str, str] = {}  # name -> base64
    target: str = ""
    seen: frozenset[VersionId] = frozenset()
    last: VersionId | None = None
    resolved: bool = False  # publish it even if nothing changed
    moved_from: PathVersion | None = None
    moved_to: str = ""
    requires: Sequence[str] = ()  # of a folder or symlink that is renamed; a file's stand in its content
    seal_id: bytes | None = None
    is_new_name: bool = False  # the new name of a renamed folder, answered with that: an entry has seen what was there
    place: NodePlace | None = None
    link_id: str = ""  # of a file with several names: the same for all
    owner: str = ""  # neither owner nor group: as the path has it
    group: str = ""
    folder_rules: bool = False  # it comes from a plain folder, see decide.py
    sees_all: bool = False  # supersede whatever heads the path has (push --force)

    @property
    def is_removal(self) -> bool:
        return self.kind is Kind.TOMBSTONE

    @property
    def is_of_entry(self) -> bool:
        """True if it comes from the mount, and `seen` is what its entry has seen."""
        return self.seal_id is not None or self.is_new_name


class FolderMove(msgspec.Struct, frozen=True):
    """The rename of a shown directory: whatever shows under its NAME at that moment moves along, as one batch.

    mtime_ns: of the folder; mode, xattrs, owner, group, too, where its old name has no record. place: its number, which
    stays. seen: what stood at the new name itself, and was removed or replaced. is_behind: of one that steps aside, and
    could not go on from there behind what was refused: it is refused, too.
    """

    old_path: str
    new_path: str
    mode: int
    mtime_ns: int
    xattrs: Mapping[str, str]
    place: NodePlace
    seal_id: bytes
    seen: frozenset[VersionId] = frozenset()
    owner: str = ""
    group: str = ""
    is_behind: bool = False


Batch = Sequence[Change] | FolderMove  # one transaction for every reader


class Outcome(StrEnum):
    QUEUED = "queued"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


class Answer(msgspec.Struct, frozen=True):
    """What became of one change. version: the one queued, or the one that says the same already (None: nothing there).

    beside: live heads of another value that stand against the queued version; empty = no conflict.
    """

    path: str
    outcome: Outcome
    version: VersionId | None = None
    reason: str = ""
    beside: tuple[VersionId, ...] = ()
