"""Which folders of this machine are tcfs's own: a push passes them by."""

import contextlib
import os

from sync.core.errors import BadInput
from sync.machines.places import mountpoints
from sync.state.home import FleetConfig, Home
from sync.store.open import store_folder


def own_folders(config: FleetConfig, home: Home) -> dict[str, str]:
    """Absolute real paths, and what each is: mounts; keys and databases, which must never get into the store; the store
    itself.
    """
    own = dict.fromkeys((home.config, home.state, home.cache, home.run), "holds what tcfs itself needs")
    with contextlib.suppress(BadInput):  # a store elsewhere
        own[store_folder(config.store_url)] = "is the fleet's store"
    places = {os.path.realpath(folder): reason for folder, reason in own.items()}
    return places | dict.fromkeys(mountpoints(config), "is a mount of a fleet")
