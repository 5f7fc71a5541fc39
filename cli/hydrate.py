"""tcfs hydrate"""

import click

from cli.app import App, finish, verb
from cli.render import plural, size_text


@verb("hydrate")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
def command(app: App, paths: tuple[str, ...]) -> int:
    """Fetch the content of files into the cache.

    PATH may be a folder (all that is below it) and a quoted glob.
    """
    data = app.call("hydrate", paths=list(paths), cwd=app.cwd)
    return finish(app, data, [f"{plural(data['files'], 'file')} here, {size_text(data['bytes'])}"])
