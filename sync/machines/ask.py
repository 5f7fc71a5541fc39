"""What a running engine says of itself, or why it says nothing."""

from typing import Any, Final, NamedTuple

from sync.core.errors import NoDaemon, TcfsError, TimedOut
from sync.env import Env
from sync.ipc.client import connected
from sync.ipc.frames import Hello
from sync.state.home import FleetPaths
from sync.state.lock import silent_engine


class Asked(NamedTuple):
    """engine: what it says of itself, None if none runs, or none that answers us. silence: what to say of one that runs
    and does not answer us, and what helps.
    """

    engine: dict[str, Any] | None
    silence: tuple[str, str] = ("", "")


NOBODY: Final = Asked(None)


async def ask_engine(env: Env, paths: FleetPaths, seconds: float) -> Asked:
    """seconds: that it gets to answer."""
    try:
        async with env.timeout(seconds), connected(env, paths.socket_path, Hello(role="cli")) as client:
            return Asked(await client.call("engine", {}))
    except (NoDaemon, TimedOut, TimeoutError):
        return Asked(None, silent_engine(paths.engine_lock))
    except TcfsError as error:
        return Asked(None, (f"runs, but {error.message}", error.hint))
