"""The feed as a stream of events: tcfs watch. Needs no engine; it hears whatever one commits, also after a restart."""

from collections.abc import AsyncIterator
from typing import Any, Final

from sync.core.errors import NotFound, NotYet
from sync.core.manifest import Manifest
from sync.core.paths import join_path, split_path
from sync.env import Env
from sync.reports.status import is_among
from sync.state.changes import Difference, Places, What
from sync.state.home import FleetPaths
from sync.state.rows import DIR, SYMLINK
from sync.state.view import ShownView

POLL_S: Final = 0.1  # PRAGMA data_version takes 3 µs
BATCH: Final = 1000

_EVENTS: Final = {
    What.CREATED: "create",
    What.REMOVED: "delete",
    What.MODIFIED: "modify",
    What.ATTRIBUTES: "attributes",
    What.MOVED: "move",
}
_KINDS: Final = {DIR: "dir", SYMLINK: "symlink"}


async def watch(env: Env, paths: FleetPaths, places: list[str], since: int | None) -> AsyncIterator[dict[str, Any]]:
    """Events at or below these places ([] = all) behind the cursor `since`, None: from now on; without an end.

    First {"event": "start", "cursor"}; {"event": "lost"} where the log of changes does not go back as far as that, and
    {"event": "reset"} when fleet.db was replaced: then whoever keeps a picture has to look anew. NotFound without a
    fleet.db.
    """
    file, view = _inode(paths), ShownView(env, paths.fleet_db)
    try:
        cursor = view.feed_last() if since is None else since
        yield {"event": "start", "cursor": cursor}
        while True:
            if file != (now := _inode(paths)) and now:
                try:
                    view = _reopened(env, paths, view)
                except (NotFound, NotYet):  # it is being made
                    await env.sleep(POLL_S)
                    continue
                file, cursor = now, 0
                yield {"event": "reset", "cursor": 0}
            if view.feed_last() > cursor:
                if view.feed_first() > cursor + 1:
                    cursor = view.feed_first() - 1
                    yield {"event": "lost", "cursor": cursor}
                events, cursor = _batch(view, cursor, places)
                for event in events:
                    yield event
                continue
            seen = view.data_version()
            while view.data_version() == seen and _inode(paths) == file:
                await env.sleep(POLL_S)
    finally:
        view.close()


def _batch(view: ShownView, cursor: int, places: list[str]) -> tuple[list[dict[str, Any]], int]:
    """The events of the next items of the feed, and the cursor behind them. Who goes on behind an event that is not the
    last of its batch is told of the others once more.
    """
    with view.snapshot():
        items = view.feed_after(cursor, BATCH)
        found = Places()
        for item in items:
            if item.parent:
                found.add(item, view.lookup(item.parent, item.name))
        events = [_event(view, change, cursor) for change in found.differences(view)]
    events = [event for event in events if _is_meant(event, places)]
    if events:
        events[-1]["cursor"] = items[-1].n
    return events, items[-1].n


def _is_meant(event: dict[str, Any], places: list[str]) -> bool:
    return is_among(event["path"], places) or ("from" in event and is_among(event["from"], places))


def _event(view: ShownView, change: Difference, cursor: int) -> dict[str, Any]:
    """version, machine: of what stands there now, or of the removal; '' where it has none of its own."""
    manifest = _manifest(view, change)
    event: dict[str, Any] = {
        "event": _EVENTS[change.what],
        "path": _path(change),
        "kind": _KINDS.get(change.kind, "file"),
        "version": f"{manifest.machine_name}:{manifest.seq}" if manifest is not None else "",
        "machine": manifest.machine_name if manifest is not None else "",
        "cursor": cursor,
    }
    if change.origin is not None:
        event["from"] = _path(change.origin)
    return event


def _path(change: Difference) -> str:
    return join_path(split_path(change.item.path)[0], change.item.name)


def _manifest(view: ShownView, change: Difference) -> Manifest | None:
    if change.row is not None:
        return view.manifest(view.identity(change.row.version)) if change.row.version is not None else None
    tombstones = [view.manifest(head) for head in view.dead_heads(change.item.path)]
    return max(tombstones, key=lambda manifest: (manifest.written_at, manifest.seq), default=None)


def _reopened(env: Env, paths: FleetPaths, old: ShownView) -> ShownView:
    view = ShownView(env, paths.fleet_db)
    old.close()
    return view


def _inode(paths: FleetPaths) -> int:
    try:
        return paths.fleet_db.stat().st_ino
    except FileNotFoundError:
        return 0
