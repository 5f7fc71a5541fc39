"""Whether a change is published, and what it has seen: the rules of one path, against its heads of this moment.

Seals bring what their entry had seen. To that come versions that this machine itself made of renames, of which the
entry could not know the names: the entry hangs below the folder and has moved with it. A removal that says where its
thing went has not seen what came back from there.

A plain folder brings the version of its last push or pull, or nothing, and three rules of its own: a live head that
says the same already is enough; an absent NAME is seen as absent (its tombstones) unless somebody else removed what the
folder still has; a folder is a change only if its mode or xattrs differ.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, Protocol

import msgspec

from sync.core.clock import strictly_less
from sync.core.manifest import Kind, Manifest, Version, VersionId, split_version_id
from sync.core.plan import Decision, State, compare_three, seen_at, state_of
from sync.worker.change import Change

MOVES_MAX: Final = 64  # renames of one file between two notes


class Versions(Protocol):
    """Versions as a transaction knows them; identities are read through renames."""

    def find(self, identity: str) -> Version | None: ...


class Publish(msgspec.Struct, frozen=True):
    """Write a version that supersedes `seen`."""

    change: Change
    seen: tuple[Version, ...]


class Unchanged(msgspec.Struct, frozen=True):
    """Nothing to write; version: what says so, None if there is none."""

    change: Change
    version: VersionId | None


def decide(
    change: Change,
    here: State | None,
    shown: State | None,
    heads: Sequence[Version],
    versions: Versions,
    machine_id: str,
    own_ids: Collection[str],
    going: Collection[str] = (),
) -> Publish | Unchanged:
    """here: the state that the change wants (None: absent).

    going: the paths at which something is put with this change: what it says to have moved there goes only now.

    shown: what NAME shows, if its fields may be merged ones, which no version has, and the change was made from them.
    What a program did to a folder of the mount is published also if it changed nothing: times that are set to what they
    were are later than the entries that came and went since, which elsewhere have moved them.
    """
    seen = _seen(change, heads, versions, machine_id, own_ids, going)
    last = versions.find(change.last) if change.last is not None else None
    if change.folder_rules:
        equal = _says_the_same(change, here, heads, last)
        if equal is not None:
            return Unchanged(change, equal.id)
    if change.is_removal and any(version.is_live for version in seen if version in heads):
        return Publish(change, seen)
    before = shown if shown is not None else state_of(last.manifest) if last is not None else None
    is_again = change.resolved or (change.kind is Kind.DIR and change.seal_id is not None)
    if compare_three(before, here, is_again) is Decision.UNCHANGED and not _overrides(change, last, heads):
        return Unchanged(change, last.id if last is not None else None)
    return Publish(change, seen)


def _overrides(change: Change, last: Version | None, heads: Sequence[Version]) -> bool:
    """True if the person wants what this machine published last to supersede what stands there instead of it by now."""
    return change.sees_all and last is not None and any(head.manifest.value != last.manifest.value for head in heads)


def stands_beside(heads: Iterable[Version], new: Version, seen: Iterable[Version]) -> tuple[VersionId, ...]:
    """The live heads that a new version conflicts with: concurrent, of another value, and neither is merged away."""
    if not new.is_live:
        return ()
    old_values = {version.manifest.value for version in seen}
    if new.manifest.value in old_values:
        return ()
    return tuple(
        head.id
        for head in heads
        if head.is_live
        and head.id != new.id
        and not strictly_less(head.clock, new.clock)
        and head.manifest.value != new.manifest.value
        and head.manifest.value not in old_values
    )


def _seen(
    change: Change,
    heads: Sequence[Version],
    versions: Versions,
    machine_id: str,
    own_ids: Collection[str],
    going: Collection[str],
) -> tuple[Version, ...]:
    if change.sees_all:
        return tuple(heads)
    named = [version for identity in change.seen if (version := versions.find(identity)) is not None]
    renamed = heads
    if change.moved_to and change.moved_to not in going:
        known = {version.id for version in named}
        renamed = [head for head in heads if not _came_back(head, change.moved_to, known, versions)]
    if change.is_of_entry and renamed:
        named += _own_moves(renamed, named, versions, machine_id)
    is_absent = not any(head.is_live for head in heads)
    if change.folder_rules and is_absent and (not named or all(_machine_of(head) in own_ids for head in heads)):
        named += heads
    return seen_at(change.path, named, renamed)


def _own_moves(
    heads: Sequence[Version], named: Sequence[Version], versions: Versions, machine_id: str
) -> list[Version]:
    """What renames of ours left or brought at this path, as far as the entry is made of it."""
    known = {version.id for version in named}
    found: list[Version] = []
    for head in heads:
        if _machine_of(head) != machine_id:
            continue
        if not head.is_live:
            # Nothing hung at this path any more when it was renamed away: whoever came later has seen that.
            if head.manifest.moved_to is not None:
                found.append(head)
        elif head.manifest.moved_from is not None and _comes_from(head, known, versions):
            found.append(head)
    return found


def _comes_from(head: Version, known: Collection[VersionId], versions: Versions) -> bool:
    """True if a chain of renames, the value unchanged, leads from one of `known` to head."""
    return any(version.id in known for version in _moved_along(head, versions))


def _came_back(head: Version, moved_to: str, known: Collection[VersionId], versions: Versions) -> bool:
    """True if head is what a removal itself says that it moved away, to `moved_to`, back from there: that was later."""
    if head.manifest.moved_from is None:
        return False
    for version in chain([head], _moved_along(head, versions)):
        if version.id in known:
            return False
        if version.path == moved_to and _is_moved_there(version, known):
            return True
    return False


def _is_moved_there(version: Version, known: Collection[VersionId]) -> bool:
    """False of a thing that was at this path before because its folder was: it was not moved away to there."""
    origin = version.manifest.moved_from
    return origin is None or not origin.version or origin.version in known


def _moved_along(head: Version, versions: Versions) -> Iterator[Version]:
    """The versions that renames, the value unchanged, have led from to head, the nearest first."""
    version: Version | None = head
    for _ in range(MOVES_MAX):
        origin = version.manifest.moved_from if version is not None else None
        if origin is None or not origin.version:
            return
        version = versions.find(origin.version)
        if version is None or version.manifest.value != head.manifest.value:
            return
        yield version


def _says_the_same(
    change: Change, here: State | None, heads: Sequence[Version], last: Version | None
) -> Version | None:
    """The live head that makes a push of this needless."""
    if here is None or change.sees_all:
        return None
    for head in heads:
        manifest = head.manifest
        if not head.is_live or manifest.kind is not here.kind:
            continue
        if here.kind is Kind.DIR:
            before = last.manifest if last is not None else None
            if before is None or (before.mode, before.xattrs) == (here.mode, here.xattrs):
                return head
        is_same = _fields(manifest) == (here.content_id, here.target, here.mode, dict(here.xattrs))
        is_same = is_same and here.link_id in ("", manifest.link_id)
        if is_same and (last is None or last.id != head.id or here.kind is Kind.DIR):
            return head
    return None


def _fields(manifest: Manifest) -> tuple[str, str, int, dict[str, str]]:
    return (manifest.content_id, manifest.target, manifest.mode, manifest.xattrs)


def _machine_of(version: Version) -> str:
    return split_version_id(version.id)[0]
