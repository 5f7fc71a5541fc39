"""pin, unpin and policy: what of the fleet is to be here, and when it may come."""

from typing import TYPE_CHECKING

import msgspec

from sync.core.errors import BadInput
from sync.core.policy import Policies, Policy
from sync.verbs import Progress, parse_args
from sync.verbs.places import places_of

if TYPE_CHECKING:
    from sync.engine import Engine

INHERIT = "inherit"


class PinArgs(msgspec.Struct, forbid_unknown_fields=True):
    """paths: in the mount or REMOTE, relative ones to cwd. literal: none of them is a glob."""

    paths: list[str]
    cwd: str
    literal: bool = False


class PolicyArgs(msgspec.Struct, forbid_unknown_fields=True):
    """path None: all that have a word of their own. word None: only tell; 'inherit' takes it away."""

    cwd: str
    path: str | None = None
    word: str | None = None


async def pin(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """These places, and all that is or will be below them, are to be here from now on. It comes in the background."""
    asked = parse_args(args, PinArgs)
    places = await places_of(engine, asked.paths, asked.cwd, literal=asked.literal)
    await engine.change_policies(lambda now: now.pinned(*places))
    return _told(engine, places)


async def unpin(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """Nothing at these places is pinned any more; what is here stays until something else needs the room."""
    asked = parse_args(args, PinArgs)
    also = engine.policies.read().words
    places = await places_of(engine, asked.paths, asked.cwd, literal=asked.literal, also=also)
    await engine.change_policies(lambda now: now.unpinned(*places))
    return _told(engine, places)


async def policy(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """Tell, or set, the policy of one place."""
    asked = parse_args(args, PolicyArgs)
    policies = engine.policies.read()
    if asked.path is None:
        return {"policies": [described(policies, path) for path in sorted(policies.words)]}
    (place,) = await places_of(engine, [asked.path], asked.cwd, literal=True, also=policies.words)
    if asked.word is not None:
        word = parse_word(asked.word)
        await engine.change_policies(lambda now: now.with_word(place, word))
    return {"policies": [described(engine.policies.read(), place)]}


def parse_word(word: str) -> Policy | None:
    """BadInput for what is no policy; None for 'inherit'."""
    if word == INHERIT:
        return None
    try:
        return Policy(word)
    except ValueError as error:
        words = ", ".join([*Policy, INHERIT])
        raise BadInput(f"no such policy: {word}", hint=f"there is {words}") from error


def described(policies: Policies, path: str) -> dict[str, object]:
    """source: the path that it has its word from, None where there is none."""
    return {"path": path, "policy": policies.of(path).value, "source": policies.source(path)}


def _told(engine: "Engine", places: list[str]) -> dict[str, object]:
    state = engine.pins.state
    return {"paths": places, "pins": msgspec.to_builtins(state), "is_daemon": engine.keeper is not None}
