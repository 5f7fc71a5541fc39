"""Records of a journal, and the manifest that describes one version of one path (SyncManifest v2).

A record travels as one line of JSON. The line's bytes are kept as they came (fleet.db, packed segments), because the
version's identity is made from them: `machine_id:seq:` plus the first 8 hex digits of BLAKE3(line).
Unknown fields and unknown record types are skipped on reading and never copied into a new version.
"""

import base64
import enum
import re
from typing import Final, NewType, TypeVar

import blake3
import msgspec

from sync.core.errors import BadFormat, BadPath
from sync.core.paths import parse_rel_path

MachineId = NewType("MachineId", str)  # uuid4, lower case with dashes
Actor = NewType("Actor", str)  # machine_id, or machine_id~n
VersionId = NewType("VersionId", str)  # machine_id:seq:hhhhhhhh
ChunkId = NewType("ChunkId", bytes)  # 32 bytes, keyed BLAKE3 of the plain chunk

T = TypeVar("T")

CHUNKS_INLINE_MAX = 4096  # more chunks than this, and the manifest names pages of this many entries instead
KNOWN_REQUIREMENTS: frozenset[str] = frozenset()
LINK_ID_MAX = 64  # characters
OWNER_MAX = 256  # characters
SEQ_MAX = 10**16 - 1  # a segment's key has 16 digits for it
INT_MAX = 2**63 - 1  # of a database, and of the system's calls


def within(number: int) -> int:
    """The nearest number that manifests and databases hold. Some file systems, and programs, know years beyond 2262."""
    return max(-INT_MAX, min(number, INT_MAX))


class Kind(enum.StrEnum):
    FILE = "file"
    DIR = "dir"
    SYMLINK = "symlink"
    TOMBSTONE = "tombstone"


class Clocks(msgspec.Struct, frozen=True):
    """The vector clock as it stands in a manifest: actor -> number, zeros left out."""

    clocks: dict[str, int] = {}


class PathVersion(msgspec.Struct, frozen=True):
    """A version of another path, as moved_from and moved_to name it. `version` is empty where it is not known yet."""

    path: str
    version: str = ""


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="version", kw_only=True):
    """One version of one path. Sizes in bytes, mtime in ns since 1970, mode the 12 permission bits, hashes in hex."""

    version: int
    seq: int
    rel_path: str
    kind: Kind
    vclock: Clocks
    written_by: str
    machine_name: str
    written_at: int
    file_size: int = 0
    content_id: str = ""
    file_hash: str = ""
    chunks: list[str] = []
    chunk_sizes: list[int] = []
    chunk_pages: list[str] = []
    mode: int = 0
    mtime_ns: int = 0
    target: str = ""
    xattrs: dict[str, str] = {}  # name -> base64 value
    link_id: str = ""
    parents: list[str] = []
    batch: tuple[int, int] | None = None
    moved_from: PathVersion | None = None
    moved_to: PathVersion | None = None
    group: str = ""
    owner: str = ""
    requires: list[str] = []

    @property
    def value(self) -> tuple[str, str, str]:
        """What makes two versions equal: kind, content_id, target. Mode, xattrs and times do not."""
        return (self.kind.value, self.content_id, self.target)

    @property
    def is_live(self) -> bool:
        return self.kind is not _TOMBSTONE

    @property
    def unknown_requirements(self) -> list[str]:
        """Words this program does not know: the version is shown, but reading it is EOPNOTSUPP."""
        return [word for word in self.requires if word not in KNOWN_REQUIREMENTS]


class PackedChunk(msgspec.Struct, frozen=True, array_like=True):
    """Where one encoded chunk lies in a pack. id in hex; offset, length and raw_length in bytes; flags: 1 = zstd."""

    id: str
    offset: int
    length: int
    raw_length: int
    flags: int


class PackRecord(msgspec.Struct, frozen=True, tag_field="type", tag="pack", kw_only=True):
    """A pack of the writer: the authority on where its chunks lie."""

    seq: int
    pack_id: str
    size: int
    chunks: list[PackedChunk]


class CondemnedRecord(msgspec.Struct, frozen=True, tag_field="type", tag="condemned", kw_only=True):
    seq: int
    pack_id: str


class RetiredRecord(msgspec.Struct, frozen=True, tag_field="type", tag="retired", kw_only=True):
    seq: int
    machine_id: str


class SucceedsRecord(msgspec.Struct, frozen=True, tag_field="type", tag="succeeds", kw_only=True):
    """This machine_id goes on where `machine_id` stopped (after a fork or a lost fleet.db)."""

    seq: int
    machine_id: str


class RefilledRecord(msgspec.Struct, frozen=True, tag_field="type", tag="refilled", kw_only=True):
    """The store had lost the segment that begins with `first`: it has other bytes now, with the same records."""

    seq: int
    first: int


class RemarkRecord(msgspec.Struct, frozen=True, tag_field="type", tag="remark", kw_only=True):
    seq: int
    text: str


Record = Manifest | PackRecord | CondemnedRecord | RetiredRecord | SucceedsRecord | RefilledRecord | RemarkRecord


class Version(msgspec.Struct, frozen=True):
    """A manifest together with its identity."""

    id: VersionId
    manifest: Manifest

    @property
    def path(self) -> str:
        return self.manifest.rel_path

    @property
    def clock(self) -> dict[str, int]:
        return self.manifest.vclock.clocks

    @property
    def is_live(self) -> bool:
        return self.manifest.is_live


class _Header(msgspec.Struct, frozen=True):
    type: str
    seq: int


class _Clocked(msgspec.Struct, frozen=True):
    vclock: Clocks


class Moves(msgspec.Struct, frozen=True, tag_field="type", tag="version"):
    """Of a manifest the other ends of renames."""

    moved_from: PathVersion | None = None
    moved_to: PathVersion | None = None


_encoder = msgspec.json.Encoder()
_header = msgspec.json.Decoder(_Header)
_record = msgspec.json.Decoder(Record)
_manifest = msgspec.json.Decoder(Manifest)
_clocked = msgspec.json.Decoder(_Clocked)
_moves = msgspec.json.Decoder(Moves)
_TOMBSTONE: Final = Kind.TOMBSTONE  # members of an Enum are slow to find
_HEX = re.compile("[0-9a-f]*")
_CONTENT_ID = re.compile(r"(?!\.)[^/\0]{0,64}")
_KNOWN = frozenset({"version", "pack", "condemned", "retired", "succeeds", "refilled", "remark"})


def encode_record(record: Record) -> bytes:
    """The line (no LF) of a record."""
    return _encoder.encode(record)


def decode_record(line: bytes) -> Record | None:
    """The record of a line, or None for a type this program does not know. BadFormat for anything broken.

    A manifest is checked beyond its shape: version 2, an allowed rel_path, chunks and sizes that agree, numbers, names
    and values that this machine can keep; a pack for ids and places that can be.
    """
    try:
        record: Record = _record.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if _is_of_unknown_type(line):
            return None
        raise BadFormat(f"broken record: {error}") from error
    if not 1 <= record.seq <= SEQ_MAX:
        raise BadFormat(f"broken record: seq {record.seq}")
    match record:
        case Manifest():
            _check_manifest(record)
        case PackRecord():
            _check_pack(record)
    return record


def _is_of_unknown_type(line: bytes) -> bool:
    try:
        return _header.decode(line).type not in _KNOWN
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def decode_manifest(line: bytes) -> Manifest:
    """The manifest of a line that was checked (decode_record) when it came in. BadFormat if it is none."""
    return _decoded(_manifest, line)


def decode_clock(line: bytes) -> dict[str, int]:
    """The same, of the clock alone."""
    return _decoded(_clocked, line).vclock.clocks


def decode_moves(line: bytes) -> Moves:
    """The same, of the renames alone: a list of thousands of chunks is passed over."""
    return _decoded(_moves, line)


def record_seq(line: bytes) -> int:
    """The seq of any record, known or not."""
    return _decoded(_header, line).seq


def _decoded(decoder: msgspec.json.Decoder[T], line: bytes) -> T:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFormat(f"broken record: {error}") from error


def version_id(machine_id: str, seq: int, line: bytes) -> VersionId:
    return VersionId(f"{machine_id}:{seq}:{blake3.blake3(line).hexdigest()[:8]}")


def split_version_id(identity: str) -> tuple[MachineId, int, str]:
    """(machine_id, seq, 8 hex) of an identity; BadFormat if it is none."""
    machine, _, rest = identity.partition(":")
    seq, _, digest = rest.partition(":")
    if not machine or not seq.isdigit() or len(digest) != 8:
        raise BadFormat(f"not a version identity: {identity!r}")
    return MachineId(machine), int(seq), digest


def _check_manifest(manifest: Manifest) -> None:
    if manifest.version != 2:
        raise BadFormat(f"manifest version {manifest.version}, expected 2", path=manifest.rel_path)
    try:
        parse_rel_path(manifest.rel_path)
    except BadPath as error:
        raise BadFormat(f"a record names a path that is not allowed: {error.message}", path=error.path) from error
    if manifest.file_size or manifest.chunks or manifest.chunk_sizes or manifest.chunk_pages:
        _check_chunks(manifest)
    if not _CONTENT_ID.fullmatch(manifest.content_id):  # the cache has a file of that name
        raise BadFormat(f"no content is called {manifest.content_id!r}", path=manifest.rel_path)
    _check_numbers(manifest)
    if len(manifest.link_id) > LINK_ID_MAX:
        raise BadFormat(f"a link_id has {LINK_ID_MAX} characters at most", path=manifest.rel_path)
    if any(len(name) > OWNER_MAX or "\0" in name for name in (manifest.owner, manifest.group)):
        raise BadFormat(f"no owner or group is called so: {OWNER_MAX} characters at most", path=manifest.rel_path)
    if "\0" in manifest.target:
        raise BadFormat("a target with a NUL", path=manifest.rel_path)
    if manifest.xattrs:
        _check_xattrs(manifest)


def _check_chunks(manifest: Manifest) -> None:
    sizes = manifest.chunk_sizes
    if len(manifest.chunks) != len(sizes):
        raise BadFormat("chunks and chunk_sizes differ in length", path=manifest.rel_path)
    if manifest.file_size < 0 or min(sizes, default=1) <= 0:
        raise BadFormat("negative or empty size", path=manifest.rel_path)
    if not manifest.chunk_pages and sum(sizes) != manifest.file_size:
        raise BadFormat("chunk sizes do not add up to file_size", path=manifest.rel_path)
    if manifest.chunk_pages and manifest.chunks:
        raise BadFormat("a manifest has chunks or chunk_pages, not both", path=manifest.rel_path)
    if max(sizes, default=1) >= 1 << 32:  # content_id packs them into 32 bits
        raise BadFormat("a chunk is not that large", path=manifest.rel_path)
    if not _are_ids([*manifest.chunks, *manifest.chunk_pages]):
        raise BadFormat("a chunk id is 64 hex digits", path=manifest.rel_path)


def _check_numbers(manifest: Manifest) -> None:
    first, last = manifest.batch or (1, 1)
    if not (
        manifest.file_size <= INT_MAX
        and 0 <= manifest.mode <= 0o7777
        and -INT_MAX - 1 <= manifest.mtime_ns <= INT_MAX
        and -INT_MAX <= manifest.written_at * 10**9 <= INT_MAX
        and 1 <= first <= last <= SEQ_MAX
    ):
        raise BadFormat("a size, mode, time or batch that cannot be", path=manifest.rel_path)


def _check_xattrs(manifest: Manifest) -> None:
    for name, value in manifest.xattrs.items():
        try:
            base64.b64decode(value, validate=True)
        except ValueError as error:
            raise BadFormat(f"the value of attribute {name!r} is not base64", path=manifest.rel_path) from error
        if not name or "\0" in name:
            raise BadFormat(f"no attribute is called {name!r}", path=manifest.rel_path)


def _check_pack(record: PackRecord) -> None:
    if not _are_ids([record.pack_id, *(chunk.id for chunk in record.chunks)]):
        raise BadFormat(f"pack record {record.seq}: an id is 64 hex digits")
    if any(
        min(chunk.offset, chunk.length - 1, chunk.raw_length - 1, chunk.flags) < 0
        or max(chunk.offset, chunk.length, chunk.raw_length, chunk.flags) > INT_MAX
        for chunk in record.chunks
    ):
        raise BadFormat(f"pack record {record.seq}: a chunk at a place that cannot be")
    if not 0 <= record.size <= INT_MAX:
        raise BadFormat(f"pack record {record.seq}: no pack has {record.size} bytes")


def _are_ids(ids: list[str]) -> bool:
    return all(len(each) == 64 for each in ids) and _HEX.fullmatch("".join(ids)) is not None
