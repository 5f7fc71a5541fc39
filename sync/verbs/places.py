"""Which places of the fleet the PATHs of a verb mean: each of them one place, or a glob over what is shown."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from sync.core.errors import BadInput, NotFound, Unavailable
from sync.core.globs import is_glob, path_matches
from sync.core.paths import is_below
from sync.machines.places import find_place, glob_meanings, meanings
from sync.reports.status import is_among
from sync.state.globs import expand
from sync.state.home import FleetConfig

if TYPE_CHECKING:
    from sync.engine import Engine

T = TypeVar("T")
ANSWER_S: Final = 10.0


async def places_of(
    engine: "Engine", paths: Sequence[str], cwd: str, *, literal: bool = False, also: Collection[str] = ()
) -> list[str]:
    """Without those that lie below another one. A file that is only in the mount yet is a place too, and what `also`
    names. A PATH that exists as it is written is no glob; literal: none is. NotFound for one that means nothing.
    """
    only_here = [item.path for item in await engine.dirty()]

    def exists(path: str) -> bool:
        return path in also or engine.is_shown(path) or any(is_among(item, [path]) for item in only_here)

    found: list[str] = []
    for text in paths:
        if not text:
            raise BadInput("a PATH is empty", hint="'/' is the whole fleet")
        forms = await looked_up(engine, meanings, text, cwd)
        try:
            found.append(find_place(forms, text, exists))
        except NotFound:
            if literal or not is_glob(text):
                raise
            globs = await looked_up(engine, glob_meanings, text, cwd)
            found += await _matching(engine, globs, text, only_here)
    return outermost(found)


async def looked_up(engine: "Engine", find: Callable[[FleetConfig, str, str], T], text: str, cwd: str) -> T:
    """find(config, text, cwd), one of sync.machines.places: it asks the disks on the way, of which any may hang.
    Unavailable after 10 s.
    """
    try:
        async with engine.env.timeout(ANSWER_S):
            return await engine.env.run_named(find, engine.config, text, cwd)
    except TimeoutError as error:
        raise Unavailable(f"the disk of {text} did not answer within {ANSWER_S:g} s", path=text) from error


async def _matching(engine: "Engine", globs: Sequence[str], text: str, only_here: Sequence[str]) -> list[str]:
    for glob in globs:
        shown = await engine.env.run(expand, engine.context.db.view, glob)
        here = [path for path in only_here if path_matches(glob, path)]
        if shown or here:
            return [*shown, *here]
    raise NotFound(f"nothing in the fleet matches: {text}", hint="see 'tcfs ls'")


def outermost(places: Sequence[str]) -> list[str]:
    """Each place once, in the order of the first; those below another one are left out."""
    chosen = set(places)
    if "" in chosen:
        return [""]
    return [
        place for place in dict.fromkeys(places) if not any(is_below(place, other) for other in _above(place, chosen))
    ]


def _above(place: str, chosen: set[str]) -> list[str]:
    parts = place.split("/")
    above = ("/".join(parts[:count]) for count in range(1, len(parts)))
    return [folder for folder in above if folder in chosen]
