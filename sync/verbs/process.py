"""Verbs about the processes themselves: what runs, the mount on and off, the orderly end."""

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Final

import msgspec

from sync.core.errors import NoDaemon, NotYet, TcfsError, TimedOut, Unavailable
from sync.machines import fuse
from sync.reports.status import Running, unsafe_now
from sync.state.lock import is_held, owner
from sync.verbs import Progress, parse_args, with_error
from sync.verbs.goal import Goal

if TYPE_CHECKING:
    from sync.engine import Engine

DOWN_S: Final = 30.0  # that `down` waits for what is dirty
LAST_S: Final = 10.0  # and for what the unmount itself has sealed
MOUNT_S: Final = 30.0  # for a mount to answer, after one that is stuck was freed if need be
LEAVE_S: Final = 1.0  # for the mount process to end behind an unmount, before it is told to
UNMOUNT_S: Final = 10.0  # for it to end then
PAUSE_S: Final = 0.005


class MountArgs(msgspec.Struct, forbid_unknown_fields=True):
    """no_kernel_cache: until it is unmounted. False leaves a mount that runs as it is."""

    mountpoint: str
    no_kernel_cache: bool = False


class DownArgs(msgspec.Struct, forbid_unknown_fields=True):
    """force: unmount lazily what is busy."""

    force: bool = False


async def engine(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """What this engine says of itself; `store`: requests and bytes by area since it started."""
    areas = engine.meter.statistics()
    keeper = engine.keeper.state() if engine.keeper is not None else None
    mount = engine.server.mount
    mount_trouble = (mount.trouble if mount is not None else "") or (keeper.trouble if keeper is not None else "")
    return {
        "pid": os.getpid(),
        "is_daemon": engine.keeper is not None,
        "store_trouble": engine.store_trouble(),
        "mount": {
            "is_connected": mount is not None,
            "mountpoint": mount.peer.mountpoint if mount is not None else "",
            "pid": mount.peer.pid if mount is not None else 0,
            "wanted": keeper.wanted if keeper is not None else "",
            "trouble": mount_trouble,
        },
        "problems": [
            {
                "kind": problem.kind.value,
                "subject": problem.subject,
                "message": problem.message,
                "hint": problem.hint,
            }
            for problem in engine.context.problems.current()
        ],
        "pins": msgspec.to_builtins(engine.pins.state),
        "refusals": [
            {"program": r.program, "reason": r.reason, "count": r.count, "path": r.path, "at": r.at}
            for r in engine.refusals()
        ],
        "store": {area: msgspec.to_builtins(usage) for area, usage in areas.items()},
    }


async def mount(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """Keep the fleet mounted there from now on; returns when the mount answers. For a daemon."""
    asked = parse_args(args, MountArgs)
    mountpoint = asked.mountpoint
    keeper = engine.keeper
    if keeper is None:
        raise Unavailable("only tcfsd keeps a mount", hint="start it with 'tcfs up'")
    if reason := fuse.why_no_fuse():
        raise TcfsError(f"nothing can be mounted here: {reason}")
    running = engine.server.mount
    if running is not None and running.peer.mountpoint != mountpoint:
        raise NotYet(f"it is mounted at {running.peer.mountpoint}", hint="'tcfs unmount' first")
    is_kept = running is not None or keeper.state().wanted == mountpoint
    if is_kept and asked.no_kernel_cache and not engine.config.no_kernel_cache:
        raise NotYet("it is mounted with the kernel's cache", hint="'tcfs unmount' first")
    _save(engine, mountpoint, engine.config.no_kernel_cache if is_kept else asked.no_kernel_cache)
    keeper.want(mountpoint)
    try:
        async with engine.env.timeout(MOUNT_S):
            while not await _answers(engine):
                if keeper.state().trouble:
                    raise TcfsError(f"cannot mount at {mountpoint}: {keeper.state().trouble}")
                await engine.env.sleep(PAUSE_S)
    except TimeoutError as error:
        raise TimedOut(f"the mount at {mountpoint} does not answer", hint="see 'tcfs doctor'") from error
    return {"mountpoint": mountpoint}


def _save(engine: "Engine", mountpoint: str, no_kernel_cache: bool) -> None:
    """What the mount process reads when it starts, also after a crash."""
    changed = msgspec.structs.replace(engine.config, mountpoint=mountpoint, no_kernel_cache=no_kernel_cache)
    if changed != engine.config:
        engine.save_config(changed)


async def _answers(engine: "Engine") -> bool:
    link = engine.server.mount
    if link is None or not fuse.is_mounted(engine.config.mountpoint):
        return False
    try:
        await link.ping(MOUNT_S)
    except NoDaemon:  # it went away just now, and is started again
        return False
    return True


async def unmount(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """Take the mount away and keep it away. NotYet naming who holds it if it is busy; then it stays."""
    asked = parse_args(args, DownArgs)
    return {"mountpoint": await _take_away(engine, asked.force)}


async def down(engine: "Engine", args: dict[str, object], progress: Progress) -> dict[str, object]:
    """Let what is dirty come into the store (30 s at most), unmount, end the daemon; NotYet lists what stays."""
    asked = parse_args(args, DownArgs)
    is_settled = await _settle(engine, DOWN_S, progress)
    mountpoint = await _take_away(engine, asked.force)
    if is_settled:
        await _settle(engine, LAST_S, progress)
    running = Running(engine=True, mount=False, store_trouble=engine.store_trouble(), mountpoint=mountpoint)
    left = unsafe_now(engine.context.db, engine.tree, running, engine.unpublishable())
    engine.stop.set()
    data: dict[str, object] = {
        "mountpoint": mountpoint,
        "left": [{"path": item.path, "state": item.state, "reason": item.reason} for item in left],
    }
    if not left:
        return data
    first = left[0]
    goes = first.state in ("unsealed", "sealed", "queued")
    hint = "it stays on this machine" + (" and goes out after the next 'tcfs up'" if goes else f": {first.next_step}")
    return with_error(data, NotYet(f"{len(left)} not in the store yet", path=left[0].path, hint=hint))


async def _settle(engine: "Engine", seconds: float, progress: Progress) -> bool:
    """Have the mount seal what it can, and wait for it to arrive; False: not all has."""
    link = engine.server.mount
    busy: list[str] = []
    try:
        async with engine.env.timeout(seconds):
            if link is not None:
                sealed = await link.seal_now(None, "down", seconds)
                engine.sealed()
                busy = [*sealed.busy, *sealed.interrupted]
            if link is None:
                busy = [item.path for item in await engine.dirty() if item.seal_id is None]
            goal = await Goal.of(engine, [], without=busy)
            await goal.reached(progress)
    except (TimeoutError, TcfsError):
        return False
    return True


async def _take_away(engine: "Engine", force: bool) -> str:
    """Unmount, and wait for the mount process to end; where it was mounted, '' if nowhere.

    TcfsError while the mount cannot commit what was changed in it: that would go with the process.
    """
    link = engine.server.mount
    if link is not None and link.trouble and not force:
        raise TcfsError(
            f"the mount cannot save its changes: {link.trouble}", hint="'tcfs status' names it; --force drops them"
        )
    mountpoint = link.peer.mountpoint if link is not None else engine.config.mountpoint
    if not mountpoint:
        return ""
    wanted = engine.keeper.state().wanted if engine.keeper is not None else ""
    if engine.keeper is not None:
        engine.keeper.want("")
    try:
        await engine.env.run_io(_unmount, mountpoint, force)
    except TcfsError:
        if engine.keeper is not None:
            engine.keeper.want(wanted)
        raise
    _save(engine, engine.config.mountpoint, False)
    # It ends by itself, unless a handle is open behind a lazy unmount, or another mount namespace has a copy of it.
    if await _has_ended(engine, 0.0 if force else LEAVE_S):
        return mountpoint
    _end(link.peer.pid if link is not None else owner(engine.paths.mount_lock))
    if not await _has_ended(engine, UNMOUNT_S):
        raise TimedOut(f"the mount process of {mountpoint} does not end", hint="see 'tcfs doctor'")
    return mountpoint


async def _has_ended(engine: "Engine", seconds: float) -> bool:
    """True as soon as the mount process has ended, False if it has not after so long."""
    until = engine.env.monotonic() + seconds
    while is_held(engine.paths.mount_lock):
        if engine.env.monotonic() >= until:
            return False
        await engine.env.sleep(PAUSE_S)
    return True


def _unmount(mountpoint: str, force: bool) -> None:
    fuse.unmount(mountpoint, lazy=force)


def _end(pid: int) -> None:
    """Have the mount process seal what is closed, and end; once is as often as twice."""
    if pid <= 1:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
