"""Packs that the store was seen to lack, or to hold damaged: fleet.db remembers them, until they are seen whole again.

What lies in them counts as stored nowhere, so that whoever has the bytes, and pushes them, puts them again.
"""

from typing import Final

from sync.core.errors import Integrity, ObjectMissing
from sync.core.packfile import parse_pack_key
from sync.state.fleet import FleetDb

MISSING: Final = 1
DAMAGED: Final = 2


def note_damaged(db: FleetDb, key: str, error: Integrity) -> None:
    """A pack could not be read, or only in part. key: of its object."""
    machine_id, pack_id = parse_pack_key(key)
    lost = MISSING if isinstance(error, ObjectMissing) else DAMAGED
    known = db.packs.lost_state(machine_id, pack_id)
    if known is not None and known < lost:
        with db.transaction() as txn:
            txn.set_pack_lost(machine_id, pack_id, lost)


def note_read(db: FleetDb, key: str) -> None:
    """Some of a pack was read and was right: it is not missing. Whether all of it is right only fsck finds out."""
    if not db.packs.has_lost():
        return
    machine_id, pack_id = parse_pack_key(key)
    if db.packs.lost_state(machine_id, pack_id) == MISSING:
        with db.transaction() as txn:
            txn.set_pack_lost(machine_id, pack_id, 0)
