"""What the feed comes to. What a mount tells its watchers of that: tests/fs/tree/test_changes.py."""

from made_versions import Journal, put

from sync.core.manifest import CHUNKS_INLINE_MAX, PathVersion
from sync.state.changes import Places, What
from sync.state.fleet import FleetDb


def test_chunk_lists_are_not_kept_in_memory_for_it(db: FleetDb, bates: Journal) -> None:
    chunks = {"chunks": ["ab" * 32] * CHUNKS_INLINE_MAX, "chunk_sizes": [1] * CHUNKS_INLINE_MAX}
    large = {"file_size": CHUNKS_INLINE_MAX, **chunks}
    old = bates.write("old", "large", **large)
    put(db, old)
    last = db.view.feed_last()
    new = bates.write("new", "large", moved_from=PathVersion("old", old[1].id), **large)
    put(db, new, bates.write("old", None, seen=[old[1]], moved_to=PathVersion("new", new[1].id)))
    places = Places()
    for item in db.view.feed_after(last):
        places.add(item, db.view.lookup(item.parent, item.name))
    found = [(change.what, change.item.path, change.origin is not None) for change in places.differences(db.view)]
    assert found == [(What.MOVED, "new", True)]
    assert len(places.take_moving(db.view, lambda place: True)) == 2
    assert db.view._manifests.currsize == 0
