"""Decisions of publishing: whether a change is one, what it has seen, its clock, what a renamed folder publishes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import TypeVar

import msgspec

from sync.core.clock import join, next_actor
from sync.core.heads import heads_of
from sync.core.manifest import (
    Actor,
    Clocks,
    Kind,
    Manifest,
    PathVersion,
    Version,
    VersionId,
    encode_record,
    version_id,
)
from sync.core.paths import join_path
from sync.core.show import NameShown, Shown

T = TypeVar("T")


class Decision(Enum):
    UNCHANGED = "unchanged"
    PUBLISH = "publish"


class State(msgspec.Struct, frozen=True):
    """What of a live entry is worth publishing when it changes. As in Manifest."""

    kind: Kind
    content_id: str
    target: str
    mode: int
    xattrs: Mapping[str, str]
    mtime_ns: int
    link_id: str = ""
    owner: str = ""
    group: str = ""


def state_of(version: Manifest | NameShown | None) -> State | None:
    """The state that a manifest describes, or that NAME shows with its merged fields; None: absent, or a tombstone."""
    if version is None:
        return None
    manifest = version.version.manifest if isinstance(version, NameShown) else version
    if not manifest.is_live:
        return None
    fields = (version.mode, version.xattrs, version.mtime_ns, version.link_id, version.owner, version.group)
    return State(manifest.kind, manifest.content_id, manifest.target, *fields)


def compare_three(last: State | None, here: State | None, resolved: bool) -> Decision:
    """Whether an entry that is now `here` has anything to publish; None = absent.

    last: the state last queued or published from this entry, noted or not, else what its `seen` showed; never the
    node's base, and never what NAME shows by now: undoing one's own change is a change, and what another did is none.
    resolved: the entry has taken over or dismissed a sibling, which is published even if nothing else changed.
    """
    return Decision.UNCHANGED if here == last and not resolved else Decision.PUBLISH


def seen_at(path: str, seen: Iterable[Version], heads: Iterable[Version]) -> tuple[Version, ...]:
    """The versions of `path` that a change of it counts as seen, sorted by identity.

    Of `seen`, what the entry saw, those of this very path. One of another path counts only through a head of this path
    that names it in moved_from and has an equal value: then that head counts.
    """
    found: dict[str, Version] = {}
    elsewhere: dict[str, Version] = {}
    for version in seen:
        (found if version.path == path else elsewhere)[version.id] = version
    if elsewhere:
        for head in heads:
            origin = head.manifest.moved_from and elsewhere.get(head.manifest.moved_from.version)
            if origin and origin.manifest.value == head.manifest.value:
                found[head.id] = head
    return tuple(found[identity] for identity in sorted(found))


class Stamp(msgspec.Struct, frozen=True):
    """What makes a new version the successor of what its writer had seen. clock has the actor's own number already."""

    clock: dict[str, int]
    actor: Actor
    parents: tuple[VersionId, ...]


def new_clock(machine_id: str, seq: int, seen: Iterable[Version], own_newest: Mapping[str, int]) -> Stamp:
    """Clock, actor and parents of the version `seq` of a path.

    seen: the versions of that path that its writer had seen (seen_at). own_newest: for each actor of this machine its
    newest number at that path, published or queued. A clock from elsewhere may claim numbers of ours that were never
    given, so an actor whose number is not less than seq is passed over.
    """
    superseded = heads_of(seen)
    if not (superseded or own_newest):  # the first version of a path, as nearly all of a copy are
        return Stamp({machine_id: seq}, Actor(machine_id), ())
    clock = join(version.clock for version in superseded)
    claimed = {actor: number + 1 for actor, number in clock.items() if number >= seq}
    actor = next_actor(machine_id, clock, {**own_newest, **claimed})
    clock[actor] = seq
    return Stamp(clock, actor, tuple(version.id for version in superseded))


def batch_order(changes: Iterable[T], is_removal: Callable[[T], bool]) -> list[T]:
    """Creations before tombstones, otherwise as they came: half of a batch shows a thing twice, never not at all."""
    ordered = list(changes)
    ordered.sort(key=is_removal)
    return ordered


class Moving(msgspec.Struct, frozen=True):
    """One path of a folder that is renamed, at the moment in which the rename is read."""

    inner: str  # the path below the folder; '' is the folder itself
    source: NameShown | None  # what it shows at the old path; None: a folder without a record
    target: Shown  # what the new path shows


class Creation(msgspec.Struct, frozen=True):
    """A version to write at a new path: the state of `source`; None: a folder of mode place.IMPLIED_MODE."""

    path: str
    source: NameShown | None
    seen: tuple[VersionId, ...]
    moved_from: PathVersion | None


class Removal(msgspec.Struct, frozen=True):
    """A tombstone to write at an old path. moved_to: the new path; its version is that of the creation there."""

    path: str
    seen: tuple[VersionId, ...]
    moved_to: str


class FolderRename(msgspec.Struct, frozen=True):
    """One batch: folders before what is in them, then the tombstones, the other way round."""

    creations: tuple[Creation, ...]
    removals: tuple[Removal, ...]


def rename_folder(old: str, new: str, moving: Iterable[Moving]) -> FolderRename:
    """What the rename of folder `old` to `new` publishes.

    moving, in any order: the folder itself, and everything below that shows a version under its NAME. Siblings stay.
    A creation has seen the dead heads of its path if that shows nothing, never a live head: that came unseen. A
    tombstone has seen what the old path showed as NAME. What goes up may come to where something else of it was: then
    it has seen that instead, and no tombstone is written there.
    """
    creations: list[Creation] = []
    removals: list[Removal] = []
    moving = sorted(moving, key=lambda move: move.inner)
    leaving = {_join(old, move.inner): move.source.covers for move in moving if move.source is not None}
    places = {_join(new, move.inner) for move in moving}
    for move in moving:
        old_path, new_path = (_join(folder, move.inner) for folder in (old, new))
        seen = move.target.dead if move.target.name is None else leaving.get(new_path, ())
        if move.source is None:
            creations.append(Creation(new_path, None, seen, None))
            continue
        origin = PathVersion(old_path, move.source.version.id)
        creations.append(Creation(new_path, move.source, seen, origin))
        if old_path not in places:
            removals.append(Removal(old_path, move.source.covers, new_path))
    return FolderRename(tuple(creations), tuple(reversed(removals)))


def _join(folder: str, inner: str) -> str:
    return join_path(folder, inner) if inner else folder


class Republished(msgspec.Struct, frozen=True):
    """A queued version that the store lacks, written anew. line: its record; old: what it was called."""

    old: VersionId
    line: bytes
    version: Version


def republish(
    lost: Iterable[Version], machine_id: str, first_seq: int, find: Callable[[str], Version | None]
) -> list[Republished]:
    """After a fork: the lost versions as versions of the new machine_id, with seqs from first_seq on, in their order.

    Each clock is made from the version's parents, never from its own old clock: its numbers may be those of other
    versions by now. find: a version that is still known after the lost ones were forgotten, under any identity it has
    had; parents that are unknown are left out, which makes the new version concurrent with them. What named a lost
    version names the new one. The lost rest of a batch is a batch.
    """
    ordered = sorted(lost, key=lambda version: version.manifest.seq)
    new_seqs = {version.manifest.seq: first_seq + n for n, version in enumerate(ordered)}
    batches = _new_batches(ordered, new_seqs)
    anew: dict[str, Version] = {}
    own_newest: dict[str, dict[str, int]] = {}
    done = []
    for version in ordered:
        manifest = version.manifest
        seq = new_seqs[manifest.seq]
        parents = (anew.get(parent) or find(parent) for parent in manifest.parents)
        newest = own_newest.setdefault(manifest.rel_path, {})
        stamp = new_clock(machine_id, seq, [parent for parent in parents if parent], newest)
        newest[stamp.actor] = seq
        manifest = msgspec.structs.replace(
            manifest,
            seq=seq,
            vclock=Clocks(stamp.clock),
            written_by=machine_id,
            parents=list(stamp.parents),
            batch=batches[manifest.batch] if manifest.batch else None,
            moved_from=_renamed(manifest.moved_from, anew),
            moved_to=_renamed(manifest.moved_to, anew),
        )
        line = encode_record(manifest)
        anew[version.id] = Version(version_id(machine_id, seq, line), manifest)
        done.append(Republished(version.id, line, anew[version.id]))
    return done


def _new_batches(ordered: Sequence[Version], new_seqs: Mapping[int, int]) -> dict[tuple[int, int], tuple[int, int]]:
    """Old batch -> the run of new seqs of those of its versions that are here."""
    batches: dict[tuple[int, int], tuple[int, int]] = {}
    for version in ordered:
        batch, seq = version.manifest.batch, new_seqs[version.manifest.seq]
        if batch is not None:
            batches[batch] = (batches.get(batch, (seq, seq))[0], seq)
    return batches


def _renamed(place: PathVersion | None, anew: Mapping[str, Version]) -> PathVersion | None:
    if place is None or place.version not in anew:
        return place
    return PathVersion(place.path, anew[place.version].id)
