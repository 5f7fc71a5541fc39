"""Until what was changed in the mount is confirmed in the store: wait, and the publishing of paths in the mount."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from sync.core.errors import Conflict, NotFound, NotYet, TcfsError, TimedOut
from sync.ipc.frames import SealResult
from sync.machines.places import find_place, meanings
from sync.reports.status import is_among
from sync.state.lock import is_held
from sync.state.tree.reader import DirtyState
from sync.verbs import Progress, parse_args, with_error
from sync.verbs.goal import Goal
from sync.verbs.places import looked_up

if TYPE_CHECKING:
    from sync.engine import Engine

MOUNT_WAIT_S: Final = 3.0  # for a mount to connect
SEAL_S: Final = 60.0  # for the mount to seal what is there
PAUSE_S: Final = 0.05
AWAY_S: Final = 10.0  # a push gives up when the store has been away for so long


class WaitArgs(msgspec.Struct, forbid_unknown_fields=True):
    """path: '' = everything. timeout in seconds, None = as long as it takes."""

    cwd: str
    path: str = ""
    timeout: float | None = None


@dataclass(slots=True)
class Published:
    """What a push of paths in the mount came to."""

    files: int = 0
    conflicts: list[str] = field(default_factory=list)
    failures: list[TcfsError] = field(default_factory=list)


async def wait(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """NotYet at the timeout, and at once for a path that is interrupted; other such files are named, not waited for."""
    asked = parse_args(args, WaitArgs)
    chosen = await _chosen(engine, asked)
    env, began = engine.env, engine.env.monotonic()
    try:
        async with env.timeout(asked.timeout):
            sealed = await _seal(engine, chosen, "wait")
    except TimeoutError:
        sealed = SealResult(0)  # the mount waits for something itself; what it has not sealed is left
    interrupted = sorted({*sealed.interrupted, *await _interrupted(engine, chosen)})
    if chosen and chosen[0] in interrupted:
        raise NotYet(
            f"{chosen[0]} was being written when the mount died",
            path=chosen[0],
            hint="look at it, then 'tcfs push' it or close it once more",
        )
    if await _needs_mount(engine, chosen):
        raise NotYet("the mount is down, and not all of it is sealed", hint="start it with 'tcfs up'")
    goal = await Goal.of(engine, chosen, without=set(interrupted))
    data: dict[str, object] = {"interrupted": interrupted}
    try:
        async with env.timeout(None if asked.timeout is None else max(0.0, began + asked.timeout - env.monotonic())):
            await goal.reached(progress)
    except TimeoutError:
        left = await goal.left()
        trouble = engine.store_trouble()
        names = ", ".join(left[:3]) + (", …" if len(left) > 3 else "")
        reason = f"{len(left)} not in the store yet: {names}" + (f" ({trouble})" if trouble else "")
        return with_error({**data, "left": left}, NotYet(reason, hint="'tcfs status' tells why"))
    if goal.refused:
        path, reason = min(goal.refused.items())
        error = NotYet(f"cannot be published: {reason}", path=path, hint="'tcfs status' names all such paths")
        return with_error({**data, "left": sorted(goal.refused)}, error)
    return {**data, "left": []}


async def publish_now(engine: "Engine", paths: list[str]) -> Published:
    """Seal these places of the mount as they are now and see them into the store. NotYet if no mount connects."""
    await mount_connected(engine)
    sealed = await _seal(engine, paths, "push")
    published = Published()
    if missing := [path for path in sealed.missing if path in paths]:
        raise NotFound(f"no such file in the mount: {missing[0]}", path=missing[0])
    goal = await Goal.of(engine, paths, sealed_as_is=True, away_s=AWAY_S)
    await goal.reached(lambda data: None)
    for path in goal.paths:
        if trouble := goal.refused.get(path):
            published.failures.append(NotYet(f"cannot be published: {trouble}", path=path))
        elif _has_rival(engine, path):
            published.conflicts.append(path)
            published.failures.append(Conflict("another version stands beside it: see 'tcfs conflicts'", path=path))
        else:
            published.files += 1
    return published


def _has_rival(engine: "Engine", path: str) -> bool:
    """True if live heads of different value stand at this path."""
    return len({head.manifest.value for head in engine.context.db.heads(path) if head.is_live}) > 1


async def mount_connected(engine: "Engine") -> None:
    """Returns once the mount is connected; NotYet after 3 s."""
    until = engine.env.monotonic() + MOUNT_WAIT_S
    while engine.server.mount is None:
        if engine.env.monotonic() >= until:
            raise NotYet("the mount does not run", hint="start it with 'tcfs up'")
        await engine.env.sleep(PAUSE_S)


async def _chosen(engine: "Engine", asked: WaitArgs) -> list[str]:
    if not asked.path:
        return []
    known = {item.path for item in await engine.dirty()}
    forms = await looked_up(engine, meanings, asked.path, asked.cwd)

    def exists(path: str) -> bool:
        return engine.is_shown(path) or any(is_among(item, [path]) for item in known)

    place = find_place(forms, asked.path, exists)
    return [place] if place else []


async def _seal(engine: "Engine", paths: list[str], reason: str) -> SealResult:
    mount = engine.server.mount
    if mount is None:
        return SealResult(0)
    try:
        return await mount.seal_now(paths or None, reason, SEAL_S)
    except TimedOut as error:
        raise NotYet(f"the mount does not seal: {error.message}", hint="see 'tcfs doctor'") from error
    finally:
        engine.sealed()


async def _interrupted(engine: "Engine", chosen: list[str]) -> list[str]:
    """With no mount running, whatever was being written was interrupted."""
    if is_held(engine.paths.mount_lock):
        return []
    return [
        item.path for item in await engine.dirty() if item.state is DirtyState.WRITING and is_among(item.path, chosen)
    ]


async def _needs_mount(engine: "Engine", chosen: list[str]) -> bool:
    """True if something cannot be sealed because no mount runs, nor is about to."""
    if is_held(engine.paths.mount_lock) or engine.is_mount_wanted():
        return False
    return any(item.state is DirtyState.UNSEALED and is_among(item.path, chosen) for item in await engine.dirty())
