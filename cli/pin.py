"""tcfs pin"""

from typing import Any

import click

from cli.app import App, finish, verb
from cli.render import plural, size_text


@verb("pin")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("--wait", is_flag=True, help="Return when all of it is here.")
def command(app: App, paths: tuple[str, ...], wait: bool) -> int:
    """Keep the content of PATH on this machine.

    Also of all that is, or will be, below it. It comes in the background, also each new version, and is never evicted.
    A pin belongs to the path: what is renamed away from it is pinned no more. A quoted glob pins what it matches now.
    """
    data = app.call("pin", paths=list(paths), cwd=app.cwd)
    lines = pinned_lines(data)
    if wait:
        came = app.call("hydrate", paths=["/" + path for path in data["paths"]], cwd="/")
        lines = [f"{plural(came['files'], 'file')} pinned and here, {size_text(came['bytes'])}"]
        data = {**data, **came}
    return finish(app, data, lines)


def pinned_lines(data: dict[str, Any]) -> list[str]:
    """What is pinned on this machine after the change."""
    pins = data["pins"]
    files = plural(pins["files"], "file")
    lines = [f"pinned: {plural(pins['paths'], 'path')} with {files}, {size_text(pins['bytes'])}"]
    if pins["lacking_files"]:
        by = "it comes now" if data["is_daemon"] else "it comes while tcfsd runs ('tcfs up'), or with --wait"
        lines.append(f"{plural(pins['lacking_files'], 'file')} not all here yet: {by}")
    lines += [pins["trouble"]] if pins["trouble"] else []
    return lines
