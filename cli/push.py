"""tcfs push"""

import click

from cli.app import App, finish, never_empty, say_passed_by, say_warnings, verb
from cli.render import plural, size_text


@verb("push")
@click.argument("paths", nargs=-1, required=True, metavar="LOCAL…")
@click.option(
    "--to", metavar="DIR", callback=never_empty(), help="The folder of the fleet they go into (default: its root)."
)
@click.option("--force", is_flag=True, help="Supersede what stands there; put again what the store has lost.")
def command(app: App, paths: tuple[str, ...], to: str | None, force: bool) -> int:
    """Publish files and folders, named as 'cp -r' would name them.

    What is in the mount is published now. What stays on this machine is left out, and told.
    """
    data = app.call("push", paths=list(paths), cwd=app.cwd, to=to or "", force=force, totals=app.out.shows_progress)
    for skipped in data["skipped"]:
        app.out.say(f"left out: {skipped['path']}: {skipped['reason']}")
    say_passed_by(app, data.get("ignored", []), data.get("ignored_left_out", 0))
    say_warnings(app, data)
    moved = f", {size_text(data['bytes'])}" if data["bytes"] else ""
    line = f"{plural(data['files'], 'file')} published{moved}, {data['unchanged']} unchanged"
    if data["restored"]:
        line += f", {data['restored']} put again: the store had lost them"
    return finish(app, data, [line])
