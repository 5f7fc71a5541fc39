"""The verbs that need an engine. Each is `async def NAME(engine, args, progress) -> dict`, JSON in and JSON out.

They are called over the socket or by a CLI whose own process is the engine; either way the same code runs.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sync.core.errors import BadInput, TcfsError

if TYPE_CHECKING:
    from sync.engine import Verb

Progress = Callable[[dict[str, object]], None]
Args = TypeVar("Args", bound=msgspec.Struct)

# verb -> module: a module is imported when its verb is called, so that a CLI that becomes the engine starts fast
MODULES: Mapping[str, str] = {
    "push": "sync.verbs.transfer",
    "pull": "sync.verbs.transfer",
    "hydrate": "sync.verbs.content",
    "dehydrate": "sync.verbs.content",
    "pin": "sync.verbs.policy",
    "unpin": "sync.verbs.policy",
    "policy": "sync.verbs.policy",
    "cache": "sync.verbs.cache",
    "cp": "sync.verbs.copy",
    "wait": "sync.verbs.wait",
    "fsck": "sync.verbs.fsck",
    "engine": "sync.verbs.process",
    "mount": "sync.verbs.process",
    "unmount": "sync.verbs.process",
    "down": "sync.verbs.process",
}


def find_verb(name: str) -> "Verb":
    """BadInput for one that does not exist."""
    module = MODULES.get(name)
    if module is None:
        raise BadInput(f"no such verb: {name}", hint="is tcfsd of another version?")
    verb: Verb = getattr(importlib.import_module(module), name)
    return verb


def parse_args(args: dict[str, object], shape: type[Args]) -> Args:
    """The arguments as the verb declares them; BadInput for anything else."""
    try:
        return msgspec.convert(args, shape)
    except msgspec.ValidationError as error:
        raise BadInput(f"bad arguments: {error}", hint="is tcfsd of another version?") from error


def with_error(data: dict[str, Any], error: TcfsError | None) -> dict[str, Any]:
    """The result of a verb that did what it could and has a failure to tell: the CLI prints both."""
    return data if error is None else {**data, "error": described(error)}


def described(error: TcfsError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "path": error.path, "hint": error.hint}
