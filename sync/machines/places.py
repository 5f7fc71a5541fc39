"""What a path on the command line means: a place in the fleet, or a file outside it.

REMOTE is docs/a.txt, /docs/a.txt, FLEET:docs/a.txt or tcfs/FLEET/docs/a.txt; '' is the fleet's root. A path in the
mount means the file there. Of several meanings the first that exists counts, the most literal being first.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sync.core.errors import BadInput, BadPath, NotFound
from sync.core.globs import quoted
from sync.core.paths import parse_rel_path
from sync.machines.mounts import InMount, resolve
from sync.state.home import FleetConfig


def mountpoints(config: FleetConfig) -> set[str]:
    """Where this fleet is, or is to be, mounted."""
    return {config.mountpoint} if config.mountpoint else set()


def local_place(config: FleetConfig, text: str, cwd: str) -> InMount | str:
    """Where a LOCAL leads: into the fleet's mount, or to an absolute path. Touches nothing below the mount."""
    return resolve(text, cwd, mountpoints(config))


class Source(NamedTuple):
    """What a push takes: an absolute path, and the name it gets in the fleet; '' = what is in that folder."""

    place: str
    name: str


def push_source(config: FleetConfig, text: str, cwd: str) -> InMount | Source:
    """What a LOCAL of a push means, as `cp -r` takes it: a symlink is itself, unless '/' follows; what ends in `.` or
    `..` is what is in that folder. What leads into the mount is the file there.
    """
    if not text:
        raise BadInput("a LOCAL is empty", hint="'.' is the working directory")
    found = local_place(config, text, cwd)
    if isinstance(found, InMount):
        return found
    folder, _, name = text.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        return Source(found, "")
    if text.endswith("/"):
        return Source(found, name)
    above = local_place(config, folder or ("/" if text.startswith("/") else "."), cwd)
    return above if isinstance(above, InMount) else Source(str(Path(above, name)), name)


def remote_forms(config: FleetConfig, text: str) -> list[str]:
    """Every rel_path that a REMOTE may mean ('' = the root), the most literal first; BadPath if it can mean none."""
    forms = [text]
    for fleet in (config.name, config.fleet_id):
        for prefix in (f"{fleet}:", f"tcfs/{fleet}/", f"/tcfs/{fleet}/"):
            if text.startswith(prefix):
                forms.append(text[len(prefix) :])
        if text in (f"tcfs/{fleet}", f"/tcfs/{fleet}"):
            forms.append("")
    found: list[str] = []
    trouble: BadPath | None = None
    for form in forms:
        try:
            path = _rel_path(form)
        except BadPath as error:
            trouble = error
            continue
        if path not in found:
            found.append(path)
    if not found and trouble is not None:
        raise trouble
    return found


def meanings(config: FleetConfig, text: str, cwd: str) -> list[str]:
    """Every rel_path that a PATH may mean, which is a path in the mount or a REMOTE."""
    return _meanings(config, text, local_place(config, text, cwd))


def glob_meanings(config: FleetConfig, text: str, cwd: str) -> list[str]:
    """Every glob over rel_paths that a PATH may mean. What is not written in it, as cwd's own names, is no pattern."""
    return _meanings(config, text, resolve(text, cwd, mountpoints(config), quoted))


def _meanings(config: FleetConfig, text: str, place: InMount | str) -> list[str]:
    inside = [place.rel_path] if isinstance(place, InMount) else []
    try:
        return [*inside, *(form for form in remote_forms(config, text) if form not in inside)]
    except BadPath:
        if inside:
            return inside
        raise


def find_place(forms: list[str], text: str, exists: Callable[[str], bool]) -> str:
    """The first form that exists; NotFound if none does."""
    for form in forms:
        if form == "" or exists(form):
            return form
    raise NotFound(f"no such file in the fleet: {text}", hint="see 'tcfs ls'")


def _rel_path(form: str) -> str:
    stripped = form.strip("/")
    parts = [part for part in stripped.split("/") if part not in ("", ".")]
    return parse_rel_path("/".join(parts)) if parts else ""
