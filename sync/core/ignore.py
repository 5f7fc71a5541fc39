"""What stays on this machine: patterns in the grammar of gitignore, from the fleet's .tcfsignore and built-in ones."""

import re
from collections.abc import Iterable

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from sync.core.paths import split_path

# What editors and desktops make beside a file and take away again. vim's probe is a file 4913; a folder may be data.
# GnuPG gives its .#lk0x… a second name, that of the lock, which is shared: where it cannot, it tries again for ever.
DEFAULT_LOCAL_ONLY = ("*.swp", "*.swo", ".direnv", "4913", "!4913/", ".#*", "!.#lk0x*", ".~lock.*", ".goutputstream-*")
IGNORE_FILE = ".tcfsignore"  # at the root of the fleet
GIT_FOLDER = ".git"  # its files depend on each other; merging them one by one would break the repository

_REMEMBERED_MAX = 10_000  # folders
_NOT_SUPPORTED = re.compile(r"\[[^]]*(?:\[|--|&&|~~|\|\|)")  # classes like [[:alpha:]], which the library would misread

_GROUP_NAME = re.compile(r"\(\?P<\w+>")  # two groups of one name do not fit into one expression
_ANYWHERE = "^(?:.+/)?"  # with this the library begins a pattern that is good in every folder


class Ignore:
    """The built-in patterns, `.git` unless sync_git_raw, then those of `text`; of those that match, the last decides.

    So a text may take a built-in pattern back with '!'. As in git, nothing below an ignored folder can be taken back.
    A line that is no pattern matches nothing and is named in `invalid_lines`.
    """

    def __init__(self, text: str = "", *, sync_git_raw: bool = False) -> None:
        built_in = [*DEFAULT_LOCAL_ONLY] if sync_git_raw else [*DEFAULT_LOCAL_ONLY, GIT_FOLDER]
        self.invalid_lines: list[str] = []
        self._spec = GitIgnoreSpec([*GitIgnoreSpec.from_lines(built_in).patterns, *self._parse(text.split("\n"))])
        self._folders: dict[str, bool] = {"": False}
        # Most names match no pattern at all: one look says so, where asking the library takes ten times as long.
        taking = [pattern.regex.pattern for pattern in self._spec.patterns if pattern.include and pattern.regex]
        self._may_match = re.compile(_any_of([_GROUP_NAME.sub("(", text) for text in taking])).search

    def _parse(self, lines: Iterable[str]) -> list[GitIgnoreSpecPattern]:
        patterns: list[GitIgnoreSpecPattern] = []
        for line in lines:
            try:
                if _NOT_SUPPORTED.search(line) and not line.startswith("#"):
                    raise ValueError(line)
                patterns += GitIgnoreSpec.from_lines([line]).patterns
            except (ValueError, re.error):
                self.invalid_lines.append(line)
        return patterns

    def is_ignored(self, path: str, is_dir: bool) -> bool:
        """True if the rel_path is local-only, by itself or by a folder that it lies in. '' (the root) never is."""
        if is_dir:
            return self._is_folder_ignored(path)
        return self._is_folder_ignored(split_path(path)[0]) or self._matches(path)

    def _is_folder_ignored(self, path: str) -> bool:
        known = self._folders.get(path)
        if known is None:
            known = self._is_folder_ignored(split_path(path)[0]) or self._matches(path + "/")
            if len(self._folders) >= _REMEMBERED_MAX:
                self._folders = {"": False}
            self._folders[path] = known
        return known

    def _matches(self, path: str) -> bool:
        return self._may_match(path) is not None and bool(self._spec.check_file(path).include)


def _any_of(texts: Iterable[str]) -> str:
    """An expression that matches where one of these does. Those that are good in every folder have their beginning in
    common: a path is gone through once, not once for each of them.
    """
    anywhere, others = list[str](), list[str]()
    for text in texts:
        (anywhere if text.startswith(_ANYWHERE) else others).append(text)
    parts = [f"(?:{text})" for text in others]
    if anywhere:
        below = "|".join(f"(?:{text.removeprefix(_ANYWHERE)})" for text in anywhere)
        parts.append(f"{_ANYWHERE}(?:{below})")
    return "|".join(parts)
