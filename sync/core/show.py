"""What a path shows on one machine: pure, derived from its heads, never written back.

The rules, applied to the live heads in this order:

1. *Merged*: a head that is no directory and has the common ancestor's value changed nothing but mode, owner, xattrs or
   mtime. If another value stands against it, it goes into that.
2. *Collapsed*: the other heads that are no directories form groups of equal value. The leading group is that of an own
   head (in `auto` not), else of the auto winner: the least of (machine_name, machine_id, seq, identity). Merged heads
   belong to it.
3. Mode, owner, group and each xattr are merged field by field against the common ancestor: the one that changed wins,
   of several the auto winner's. mtime is that of the own head of NAME's value, else the newest of that value; a merged
   head's mtime belongs to the ancestor's bytes and does not count.
4. Live directory heads are one directory without siblings, each field the auto winner's; it keeps NAME, and the leading
   group becomes a sibling. Else, where the tombstone was written, NAME is absent and all groups stand as siblings, in
   `auto` too. Else the leading group is NAME. The other groups are siblings, in `auto` they are not shown.

So each live head is NAME's or a sibling's (the one that is shown, or in `also`), but for the losers in `auto`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

import msgspec

from sync.core.manifest import Kind, Manifest, Version, VersionId

T = TypeVar("T")
Ancestor = Callable[[Sequence[Version]], Version | None]  # heads.common_ancestor over the versions known here


class Mode(StrEnum):
    """What this machine does with concurrent versions. DEFER shows the same as INTERACTIVE and never asks."""

    INTERACTIVE = "interactive"
    DEFER = "defer"
    AUTO = "auto"


class NameShown(msgspec.Struct, frozen=True):
    """What stands under NAME. The content is `version`'s; mode, xattrs (name -> base64) and mtime_ns are as merged.

    also: identities of every further head that NAME covers (equal or merged), sorted. link_id, owner and group are
    merged as mode is.
    """

    version: Version
    also: tuple[VersionId, ...]
    mode: int
    xattrs: Mapping[str, str]
    mtime_ns: int
    link_id: str = ""
    owner: str = ""
    group: str = ""

    @property
    def covers(self) -> tuple[VersionId, ...]:
        """All heads that were seen by who saw NAME."""
        return (self.version.id, *self.also)


class Sibling(Version, frozen=True):
    """A head that stands beside NAME. also: further heads that it covers, as in NameShown."""

    also: tuple[VersionId, ...] = ()

    @property
    def covers(self) -> tuple[VersionId, ...]:
        """All heads that are resolved with this sibling."""
        return (self.id, *self.also)


class Shown(msgspec.Struct, frozen=True):
    """What one path shows. siblings: in the auto winner's order. dead: the dead heads, sorted."""

    name: NameShown | None = None
    siblings: tuple[Sibling, ...] = ()
    dead: tuple[VersionId, ...] = ()

    @property
    def seen(self) -> tuple[VersionId, ...]:
        """The heads that a change of NAME has seen: of an absent NAME the dead ones. Never a sibling."""
        return self.dead if self.name is None else self.name.covers


_Group = tuple[Version, list[Version]]  # the head that is shown, and what else it covers


def show(heads: Sequence[Version], ancestor: Ancestor, own_ids: Collection[str], mode: Mode) -> Shown:
    """What a path with these heads, in any order, shows on the machine that has, or had, the ids own_ids.

    ancestor is asked only about live heads that differ in more than who wrote them when.
    """
    if len(heads) == 1:
        return _show_one(heads[0])
    live = sorted((head for head in heads if head.is_live), key=_auto_order)
    dead = [head for head in heads if not head.is_live]
    if not live:
        return Shown(dead=_ids(dead))
    folders = [head for head in live if head.manifest.kind is Kind.DIR]
    merged = _merged(live, ancestor)
    groups = _groups(live, merged, () if mode is Mode.AUTO else own_ids)
    removed_here = any(_machine_of(head) in own_ids for head in dead)
    name = None
    if folders:
        name = _name_shown(folders[0], folders[1:] if groups else folders[1:] + merged, ancestor, ())
    elif not removed_here:
        name = _name_shown(*groups.pop(0), ancestor, own_ids)
    if mode is Mode.AUTO and not removed_here:
        groups = groups[:1] if folders else []
    return Shown(name, tuple(Sibling(head.id, head.manifest, _ids(rest)) for head, rest in groups), _ids(dead))


def _show_one(head: Version) -> Shown:
    """The same for the one head that almost every path has."""
    manifest = head.manifest
    if not manifest.is_live:
        return Shown(dead=(head.id,))
    fields = (manifest.mode, manifest.xattrs, manifest.mtime_ns, manifest.link_id, manifest.owner, manifest.group)
    return Shown(NameShown(head, (), *fields))


def _merged(live: list[Version], ancestor: Ancestor) -> list[Version]:
    """The heads of rule 1."""
    value = live[0].manifest.value
    base = None if all(head.manifest.value == value for head in live) else ancestor(live)
    if base is None:
        return []
    value = base.manifest.value
    return [head for head in live if head.manifest.value == value and head.manifest.kind is not Kind.DIR]


def _groups(live: list[Version], merged: list[Version], own_ids: Collection[str]) -> list[_Group]:
    """The groups of rule 2, the leading one first, the others in the auto winner's order."""
    passed = {head.id for head in merged}
    files = [head for head in live if head.manifest.kind is not Kind.DIR and head.id not in passed]
    if not files:
        return []
    by_value: dict[tuple[str, str, str], list[Version]] = {}
    for head in files:
        by_value.setdefault(head.manifest.value, []).append(head)
    leader = next((head for head in files if _machine_of(head) in own_ids), files[0])
    leading = [head for head in by_value.pop(leader.manifest.value) if head is not leader]
    return [(leader, leading + merged), *((group[0], group[1:]) for group in by_value.values())]


def _name_shown(winner: Version, covered: list[Version], ancestor: Ancestor, own_ids: Collection[str]) -> NameShown:
    """NAME with the fields of rule 3, merged over those of its heads that are of the winner's kind."""
    kind = winner.manifest.kind
    heads = sorted((head for head in (winner, *covered) if head.manifest.kind is kind), key=_auto_order)
    base = ancestor(heads) if _differ(heads) else None
    old = base.manifest if base is not None and base.manifest.kind is kind else None
    manifests = [head.manifest for head in heads]
    mode = _merge([manifest.mode for manifest in manifests], old.mode if old else None)
    xattrs = _merge_xattrs([manifest.xattrs for manifest in manifests], old.xattrs if old else {})
    if kind is Kind.DIR:
        mtime_ns = _merge([manifest.mtime_ns for manifest in manifests], old.mtime_ns if old else None)
    else:
        same = [head for head in heads if head.manifest.value == winner.manifest.value]
        own = [head for head in same if _machine_of(head) in own_ids]
        mtime_ns = max(head.manifest.mtime_ns for head in own or same)
    link_id = _merge([manifest.link_id for manifest in manifests], old.link_id if old else None)
    owner = _merge([manifest.owner for manifest in manifests], old.owner if old else None)
    group = _merge([manifest.group for manifest in manifests], old.group if old else None)
    return NameShown(winner, _ids(covered), mode, xattrs, mtime_ns, link_id, owner, group)


def _differ(heads: Sequence[Version]) -> bool:
    """True if the merge of the heads' fields depends on their ancestor."""
    first = heads[0].manifest
    fields = _merged_fields(first)
    return any(
        _merged_fields(other) != fields or (other.kind is Kind.DIR and other.mtime_ns != first.mtime_ns)
        for other in (head.manifest for head in heads[1:])
    )


def _merged_fields(manifest: Manifest) -> tuple[object, ...]:
    return (manifest.mode, manifest.xattrs, manifest.link_id, manifest.owner, manifest.group)


def _merge(values: Sequence[T], old: T | None) -> T:
    """The first of the values, of which there is one at least, that is not `old`; if all are, old."""
    return next((value for value in values if value != old), values[0])


def _merge_xattrs(maps: Sequence[Mapping[str, str]], old: Mapping[str, str]) -> dict[str, str]:
    names = sorted({name for names in maps for name in names})
    merged = {name: _merge([xattrs.get(name) for xattrs in maps], old.get(name)) for name in names}
    return {name: value for name, value in merged.items() if value is not None}


def _auto_order(head: Version) -> tuple[str, str, int, str]:
    return (head.manifest.machine_name, _machine_of(head), head.manifest.seq, head.id)


def _machine_of(head: Version) -> str:
    return head.id.partition(":")[0]


def _ids(heads: Iterable[Version]) -> tuple[VersionId, ...]:
    return tuple(sorted(head.id for head in heads))
