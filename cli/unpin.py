"""tcfs unpin"""

import click

from cli.app import App, finish, verb
from cli.pin import pinned_lines


@verb("unpin")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
def command(app: App, paths: tuple[str, ...]) -> int:
    """Nothing at or below PATH is pinned any more. Its content stays until the cache needs the room."""
    data = app.call("unpin", paths=list(paths), cwd=app.cwd)
    return finish(app, data, pinned_lines(data))
