"""Globs over rel_paths: * ? [...] within one name, ** for any number of folders. Pure.

As in a shell: a name that begins with a dot is only met by a part that does.
"""

import re
from fnmatch import translate
from functools import lru_cache

_MAGIC = re.compile(r"[*?\[]")
ANY_DEPTH = "**"


def is_glob(text: str) -> bool:
    return _MAGIC.search(text) is not None


def name_matches(part: str, name: str) -> bool:
    """Whether one part of a glob (not **) matches a name."""
    if name.startswith(".") and not part.startswith("."):
        return False
    return _compiled(part).match(name) is not None


def path_matches(glob: str, path: str) -> bool:
    """Whether a whole rel_path is one that the glob means."""
    return _parts_match(tuple(glob.split("/")), tuple(path.split("/")))


def _parts_match(glob: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    if not glob:
        return not parts
    if glob[0] == ANY_DEPTH:
        if _parts_match(glob[1:], parts):
            return True
        return bool(parts) and not parts[0].startswith(".") and _parts_match(glob, parts[1:])
    return bool(parts) and name_matches(glob[0], parts[0]) and _parts_match(glob[1:], parts[1:])


@lru_cache(maxsize=256)
def _compiled(part: str) -> re.Pattern[str]:
    return re.compile(translate(part))
