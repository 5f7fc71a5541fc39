"""tcfsd at work: the engine of one fleet, and what keeps its mount."""

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from typing import Final

from sync.core.errors import TcfsError, Unsupported
from sync.daemon.log import log_to
from sync.daemon.ready import Ready
from sync.engine import Engine, EngineBusy, run_engine
from sync.env import Env
from sync.ipc.client import connected
from sync.ipc.frames import Hello
from sync.machines.keeper import MountKeeper
from sync.machines.launch import MountProcess
from sync.memory import keep_small
from sync.state.home import FleetPaths
from sync.state.settings import Settings
from sync.verbs import find_verb

LOCK_PAUSE_S: Final = 0.1

_log = logging.getLogger("tcfs.daemon")


def serve(
    env: Env,
    paths: FleetPaths,
    settings: Settings,
    environ: Mapping[str, str],
    ready: Ready,
    mount: MountProcess | None,
    *,
    to_stderr: bool,
) -> None:
    """Until SIGTERM, SIGINT or `tcfs down`; returns at once if another tcfsd serves this fleet already.

    mount: a process that was started for it a moment ago. to_stderr: the log goes there, too.
    """
    log_to(paths, settings, to_stderr=to_stderr)
    asyncio.run(_serve(env, paths, settings, environ, ready, mount))


async def _serve(
    env: Env,
    paths: FleetPaths,
    settings: Settings,
    environ: Mapping[str, str],
    ready: Ready,
    mount: MountProcess | None,
) -> None:
    async def work(engine: Engine) -> None:
        await _work(engine, environ, ready, mount)

    while True:
        try:
            await run_engine(env, paths, settings, find_verb, work)
        except EngineBusy:
            if await _is_daemon(env, paths):
                _log.info("a tcfsd runs already")
                ready.done()
                return
            await env.sleep(LOCK_PAUSE_S)  # a verb of the CLI: it ends
        else:
            return


async def _work(engine: Engine, environ: Mapping[str, str], ready: Ready, mount: MountProcess | None) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, engine.stop.set)
    server = engine.server
    keeper = engine.keeper = MountKeeper(
        engine.env, engine.paths, environ, lambda: server.mount, lambda: server.mount_refused_at, mount
    )
    keeper.want(engine.config.mountpoint)
    keeping = asyncio.ensure_future(keeper.run())
    stopping = asyncio.ensure_future(engine.stop.wait())
    keeping_small = asyncio.ensure_future(keep_small(engine.env))
    _log.info("tcfsd %d serves fleet %s", os.getpid(), engine.config.name)
    ready.done()
    try:
        await asyncio.wait({keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            keeping.result()
        await engine.server.answered_all()
    finally:
        for task in (keeping, stopping, keeping_small):
            task.cancel()
        await asyncio.gather(keeping, stopping, keeping_small, return_exceptions=True)
    _log.info("tcfsd %d stops", os.getpid())


async def _is_daemon(env: Env, paths: FleetPaths) -> bool:
    """True if the engine that runs is a tcfsd; False also if it does not answer. Unsupported for another version: who
    waits for that one to end may do so for ever.
    """
    try:
        async with connected(env, paths.socket_path, Hello(role="cli")) as client:
            return bool((await client.call("engine", {})).get("is_daemon"))
    except Unsupported:
        raise
    except TcfsError:
        return False
