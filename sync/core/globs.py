"""Globs over rel_paths: * ? [...] within one name, ** for any number of folders. Pure.

As in a shell: a name that begins with a dot is only met by a part that does.

A glob is followed name by name, with the set of its parts that may come next: however many ** it has, each name costs
at most one look at each part.
"""

import re
from fnmatch import translate
from functools import lru_cache

_MAGIC = re.compile(r"[*?\[]")
ANY_DEPTH = "**"


def is_glob(text: str) -> bool:
    return _MAGIC.search(text) is not None


def quoted(name: str) -> str:
    """The part of a glob that matches this name only."""
    return _MAGIC.sub(r"[\g<0>]", name)


def name_matches(part: str, name: str) -> bool:
    """Whether one part of a glob (not **) matches a name."""
    if name.startswith(".") and not part.startswith("."):
        return False
    return _compiled(part).match(name) is not None


def path_matches(glob: str, path: str) -> bool:
    """Whether a whole rel_path is one that the glob means."""
    parts = tuple(glob.split("/"))
    places = beginning(parts)
    for name in path.split("/"):
        places = behind(parts, places, name)
    return len(parts) in places


def beginning(parts: tuple[str, ...]) -> frozenset[int]:
    """The parts that may meet the first name, by their number; len(parts): the glob may end here."""
    return _without_folders(parts, {0})


def behind(parts: tuple[str, ...], places: frozenset[int], name: str) -> frozenset[int]:
    """The parts that may meet the next name when those at `places` have met this one; empty: none can."""
    found: set[int] = set()
    for place in places:
        if place == len(parts):
            continue
        if parts[place] == ANY_DEPTH:
            if not name.startswith("."):
                found.add(place)
        elif name_matches(parts[place], name):
            found.add(place + 1)
    return _without_folders(parts, found)


def _without_folders(parts: tuple[str, ...], places: set[int]) -> frozenset[int]:
    """With the places behind each **, which may stand for no folder at all."""
    for place in sorted(places):
        while place < len(parts) and parts[place] == ANY_DEPTH:
            place += 1
            places.add(place)
    return frozenset(places)


@lru_cache(maxsize=256)
def _compiled(part: str) -> re.Pattern[str]:
    return re.compile(translate(part))
