"""Versions for tests: single ones, and whole random histories of one path with what each writer had really seen."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
from hypothesis import strategies as st

from sync.core.manifest import Clocks, Kind, Manifest, PathVersion, Version, VersionId, encode_record, version_id
from sync.core.plan import new_clock

MACHINES = ("ada", "bea", "cy")  # machine_id "id-ada" has the name "ada"


class Fields(msgspec.Struct, frozen=True):
    """What a test may say of a version."""

    kind: Kind = Kind.FILE
    content: str = ""
    target: str = ""
    mode: int = 0o644
    xattrs: dict[str, str] = {}
    mtime_ns: int = 0
    owner: str = ""
    group: str = ""
    moved_from: PathVersion | None = None
    moved_to: PathVersion | None = None
    batch: tuple[int, int] | None = None


GONE = Fields(kind=Kind.TOMBSTONE, mode=0)


def version(
    machine: str,
    seq: int,
    clock: Mapping[str, int],
    fields: Fields = Fields(content="x"),  # noqa: B008 - frozen
    *,
    path: str = "f",
    parents: Iterable[str] = (),
    machine_id: str = "",
) -> Version:
    manifest = Manifest(
        version=2,
        seq=seq,
        rel_path=path,
        kind=fields.kind,
        vclock=Clocks(dict(clock)),
        written_by=machine_id or f"id-{machine}",
        machine_name=machine,
        written_at=seq,
        content_id=fields.content,
        target=fields.target,
        mode=fields.mode,
        xattrs=fields.xattrs,
        mtime_ns=fields.mtime_ns,
        owner=fields.owner,
        group=fields.group,
        parents=list(parents),
        moved_from=fields.moved_from,
        moved_to=fields.moved_to,
        batch=fields.batch,
    )
    return Version(version_id(manifest.written_by, seq, encode_record(manifest)), manifest)


@dataclass
class Machine:
    """One writer. The next version gets the next seq; `newest` is kept per path, as fleet.db does."""

    name: str
    machine_id: str = ""
    seq: int = 0
    newest: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.machine_id = self.machine_id or f"id-{self.name}"

    def write(self, seen: Iterable[Version], fields: Fields, path: str = "f") -> Version:
        """Publish: `seen` are versions of that path."""
        self.seq += 1
        newest = self.newest.setdefault(path, {})
        stamp = new_clock(self.machine_id, self.seq, seen, newest)
        newest[stamp.actor] = self.seq
        return version(
            self.name,
            self.seq,
            stamp.clock,
            fields,
            path=path,
            parents=stamp.parents,
            machine_id=self.machine_id,
        )


@dataclass(frozen=True)
class History:
    """Versions of one path in the order of writing; saw: for each all that its writer had, by whatever way, seen."""

    versions: list[Version]
    saw: dict[VersionId, frozenset[VersionId]]

    def find(self, identity: str) -> Version | None:
        return next((each for each in self.versions if each.id == identity), None)


_CONTENTS = st.sampled_from(("u", "v", "w"))
_LIVE = st.builds(
    Fields,
    kind=st.sampled_from((Kind.FILE, Kind.FILE, Kind.FILE, Kind.SYMLINK)),
    content=_CONTENTS,
    mode=st.sampled_from((0o600, 0o644, 0o755)),
    xattrs=st.dictionaries(st.sampled_from(("user.a", "user.b")), st.sampled_from(("MQ==", "Mg==")), max_size=2),
    mtime_ns=st.integers(0, 5),
    owner=st.sampled_from(("", "ada", "bea")),
    group=st.sampled_from(("", "staff")),
)
_FOLDER = st.builds(
    Fields,
    kind=st.just(Kind.DIR),
    mode=st.sampled_from((0o700, 0o755)),
    mtime_ns=st.integers(0, 5),
    owner=st.sampled_from(("", "ada", "bea")),
)


@st.composite
def histories(draw: st.DrawFn, *, folders: bool = False, max_size: int = 7) -> History:
    """Each version is written by some machine that had seen some of the versions before it."""
    machines = [Machine(name) for name in MACHINES]
    kinds = st.one_of(_LIVE, _LIVE, st.just(GONE), *([_FOLDER] if folders else []))
    history = History([], {})
    for _ in range(draw(st.integers(1, max_size))):
        writer = draw(st.sampled_from(machines))
        seen = (
            draw(st.lists(st.sampled_from(history.versions), unique_by=lambda v: v.id, max_size=2))
            if history.versions
            else []
        )
        new = writer.write(seen, draw(kinds))
        history.saw[new.id] = frozenset(v.id for v in seen).union(*(history.saw[v.id] for v in seen))
        history.versions.append(new)
    return history
