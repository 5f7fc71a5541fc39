"""Which folders of this machine are tcfs's own: a push passes them by."""

import contextlib
import os
from typing import Final

from sync.core.errors import BadInput, StoreAway
from sync.env import Env
from sync.machines.places import mountpoints
from sync.state.home import FleetConfig, Home
from sync.store.open import store_folder

ANSWER_S: Final = 10.0  # for the store's disk to say where it really is


async def find_own_folders(env: Env, config: FleetConfig, home: Home) -> dict[str, str]:
    """own_folders, without waiting for a store's disk that hangs: StoreAway after 10 s."""
    try:
        async with env.timeout(ANSWER_S):
            return await env.run_store(own_folders, config, home)
    except TimeoutError as error:
        raise StoreAway(f"the store did not answer within {ANSWER_S:.0f} s", path=config.store_url) from error


def own_folders(config: FleetConfig, home: Home) -> dict[str, str]:
    """Absolute real paths, and what each is: mounts; keys and databases, which must never get into the store; the store
    itself. Asks the disks of all of them.
    """
    own = dict.fromkeys((home.config, home.state, home.cache, home.run), "holds what tcfs itself needs")
    with contextlib.suppress(BadInput):  # a store elsewhere
        own[store_folder(config.store_url)] = "is the fleet's store"
    places = {os.path.realpath(folder): reason for folder, reason in own.items()}
    return places | dict.fromkeys(mountpoints(config), "is a mount of a fleet")
