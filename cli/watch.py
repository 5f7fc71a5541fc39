"""tcfs watch"""

import contextlib
import json
from typing import Any

import click

from cli.app import App, never_empty, verb
from cli.render import printable


@verb("watch")
@click.argument("path", required=False, metavar="[PATH]", callback=never_empty())
@click.option("--since", type=click.IntRange(min=0), metavar="CURSOR", help="Begin behind this cursor of an event.")
def command(app: App, path: str | None, since: int | None) -> None:
    """Print what changes in the fleet, as it happens.

    That is: at PATH or below it, as it is learned or published here, until interrupted.

    With --json a line is one event: its kind (create, modify, attributes, delete, move), path, kind of file, version,
    machine and cursor; `from` of a move. The first line is `start`. After `lost` or `reset` look for yourself.
    """
    with contextlib.suppress(KeyboardInterrupt):
        app.run(_watch(app, path or "", since))


async def _watch(app: App, path: str, since: int | None) -> None:
    from sync.core.errors import NotFound
    from sync.machines.places import find_place, meanings
    from sync.reports.watch import watch

    with app.state() as state:
        forms = meanings(state.config, path, app.cwd) if path else [""]
        try:
            place = find_place(forms, path, state.is_here)
        except NotFound:
            place = forms[0]  # it may come
    async for event in watch(app.env, app.fleet, [place] if place else [], since):
        click.echo(json.dumps(event) if app.out.as_json else printable(_line(event)))


def _line(event: dict[str, Any]) -> str:
    match event["event"]:
        case "start":
            return f"watching from {event['cursor']}"
        case "lost":
            return "changes were lost: look for yourself"
        case "reset":
            return "fleet.db was replaced: look for yourself"
    path = f"{event['from']} -> {event['path']}" if "from" in event else event["path"]
    return f"{event['event']:<10} {path}" + ("/" if event["kind"] == "dir" else "") + f"  {event['version']}".rstrip()
