"""The heads of a path: its versions that no other known version supersedes.

They are a set by identity, held as a tuple sorted by identity: the same versions inserted in any order, any number of
times, give the same tuple. Different versions with equal clocks (a clone) are concurrent and both stay.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from sync.core.clock import covers, machine_of, strictly_less
from sync.core.manifest import Version

Heads = tuple[Version, ...]


def insert(heads: Heads, new: Version) -> Heads:
    """The heads after `new` became known. The very same tuple (`is heads`) if it changed nothing.

    new is ignored if it is present by identity or strictly less than a head; heads strictly less than new go.
    """
    if not heads:
        return (new,)
    clock = new.clock
    kept = []
    for head in heads:
        if head.id == new.id:
            return heads
        below, above = covers(clock, head.clock), covers(head.clock, clock)
        if above and not below:
            return heads
        if above or not below:
            kept.append(head)
    if not kept:
        return (new,)
    kept.append(new)
    kept.sort(key=_identity)
    return tuple(kept)


def heads_of(versions: Iterable[Version]) -> Heads:
    """The heads among versions of one path."""
    heads: Heads = ()
    for version in versions:
        heads = insert(heads, version)
    return heads


def equal_clocks(heads: Heads, new: Version) -> Heads:
    """The heads that are other versions than `new` and have its very clock: proof of a clone, to be reported."""
    return tuple(
        head for head in heads if head.id != new.id and covers(head.clock, new.clock) and covers(new.clock, head.clock)
    )


def common_ancestor(versions: Sequence[Version], find: Callable[[str], Version | None]) -> Version | None:
    """The newest version that all of `versions`, concurrent ones of one path, had seen; None if none is known.

    It is looked for along `parents`; `find` answers for an identity, or None if that is not known here (a hole). Of
    several of one value, none of which had seen the others, the one whose identity is greatest. None if they differ in
    value: two users have settled a conflict in opposite ways, and neither of them went back to what both had.
    """
    if len(versions) < 2:
        return None
    start, *others = sorted(versions, key=_identity)
    waiting = list(start.manifest.parents)
    visited = set(waiting)
    common: Heads = ()
    while waiting:
        version = find(waiting.pop())
        if version is None:
            continue
        if all(strictly_less(version.clock, other.clock) for other in others):
            common = insert(common, version)
            continue
        new = [parent for parent in version.manifest.parents if parent not in visited]
        visited.update(new)
        waiting += new
    return common[-1] if len({version.manifest.value for version in common}) == 1 else None


def is_prunable(tombstone: Version, acks: Mapping[str, Mapping[str, int]], members: Collection[str]) -> bool:
    """True if a tombstone may be forgotten: every member has acknowledged everything that its clock covers.

    acks: machine_id -> {machine_id: seq}, the end of the hole-free prefix of that journal which it has applied; what is
    not named counts as nothing, the own journal too. members: the machines that are not retired. A version that the
    tombstone supersedes can then arrive nowhere any more. Always False for a live version.
    """
    return not tombstone.is_live and all(
        acks.get(member, {}).get(machine_of(actor), 0) >= number
        for member in members
        for actor, number in tombstone.clock.items()
    )


def _identity(version: Version) -> str:
    return version.id
