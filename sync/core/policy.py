"""When content comes here: one word a path, inherited by what is below, the most specific one counts. Pure.

A word belongs to a path, not to what stands there: a file that is renamed has the policy of its new place.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property

import msgspec

from sync.core.paths import parents_of


class Policy(StrEnum):
    """What brings the content of a file here, besides `tcfs hydrate`."""

    ON_READ = "on-read"  # a read brings what it needs (and what follows)
    ON_OPEN = "on-open"  # to open it brings all of it
    NEVER = "never"  # nothing: a read of what is not local is refused
    ALWAYS = "always"  # it is brought by itself, also each new version, and never evicted: a pin


DEFAULT = Policy.ON_READ


class Policies(msgspec.Struct, frozen=True, dict=True):
    """words: rel_path ('' = the root) -> its own word."""

    words: Mapping[str, Policy] = {}

    def source(self, path: str) -> str | None:
        """The path whose word counts for `path`: itself or the nearest folder above; None if none has one."""
        if not self.words:
            return None
        return next((place for place in (path, *parents_of(path), "") if place in self.words), None)

    def of(self, path: str) -> Policy:
        source = self.source(path)
        return DEFAULT if source is None else self.words[source]

    def is_pinned(self, path: str) -> bool:
        return self.of(path) is Policy.ALWAYS

    def pins(self) -> list[str]:
        """The paths that have the word `always` themselves, sorted."""
        return sorted(path for path, word in self.words.items() if word is Policy.ALWAYS)

    def uses(self, policy: Policy) -> bool:
        """True if any path has that word. Asked at each open."""
        return policy in self._used

    @cached_property
    def _used(self) -> frozenset[Policy]:
        return frozenset(self.words.values())

    def with_word(self, path: str, word: Policy | None) -> "Policies":
        """None: the path has the policy of the folder above."""
        words = {place: old for place, old in self.words.items() if place != path}
        return Policies(words if word is None else {**words, path: word})

    def pinned(self, *paths: str) -> "Policies":
        """The paths and all below them are pinned, whatever words there were. A glob may mean very many at once."""
        places = frozenset(paths)
        words = {place: word for place, word in self.words.items() if not _is_at_or_below(place, places)}
        return Policies(words | dict.fromkeys(paths, Policy.ALWAYS))

    def unpinned(self, *paths: str) -> "Policies":
        """Neither the paths nor what is below them is pinned. Where a folder above is, a path gets the default word."""
        places = frozenset(paths)
        words = {
            place: word
            for place, word in self.words.items()
            if word is not Policy.ALWAYS or not _is_at_or_below(place, places)
        }
        freed = Policies(words)
        return Policies(words | {path: DEFAULT for path in paths if freed.is_pinned(path)})


def _is_at_or_below(path: str, places: frozenset[str]) -> bool:
    return any(place in places for place in (path, *parents_of(path), ""))
